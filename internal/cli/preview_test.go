package cli

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"tidemark/testenv"
)

// TestPreview shows what rows give, where no cluster can be reached.
func TestPreview(t *testing.T) {
	d := testenv.NewDatabase(t)
	d.Exec(t, `CREATE TABLE categories (id int PRIMARY KEY, name text)`,
		`CREATE TABLE products (id int, lang text, title text, cents int, category int, PRIMARY KEY (id, lang))`,
		`INSERT INTO categories VALUES (1, 'chairs & <tables>')`,
		`INSERT INTO products VALUES (1, 'de', 'Stuhl', 250, 1), (2, 'de|at', NULL, 0, NULL), (3, 'de', 'hidden', 1, 1)`, `ANALYZE`)
	f := newFile(t, d.URL, "http://127.0.0.1:1", d.Unique("slot"), `  products:
    table: products
    routing: lang
    where: title != "hidden"
    fields: {cents: false, price: {expr: 100 / cents, type: double}, "kind": {constant: product}}
    include: {category: {table: categories, on: {category: id}, fields: [name]}, all: {table: categories, on: {category: id}, many: object, fields: [id]}}
`)
	version := regexp.MustCompile(`"version":[0-9]+`)
	const first = `products "1|de" routing "de", of a row of public.products
  field          column                     type     value
  id             id                         integer  1
  lang           lang                       text     "de"
  title          title                      text     "Stuhl"
  price          100 / cents                         0.4
  kind           constant                            "product"
  category.name  name of public.categories  text     "chairs & <tables>"
  all[].id       id of public.categories    integer  1 of them
  document
    {
      "id": 1,
      "lang": "de",
      "title": "Stuhl",
      "price": 0.4,
      "kind": "product",
      "category": {
        "name": "chairs & <tables>"
      },
      "all": [
        {
          "id": 1
        }
      ]
    }
  bulk
    {"index":{"_id":"1|de","_index":"products","routing":"de","version":V,"version_type":"external_gte"}}
    {"id":1,"lang":"de","title":"Stuhl","price":0.4,"kind":"product","category":{"name":"chairs & <tables>"},"all":[{"id":1}]}

`
	const none = `products "3|de" routing "de", of a row of public.products
  it is no document: title != "hidden" is not true for it; one that is there is deleted
  bulk
    {"delete":{"_id":"3|de","_index":"products","routing":"de","version":V,"version_type":"external_gte"}}

`
	code, out, wrong := tidemark(t, "preview", "products", "-c", f.path, "--id", "1|de", "--id", "3|de")
	if got := version.ReplaceAllString(out, `"version":V`); code != exitDone || got != first+none || wrong != "" {
		t.Errorf("exit code %d, %s, printed\n%s\nwant\n%s", code, wrong, got, first+none)
	}
	code, out, wrong = tidemark(t, "preview", "products", "-c", f.path, "--id", "2|de~|at", "--json")
	var line rowPreview
	if err := json.Unmarshal([]byte(out), &line); err != nil || code != exitFailed || line.Error == "" || len(line.Bulk) > 0 || line.ID != "2|de~|at" || !strings.Contains(wrong, "no document can be made of some rows") {
		t.Errorf("a row that no document can be made of: exit code %d, %s, %+v, %v", code, wrong, line, err)
	}
	code, out, _ = tidemark(t, "preview", "products", "-c", f.path, "--json")
	if n := strings.Count(out, "\n"); code != exitFailed || n != 3 {
		t.Errorf("a sample: exit code %d, %d rows", code, n)
	}
	if code, out, _ = tidemark(t, "preview", "products", "-c", f.path, "--json", "--sample", "2"); strings.Count(out, "\n") != 2 {
		t.Errorf("a sample of 2: exit code %d, printed\n%s", code, out)
	}
	for _, test := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"--id", "4|de"}, exitFailed, `there is no row whose document has the _id "4|de"; it is made of id, lang of public.products`},
		{[]string{"--id", "x|de"}, exitFailed, `there is no row whose document has the _id "x|de"`},
		{[]string{"--id", "7"}, exitFailed, `there is no row whose document has the _id "7"`},
		{[]string{"--id", "~sha256-" + strings.Repeat("0", 64)}, exitFailed, "is the hash of a key"},
		{[]string{"--sample", "0"}, exitConfig, "--sample: want a number from 1 to 1000"},
		{[]string{"--sample", "2", "--id", "7"}, exitConfig, "--sample: rows are named by --id"},
	} {
		code, out, wrong := tidemark(t, append([]string{"preview", "products", "-c", f.path}, test.args...)...)
		if code != test.code || out != "" || !strings.Contains(wrong, test.want) {
			t.Errorf("%q: exit code %d, printed %q, %s", test.args, code, out, wrong)
		}
	}
	for _, name := range []string{"nothing", "all"} {
		if code, _, _ := tidemark(t, "preview", name, "-c", f.path); code != exitConfig {
			t.Errorf("index %s: exit code %d", name, code)
		}
	}
}
