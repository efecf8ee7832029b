package catalog

// The form of stored tables without a version, with the names that the fields had in Go:
// what Tidemark wrote until forms got versions. It can go when nobody upgrades from there
// any more; [DecodeTables] then refuses it, and indices whose tables have grown are rebuilt.

type tableBefore struct {
	OID           uint32
	Schema, Name  string
	Columns       []columnBefore
	PrimaryKey    []string
	Identity      identityBefore
	Unique        [][]string
	RowSecurity   bool
	User          string
	Unlogged      bool
	Partitioned   bool
	Root          nameBefore
	EstimatedRows int64
}

type nameBefore struct{ Schema, Name string }

type columnBefore struct {
	Name                        string
	Type                        *typeBefore
	NotNull, Generated, Default bool
}

type identityBefore struct {
	Kind    byte
	Columns []string
}

type typeBefore struct {
	OID                            uint32
	Name, Schema, Plain, Extension string
	Kind, Category                 byte
	Elem, Base                     *typeBefore
	Attributes                     []attributeBefore
	Canonical                      bool
	Delim                          byte
	Modifier                       int32
	Fraction                       int
}

type attributeBefore struct {
	Name string
	Type *typeBefore
}

func decodeTablesBefore(text string) (Tables, error) {
	var before map[string]*tableBefore // nil where there was no such table
	if err := decodeStored(text, &before); err != nil {
		return nil, err
	}
	ts := make(Tables, len(before))
	for name, t := range before {
		if t == nil {
			continue
		}
		if err := ts.add(name, t.table()); err != nil {
			return nil, err
		}
	}
	return ts, nil
}

func (b *tableBefore) table() *Table {
	t := &Table{
		OID: b.OID, Schema: b.Schema, Name: b.Name, PrimaryKey: b.PrimaryKey,
		Identity: Identity{IdentityKind(b.Identity.Kind), b.Identity.Columns},
		Unique:   b.Unique, RowSecurity: b.RowSecurity, User: b.User, Unlogged: b.Unlogged,
		Partitioned: b.Partitioned, Root: TableName(b.Root), EstimatedRows: b.EstimatedRows,
	}
	for _, c := range b.Columns {
		t.Columns = append(t.Columns, Column{Name: c.Name, Type: c.Type.typ(), NotNull: c.NotNull, Generated: c.Generated, Default: c.Default})
	}
	return t
}

func (b *typeBefore) typ() *Type {
	if b == nil {
		return nil
	}
	t := &Type{
		OID: b.OID, Name: b.Name, Schema: b.Schema, Plain: b.Plain, Extension: b.Extension,
		Kind: Kind(b.Kind), Category: b.Category, Elem: b.Elem.typ(), Base: b.Base.typ(),
		Canonical: b.Canonical, Delim: b.Delim, Modifier: b.Modifier, Fraction: b.Fraction,
	}
	for _, a := range b.Attributes {
		t.Attributes = append(t.Attributes, Attribute{Name: a.Name, Type: a.Type.typ()})
	}
	return t
}
