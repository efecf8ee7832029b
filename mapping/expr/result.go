package expr

import (
	"fmt"
	"reflect"

	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/checker/nature"
	"github.com/jackc/pgx/v5/pgtype"

	"tidemark/mapping/catalog"
	"tidemark/mapping/value"
)

// resultType returns the type of what a checked expression gives. It knows more
// than the checker of expr-lang, which gives up on a choice between int and
// float and on what comes out of an array, and calls max(1, 2.5) an int.
func resultType(n ast.Node, c *nature.Cache) nature.Nature {
	switch n := n.(type) {
	case *ast.VariableDeclaratorNode:
		return resultType(n.Expr, c)
	case *ast.SequenceNode:
		return resultType(n.Nodes[len(n.Nodes)-1], c)
	case *ast.ConditionalNode:
		return eitherType(resultType(n.Exp1, c), resultType(n.Exp2, c), c)
	case *ast.ArrayNode:
		if len(n.Nodes) == 0 {
			none := c.NatureOf(nil)
			return none.MakeArrayOf(c)
		}
	case *ast.BinaryNode:
		if n.Operator == "??" {
			return eitherType(resultType(n.Left, c), resultType(n.Right, c), c)
		}
	case *ast.BuiltinNode:
		switch n.Name {
		case "mean", "median":
			return c.FromType(reflect.TypeFor[float64]())
		case "max", "min", "first", "last":
			result := c.NatureOf(nil)
			for _, arg := range n.Arguments {
				typ := *arg.Nature()
				if typ.IsArray() {
					typ = typ.Elem(c)
				}
				result = eitherType(result, typ, c)
			}
			return result
		}
	}
	return *n.Nature()
}

// eitherType returns the type of what may be of one or the other.
func eitherType(a, b nature.Nature, c *nature.Cache) nature.Nature {
	switch {
	case a.Nil:
		return b
	case b.Nil:
		return a
	case a.IsNumber() && b.IsNumber():
		return a.PromoteNumericNature(c, b)
	case a.IsArray() && b.IsArray():
		elem := eitherType(a.Elem(c), b.Elem(c), c)
		return elem.MakeArrayOf(c)
	case a.Type != nil && a.Type == b.Type:
		return a
	}
	return nature.Nature{}
}

// fieldOf returns the default field of the index for results of a type.
func fieldOf(n nature.Nature) (map[string]any, error) {
	switch {
	case n.Nil:
		return nil, &Error{Text: "the expression is always nil"}
	case n.Type == nil || n.Kind == reflect.Interface || n.IsMap():
		return value.DisabledField, nil
	case n.IsDuration():
		return nil, &Error{"a duration has no JSON form", "take its Seconds(), Minutes() or Hours()"}
	case n.IsTime():
		return value.DateField, nil
	case n.IsBool():
		return value.FormOf(catalog.NewBase(pgtype.BoolOID, "boolean")).Field, nil
	case n.IsString():
		return value.TextField, nil
	case n.IsFloat:
		return value.DoubleField, nil
	case n.Kind >= reflect.Int && n.Kind <= reflect.Uint64: // a Month, too
		return value.LongField, nil
	case n.IsByteSlice():
		return nil, &Error{Text: "bytes have no JSON form"}
	case n.IsArray():
		if elem := n.Elem(nil); !elem.Nil {
			return fieldOf(elem)
		}
		return value.DisabledField, nil
	}
	return nil, &Error{Text: fmt.Sprintf("a value of type %s has no JSON form", n.Type)}
}
