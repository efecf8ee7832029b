package draft

import (
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
	"pgregory.net/rapid"

	"tidemark/mapping"
	"tidemark/mapping/catalog"
)

// names are what a database takes as a name, and likes to trip over.
var names = rapid.Custom(func(t *rapid.T) string {
	piece := rapid.OneOf(
		rapid.SampledFrom([]string{"null", "yes", "~", "$", "${", "}", "$$", "'", `"`, `\\`, ".", ",", ": ", " #", "-", "<<", "*", "&", "!", "%", "@", "`", "|", ">", "1", "0x1", "1e3", ".inf", " ", "\n", "\t", "\u2028", "\ufeff", "é", "日本"}),
		rapid.StringN(1, 3, 8),
	)
	text := strings.ReplaceAll(strings.ToValidUTF8(strings.Join(rapid.SliceOfN(piece, 1, 5).Draw(t, "pieces"), ""), "?"), "\x00", "?")
	return text
})

// TestNamesSurvive writes any name as a table, as keys and as values, and reads it again.
func TestNamesSurvive(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		near, far := names.Draw(t, "near"), names.Draw(t, "far")
		if len(near) > 63 || len(far) > 63 {
			return
		}
		table := catalog.TableName{Schema: "s" + near, Name: far}
		if len(table.Schema) > 63 {
			return
		}
		text := "search: {urls: [http://localhost:9200]}\nindices:\n  x:\n    ## " + remark(near) + "\n    table: " + tableText(table) + "\n    include:\n" +
			(&include{name: "i", parts: []string{"table: t", "on: " + pairsText([]mapping.Pair{{Near: near, Far: far}})}, fields: []string{"id"}}).text("      ", "        ", 3) + "\n"
		c, err := mapping.Parse("t.yaml", []byte(text), func(string) (string, bool) { return "", false })
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		s := c.Indices[0].Sources[0]
		if s.Table != table || s.Include[0].On[0] != (mapping.Pair{Near: near, Far: far}) {
			t.Fatalf("got %q and %q of\n%s", s.Table, s.Include[0].On, text)
		}
		var fields map[string]int
		name := fieldName(near, func(s string) bool { return s == far })
		if err := yaml.Unmarshal([]byte("{"+key(name)+": 1}"), &fields); err != nil || fields[name] != 1 || !fitsField(name) || name == far {
			t.Fatalf("field %q of column %q: %v", name, near, err)
		}
	})
}

// TestIndexNames has every name made one that the mapping file takes, and none twice.
func TestIndexNames(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		taken := make(map[string]bool)
		for _, name := range rapid.SliceOfN(names, 1, 6).Draw(t, "tables") {
			ix := indexName(catalog.TableName{Schema: rapid.SampledFrom([]string{"public", "other"}).Draw(t, "schema"), Name: name}, taken)
			text := "search: {urls: [http://localhost:9200]}\nindices:\n  " + key(ix) + ": {table: t}\n"
			c, err := mapping.Parse("t.yaml", []byte(text), func(string) (string, bool) { return "", false })
			if err != nil || c.Indices[0].Name != ix || taken[ix] {
				t.Fatalf("%q of table %q: %v", ix, name, err)
			}
			taken[ix] = true
		}
	})
}

func TestReferred(t *testing.T) {
	for column, want := range map[string]string{"artist_id": "artist", "reports_to": "", "artistId": "artist", "id": "", "_id": "", "support_rep_id": "support_rep", "void": "", "paid": "", "ArtistID": "Artist", "category_code": "category"} {
		if got := referred(column); got != want {
			t.Errorf("%s: got %q, want %q", column, got, want)
		}
	}
}

func TestSecrets(t *testing.T) {
	for column, want := range map[string]bool{"password": true, "passwordHash": true, "encrypted_password": true, "api_key": true, "apiKey": true, "reset_token": true, "token_hash": true,
		"salt": true, "tokens": false, "token_count": false, "basalt": false, "key": false, "secretary": false, "client_secret": true} {
		if got := secrets.MatchString(column); got != want {
			t.Errorf("%s: got %t", column, got)
		}
	}
}
