package mapping

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"tidemark/mapping/catalog"
	"tidemark/mapping/value"
)

// storedVersion is the version of the form in which [Index.Encode] writes. A form that an
// earlier Tidemark would read wrongly, or could not read, gets the next number; the reader
// of the one before stays, since a database that is brought up to date has texts of it. A mapping
// with nothing that came with a number is still written with the one before.
const storedVersion = 3

// A storedIndex is the text of an index in the control schema: what its documents and its
// physical index are made of. The keys of reindex are no part of it, since another chunk
// changes no document; neither are the places in the file.
type storedIndex struct {
	Version  int            `json:"version"`
	Name     string         `json:"name"`
	Sources  []storedSource `json:"sources"`
	Settings map[string]any `json:"settings,omitzero"`
	Mappings map[string]any `json:"mappings,omitzero"`
}

type storedSource struct {
	Table    storedName  `json:"table"`
	Children bool        `json:"children,omitzero"` // since 2
	ID       []string    `json:"id,omitzero"`
	Literals []string    `json:"literals,omitzero"`
	Routing  string      `json:"routing,omitzero"`
	Where    string      `json:"where,omitzero"`
	Only     *storedOnly `json:"only,omitzero"` // since 3
	storedShape
}

// A storedOnly is the values of a column that rows of the index have.
type storedOnly struct {
	Column string   `json:"column"`
	Values []string `json:"values"`
}

type storedName struct {
	Schema string `json:"schema"`
	Name   string `json:"name"`
}

type storedShape struct {
	Fields  []storedField   `json:"fields,omitzero"`
	Listed  bool            `json:"listed,omitzero"`
	Include []storedInclude `json:"include,omitzero"`
}

type storedField struct {
	Name     string          `json:"name"`
	Omit     bool            `json:"omit,omitzero"`
	Column   string          `json:"column,omitzero"`
	As       string          `json:"as,omitzero"`
	Params   map[string]any  `json:"params,omitzero"`
	Expr     string          `json:"expr,omitzero"`
	Constant *storedConstant `json:"constant,omitzero"`
	Group    []storedField   `json:"group,omitzero"`
}

// A storedConstant tells a value that is null from none.
type storedConstant struct {
	Value any `json:"value"`
}

type storedInclude struct {
	Name      string        `json:"name"`
	Table     storedName    `json:"table"`
	Children  bool          `json:"children,omitzero"` // since 2
	On        []storedPair  `json:"on,omitzero"`
	Through   *storedLink   `json:"through,omitzero"`
	Many      string        `json:"many,omitzero"`
	Value     string        `json:"value,omitzero"`
	Aggregate string        `json:"aggregate,omitzero"`
	Column    string        `json:"column,omitzero"`
	OrderBy   []storedOrder `json:"order_by,omitzero"`
	Limit     int           `json:"limit,omitzero"`
	Where     string        `json:"where,omitzero"`
	storedShape
}

type storedPair struct {
	Near string `json:"near"`
	Far  string `json:"far"`
}

type storedLink struct {
	Table    storedName   `json:"table"`
	Children bool         `json:"children,omitzero"` // since 2
	To       []storedPair `json:"to,omitzero"`
}

type storedOrder struct {
	Column     string `json:"column"`
	Descending bool   `json:"descending"`
	NullsFirst bool   `json:"nulls_first"`
}

// Encode returns what documents of the index, and its physical index, are made of as a
// text, for [DecodeIndex]. The same mapping always gives the same text.
func (ix *Index) Encode() (string, error) {
	text, err := value.Marshal(storeIndex(ix))
	if err != nil {
		return "", fmt.Errorf("index %s: %w", ix.Name, err)
	}
	return string(text), nil
}

// DecodeIndex returns the mapping that [Index.Encode] has made a text of, in this version of
// Tidemark or an earlier one. The mapping knows nothing of the places in the file that it
// came from, nor of the keys of reindex. A text of a later version is an error.
func DecodeIndex(text string) (*Index, error) {
	ix, err := decodeIndex(text)
	if err != nil {
		return nil, fmt.Errorf("mapping of an index: %w", err)
	}
	for _, s := range ix.Sources {
		s.Index = ix
	}
	return ix, nil
}

func decodeIndex(text string) (*Index, error) {
	version, err := catalog.StoredVersion(text, storedVersion)
	switch {
	case err != nil:
		return nil, err
	case version == 0:
		var before indexBefore
		if err := decodeStored(text, &before); err != nil {
			return nil, err
		}
		return before.index(), nil
	}
	var stored storedIndex
	if err := decodeStored(text, &stored); err != nil {
		return nil, err
	}
	return stored.index(), nil
}

// decodeStored reads a text whose every key is known, and its numbers as they are written.
func decodeStored(text string, into any) error {
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	decoder.DisallowUnknownFields()
	return decoder.Decode(into)
}

// EncodedAs reports whether text is what [Index.Encode] made of an equal mapping, in this
// version of Tidemark or an earlier one.
func (ix *Index) EncodedAs(text string) bool {
	other, err := DecodeIndex(text)
	if err != nil {
		return false // it is another one, whatever it is
	}
	ours, err := ix.Encode()
	if err != nil {
		return false
	}
	theirs, err := other.Encode()
	return err == nil && ours == theirs
}

func storeIndex(ix *Index) *storedIndex {
	version := 1
	switch {
	case slices.ContainsFunc(ix.Sources, func(s *Source) bool { return s.Only != nil }):
		version = storedVersion
	case len(ix.WithChildren()) > 0:
		version = 2
	}
	return &storedIndex{
		Version: version, Name: ix.Name,
		Sources:  mapAll(ix.Sources, storeSource),
		Settings: storeMap(ix.Settings), Mappings: storeMap(ix.Mappings),
	}
}

