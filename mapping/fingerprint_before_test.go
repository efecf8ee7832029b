package mapping_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"tidemark/mapping"
	"tidemark/mapping/catalog"
	"tidemark/testenv"
)

// TestMatchesEarlierVersions holds the mapping and the tables of the dumps of the control schema
// against the fingerprints in them, which earlier versions made of the same.
func TestMatchesEarlierVersions(t *testing.T) {
	const dumps = "../reindex/testdata/control/"
	read := func(file string) string {
		text, err := os.ReadFile(dumps + file)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	d := testenv.NewDatabase(t)
	d.Exec(t, read("tables.sql"))
	tables := make(catalog.Tables)
	// The columns of a row of indices: its name, and the live and the building fingerprint.
	row := regexp.MustCompile(`INSERT INTO dbsync_ctrl\.indices .* VALUES \('(g\d\d-[a-z]+)', '[^']*', '[^']*', '([0-9a-f]{32})', .*`)
	building := regexp.MustCompile(`'g\d\d-orders-[0-9tz]+', '([0-9a-f]{32})', `)
	for _, generation := range []string{"02", "03", "04", "05", "06", "07", "08", "09", "10", "11", "12"} {
		file, complete := "mapping.yaml", 2 // products and events
		if generation < "05" {
			file, complete = "flat.yaml", 4 // and categories, and sales
		}
		parse := func(note string) map[string]*mapping.Index {
			text := strings.NewReplacer("gNN", "g"+generation, "note: {type: text}", "note: {type: "+note+"}").Replace(read(file))
			c, err := mapping.Parse(file, []byte(text), func(name string) (string, bool) {
				return map[string]string{"DATABASE_URL": "postgres://h/d", "SEARCH_URL": "http://h"}[name], true
			})
			if err != nil {
				t.Fatal(err)
			}
			indices := make(map[string]*mapping.Index)
			for _, ix := range c.Indices {
				indices[ix.Name] = ix
				for _, name := range ix.Tables() {
					if tables[name] != nil {
						continue
					}
					if tables[name], err = catalog.LoadTable(t.Context(), d.DB, name.Schema, name.Name); err != nil {
						t.Fatal(err)
					}
				}
			}
			return indices
		}
		before, edited := parse("keyword"), parse("text")
		rows := row.FindAllStringSubmatch(read(generation+".sql"), -1)
		if len(rows) != complete+1 {
			t.Errorf("%s: %d indices", generation, len(rows))
		}
		for _, r := range rows {
			name, live := r[1], r[2]
			if !before[name].Matches(live, tables) {
				t.Errorf("%s: %s would be rebuilt", generation, name)
			}
			if !strings.HasSuffix(name, "-orders") {
				continue
			}
			both := building.FindAllStringSubmatch(r[0], -1)
			if len(both) != 2 {
				t.Fatalf("%s: %q", generation, both)
			}
			if filled := both[1][1]; !edited[name].Matches(filled, tables) || edited[name].Matches(live, tables) || before[name].Matches(filled, tables) {
				t.Errorf("%s: what is filled of %s would be thrown away, or the edit of note is not seen", generation, name)
			}
		}
	}
}
