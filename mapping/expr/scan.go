package expr

import (
	"fmt"
	"slices"
	"strings"

	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/checker/nature"
	"github.com/expr-lang/expr/file"

	"tidemark/mapping/catalog"
	"tidemark/mapping/near"
)

// A scan of a parsed expression finds the columns it reads, and refuses what
// the checker of expr-lang would let through.
type scan struct {
	table  *catalog.Table
	source file.Source
	reads  map[string]bool // columns
}

// each calls f for every node, those inside of a node before the node itself,
// until there is an error.
func each(tree *ast.Node, f func(node *ast.Node) error) error {
	v := &visitor{f: f}
	ast.Walk(tree, v)
	return v.err
}

type visitor struct {
	f   func(*ast.Node) error
	err error
}

func (v *visitor) Visit(node *ast.Node) {
	if v.err == nil {
		v.err = v.f(node)
	}
}

func (s *scan) refuse(n ast.Node, hint, format string, args ...any) error {
	at := (&file.Error{Location: n.Location()}).Bind(s.source)
	return &Error{fmt.Sprintf(format, args...) + " " + place(at), hint}
}

// calls refuses functions and methods that are not there, gives own functions
// their names, and makes columns of $env["a column"].
func (s *scan) calls(tree *ast.Node) error {
	return each(tree, func(node *ast.Node) error {
		switch n := (*node).(type) {
		case *ast.MemberNode:
			env, ok := n.Node.(*ast.IdentifierNode)
			name, ok2 := n.Property.(*ast.StringNode)
			if ok && ok2 && env.Value == "$env" && name.Value != "$env" {
				ast.Patch(node, &ast.IdentifierNode{Value: name.Value})
			}
		case *ast.CallNode:
			return s.call(n)
		}
		return nil
	})
}

func (s *scan) call(n *ast.CallNode) error {
	switch callee := n.Callee.(type) {
	case *ast.IdentifierNode:
		if why := noFunctions[callee.Value]; why != "" {
			return s.refuse(n, "", "%s() is not there: %s", callee.Value, why)
		}
		for _, f := range ownFunctions {
			if f.Name == callee.Value {
				callee.Value = ownName(f.Name)
				return nil
			}
		}
		return s.refuse(n, near.DidYouMean(callee.Value, functionNames()), "no function %s", callee.Value)
	case *ast.MemberNode:
		if name, ok := callee.Property.(*ast.StringNode); ok && slices.Contains(methods, name.Value) {
			return nil
		}
		return s.refuse(callee, "those of dates and durations: "+strings.Join(methods, ", "), "no method of this name")
	}
	return s.refuse(n, "", "only functions and methods can be called")
}

// names finds the columns among the names.
func (s *scan) names(tree *ast.Node) error {
	return each(tree, func(node *ast.Node) error {
		n, ok := (*node).(*ast.IdentifierNode)
		switch {
		case !ok:
		case n.Value == "$env":
			return s.refuse(n, "", `$env can only be read as $env["a column"]`)
		case s.table.Column(n.Value) != nil:
			s.reads[n.Value] = true
		}
		return nil
	})
}

// joins refuses to join what the checker knows to be other things than
// strings: it lets them pass, and each row would be an error.
func (s *scan) joins(tree *ast.Node, c *nature.Cache) error {
	return each(tree, func(node *ast.Node) error {
		call, ok := (*node).(*ast.CallNode)
		if !ok || len(call.Arguments) == 0 {
			return nil
		}
		if callee, ok := call.Callee.(*ast.IdentifierNode); !ok || callee.Value != ownName("join") {
			return nil
		}
		var elements []nature.Nature
		if array, ok := call.Arguments[0].(*ast.ArrayNode); ok {
			for _, e := range array.Nodes {
				elements = append(elements, *e.Nature())
			}
		} else {
			elements = append(elements, call.Arguments[0].Nature().Elem(c))
		}
		for _, e := range elements {
			if !e.IsString() && !e.Nil && !e.IsUnknown(c) {
				return s.refuse(call, "make them strings with string()", "join takes strings, these are %s", typeName(e))
			}
		}
		return nil
	})
}
