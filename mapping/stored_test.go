package mapping

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"tidemark/mapping/catalog"
)

// withoutPlaces compares mappings but for where in their file they are from.
var withoutPlaces = cmpopts.IgnoreUnexported(Index{}, Source{}, Field{}, Include{})

// roundTrip makes sure that a mapping is the same after it was stored.
func roundTrip(t rapid.TB, ix *Index) *Index {
	t.Helper()
	text, err := ix.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeIndex(text)
	if err != nil {
		t.Fatalf("%v:\n%s", err, text)
	}
	want := *ix
	want.Key, want.Reindex, want.MaxIndices, want.MaxDocumentBytes = "", Reindex{}, 0, 0 // they make no documents
	want.Sources = nil
	for _, s := range ix.Sources {
		copied := *s
		copied.Index = &want
		want.Sources = append(want.Sources, &copied)
	}
	if diff := cmp.Diff(&want, got, withoutPlaces); diff != "" {
		t.Fatalf("want -, got +:\n%s", diff)
	}
	if again, err := got.Encode(); err != nil || again != text {
		t.Fatalf("%v: the second text is another one:\n%s\n%s", err, text, again)
	}
	if !ix.EncodedAs(text) {
		t.Fatalf("EncodedAs does not know the text again: %s", text)
	}
	return got
}

// TestEncode shows the form that is stored.
func TestEncode(t *testing.T) {
	ix := indexIn(t, `
  a:
    reindex: {chunk: 7}
    settings: {number_of_shards: 3, index: {refresh_interval: "5s"}}
    mappings: {}
    tables:
      - table: products
        id: p-{id}
        where: width > 1
        fields: {kind: {constant: null}, half: {constant: 2.0}, secret: false, size: {fields: [width]}, title: {as: string, analyzer: "<"}}
        include:
          category: {table: categories, on: {category_id: id}, fields: [name]}
          tags: {table: tags, through: {table: product_tags, on: {id: product_id}, to: {tag_id: id}}, value: name, order_by: rank desc, limit: 5}
`)
	got, err := ix.Encode()
	if err != nil {
		t.Fatal(err)
	}
	want := `{"version":1,"name":"a","sources":[{"table":{"schema":"public","name":"products"},"id":["id"],"literals":["p-",""],"where":"width > 1",` +
		`"fields":[{"name":"kind","constant":{"value":null}},{"name":"half","constant":{"value":2.0}},{"name":"secret","omit":true,"column":"secret"},` +
		`{"name":"size","group":[{"name":"width","column":"width"}]},{"name":"title","column":"title","as":"string","params":{"analyzer":"<"}}],` +
		`"include":[{"name":"category","table":{"schema":"public","name":"categories"},"on":[{"near":"category_id","far":"id"}],"fields":[{"name":"name","column":"name"}],"listed":true},` +
		`{"name":"tags","table":{"schema":"public","name":"tags"},"on":[{"near":"id","far":"product_id"}],"through":{"table":{"schema":"public","name":"product_tags"},"to":[{"near":"tag_id","far":"id"}]},` +
		`"value":"name","order_by":[{"column":"rank","descending":true,"nulls_first":true}],"limit":5}]}],` +
		`"settings":{"index":{"refresh_interval":"5s"},"number_of_shards":3},"mappings":{}}`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
	roundTrip(t, ix)
}

// TestEncodeFiles stores the mappings of all files that can be read.
func TestEncodeFiles(t *testing.T) {
	files, err := filepath.Glob("testdata/check/*.yaml")
	if err != nil || len(files) < 15 {
		t.Fatal(len(files), err)
	}
	for _, file := range append(files, exampleFile) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		c, err := Parse(file, text, func(string) (string, bool) { return "x=y", true })
		if err != nil {
			t.Fatal(err)
		}
		for _, ix := range c.Indices {
			roundTrip(t, ix)
		}
	}
}

// TestEncodeAny stores mappings that no file would have, too: whatever the fields hold.
func TestEncodeAny(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { roundTrip(t, anyIndex().Draw(t, "index")) })
}