func (s *storedIndex) index() *Index {
	return &Index{
		Name:     s.Name,
		Sources:  mapAll(s.Sources, storedSource.source),
		Settings: readMap(s.Settings), Mappings: readMap(s.Mappings),
	}
}

func storeSource(s *Source) storedSource {
	return storedSource{Table: storedName(s.Table), Children: s.Children, ID: s.ID, Literals: s.Literals, Routing: s.Routing, Where: s.Where, Only: (*storedOnly)(s.Only), storedShape: storeShape(&s.Shape)}
}

func (s storedSource) source() *Source {
	return &Source{Table: catalog.TableName(s.Table), Children: s.Children, ID: s.ID, Literals: s.Literals, Routing: s.Routing, Where: s.Where, Only: (*Only)(s.Only), Shape: s.shape()}
}

func storeShape(s *Shape) storedShape {
	return storedShape{Fields: mapAll(s.Fields, storeField), Listed: s.Listed, Include: mapAll(s.Include, storeInclude)}
}

func (s storedShape) shape() Shape {
	return Shape{Fields: mapAll(s.Fields, storedField.field), Listed: s.Listed, Include: mapAll(s.Include, storedInclude.include)}
}

func storeField(f Field) storedField {
	stored := storedField{Name: f.Name, Omit: f.Omit, Column: f.Column, As: f.As, Params: storeMap(f.Params), Expr: f.Expr, Group: mapAll(f.Group, storeField)}
	if f.Constant != nil {
		stored.Constant = &storedConstant{storeValue(f.Constant.Value)}
	}
	return stored
}

func (f storedField) field() Field {
	field := Field{Name: f.Name, Omit: f.Omit, Column: f.Column, As: f.As, Params: readMap(f.Params), Expr: f.Expr, Group: mapAll(f.Group, storedField.field)}
	if f.Constant != nil {
		field.Constant = &Constant{readValue(f.Constant.Value)}
	}
	return field
}

func storeInclude(in *Include) storedInclude {
	stored := storedInclude{
		Name: in.Name, Table: storedName(in.Table), Children: in.Children, On: mapAll(in.On, storePair),
		Many: string(in.Many), Value: in.Value, Aggregate: string(in.Aggregate), Column: in.Column,
		OrderBy: mapAll(in.OrderBy, storeOrder), Limit: in.Limit, Where: in.Where,
		storedShape: storeShape(&in.Shape),
	}
	if in.Through != nil {
		stored.Through = &storedLink{Table: storedName(in.Through.Table), Children: in.Through.Children, To: mapAll(in.Through.To, storePair)}
	}
	return stored
}

func (in storedInclude) include() *Include {
	include := &Include{
		Name: in.Name, Table: catalog.TableName(in.Table), Children: in.Children, On: mapAll(in.On, storedPair.pair),
		Many: Many(in.Many), Value: in.Value, Aggregate: Aggregate(in.Aggregate), Column: in.Column,
		OrderBy: mapAll(in.OrderBy, storedOrder.order), Limit: in.Limit, Where: in.Where,
		Shape: in.shape(),
	}
	if in.Through != nil {
		include.Through = &Link{Table: catalog.TableName(in.Through.Table), Children: in.Through.Children, To: mapAll(in.Through.To, storedPair.pair)}
	}
	return include
}

func storePair(p Pair) storedPair    { return storedPair(p) }
func (p storedPair) pair() Pair      { return Pair(p) }
func storeOrder(o Order) storedOrder { return storedOrder(o) }
func (o storedOrder) order() Order   { return Order(o) }

// mapAll returns what convert makes of each, nil of nil: an empty list and none are not the
// same everywhere.
func mapAll[A, B any](all []A, convert func(A) B) []B {
	if all == nil {
		return nil
	}
	converted := make([]B, len(all))
	for i, a := range all {
		converted[i] = convert(a)
	}
	return converted
}

// storeValue returns a value of the file so that [readValue] reads the same from its JSON: a
// number with a fraction or an exponent is a float there, and any other is an integer.
func storeValue(v any) any {
	switch v := v.(type) {
	case map[string]any:
		return storeMap(v)
	case []any:
		return mapAll(v, storeValue)
	case float64:
		text := strconv.FormatFloat(v, 'g', -1, 64)
		if v == math.Trunc(v) && !strings.Contains(text, "e") {
			text += ".0"
		}
		return json.Number(text)
	}
	return v
}

func storeMap(m map[string]any) map[string]any { return mapValues(m, storeValue) }

// readValue undoes storeValue: numbers are what the file's reader makes of them.
func readValue(v any) any {
	switch v := v.(type) {
	case map[string]any:
		return readMap(v)
	case []any:
		return mapAll(v, readValue)
	case json.Number:
		text := v.String()
		if n, err := strconv.Atoi(text); err == nil {
			return n
		}
		if n, err := strconv.ParseUint(text, 10, 64); err == nil {
			return n
		}
		if f, err := v.Float64(); err == nil {
			return f
		}
	}
	return v
}

func readMap(m map[string]any) map[string]any { return mapValues(m, readValue) }

func mapValues(m map[string]any, convert func(any) any) map[string]any {
	if m == nil {
		return nil
	}
	converted := make(map[string]any, len(m))
	for key, v := range m {
		converted[key] = convert(v)
	}
	return converted
}
