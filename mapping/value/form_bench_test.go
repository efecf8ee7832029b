package value

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"tidemark/mapping/catalog"
)

// Forms of more than one part, and what they take: memory for none of the usual ones.
func BenchmarkForms(b *testing.B) {
	for _, f := range []struct {
		name, text string
		typ        *catalog.Type
	}{
		{"composite", `(1,"x ""y""",2026-01-31)`, compositeOf(catalog.Attribute{Name: "a", Type: base(pgtype.Int4OID)}, catalog.Attribute{Name: "b", Type: base(pgtype.TextOID)}, catalog.Attribute{Name: "c", Type: base(pgtype.DateOID)})},
		{"int4range", "[1,5)", rangeOf(base(pgtype.Int4OID))},
		{"tstzrange", `["2026-01-31 12:00:00+00","2026-01-31 13:00:00+00")`, rangeOf(base(pgtype.TimestamptzOID))},
		{"numrange", "[1.50,2.50)", rangeOf(base(pgtype.NumericOID))},
		{"hstore", `"color"=>"red", "size"=>NULL, "note"=>"a \"b\""`, partOf("hstore", "hstore")},
		{"point", "(13.4,52.5)", base(pgtype.PointOID)},
		{"geometry", "0101000020E6100000CDCCCCCCCCCC2A400000000000404A40", partOf("postgis", "geometry")},
		{"vector", "[0.1,-0.25,1e-07]", partOf("vector", "vector")},
		{"date", "2026-01-31", base(pgtype.DateOID)},
		{"timestamp", "2026-01-31 12:00:00.123456", base(pgtype.TimestampOID)},
		{"timestamptz", "2026-01-31 12:00:00.123456+00", base(pgtype.TimestamptzOID)},
		{"timestamptz array", `{"2026-01-31 12:00:00+00","2026-01-31 13:00:00+00"}`, arrayOf(base(pgtype.TimestamptzOID))},
	} {
		b.Run(f.name, func(b *testing.B) {
			encode, text := FormOf(f.typ).Encode, []byte(f.text)
			dst := make([]byte, 0, 1024)
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				dst = encode(dst[:0], text)
			}
		})
	}
}

// BenchmarkInstant reads a timestamp for expressions.
func BenchmarkInstant(b *testing.B) {
	decode, text := InstantDecoder(time.UTC), []byte("2026-01-31 12:00:00.123456+00")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := decode(text); err != nil {
			b.Fatal(err)
		}
	}
}
