package value

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5/pgtype"

	"tidemark/mapping/catalog"
	"tidemark/testenv"
)

// The fields of ranges and points find what the values mean: bounds that are
// exclusive or inclusive to the millisecond, and those that are left out.
func TestSearchableForms(t *testing.T) {
	point := partOf("postgis", "geography")
	point.Modifier = 4326<<8 | 1<<2
	types := map[string]*catalog.Type{
		"span": rangeOf(base(pgtype.TimestamptzOID)), "days": rangeOf(base(pgtype.DateOID)), "whole": rangeOf(base(pgtype.Int4OID)),
		"price": rangeOf(base(pgtype.NumericOID)), "many": multirangeOf(base(pgtype.Int4OID)),
		"place": point, "xy": base(pgtype.PointOID),
		"pair": compositeOf(catalog.Attribute{Name: "a", Type: base(pgtype.Int4OID)}, catalog.Attribute{Name: "b", Type: base(pgtype.TextOID)}),
	}
	documents := []map[string]string{
		1: {"span": `("2026-01-31 12:00:00+00","2026-01-31 13:00:00+00"]`, "whole": "[1,5)", "many": "{[1,2),[10,20)}", "price": "(1.5,2.5)"},
		2: {"span": `["2026-01-31 12:00:00+00","2026-01-31 13:00:00+00")`, "whole": "(,5)", "price": "[1e308,)"},
		3: {"span": `["2026-01-31 12:00:00.0001+00","2026-01-31 12:00:00.0002+00")`, "whole": "(,)", "price": "[-Infinity,2]"},
		4: {"days": "[2026-01-31,2026-02-02)", "place": "0101000020E6100000CDCCCCCCCCCC2A400000000000404A40", "xy": "(3,4)", "pair": `(7,"x y")`},
		5: {"days": "[0044-03-15 BC,0001-01-01)", "whole": "empty", "xy": "(NaN,5)"},
		6: {"days": "[10000-01-01,infinity)"},
	}
	term := func(field, value string) string { return fmt.Sprintf(`{"term":{%q:%s}}`, field, value) }
	tests := []struct {
		query string
		found []string
	}{
		{term("span", `"2026-01-31T12:00:00.000Z"`), []string{"2", "3"}},
		{term("span", `"2026-01-31T12:00:00.001Z"`), []string{"1", "2"}},
		{term("span", `"2026-01-31T12:59:59.999Z"`), []string{"1", "2"}},
		{term("span", `"2026-01-31T13:00:00.000Z"`), []string{"1"}},
		{term("span", `"2026-01-31T13:00:00.001Z"`), nil},
		{term("whole", "1"), []string{"1", "2", "3"}},
		{term("whole", "5"), []string{"3"}},
		{term("many", "1"), []string{"1"}},
		{term("many", "15"), []string{"1"}},
		{term("many", "5"), nil},
		{term("price", "1.5"), []string{"3"}},
		{term("price", "1.6"), []string{"1", "3"}},
		{term("price", "-1e300"), []string{"3"}},
		{term("days", `"2026-02-01T23:59:59.999Z"`), []string{"4"}},
		{term("days", `"2026-02-02T00:00:00.000Z"`), nil},
		{term("days", `"-0001-01-01"`), []string{"5"}},
		{term("days", `"+20000-01-01T00:00:00"`), []string{"6"}},
		{`{"geo_distance":{"distance":"1km","place":{"lat":52.5,"lon":13.4}}}`, []string{"4"}},
		{`{"range":{"xy.y":{"gt":3}}}`, []string{"4", "5"}},
		{term("pair.a", "7"), []string{"4"}},
		{`{"match":{"pair.b":"y"}}`, []string{"4"}},
	}
	properties := make(map[string]any)
	for name, typ := range types {
		properties[name] = FormOf(typ).Field
	}
	body, err := Marshal(map[string]any{
		"settings": map[string]any{"index.number_of_shards": 1, "index.number_of_replicas": 0},
		"mappings": map[string]any{"dynamic": false, "properties": properties},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, engine := range testenv.Engines(t) {
		t.Run(string(engine), func(t *testing.T) {
			server := testenv.SharedSearch(t, engine)
			index := server.NewPrefix(t) + "forms"
			send := func(method, path string, body []byte) []byte {
				t.Helper()
				status, answer, err := server.Do(t.Context(), method, path, body)
				if err != nil {
					t.Fatal(err)
				}
				if status/100 != 2 {
					t.Fatalf("%s %s: status %d: %.1000s", method, path, status, answer)
				}
				return answer
			}
			send(http.MethodPut, "/"+index, body)
			for id, values := range documents {
				document := []byte(`{"id":0`)
				for name, text := range values {
					document = append(append(document, ','), fmt.Sprintf("%q:", name)...)
					document = FormOf(types[name]).Encode(document, []byte(text))
				}
				send(http.MethodPut, fmt.Sprintf("/%s/_doc/%d", index, id), append(document, '}'))
			}
			send(http.MethodPost, "/"+index+"/_refresh", nil)
			for _, tt := range tests {
				var answer struct {
					Hits struct {
						Hits []struct {
							ID string `json:"_id"`
						}
					}
				}
				text := send(http.MethodPost, "/"+index+"/_search", []byte(`{"size":100,"query":`+tt.query+`}`))
				if err := json.Unmarshal(text, &answer); err != nil {
					t.Fatal(err)
				}
				var found []string
				for _, hit := range answer.Hits.Hits {
					found = append(found, hit.ID)
				}
				slices.Sort(found)
				if !slices.Equal(found, tt.found) {
					t.Errorf("%s finds %v, want %v", tt.query, found, tt.found)
				}
			}
		})
	}
}
