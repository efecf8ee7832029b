package expr

import (
	"fmt"
	"reflect"
	"slices"

	"github.com/expr-lang/expr/ast"
)

// A nullRule rewrites checked expressions so that nil goes through them as NULL
// goes through SQL. expr-lang has nil, but most of its operations end in an
// error when they meet one; here a row with a NULL is as good as any other.
//
//   - ==, !=, in, ?? and type() take nil for a value: nil == nil is true, nil
//     equals nothing else and is in no array.
//   - and, or, not know three values: nil or true is true, nil or false is nil.
//   - What asks for a condition takes nil for false: ?:, if, filter, any, all, …
//   - Arrays and objects hold nil; join leaves it out.
//   - Every other operation, function and method gives nil if an operand is nil.
//
// An operation is wrapped only where an operand may be nil: a column, or what
// comes out of other operations on columns.
type nullRule struct {
	names int // how many variables were declared
}

// maybeNil are the functions that give nil for operands that are not.
var maybeNil = []string{"find", "findLast", "findIndex", "findLastIndex", "first", "last", "get", "max", "min", "reduce", "fromJSON"}

// conditions are the functions whose predicate must be a bool.
var conditions = []string{"all", "none", "any", "one", "filter", "count", "find", "findLast", "findIndex", "findLastIndex"}

// apply rewrites n and all below it, and reports whether it may give nil.
// Each node is visited once, and all but names stand in the result once, so that
// it is at most a few times as large.
func (r *nullRule) apply(n ast.Node) (_ ast.Node, null bool) {
	switch n := n.(type) {
	case *ast.NilNode, *ast.IdentifierNode:
		return n, true
	case *ast.PointerNode:
		return n, n.Name != "index"
	case *ast.UnaryNode:
		return r.strict(n, &n.Node)
	case *ast.BinaryNode:
		return r.binary(n)
	case *ast.ChainNode: // every member stops at nil, with and without ?.
		return r.apply(n.Node)
	case *ast.MemberNode:
		n.Optional = false
		out, _ := r.strict(n, &n.Node, &n.Property)
		return out, true // an object without the key
	case *ast.SliceNode:
		return r.strict(n, &n.Node, &n.From, &n.To)
	case *ast.CallNode:
		return r.call(n)
	case *ast.BuiltinNode:
		return r.builtin(n)
	case *ast.PredicateNode:
		n.Node, null = r.apply(n.Node)
		return n, null
	case *ast.VariableDeclaratorNode:
		n.Value, _ = r.apply(n.Value)
		n.Expr, null = r.apply(n.Expr)
		return n, null
	case *ast.SequenceNode:
		for i := range n.Nodes {
			n.Nodes[i], null = r.apply(n.Nodes[i])
		}
		return n, null
	case *ast.ConditionalNode:
		n.Cond = r.condition(n.Cond)
		var null1, null2 bool
		n.Exp1, null1 = r.apply(n.Exp1)
		n.Exp2, null2 = r.apply(n.Exp2)
		return n, null1 || null2
	case *ast.ArrayNode:
		for i := range n.Nodes {
			n.Nodes[i], _ = r.apply(n.Nodes[i])
		}
	case *ast.MapNode:
		for i := range n.Pairs {
			n.Pairs[i], _ = r.apply(n.Pairs[i])
		}
	case *ast.PairNode:
		n.Key, _ = r.apply(n.Key)
		n.Value, _ = r.apply(n.Value)
	}
	return n, false
}

// condition rewrites what must be a bool so that it is one: nil is false.
func (r *nullRule) condition(n ast.Node) ast.Node {
	n, null := r.apply(n)
	if null {
		return like(n, &ast.BinaryNode{Operator: "==", Left: n, Right: like(n, &ast.BoolNode{Value: true})})
	}
	return n
}

// strict makes n give nil if one of its operands does: without evaluating it,
// nor the operands that come after.
func (r *nullRule) strict(n ast.Node, operands ...*ast.Node) (_ ast.Node, null bool) {
	nulls := make([]bool, len(operands))
	for i, operand := range operands {
		if *operand != nil {
			*operand, nulls[i] = r.apply(*operand)
		}
	}
	out := n
	for i, operand := range slices.Backward(operands) {
		if nulls[i] {
			null = true
			out = r.with(operand, func(x ast.Node) ast.Node {
				return like(n, &ast.ConditionalNode{Cond: isNil(x), Exp1: like(n, &ast.NilNode{}), Exp2: out})
			})
		}
	}
	return out, null
}

// with puts into place what gives the value of *operand without evaluating it
// again, and declares around body what is needed for that.
func (r *nullRule) with(operand *ast.Node, body func(x ast.Node) ast.Node) ast.Node {
	x := *operand
	switch x.(type) {
	case *ast.IdentifierNode, *ast.PointerNode:
		return body(x)
	}
	r.names++
	name := fmt.Sprintf("\x00%d", r.names) // which neither a column nor a variable can have
	*operand = like(x, &ast.IdentifierNode{Value: name})
	out := body(*operand)
	return like(out, &ast.VariableDeclaratorNode{Name: name, Value: x, Expr: out})
}

func (r *nullRule) binary(n *ast.BinaryNode) (_ ast.Node, null bool) {
	switch n.Operator {
	case "==", "!=":
		return r.equality(n), false
	case "in":
		return r.membership(n), false
	case "??":
		n.Left, _ = r.apply(n.Left)
		n.Right, null = r.apply(n.Right)
		return n, null
	case "and", "&&", "or", "||":
		return r.logic(n)
	}
	return r.strict(n, &n.Left, &n.Right)
}

