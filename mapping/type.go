package mapping

// A Kind sorts the types of the catalog: pg_type.typtype, and arrays told apart.
type Kind byte

const (
	KindBase       Kind = 'b'
	KindComposite  Kind = 'c'
	KindDomain     Kind = 'd'
	KindEnum       Kind = 'e'
	KindPseudo     Kind = 'p'
	KindRange      Kind = 'r'
	KindMultirange Kind = 'm'
	KindArray      Kind = 'a'
)

// A Type is a type of the catalog, resolved down to what decides the form of
// its values.
type Type struct {
	OID      uint32
	Name     string // format_type with its modifier, schema-qualified unless in pg_catalog; usable in a cast
	Kind     Kind
	Elem     *Type // of an array: the type of its elements
	Base     *Type // of a domain: the type below, possibly a domain again
	Delim    byte  // what parts the elements of an array of this type: ',' but for box
	Modifier int32 // pg_attribute.atttypmod, of a domain pg_type.typtypmod; -1: none
}

// Root gives the type below all domains.
func (t *Type) Root() *Type {
	for t.Kind == KindDomain && t.Base != nil {
		t = t.Base
	}
	return t
}
