package catalog

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
)

// storedVersion is the version of the form in which [Tables.Encode] writes. A form that an
// earlier Tidemark would read wrongly, or could not read, gets the next number; the reader
// of the one before stays, since a database that is brought up to date has texts of it.
const storedVersion = 2

// StoredVersion returns the version of a text of the control schema, 0 of one from before
// texts had any. It refuses a version above known, the latest one that the caller reads.
func StoredVersion(text string, known int) (int, error) {
	var stored struct {
		Version *int `json:"version"`
	}
	if err := json.Unmarshal([]byte(text), &stored); err != nil {
		return 0, err
	}
	switch {
	case stored.Version == nil:
		return 0, nil
	case *stored.Version < 1:
		return 0, fmt.Errorf("there is no version %d of this text", *stored.Version)
	case *stored.Version > known:
		return 0, fmt.Errorf("the text is of version %d, and this Tidemark reads versions up to %d: it was written by a newer one; hint: run the newer Tidemark", *stored.Version, known)
	}
	return *stored.Version, nil
}

// storedTables is the text of tables in the control schema.
type storedTables struct {
	Version int                    `json:"version"`
	Tables  map[string]storedTable `json:"tables"` // by their names as SQL takes them
}

type storedTable struct {
	OID           uint32         `json:"oid"`
	Schema        string         `json:"schema"`
	Name          string         `json:"name"`
	Columns       []storedColumn `json:"columns,omitzero"`
	PrimaryKey    []string       `json:"primary_key,omitzero"`
	KeyDeferrable bool           `json:"key_deferrable,omitzero"` // since 2
	Identity      storedIdentity `json:"identity"`
	Unique        [][]string     `json:"unique,omitzero"`
	RowSecurity   bool           `json:"row_security,omitzero"`
	User          string         `json:"user,omitzero"`
	Unlogged      bool           `json:"unlogged,omitzero"`
	Partitioned   bool           `json:"partitioned,omitzero"`
	Root          storedName     `json:"root,omitzero"`
	File          string         `json:"file,omitzero"`          // since 2
	Published     string         `json:"published,omitzero"`     // since 2
	WithChildren  bool           `json:"with_children,omitzero"` // since 2
	EstimatedRows int64          `json:"estimated_rows"`
}

type storedName struct {
	Schema string `json:"schema"`
	Name   string `json:"name"`
}

type storedColumn struct {
	Number     int16       `json:"number,omitzero"` // since 2
	Name       string      `json:"name"`
	Type       *storedType `json:"type"`
	NotNull    bool        `json:"not_null,omitzero"`
	Generated  bool        `json:"generated,omitzero"`
	Virtual    bool        `json:"virtual,omitzero"`    // since 2
	Expression string      `json:"expression,omitzero"` // since 2
	Default    bool        `json:"default,omitzero"`
	Collation  uint32      `json:"collation,omitzero"` // since 2
}

// A storedMark is what Mark is, since 2.
type storedMark struct {
	Written string `json:"written,omitzero"`
	Row     string `json:"row,omitzero"`
}

type storedIdentity struct {
	Kind    storedLetter `json:"kind"`
	Columns []string     `json:"columns,omitzero"`
}

type storedType struct {
	OID        uint32            `json:"oid"`
	Name       string            `json:"name"`
	Schema     string            `json:"schema,omitzero"`
	Plain      string            `json:"plain,omitzero"`
	Extension  string            `json:"extension,omitzero"`
	Kind       storedLetter      `json:"kind"`
	Category   storedLetter      `json:"category"`
	Elem       *storedType       `json:"elem,omitzero"`
	Base       *storedType       `json:"base,omitzero"`
	Attributes []storedAttribute `json:"attributes,omitzero"`
	Labels     []storedLabel     `json:"labels,omitzero"` // since 2
	Canonical  bool              `json:"canonical,omitzero"`
	Delim      storedLetter      `json:"delim"`
	Modifier   int32             `json:"modifier"`
	Fraction   int               `json:"fraction,omitzero"`
}

type storedAttribute struct {
	Number int16       `json:"number,omitzero"` // since 2
	Name   string      `json:"name"`
	Type   *storedType `json:"type"`
	storedMark
}

type storedLabel struct {
	OID  uint32 `json:"oid"`
	Text string `json:"text"`
	storedMark
}

// A storedLetter is a value of the type "char" of Postgres: one byte, or none.
type storedLetter byte

// MarshalText returns the letter, the empty text for 0.
func (l storedLetter) MarshalText() ([]byte, error) {
	if l == 0 {
		return nil, nil
	}
	return []byte(string(rune(l))), nil
}

// UnmarshalText takes what MarshalText gave.
func (l *storedLetter) UnmarshalText(text []byte) error {
	letters := []rune(string(text))
	switch {
	case len(letters) == 0:
		*l = 0
	case len(letters) > 1 || letters[0] > 0xff:
		return fmt.Errorf("%q is not one letter", text)
	default:
		*l = storedLetter(letters[0])
	}
	return nil
}

// Encode returns the tables as a text, for [DecodeTables]. Those that are nil are left out.
// The same tables always give the same text.
func (ts Tables) Encode() (string, error) {
	stored := storedTables{Version: storedVersion, Tables: make(map[string]storedTable, len(ts))}
	for name, t := range ts {
		if t != nil {
			stored.Tables[name.String()] = storeTable(t)
		}
	}
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false) // people read it, too
	if err := encoder.Encode(stored); err != nil {
		return "", fmt.Errorf("tables of an index: %w", err)
	}
	return strings.TrimSuffix(b.String(), "\n"), nil
}