func anyIndex() *rapid.Generator[*Index] {
	return rapid.Custom(func(t *rapid.T) *Index {
		ix := &Index{
			Name:     rapid.String().Draw(t, "name"),
			Settings: anyMap(2).Draw(t, "settings"), Mappings: anyMap(2).Draw(t, "mappings"),
			Reindex: Reindex{Chunk: rapid.Int().Draw(t, "chunk")},
		}
		for range rapid.IntRange(1, 3).Draw(t, "sources") {
			ix.Sources = append(ix.Sources, &Source{
				Index: ix, Table: anyName().Draw(t, "table"),
				ID: anyList(rapid.String()).Draw(t, "id"), Literals: anyList(rapid.String()).Draw(t, "literals"),
				Routing: rapid.String().Draw(t, "routing"), Where: rapid.String().Draw(t, "where"),
				Shape: anyShape(2).Draw(t, "shape"),
			})
		}
		return ix
	})
}

// anyList returns lists, also none and an empty one.
func anyList[T any](of *rapid.Generator[T]) *rapid.Generator[[]T] {
	return rapid.OneOf(rapid.Just([]T(nil)), rapid.SliceOfN(of, 0, 3))
}

func anyName() *rapid.Generator[catalog.TableName] {
	return rapid.Custom(func(t *rapid.T) catalog.TableName {
		return catalog.TableName{Schema: rapid.String().Draw(t, "schema"), Name: rapid.String().Draw(t, "name")}
	})
}

func anyShape(depth int) *rapid.Generator[Shape] {
	return rapid.Custom(func(t *rapid.T) Shape {
		s := Shape{Fields: anyList(anyField(depth)).Draw(t, "fields"), Listed: rapid.Bool().Draw(t, "listed")}
		if depth > 0 {
			s.Include = anyList(anyInclude(depth-1)).Draw(t, "include")
		}
		return s
	})
}

func anyField(depth int) *rapid.Generator[Field] {
	return rapid.Custom(func(t *rapid.T) Field {
		f := Field{
			Name: rapid.String().Draw(t, "name"), Omit: rapid.Bool().Draw(t, "omit"), Column: rapid.String().Draw(t, "column"),
			As: rapid.String().Draw(t, "as"), Params: anyMap(2).Draw(t, "params"), Expr: rapid.String().Draw(t, "expr"),
		}
		if rapid.Bool().Draw(t, "constant") {
			f.Constant = &Constant{anyValue(2).Draw(t, "value")}
		}
		if depth > 0 {
			f.Group = anyList(anyField(depth-1)).Draw(t, "group")
		}
		return f
	})
}

func anyInclude(depth int) *rapid.Generator[*Include] {
	pairs := anyList(rapid.Custom(func(t *rapid.T) Pair {
		return Pair{rapid.String().Draw(t, "near"), rapid.String().Draw(t, "far")}
	}))
	orders := anyList(rapid.Custom(func(t *rapid.T) Order {
		return Order{rapid.String().Draw(t, "column"), rapid.Bool().Draw(t, "descending"), rapid.Bool().Draw(t, "nulls first")}
	}))
	return rapid.Custom(func(t *rapid.T) *Include {
		in := &Include{
			Name: rapid.String().Draw(t, "name"), Table: anyName().Draw(t, "table"), Children: rapid.Bool().Draw(t, "children"), On: pairs.Draw(t, "on"),
			Many: Many(rapid.String().Draw(t, "many")), Value: rapid.String().Draw(t, "value"),
			Aggregate: Aggregate(rapid.String().Draw(t, "aggregate")), Column: rapid.String().Draw(t, "column"),
			OrderBy: orders.Draw(t, "order by"), Limit: rapid.Int().Draw(t, "limit"), Where: rapid.String().Draw(t, "where"),
			Shape: anyShape(depth).Draw(t, "shape"),
		}
		if rapid.Bool().Draw(t, "through") {
			in.Through = &Link{Table: anyName().Draw(t, "link"), Children: rapid.Bool().Draw(t, "children of the link"), To: pairs.Draw(t, "to")}
		}
		return in
	})
}

