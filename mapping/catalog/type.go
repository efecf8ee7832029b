package catalog

import (
	"fmt"
	"slices"
)

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
	OID        uint32
	Name       string // format_type with its modifier, schema-qualified unless in pg_catalog; usable in a cast
	Schema     string
	Plain      string // pg_type.typname: the name alone, as the catalog spells it
	Extension  string // that the type is part of; "": none
	Kind       Kind
	Category   byte        // pg_type.typcategory: 'S' are strings, of extensions too
	Elem       *Type       // of an array: the type of its elements; of a range: of its bounds; of a multirange: its range
	Base       *Type       // of a domain: the type below, possibly a domain again
	Attributes []Attribute // of a composite, in its order, dropped ones left out
	Labels     []Label     // of an enum, in the order of their oids; of more than 1000 one that stands for all
	Canonical  bool        // of a range: equal ranges have equal bounds
	Delim      byte        // what parts the elements of an array of this type: ',' but for box
	Modifier   int32       // pg_attribute.atttypmod, below a domain pg_type.typtypmod; -1: none
	Fraction   int         // of money: digits after the point, by lc_monetary of the session that asked
}

// An Attribute is one part of a composite.
type Attribute struct {
	Number int16 // pg_attribute.attnum; 0: not known
	Name   string
	Type   *Type
	Mark
}

// A Label is one value of an enum, which keeps its oid when it is renamed. One without an oid is a
// hash of all values, of an enum that has too many to keep them.
type Label struct {
	OID  uint32
	Text string
	Mark
}

// A Mark says whether a row of the catalog was written since, and whether it then said what it had
// said before: something was altered, and altered back. The zero value is not known.
type Mark struct {
	Written string // the transaction that has written it: xmin
	Row     string // a hash of all that it says
}

// touched reports whether the row was written since it was as before, and says the same.
func (m Mark) touched(before Mark) bool {
	return m.Written != before.Written && m.Row == before.Row && before.Row != ""
}

// NewBase returns a type of Postgres' own without a modifier, such as what an aggregate or an
// expression comes to. name is that of format_type.
func NewBase(oid uint32, name string) *Type {
	return &Type{OID: oid, Name: name, Kind: KindBase, Delim: ',', Modifier: -1}
}

// Root returns the type below all domains.
func (t *Type) Root() *Type {
	for t.Kind == KindDomain && t.Base != nil {
		t = t.Base
	}
	return t
}

// Equal reports whether nothing about a type has changed, as it does where a
// composite was altered.
func (t *Type) Equal(other *Type) bool {
	if t == nil || other == nil {
		return t == other
	}
	return t.OID == other.OID && t.Name == other.Name && t.Kind == other.Kind && t.Modifier == other.Modifier &&
		t.Fraction == other.Fraction && t.Elem.Equal(other.Elem) && t.Base.Equal(other.Base) &&
		slices.EqualFunc(t.Attributes, other.Attributes, Attribute.equal)
}

// equal reports whether an attribute is the same one under the same name. Where an earlier
// version has not noted its number, the name says so.
func (a Attribute) equal(b Attribute) bool {
	return a.Name == b.Name && a.Type.Equal(b.Type) && (a.Number == b.Number || a.Number == 0 || b.Number == 0)
}

// IsPart reports whether the type is the one of this name that an extension made.
func (t *Type) IsPart(extension, name string) bool {
	return t.Extension == extension && t.Plain == name
}

// typeAnswer is one type in the answer to tablesQuery, once per modifier that
// it is used with.
type typeAnswer struct {
	OID        uint32
	Typmod     int32
	Kind       string
	Category   string
	Delim      string
	Base       uint32 // 0: no domain
	BaseTypmod int32
	Elem       uint32 // of an array, a range or a multirange; 0: none
	Array      bool
	Canonical  bool
	Attributes []struct {
		Number int16
		Name   string
		Type   uint32
		Typmod int32
		Mark
	}
	Labels    []Label
	Name      string
	Schema    string
	Plain     string
	Extension string
	Fraction  int
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

// resolve returns the type with all that is below it. Postgres lets no type be
// part of itself, so this comes to an end.
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
		OID: oid, Name: a.Name, Schema: a.Schema, Plain: a.Plain, Extension: a.Extension,
		Kind: Kind(a.Kind[0]), Category: a.Category[0], Canonical: a.Canonical, Labels: a.Labels,
		Delim: a.Delim[0], Modifier: typmod, Fraction: a.Fraction,
	}
	var err error
	switch {
	case a.Base != 0:
		t.Base, err = s.resolve(a.Base, a.BaseTypmod)
	case a.Array:
		t.Kind = KindArray
		if t.Elem, err = s.resolve(a.Elem, typmod); err == nil {
			t.Name = t.Elem.Name + "[]"
		}
	case a.Elem != 0:
		t.Elem, err = s.resolve(a.Elem, -1)
	}
	for _, attribute := range a.Attributes {
		if err != nil {
			break
		}
		var below *Type
		below, err = s.resolve(attribute.Type, attribute.Typmod)
		t.Attributes = append(t.Attributes, Attribute{attribute.Number, attribute.Name, below, attribute.Mark})
	}
	if err != nil {
		return nil, err
	}
	s.types[key] = t
	return t, nil
}

// byteaOID is the oid of bytea.
const byteaOID = 17

// HoldsBytes reports whether the type is bytea, or made of it. In text form such a value is twice as
// large as it is, and from 512 MiB on larger than Postgres can put into a message: no other type
// is stored in less than it is written in.
func (t *Type) HoldsBytes() bool {
	if t == nil {
		return false
	}
	return t.OID == byteaOID || t.Elem.HoldsBytes() || t.Base.HoldsBytes() || slices.ContainsFunc(t.Attributes, func(a Attribute) bool { return a.Type.HoldsBytes() })
}
