package expr

import (
	"reflect"
	"time"

	"github.com/expr-lang/expr/checker/nature"
	"github.com/jackc/pgx/v5/pgtype"

	"tidemark/mapping/catalog"
	"tidemark/mapping/value"
)

// A variable is what a column is to an expression: its type, by which the
// expression is checked, and how the text of a value is read.
//
// What a document shows as null is nil to an expression, too: NULL, but also
// NaN and the infinities of numbers and dates.
type variable struct {
	typ  reflect.Type // nil: any type, known from the value only
	elem *variable    // of an array, whose values are []any: what its elements are
	read value.Decoder
}

var (
	intVariable    = variable{typ: reflect.TypeFor[int](), read: value.ReadInt}
	floatVariable  = variable{typ: reflect.TypeFor[float64](), read: value.ReadFloat}
	stringVariable = variable{typ: reflect.TypeFor[string](), read: value.ReadString}
	anyVariable    = variable{read: value.ReadJSON}
)

// variables are those of the types that are more than a string.
var variables = map[uint32]variable{
	pgtype.BoolOID:        {typ: reflect.TypeFor[bool](), read: value.ReadBool},
	pgtype.Int2OID:        intVariable,
	pgtype.Int4OID:        intVariable,
	pgtype.Int8OID:        intVariable,
	pgtype.OIDOID:         intVariable,
	pgtype.XIDOID:         intVariable,
	pgtype.CIDOID:         intVariable,
	pgtype.Float4OID:      floatVariable,
	pgtype.Float8OID:      floatVariable,
	pgtype.DateOID:        {typ: value.TimeType, read: value.InstantDecoder(value.DateZone)},
	pgtype.TimestampOID:   {typ: value.TimeType, read: value.InstantDecoder(value.TimestampZone)},
	pgtype.TimestamptzOID: {typ: value.TimeType, read: value.InstantDecoder(time.UTC)},
	pgtype.JSONOID:        anyVariable,
	pgtype.JSONBOID:       anyVariable,
	pgtype.ByteaOID:       {typ: reflect.TypeFor[string](), read: value.ReadBytea},
}

// variableOf returns the variable of a type. There is one for every type.
func variableOf(t *catalog.Type) variable {
	t = t.Root()
	switch {
	case t.Kind == catalog.KindArray && t.Elem != nil:
		elem := variableOf(t.Elem)
		return variable{elem: &elem, read: value.ArrayDecoder(elem.read, t.Elem.Delim)}
	case t.OID == pgtype.NumericOID:
		if value.FormOf(t).Field["type"] == "long" {
			return intVariable
		}
		return floatVariable
	}
	if v, ok := variables[t.OID]; ok {
		return v
	}
	switch form := value.FormOf(t); form.Field["type"] {
	case "text", "keyword", "ip", "ip_range", "binary": // whose values are strings
		return stringVariable
	default: // what the document has
		return variable{read: func(text []byte) (any, error) { return value.ReadJSON(form.Encode(nil, text)) }}
	}
}

// nature returns the type as the checker of expressions has it.
func (v variable) nature(c *nature.Cache) nature.Nature {
	if v.elem != nil {
		elem := v.elem.nature(c)
		return elem.MakeArrayOf(c)
	}
	return c.FromType(v.typ)
}