// DecodeTables returns the tables that [Tables.Encode] has made a text of, in this version of
// Tidemark or an earlier one. A text of a later version is an error.
func DecodeTables(text string) (Tables, error) {
	ts, err := decodeTables(text)
	if err != nil {
		return nil, fmt.Errorf("tables of an index: %w", err)
	}
	return ts, nil
}

func decodeTables(text string) (Tables, error) {
	version, err := StoredVersion(text, storedVersion)
	switch {
	case err != nil:
		return nil, err
	case version == 0:
		return decodeTablesBefore(text)
	}
	var stored storedTables
	if err := decodeStored(text, &stored); err != nil {
		return nil, err
	}
	ts := make(Tables, len(stored.Tables))
	for name, t := range stored.Tables {
		if err := ts.add(name, t.table()); err != nil {
			return nil, err
		}
	}
	return ts, nil
}

// decodeStored reads a text whose every key is known.
func decodeStored(text string, into any) error {
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.DisallowUnknownFields()
	return decoder.Decode(into)
}

// add adds a table that a text has by its name.
func (ts Tables) add(name string, t *Table) error {
	if name != t.TableName().String() {
		return fmt.Errorf("table %s is there as %s", t.TableName(), name)
	}
	for _, c := range t.Columns {
		if c.Type == nil {
			return fmt.Errorf("column %s of table %s has no type", QuoteIfNeeded(c.Name), name)
		}
	}
	ts[t.TableName()] = t
	return nil
}

func storeTable(t *Table) storedTable {
	stored := storedTable{
		OID: t.OID, Schema: t.Schema, Name: t.Name, PrimaryKey: t.PrimaryKey, KeyDeferrable: t.KeyDeferrable,
		Identity: storedIdentity{storedLetter(t.Identity.Kind), t.Identity.Columns},
		Unique:   t.Unique, RowSecurity: t.RowSecurity, User: t.User, Unlogged: t.Unlogged,
		Partitioned: t.Partitioned, Root: storedName(t.Root), File: t.File, Published: t.Published, WithChildren: t.WithChildren, EstimatedRows: t.EstimatedRows,
	}
	for _, c := range t.Columns {
		stored.Columns = append(stored.Columns, storedColumn{Number: c.Number, Name: c.Name, Type: storeType(c.Type), NotNull: c.NotNull,
			Generated: c.Generated, Virtual: c.Virtual, Expression: c.Expression, Default: c.Default, Collation: c.Collation})
	}
	return stored
}

func (s *storedTable) table() *Table {
	t := &Table{
		OID: s.OID, Schema: s.Schema, Name: s.Name, PrimaryKey: s.PrimaryKey, KeyDeferrable: s.KeyDeferrable,
		Identity: Identity{IdentityKind(s.Identity.Kind), s.Identity.Columns},
		Unique:   s.Unique, RowSecurity: s.RowSecurity, User: s.User, Unlogged: s.Unlogged,
		Partitioned: s.Partitioned, Root: TableName(s.Root), File: s.File, Published: s.Published, WithChildren: s.WithChildren, EstimatedRows: s.EstimatedRows,
	}
	for _, c := range s.Columns {
		t.Columns = append(t.Columns, Column{Number: c.Number, Name: c.Name, Type: c.Type.typ(), NotNull: c.NotNull,
			Generated: c.Generated, Virtual: c.Virtual, Expression: c.Expression, Default: c.Default, Collation: c.Collation})
	}
	return t
}

func storeType(t *Type) *storedType {
	if t == nil {
		return nil
	}
	stored := &storedType{
		OID: t.OID, Name: t.Name, Schema: t.Schema, Plain: t.Plain, Extension: t.Extension,
		Kind: storedLetter(t.Kind), Category: storedLetter(t.Category), Elem: storeType(t.Elem), Base: storeType(t.Base),
		Canonical: t.Canonical, Delim: storedLetter(t.Delim), Modifier: t.Modifier, Fraction: t.Fraction,
	}
	for _, a := range t.Attributes {
		stored.Attributes = append(stored.Attributes, storedAttribute{a.Number, a.Name, storeType(a.Type), storedMark(a.Mark)})
	}
	for _, l := range t.Labels {
		stored.Labels = append(stored.Labels, storedLabel{l.OID, l.Text, storedMark(l.Mark)})
	}
	return stored
}

func (s *storedType) typ() *Type {
	if s == nil {
		return nil
	}
	t := &Type{
		OID: s.OID, Name: s.Name, Schema: s.Schema, Plain: s.Plain, Extension: s.Extension,
		Kind: Kind(s.Kind), Category: byte(s.Category), Elem: s.Elem.typ(), Base: s.Base.typ(),
		Canonical: s.Canonical, Delim: byte(s.Delim), Modifier: s.Modifier, Fraction: s.Fraction,
	}
	for _, a := range s.Attributes {
		t.Attributes = append(t.Attributes, Attribute{a.Number, a.Name, a.Type.typ(), Mark(a.storedMark)})
	}
	for _, l := range s.Labels {
		t.Labels = append(t.Labels, Label{l.OID, l.Text, Mark(l.storedMark)})
	}
	return t
}
