package mapping

import "fmt"

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
	Category byte  // pg_type.typcategory: 'S' are strings, of extensions too
	Elem     *Type // of an array: the type of its elements
	Base     *Type // of a domain: the type below, possibly a domain again
	Delim    byte  // what parts the elements of an array of this type: ',' but for box
	Modifier int32 // pg_attribute.atttypmod, below a domain pg_type.typtypmod; -1: none
}

// Root gives the type below all domains.
func (t *Type) Root() *Type {
	for t.Kind == KindDomain && t.Base != nil {
		t = t.Base
	}
	return t
}

// typeAnswer is one type in the answer to tableQuery, once per modifier that
// it is used with.
type typeAnswer struct {
	OID        uint32
	Typmod     int32
	Kind       string
	Category   string
	Delim      string
	Base       uint32 // 0: no domain
	BaseTypmod int32
	Elem       uint32 // 0: no array
	Name       string
}

type typeKey struct {
	oid    uint32
	typmod int32
}

// A typeSet resolves the types of one table.
type typeSet struct {
	answers map[typeKey]*typeAnswer
	types   map[typeKey]*Type
}

func newTypeSet(answers []typeAnswer) *typeSet {
	s := &typeSet{make(map[typeKey]*typeAnswer, len(answers)), make(map[typeKey]*Type, len(answers))}
	for i := range answers {
		s.answers[typeKey{answers[i].OID, answers[i].Typmod}] = &answers[i]
	}
	return s
}

// resolve gives the type with all that is below it. A domain or an array is
// made of types that are older than itself, so this comes to an end.
func (s *typeSet) resolve(oid uint32, typmod int32) (*Type, error) {
	key := typeKey{oid, typmod}
	if t := s.types[key]; t != nil {
		return t, nil
	}
	a := s.answers[key]
	if a == nil {
		return nil, fmt.Errorf("the catalog has no type with oid %d", oid)
	}
	t := &Type{
		OID: oid, Name: a.Name, Kind: Kind(a.Kind[0]), Category: a.Category[0],
		Delim: a.Delim[0], Modifier: typmod,
	}
	var err error
	switch {
	case a.Base != 0:
		t.Base, err = s.resolve(a.Base, a.BaseTypmod)
	case a.Elem != 0:
		t.Kind = KindArray
		if t.Elem, err = s.resolve(a.Elem, typmod); err == nil {
			t.Name = t.Elem.Name + "[]"
		}
	}
	if err != nil {
		return nil, err
	}
	s.types[key] = t
	return t, nil
}
