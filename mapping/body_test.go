package mapping

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgtype"
)

func TestBody(t *testing.T) {
	const (
		idField    = `"id":{"type":"long"}`
		titleField = `"title":{"fields":{"keyword":{"ignore_above":256,"type":"keyword"}},"type":"text"}`
	)
	table := &Table{
		Schema: "public", Name: "t", PrimaryKey: []string{"id"},
		Columns: []Column{{Name: "id", Type: base(pgtype.Int8OID)}, {Name: "title", Type: base(pgtype.TextOID)}},
	}
	tests := []struct {
		name string
		ix   Index
		want string
	}{
		{"nothing given", Index{},
			`{"mappings":{"dynamic":false,"properties":{` + idField + `,` + titleField + `}},"settings":{"index.gc_deletes":"1h"}}`},
		{"settings nested, dotted, prefixed", Index{Listed: true, Settings: map[string]any{
			"number_of_shards": 3,
			"index":            map[string]any{"gc_deletes": "10m", "refresh_interval": "5s"},
			"index.codec":      "best_compression",
			"analysis":         map[string]any{"filter.syn": map[string]any{"type": "synonym", "synonyms": []any{"a<b"}}},
		}},
			`{"mappings":{"dynamic":false,"properties":{}},"settings":{"index.analysis.filter.syn.synonyms":["a<b"],"index.analysis.filter.syn.type":"synonym",` +
				`"index.codec":"best_compression","index.gc_deletes":"10m","index.number_of_shards":3,"index.refresh_interval":"5s"}}`},
		{"parameters are added to the derived field", Index{Listed: true, Fields: []Field{{Name: "title", Column: "title",
			Params: map[string]any{"analyzer": "english", "fields": map[string]any{"keyword": map[string]any{"ignore_above": 50}, "raw": map[string]any{"type": "keyword"}}}}}},
			`{"mappings":{"dynamic":false,"properties":{"title":{"analyzer":"english","fields":{"keyword":{"ignore_above":50,"type":"keyword"},"raw":{"type":"keyword"}},"type":"text"}}},"settings":{"index.gc_deletes":"1h"}}`},
		{"a type replaces the derived field", Index{Listed: true, Fields: []Field{{Name: "title", Column: "title", Params: map[string]any{"type": "keyword"}}}},
			`{"mappings":{"dynamic":false,"properties":{"title":{"type":"keyword"}}},"settings":{"index.gc_deletes":"1h"}}`},
		{"mappings over all", Index{
			Fields: []Field{{Name: "title", Column: "title", Params: map[string]any{"analyzer": "english"}}},
			Mappings: map[string]any{"dynamic": "strict", "_meta": map[any]any{1: time.Date(2026, 1, 31, 0, 0, 0, 0, time.UTC)},
				"properties": map[string]any{"id": map[string]any{"type": "keyword"}, "title": map[string]any{"boost": 2}, "more": map[string]any{"type": "ip"}}}},
			`{"mappings":{"_meta":{"1":"2026-01-31"},"dynamic":"strict","properties":{"id":{"type":"keyword"},"more":{"type":"ip"},` +
				`"title":{"analyzer":"english","boost":2,"fields":{"keyword":{"ignore_above":256,"type":"keyword"}},"type":"text"}}},"settings":{"index.gc_deletes":"1h"}}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := tt.ix.Body(table)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, string(got)); diff != "" {
				t.Errorf("want -, got +:\n%s", diff)
			}
		})
	}
	if diff := cmp.Diff(map[string]any{"type": "text", "fields": map[string]any{"keyword": map[string]any{"type": "keyword", "ignore_above": 256}}}, textField); diff != "" {
		t.Errorf("a body changed what all bodies begin with:\n%s", diff)
	}
}

func TestBodyRefuses(t *testing.T) {
	table := productTable()
	for want, mappings := range map[string]map[string]any{
		"index p: mappings.properties: want fields by name":                  {"properties": []any{}},
		"index p: mappings.properties.title: want the parameters of a field": {"properties": map[string]any{"title": "text"}},
	} {
		ix := &Index{Name: "p", Mappings: mappings}
		if _, err := ix.Body(table); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

// The default field follows from the type below domains and arrays.
func TestDefaultField(t *testing.T) {
	numeric := func(precision, scale int32) *Type {
		t := base(pgtype.NumericOID)
		t.Modifier = (precision<<16 | scale&0x7FF) + 4
		return t
	}
	citext := &Type{OID: 99999, Kind: KindBase, Category: 'S'}
	tests := []struct {
		typ  *Type
		want string
	}{
		{base(pgtype.Int2OID), "short"}, {base(pgtype.Int4OID), "integer"}, {base(pgtype.Int8OID), "long"}, {base(pgtype.OIDOID), "long"},
		{base(pgtype.Float4OID), "float"}, {base(pgtype.Float8OID), "double"},
		{base(pgtype.NumericOID), "double"}, {numeric(10, 2), "double"}, {numeric(18, 0), "long"}, {numeric(19, 0), "double"},
		{numeric(15, -3), "long"}, {numeric(16, -3), "double"}, {arrayOf(numeric(18, 0)), "long"}, {domainOver(numeric(18, 0)), "long"},
		{base(pgtype.BoolOID), "boolean"}, {base(pgtype.TextOID), "text"}, {base(pgtype.BPCharOID), "text"}, {citext, "text"},
		{base(pgtype.UUIDOID), "keyword"}, {&Type{Kind: KindEnum}, "keyword"}, {base(pgtype.IntervalOID), "keyword"},
		{base(pgtype.DateOID), "date"}, {base(pgtype.TimestamptzOID), "date"}, {base(pgtype.JSONBOID), "object"}, {base(pgtype.ByteaOID), "binary"},
		{base(pgtype.InetOID), "ip"}, {base(pgtype.CIDROID), "ip_range"}, {arrayOf(domainOver(base(pgtype.InetOID))), "ip"},
		{base(pgtype.PointOID), "keyword"}, {&Type{Kind: KindComposite, Category: 'C'}, "keyword"}, {&Type{Kind: KindRange, Category: 'R'}, "keyword"},
	}
	for _, tt := range tests {
		if got := formOf(tt.typ).field["type"]; got != tt.want {
			t.Errorf("oid %d, kind %c, modifier %d: %v, want %s", tt.typ.OID, tt.typ.Kind, tt.typ.Modifier, got, tt.want)
		}
	}
}

func TestFingerprint(t *testing.T) {
	given := func() *Index {
		return &Index{
			Name: "products", Fields: []Field{{Name: "title", Column: "title", Params: map[string]any{"analyzer": "english"}}, {Name: "note", Omit: true}},
			Settings: map[string]any{"number_of_shards": 3},
		}
	}
	want := given().Fingerprint(productTable())
	if len(want) != 32 {
		t.Errorf("fingerprint %q", want)
	}
	tests := []struct {
		name   string
		change func(ix *Index, t *Table)
		same   bool
	}{
		{"columns in another order", func(_ *Index, t *Table) { t.Columns[1], t.Columns[3] = t.Columns[3], t.Columns[1] }, true},
		{"fields in another order", func(ix *Index, _ *Table) { ix.Fields[0], ix.Fields[1] = ix.Fields[1], ix.Fields[0] }, true},
		{"a setting written otherwise", func(ix *Index, _ *Table) {
			ix.Settings = map[string]any{"index": map[string]any{"number_of_shards": 3}}
		}, true},
		{"the primary key as id", func(ix *Index, _ *Table) { ix.ID = []string{"id"} }, true},
		{"another table oid", func(_ *Index, t *Table) { t.OID = 7 }, true},
		{"chunk and alias", func(ix *Index, _ *Table) { ix.Name, ix.Reindex.Chunk = "goods", 5 }, true},
		{"a column that is left out", func(_ *Index, t *Table) { t.Columns[4].Type = named(pgtype.Int8OID) }, true},
		{"another id", func(ix *Index, _ *Table) { ix.ID = []string{"tenant", "id"} }, false},
		{"routing", func(ix *Index, _ *Table) { ix.Routing = "tenant" }, false},
		{"another setting", func(ix *Index, _ *Table) { ix.Settings["number_of_shards"] = 4 }, false},
		{"another analyzer", func(ix *Index, _ *Table) { ix.Fields[0].Params["analyzer"] = "french" }, false},
		{"another type", func(_ *Index, t *Table) { t.Columns[1].Type = &Type{OID: pgtype.VarcharOID, Name: "character varying"} }, false},
		{"a new column", func(_ *Index, t *Table) {
			t.Columns = append(t.Columns, Column{Name: "n", Type: named(pgtype.TextOID)})
		}, false},
		{"a field from another column", func(ix *Index, _ *Table) { ix.Fields[0].Column = "tenant" }, false},
		{"another table", func(_ *Index, t *Table) { t.Schema = "shop" }, false},
	}
	for _, tt := range tests {
		ix, table := given(), productTable()
		tt.change(ix, table)
		if got := ix.Fingerprint(table); (got == want) != tt.same {
			t.Errorf("%s: the same fingerprint: %v", tt.name, got == want)
		}
	}
}
