package control

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgtype"

	"tidemark/mapping"
	"tidemark/mapping/catalog"
)

// What Tidemark wrote of the index of TestHasGrown before texts had a version.
const (
	mappingBefore = `{"Name":"a","Sources":[{"Table":{"Schema":"public","Name":"t"},"ID":null,"Routing":"","Where":"","Fields":null,"Listed":false,"Include":null,"Literals":null}],"Settings":null,"Mappings":null,"Reindex":{"Chunk":10000,"KeepOld":0,"MaxRowsPerSecond":0}}`
	tablesBefore  = `{"public.t":{"OID":16400,"Schema":"public","Name":"t","Columns":[{"Name":"id","Type":{"OID":20,"Name":"bigint","Schema":"","Plain":"","Extension":"","Kind":98,"Category":0,"Elem":null,"Base":null,"Attributes":null,"Canonical":false,"Delim":44,"Modifier":-1,"Fraction":0},"NotNull":true,"Generated":false,"Default":false}],"PrimaryKey":["id"],"Identity":{"Kind":100,"Columns":["id"]},"Unique":null,"RowSecurity":false,"User":"","Unlogged":false,"Partitioned":false,"Root":{"Schema":"","Name":""},"EstimatedRows":-1}}`
)

// TestHasGrown: a column that is NULL everywhere costs no rebuild, also after an edit of what
// makes no documents, and where an earlier Tidemark noted the mapping.
func TestHasGrown(t *testing.T) {
	index := func(keys string) *mapping.Index {
		c, err := mapping.Parse("t.yaml", []byte("search: {urls: [http://h]}\nindices:\n  a: {table: t"+keys+"}\n"), func(string) (string, bool) { return "", false })
		if err != nil {
			t.Fatal(err)
		}
		return c.Indices[0]
	}
	table := func(columns ...catalog.Column) catalog.Tables {
		return catalog.Tables{{Schema: "public", Name: "t"}: {
			OID: 16400, Schema: "public", Name: "t", PrimaryKey: []string{"id"}, EstimatedRows: -1,
			Identity: catalog.Identity{Kind: catalog.IdentityDefault, Columns: []string{"id"}},
			Columns:  append([]catalog.Column{{Name: "id", Type: catalog.NewBase(pgtype.Int8OID, "bigint"), NotNull: true}}, columns...),
		}}
	}
	was := table()
	note := catalog.Column{Name: "note", Type: catalog.NewBase(pgtype.TextOID, "text")}
	encode := func(ix *mapping.Index) (string, string) {
		mappingText, err := ix.Encode()
		if err != nil {
			t.Fatal(err)
		}
		tablesText, err := was.Encode()
		if err != nil {
			t.Fatal(err)
		}
		return mappingText, tablesText
	}
	nowMapping, nowTables := encode(index(""))
	filled := note
	filled.Default = true
	newer := strings.Replace(nowMapping, `"version":1`, `"version":99`, 1)
	for _, tt := range []struct {
		name            string
		mapping, tables string // that are noted
		ix              *mapping.Index
		now             catalog.Tables
		building        string
		want            bool
	}{
		{"a column", nowMapping, nowTables, index(""), table(note), "", true},
		{"and keys of reindex", nowMapping, nowTables, index(", reindex: {chunk: 5, keep_old: 1, max_rows_per_second: 9}"), table(note), "", true},
		{"a column, noted by an earlier version", mappingBefore, tablesBefore, index(""), table(note), "", true},
		{"and keys of reindex", mappingBefore, tablesBefore, index(", reindex: {chunk: 5, keep_old: 1, max_rows_per_second: 9}"), table(note), "", true},
		{"a column with a value in old rows", nowMapping, nowTables, index(""), table(filled), "", false},
		{"and a mapping edited", nowMapping, nowTables, index(", fields: {note: {type: keyword}}"), table(note), "", false},
		{"and a mapping edited, noted by an earlier version", mappingBefore, tablesBefore, index(", fields: {note: {type: keyword}}"), table(note), "", false},
		{"while a rebuild is under way", nowMapping, nowTables, index(""), table(note), "a-2", false},
		{"nothing is noted", "", "", index(""), table(note), "", false},
		{"a newer version noted it", newer, nowTables, index(""), table(note), "", false},
		{"tables are not noted", nowMapping, "", index(""), table(note), "", false},
	} {
		st := &State{Name: "a", Live: Version{Physical: "a-1", Fingerprint: tt.ix.Fingerprint(was), Mapping: tt.mapping, Tables: tt.tables}, Building: Version{Physical: tt.building}}
		if got := HasGrown(tt.ix, st, tt.now); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}