// anyValue returns what the reader of the file makes of values.
func anyValue(depth int) *rapid.Generator[any] {
	number := rapid.Float64().Filter(func(f float64) bool { return !math.IsInf(f, 0) && !math.IsNaN(f) })
	simple := rapid.OneOf(rapid.Just(any(nil)), rapid.Bool().AsAny(), rapid.Int().AsAny(), rapid.Uint64Min(1<<63).AsAny(),
		number.AsAny(), rapid.Map(rapid.IntRange(-1e6, 1e6), func(n int) any { return float64(n) }), rapid.String().AsAny())
	if depth == 0 {
		return simple
	}
	return rapid.OneOf(simple, rapid.SliceOfN(anyValue(depth-1), 0, 3).AsAny(), rapid.MapOfN(rapid.String(), anyValue(depth-1), 0, 3).AsAny())
}

func anyMap(depth int) *rapid.Generator[map[string]any] {
	return rapid.OneOf(rapid.Just(map[string]any(nil)), rapid.MapOfN(rapid.String(), anyValue(depth), 0, 3))
}

// TestDecodeIndexOfEarlierVersions reads the mappings in the dumps of the control schema as
// those that were written.
func TestDecodeIndexOfEarlierVersions(t *testing.T) {
	for _, generation := range []string{"g07", "g08", "g09", "g10", "g11", "g12"} {
		want := make(map[string]bool)
		edited := dumpConfig(t, generation, "", "")
		before := dumpConfig(t, generation, "note: {type: text}", "note: {type: keyword}")
		for _, text := range dumpTexts(t, generation, `'(\{"Name":(?:[^']|'')*\})'`) {
			ix, err := DecodeIndex(text)
			if err != nil {
				t.Fatal(err)
			}
			roundTrip(t, ix)
			for i := range edited.Indices {
				if edited.Indices[i].EncodedAs(text) {
					want["edited "+ix.Name] = true
				}
				if before.Indices[i].EncodedAs(text) {
					want["before "+ix.Name] = true
				}
			}
		}
		for _, name := range []string{"before %s-products", "edited %s-products", "before %s-events", "edited %s-events", "before %s-orders", "edited %s-orders"} {
			if !want[fmt.Sprintf(name, generation)] {
				t.Errorf("the mapping "+name+" is not there", generation)
			}
		}
	}
}

// dumpConfig reads the mapping file of a dump, with one text in it replaced by another.
func dumpConfig(t *testing.T, generation, from, to string) *Config {
	t.Helper()
	file := "../reindex/testdata/control/mapping.yaml"
	if generation < "g05" {
		file = "../reindex/testdata/control/flat.yaml"
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	c, err := Parse(file, []byte(strings.ReplaceAll(strings.Replace(string(text), from, to, 1), "gNN", generation)), env("DATABASE_URL", "postgres://h/d", "SEARCH_URL", "http://h"))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// dumpTexts returns the literals of a dump that a pattern finds, by its group.
func dumpTexts(t *testing.T, generation, pattern string) (texts []string) {
	t.Helper()
	dump, err := os.ReadFile("../reindex/testdata/control/" + generation[1:] + ".sql")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(string(dump), -1) {
		texts = append(texts, strings.ReplaceAll(m[1], "''", "'"))
	}
	return texts
}

func TestDecodeIndexRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"":                                  "mapping of an index: unexpected end of JSON input",
		`{"version":4,"what":{}}`:           "mapping of an index: the text is of version 4, and this Tidemark reads versions up to 3: it was written by a newer one; hint: run the newer Tidemark",
		`{"version":0,"name":"a"}`:          "mapping of an index: there is no version 0 of this text",
		`{"version":1,"name":"a","more":1}`: `mapping of an index: json: unknown field "more"`,
		`{"Name":"a","More":1}`:             `mapping of an index: json: unknown field "More"`,
	} {
		if ix, err := DecodeIndex(text); err == nil || err.Error() != want {
			t.Errorf("%s: got %v %v, want %s", text, ix, err, want)
		}
		if new(Index).EncodedAs(text) {
			t.Errorf("%s is taken for a mapping", text)
		}
	}
}