// equality keeps nil from where the compiler takes the operands for what the
// checker says they are: it has opcodes of their own for int and string.
func (r *nullRule) equality(n *ast.BinaryNode) ast.Node {
	kind := n.Left.Type().Kind()
	typed := kind == n.Right.Type().Kind() && (kind == reflect.Int || kind == reflect.String)
	var null1, null2 bool
	n.Left, null1 = r.apply(n.Left)
	n.Right, null2 = r.apply(n.Right)
	switch {
	case !typed || !null1 && !null2:
		return n
	case null1 && null2:
		return r.with(&n.Left, func(x ast.Node) ast.Node {
			return r.with(&n.Right, func(y ast.Node) ast.Node {
				one := like(n, &ast.BinaryNode{Operator: "or", Left: isNil(x), Right: isNil(y)})
				both := like(n, &ast.BinaryNode{Operator: n.Operator, Left: isNil(x), Right: isNil(y)})
				return like(n, &ast.ConditionalNode{Cond: one, Exp1: both, Exp2: n})
			})
		})
	}
	operand := &n.Left
	if null2 {
		operand = &n.Right
	}
	return r.with(operand, func(x ast.Node) ast.Node {
		return like(n, &ast.ConditionalNode{Cond: isNil(x), Exp1: like(n, &ast.BoolNode{Value: n.Operator == "!="}), Exp2: n})
	})
}

// membership keeps nil from what the optimizer makes of literal arrays: sets of
// ints or strings, in which nil would be 0 or "". What may be of another type
// than their keys is kept from them by a variable for the array.
func (r *nullRule) membership(n *ast.BinaryNode) ast.Node {
	kind := n.Left.Type().Kind()
	var null bool
	n.Left, null = r.apply(n.Left)
	n.Right, _ = r.apply(n.Right)
	var out ast.Node = n
	if _, ok := n.Right.(*ast.ArrayNode); ok && kind != reflect.Int && kind != reflect.String {
		out = r.with(&n.Right, func(ast.Node) ast.Node { return n })
	}
	if !null {
		return out
	}
	return r.with(&n.Left, func(x ast.Node) ast.Node {
		return like(n, &ast.ConditionalNode{Cond: isNil(x), Exp1: like(n, &ast.BoolNode{}), Exp2: out})
	})
}

// logic returns and and or their third value. The right side needs nothing: where
// it is looked at, its value is the result.
func (r *nullRule) logic(n *ast.BinaryNode) (_ ast.Node, null bool) {
	left, null := r.apply(n.Left)
	right, nullRight := r.apply(n.Right)
	n.Left, n.Right = left, right
	if !null {
		return n, nullRight
	}
	// x and y: x == false ? false : x == nil ? (y == false ? false : nil) : x and y
	decided := n.Operator == "or" || n.Operator == "||"
	is := func(x ast.Node) ast.Node {
		return like(n, &ast.BinaryNode{Operator: "==", Left: x, Right: like(n, &ast.BoolNode{Value: decided})})
	}
	result := func() ast.Node { return like(n, &ast.BoolNode{Value: decided}) }
	return r.with(&n.Left, func(x ast.Node) ast.Node {
		rest := r.with(&n.Right, func(y ast.Node) ast.Node {
			unknown := like(n, &ast.ConditionalNode{Cond: is(y), Exp1: result(), Exp2: like(n, &ast.NilNode{})})
			return like(n, &ast.ConditionalNode{Cond: isNil(x), Exp1: unknown, Exp2: n})
		})
		return like(n, &ast.ConditionalNode{Cond: is(x), Exp1: result(), Exp2: rest})
	}), true
}

// call rewrites the call of a method, or of an own function. The node is made
// anew: the checker leaves a call alone that it has seen.
func (r *nullRule) call(n *ast.CallNode) (ast.Node, bool) {
	fresh := like(n, &ast.CallNode{Callee: n.Callee, Arguments: n.Arguments})
	var operands []*ast.Node
	if method, ok := n.Callee.(*ast.MemberNode); ok {
		method.Optional = false
		operands = append(operands, &method.Node)
	}
	for i := range fresh.Arguments {
		operands = append(operands, &fresh.Arguments[i])
	}
	return r.strict(fresh, operands...)
}

func (r *nullRule) builtin(n *ast.BuiltinNode) (_ ast.Node, null bool) {
	var operands []*ast.Node
	predicate := false
	for i := range n.Arguments {
		p, ok := n.Arguments[i].(*ast.PredicateNode)
		switch {
		case ok && slices.Contains(conditions, n.Name):
			p.Node = r.condition(p.Node)
		case ok:
			p.Node, _ = r.apply(p.Node)
		case n.Name == "type" || predicate: // what comes after it: the first value of reduce, the order of sortBy
			n.Arguments[i], _ = r.apply(n.Arguments[i])
		default:
			operands = append(operands, &n.Arguments[i])
		}
		predicate = predicate || ok
	}
	out, null := r.strict(n, operands...)
	return out, null || slices.Contains(maybeNil, n.Name)
}

// isNil compares x, a variable, a column or the element of a predicate, with nil.
func isNil(x ast.Node) ast.Node {
	return like(x, &ast.BinaryNode{Operator: "==", Left: x, Right: like(x, &ast.NilNode{})})
}

// like puts a new node where n is. Its type is left to the checker.
func like[N ast.Node](n ast.Node, fresh N) N {
	fresh.SetLocation(n.Location())
	return fresh
}
