package value

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"tidemark/mapping/catalog"
	"tidemark/mapping/jsontext"
)

func compositeOf(attributes ...catalog.Attribute) *catalog.Type {
	return &catalog.Type{OID: 1 << 22, Kind: catalog.KindComposite, Category: 'C', Delim: ',', Modifier: -1, Name: "public.pair", Attributes: attributes}
}

func rangeOf(sub *catalog.Type) *catalog.Type {
	return &catalog.Type{OID: 1 << 23, Kind: catalog.KindRange, Category: 'R', Elem: sub, Delim: ',', Modifier: -1, Name: "public.span"}
}

func multirangeOf(sub *catalog.Type) *catalog.Type {
	return &catalog.Type{OID: 1 << 24, Kind: catalog.KindMultirange, Category: 'R', Elem: rangeOf(sub), Delim: ',', Modifier: -1, Name: "public.spans"}
}

func partOf(extension, name string) *catalog.Type {
	return &catalog.Type{OID: 1 << 25, Kind: catalog.KindBase, Category: 'U', Delim: ',', Modifier: -1, Schema: "public", Plain: name, Name: "public." + name, Extension: extension}
}

// What asks for a form gets it, or is told what there is.
func TestFormFor(t *testing.T) {
	money := &catalog.Type{OID: moneyOID, Kind: catalog.KindBase, Delim: ',', Modifier: -1, Name: "money", Fraction: 2}
	yen := &catalog.Type{OID: moneyOID, Kind: catalog.KindBase, Delim: ',', Modifier: -1, Name: "money"}
	pair := compositeOf(catalog.Attribute{Name: "a", Type: base(pgtype.Int4OID)}, catalog.Attribute{Name: "b", Type: base(pgtype.TextOID)})
	tests := []struct {
		typ            *catalog.Type
		as, text, want string
	}{
		{base(pgtype.BoolOID), "boolean", "t", "true"},
		{base(pgtype.BoolOID), "number", "t", "1"},
		{base(pgtype.BoolOID), "number", "false", "0"},
		{base(pgtype.BoolOID), "number", "x", `"x"`},
		{base(pgtype.BoolOID), "string", "f", `"false"`},
		{base(pgtype.BoolOID), "string", "true", `"true"`},
		{base(pgtype.Int4OID), "number", "1", "1"},
		{base(pgtype.Int4OID), "string", "1", `"1"`},
		{base(pgtype.Int8OID), "boolean", "-1", "true"},
		{base(pgtype.Int8OID), "boolean", "0", "false"},
		{base(pgtype.Int8OID), "boolean", "", `""`},
		{base(pgtype.NumericOID), "string", "NaN", `"NaN"`},
		{base(pgtype.Float8OID), "string", "-Infinity", `"-Infinity"`},
		{base(pgtype.TextOID), "number", "1.50", "1.50"},
		{base(pgtype.TextOID), "number", "1,5", `"1,5"`},
		{base(pgtype.TextOID), "number", "NaN", `"NaN"`},
		{base(pgtype.BPCharOID), "number", "12  ", "12"},
		{base(pgtype.TextOID), "number", strings.Repeat("1", 1001), `"` + strings.Repeat("1", 1001) + `"`},
		{base(pgtype.TextOID), "boolean", "Yes", "true"},
		{base(pgtype.BPCharOID), "boolean", "N    ", "false"},
		{base(pgtype.TextOID), "boolean", "ye\u017f", "null"},
		{base(pgtype.TextOID), "boolean", "perhaps", "null"},
		{base(pgtype.TextOID), "boolean", "", "null"},
		{base(pgtype.DateOID), "iso", "0044-03-15 BC", `"-0043-03-15"`},
		{base(pgtype.DateOID), "string", "infinity", `"infinity"`},
		{base(pgtype.TimestamptzOID), "string", "2026-01-31 12:00:00+00", `"2026-01-31 12:00:00+00"`},
		{base(pgtype.JSONBOID), "string", `{"a": "\n"}`, `"{\"a\": \"\\n\"}"`},
		{base(pgtype.ByteaOID), "base64", `\x00ff10`, `"AP8Q"`},
		{base(pgtype.ByteaOID), "hex", `\x00ff10`, `"00ff10"`},
		{base(pgtype.ByteaOID), "string", `\x00ff10`, `"\\x00ff10"`},
		{base(pgtype.PointOID), "geo_point", "(13.4,52.5)", `{"lat":52.5,"lon":13.4}`},
		{base(pgtype.PointOID), "geo_point", "(NaN,52.5)", "null"},
		{base(pgtype.PointOID), "geo_point", "(1,2", "null"},
		{base(pgtype.PointOID), "", "1,2", `"1,2"`},
		{money, "", "-$1,234.50", `"-$1,234.50"`},
		{money, "number", "-$1,234.50", "-1234.50"},
		{money, "number", "1.234,50 €", "1234.50"},
		{money, "number", "($0.05)", "-0.05"},
		{money, "number", "$", `"$"`},
		{yen, "number", "¥1,234", "1234"},
		{arrayOf(base(pgtype.Int4OID)), "string", "{1,NULL}", `["1",null]`},
		{domainOver(arrayOf(base(pgtype.BoolOID))), "number", "{{t},{f}}", "[[1],[0]]"},
		{pair, "json", "(1,x)", `{"a":1,"b":"x"}`},
		{pair, "string", "(1,x)", `"(1,x)"`},
		{rangeOf(base(pgtype.Int4OID)), "string", "[1,2)", `"[1,2)"`},

		{base(pgtype.IntervalOID), "", "1 year 2 mons", `"1 year 2 mons"`},
		{base(pgtype.IntervalOID), "iso", "1 year 2 mons -3 days +04:05:06.7", `"P1Y2M-3DT4H5M6.7S"`},
		{base(pgtype.IntervalOID), "iso", "-1 years -00:00:00.000001", `"P-1YT-0.000001S"`},
		{base(pgtype.IntervalOID), "iso", "00:00:00", `"PT0S"`},
		{base(pgtype.IntervalOID), "iso", "1 day", `"P1D"`},
		{base(pgtype.IntervalOID), "iso", "100:00:01", `"PT100H1S"`},
		{base(pgtype.IntervalOID), "iso", "infinity", "null"},
		{base(pgtype.IntervalOID), "iso", "1 fortnight", `"1 fortnight"`},
		{base(pgtype.IntervalOID), "iso", "1:2:3", `"1:2:3"`},
		{base(pgtype.IntervalOID), "number", "1 year 1 mon 1 day 00:00:01.5", "34236001.5"},
		{base(pgtype.IntervalOID), "number", "1 day -00:00:00.25", "86399.75"},
		{base(pgtype.IntervalOID), "number", "-1 days +00:00:00.25", "-86399.75"},
		{base(pgtype.IntervalOID), "number", "-00:00:00.25", "-0.25"},
		{base(pgtype.IntervalOID), "number", "-infinity", "null"},

		{base(int2vectorOID), "", "1 -2", "[1,-2]"},
		{base(oidvectorOID), "", "", "[]"},
		{base(oidvectorOID), "", "1 x", `"1 x"`},
		{partOf("hstore", "hstore"), "", `"a"=>"1", "b\"\\"=>NULL`, `{"a":"1","b\"\\":null}`},
		{partOf("hstore", "hstore"), "", "", "{}"},
		{partOf("hstore", "hstore"), "", `"a"=>1`, `"\"a\"=>1"`},
		{partOf("", "hstore"), "", `"a"=>"1"`, `"\"a\"=>\"1\""`},
		{partOf("vector", "vector"), "", "[1,2.5,1e-07]", "[1,2.5,1e-07]"},
		{partOf("vector", "vector"), "", "[]", "[]"},
		{partOf("vector", "halfvec"), "", "[1,]", `"[1,]"`},
		{partOf("vector", "sparsevec"), "", "{1:1.5,3:2}/5", `{"1":1.5,"3":2}`},
		{partOf("vector", "sparsevec"), "", "{}/5", "{}"},
		{partOf("vector", "sparsevec"), "", "{1:x}/5", `"{1:x}/5"`},
		{partOf("vector", "sparsevec"), "", "}/5", `"}/5"`},
		{partOf("postgis", "geometry"), "", "0101000000000000000000F03F0000000000000040", `{"type":"Point","coordinates":[1,2]}`},
		{partOf("postgis", "geometry"), "", "00000000013FF00000000000004000000000000000", `{"type":"Point","coordinates":[1,2]}`},
		{partOf("postgis", "geography"), "", "0101000020E6100000000000000000F03F0000000000000040", `{"type":"Point","coordinates":[1,2]}`},
		{partOf("postgis", "geometry"), "geo_point", "0101000020E6100000000000000000F03F0000000000000040", `{"lat":2,"lon":1}`},
		{partOf("postgis", "geometry"), "geo_point", "0102000000000000", "null"},
		{partOf("postgis", "geometry"), "", "0101000000000000000000F03F000000000000004000", `"0101000000000000000000F03F000000000000004000"`},
		{partOf("postgis", "geometry"), "", "0108000000", `"0108000000"`},

		{rangeOf(base(pgtype.Int4OID)), "", "[1,2)", `{"gte":1,"lt":2}`},
		{rangeOf(base(pgtype.TextOID)), "", `("a""b\\",)`, `{"gt":"a\"b\\"}`},
		{rangeOf(base(pgtype.TextOID)), "", `["",""]`, `{"gte":"","lte":""}`},
		{rangeOf(base(pgtype.Int4OID)), "", "[1,2", `"[1,2"`},
		{rangeOf(pair), "", `["(1,x)",)`, `"[\"(1,x)\",)"`},
		{multirangeOf(base(pgtype.DateOID)), "", "{[2026-01-31,2026-02-02),[2027-01-01,)}", `[{"gte":"2026-01-31","lt":"2026-02-02"},{"gte":"2027-01-01"}]`},
		{multirangeOf(base(pgtype.DateOID)), "", "{[1,2)[3,4)}", `"{[1,2)[3,4)}"`},
		{compositeOf(), "", "()", "{}"},
		{pair, "", "(1)", `"(1)"`},
		{pair, "", "(1,2,3)", `"(1,2,3)"`},
		{pair, "", `(,"")`, `{"a":null,"b":""}`},
		{compositeOf(catalog.Attribute{Name: "a", Type: arrayOf(pair)}), "", `("{""(1,\\""x \\\\\\""\\"")"",NULL}")`, `{"a":[{"a":1,"b":"x \""},null]}`},
	}
	for _, tt := range tests {
		f, err := FormFor(tt.typ, tt.as)
		if err != nil {
			t.Errorf("%s as %q: %v", tt.typ.Name, tt.as, err)
			continue
		}
		if got := string(f.Encode(nil, []byte(tt.text))); got != tt.want {
			t.Errorf("%s %.60q as %q: got %.200s, want %.200s", tt.typ.Name, tt.text, tt.as, got, tt.want)
		}
	}

	integer := base(pgtype.Int4OID)
	integer.Name = "integer"
	citext := &catalog.Type{OID: 99999, Kind: catalog.KindBase, Category: 'S', Name: "public.citext"}
	for want, typ := range map[string]*catalog.Type{
		`a value of type integer cannot be written as "date": want string, number or boolean`:         integer,
		`a value of type public.citext cannot be written as "date": want string, number or boolean`:   citext,
		`a value of type public.thing cannot be written as "date": want string`:                       partOf("", "thing"),
		`a value of type public.geometry cannot be written as "date": want string, json or geo_point`: partOf("postgis", "geometry"),
	} {
		if _, err := FormFor(typ, "date"); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestNobodySearches(t *testing.T) {
	vector := base(pgtype.TSVectorOID)
	for _, typ := range []*catalog.Type{vector, domainOver(vector), arrayOf(vector), arrayOf(domainOver(vector))} {
		if !NobodySearches(typ) {
			t.Errorf("a tsvector of kind %c is searched", typ.Kind)
		}
	}
	if NobodySearches(base(pgtype.TextOID)) {
		t.Error("nobody searches by text")
	}
}

// Types within types end somewhere, in SQL too, and a column brings no more
// fields to an index than one can have.
func TestFormBounds(t *testing.T) {
	deep := base(pgtype.Float8OID)
	for range 3 * maxFormDepth {
		deep = compositeOf(catalog.Attribute{Name: "a", Type: deep}, catalog.Attribute{Name: "b", Type: base(pgtype.Float8OID)})
	}
	f := FormOf(deep)
	depth := 0
	for field := f.Field; field["properties"] != nil; depth++ {
		field = field["properties"].(map[string]any)["a"].(map[string]any)
	}
	if depth != maxFormDepth {
		t.Errorf("%d objects within each other, want %d", depth, maxFormDepth)
	}
	if n := len(f.SQL("a.b", deep)); n > 100_000 {
		t.Errorf("the SQL has %d bytes", n)
	}

	nested := base(pgtype.Float8OID)
	for range 3 * maxFormDepth {
		nested = arrayOf(domainOver(nested))
	}
	if n := len(FormOf(nested).SQL("a.b", nested)); n > 1_000_000 {
		t.Errorf("the SQL of arrays in arrays has %d bytes", n)
	}

	var attributes []catalog.Attribute
	for i := range maxFields + 1 {
		attributes = append(attributes, catalog.Attribute{Name: fmt.Sprint("c", i), Type: base(pgtype.Int4OID)})
	}
	if f := FormOf(compositeOf(attributes...)); f.Field["enabled"] != false {
		t.Errorf("a composite of %d attributes has the field %v", len(attributes), f.Field)
	}
	if f := FormOf(compositeOf(attributes[1:]...)); f.Field["properties"] == nil {
		t.Errorf("a composite of %d attributes has the field %v", len(attributes)-1, f.Field)
	}
}

func TestLonLat(t *testing.T) {
	modifier := func(srid, kind, z, m int32) int32 { return srid<<8 | kind<<2 | z<<1 | m }
	for _, tt := range []struct {
		modifier int32
		point    bool
	}{
		{-1, false}, {modifier(4326, 1, 0, 0), true}, {modifier(4326, 1, 1, 1), true}, {modifier(0, 1, 0, 0), true},
		{modifier(3857, 1, 0, 0), false}, {modifier(4326, 3, 0, 0), false}, {modifier(4326, 0, 0, 0), false},
	} {
		typ := partOf("postgis", "geometry")
		typ.Modifier = tt.modifier
		if got := FormOf(typ).Field["type"] == "geo_point"; got != tt.point {
			t.Errorf("modifier %#x: geo_point: %v", tt.modifier, got)
		}
	}
}

// FuzzForms returns the parsers what no server sends.
func FuzzForms(f *testing.F) {
	for _, seed := range []string{
		"[1,5)", `("a""b",]`, "(,)", "empty", "[,", `["`, "{[1,2),(3,]}", "{}", "{[1,2)(", "[1\\", `(1,"x ""y"" \\ z",,"")`, "()", "(,", `("`, `(\`,
		`"a"=>"1", "b"=>NULL`, `"a`, `"\`, `"a"=>`, "[1,2.5]", "[1,]", "{1:2}/3", "}/", "(1,2)", "1 2 3", " ",
		"1 year -2 mons +3 days -04:05:06.7", "::", "1:00:00", "0101000000000000000000F03F0000000000000040", "01040000000100000001",
		"0107000000020000000107000000", "0103000000FFFFFFFF", "0106000020E610000001000000010300000000000000", "-$1,234.50",
		"2026-01-31 12:00:00+00", "[\"2026-01-31 12:00:00+00\",\"0044-03-15 12:00:00+00 BC\")", "[2026-01-31,infinity]",
	} {
		f.Add([]byte(seed))
	}
	pair := compositeOf(catalog.Attribute{Name: "a", Type: base(pgtype.ByteaOID)}, catalog.Attribute{Name: "b", Type: arrayOf(base(pgtype.TextOID))}, catalog.Attribute{Name: "c", Type: rangeOf(base(pgtype.DateOID))})
	types := []*catalog.Type{
		pair, compositeOf(), compositeOf(catalog.Attribute{Name: "a", Type: pair}), arrayOf(pair),
		partOf("hstore", "hstore"), partOf("vector", "vector"), partOf("vector", "sparsevec"), partOf("postgis", "geometry"),
		base(pgtype.PointOID), base(pgtype.IntervalOID), base(int2vectorOID), base(pgtype.TextOID), base(pgtype.BoolOID), base(pgtype.Int4OID),
		{OID: moneyOID, Kind: catalog.KindBase, Delim: ',', Fraction: 2},
	}
	for _, sub := range []uint32{pgtype.Int4OID, pgtype.Int8OID, pgtype.NumericOID, pgtype.Float8OID, pgtype.DateOID, pgtype.TimestamptzOID, pgtype.TextOID} {
		types = append(types, rangeOf(base(sub)), multirangeOf(base(sub)))
	}
	var forms []*Form
	for _, typ := range types {
		for _, as := range append(formWords[:], "") {
			if form, err := FormFor(typ, as); err == nil {
				forms = append(forms, form)
			}
		}
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, form := range forms {
			got := form.Encode([]byte("before"), text)
			if !bytes.HasPrefix(got, []byte("before")) || !json.Valid(got[len("before"):]) || bytes.ContainsAny(got, "\n\r") {
				t.Fatalf("%q as %s: not JSON on one line: %q", text, form.Name, got)
			}
		}
	})
}

// FuzzComposite holds the parser against a plain model: what was put in comes out.
func FuzzComposite(f *testing.F) {
	f.Add("a", "x \"y\" \\", ",()[]")
	f.Add("", "NULL", "{}")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		double := strings.NewReplacer(`\`, `\\`, `"`, `""`)
		var text, want []byte
		for i, v := range []string{a, b, c} {
			text = append(text, "(,,"[i])
			text = append(text, `"`+double.Replace(v)+`"`...)
			want = append(want, fmt.Sprintf(`%c"%c":`, "{,,"[i], 'a'+i)...)
			want = jsontext.Append(want, []byte(v))
		}
		text, want = append(text, ')'), append(want, '}')
		attributes := []catalog.Attribute{{Name: "a", Type: base(pgtype.TextOID)}, {Name: "b", Type: base(pgtype.TextOID)}, {Name: "c", Type: base(pgtype.TextOID)}}
		if got := encoded(compositeOf(attributes...), string(text)); got != string(want) {
			t.Fatalf("%s: got %s, want %s", text, got, want)
		}
		span := "[" + `"` + double.Replace(a) + `","` + double.Replace(b) + `")`
		wantSpan := append(jsontext.Append([]byte(`{"gte":`), []byte(a)), `,"lt":`...)
		wantSpan = append(jsontext.Append(wantSpan, []byte(b)), '}')
		if got := encoded(rangeOf(base(pgtype.TextOID)), span); got != string(wantSpan) {
			t.Fatalf("%s: got %s, want %s", span, got, wantSpan)
		}
	})
}

// FuzzMoment holds the days against those of the time package.
func FuzzMoment(f *testing.F) {
	f.Add(int64(0), int64(0))
	f.Add(int64(-719_528), int64(1))
	f.Add(int64(2_932_896), int64(86_399_999_999))
	f.Fuzz(func(t *testing.T, day, micro int64) {
		day %= 2_932_897 // up to the year 9999
		micro = (micro%86_400_000_000 + 86_400_000_000) % 86_400_000_000
		if day < -719_162 { // the year 1
			day = -719_162
		}
		text := time.Unix(day*86_400, micro*1000).UTC().Format("2006-01-02 15:04:05.999999")
		var m moment
		if !m.read([]byte(text)) {
			t.Fatalf("%s: no moment", text)
		}
		gotDay, gotMicro := m.sinceEpoch()
		if gotDay != day || gotMicro != micro {
			t.Fatalf("%s: day %d, %d µs; want day %d, %d µs", text, gotDay, gotMicro, day, micro)
		}
	})
}

// The default field follows from the type below domains and arrays.
func TestDefaultField(t *testing.T) {
	numeric := func(precision, scale int32) *catalog.Type {
		t := base(pgtype.NumericOID)
		t.Modifier = (precision<<16 | scale&0x7FF) + 4
		return t
	}
	citext := &catalog.Type{OID: 99999, Kind: catalog.KindBase, Category: 'S'}
	tests := []struct {
		typ  *catalog.Type
		want string
	}{
		{base(pgtype.Int2OID), "short"}, {base(pgtype.Int4OID), "integer"}, {base(pgtype.Int8OID), "long"}, {base(pgtype.OIDOID), "long"},
		{base(pgtype.Float4OID), "float"}, {base(pgtype.Float8OID), "double"},
		{base(pgtype.NumericOID), "double"}, {numeric(10, 2), "double"}, {numeric(18, 0), "long"}, {numeric(19, 0), "double"},
		{numeric(15, -3), "long"}, {numeric(16, -3), "double"}, {arrayOf(numeric(18, 0)), "long"}, {domainOver(numeric(18, 0)), "long"},
		{base(pgtype.BoolOID), "boolean"}, {base(pgtype.TextOID), "text"}, {base(pgtype.BPCharOID), "text"}, {citext, "text"},
		{base(pgtype.UUIDOID), "keyword"}, {&catalog.Type{Kind: catalog.KindEnum}, "keyword"}, {base(pgtype.IntervalOID), "keyword"},
		{base(pgtype.DateOID), "date"}, {base(pgtype.TimestamptzOID), "date"}, {base(pgtype.JSONBOID), "object"}, {base(pgtype.ByteaOID), "binary"},
		{base(pgtype.InetOID), "ip"}, {base(pgtype.CIDROID), "ip_range"}, {arrayOf(domainOver(base(pgtype.InetOID))), "ip"},
		{base(pgtype.PointOID), "object"}, {&catalog.Type{Kind: catalog.KindComposite, Category: 'C'}, "object"}, {&catalog.Type{Kind: catalog.KindRange, Category: 'R'}, "keyword"},
	}
	for _, tt := range tests {
		if got := FormOf(tt.typ).Field["type"]; got != tt.want {
			t.Errorf("oid %d, kind %c, modifier %d: %v, want %s", tt.typ.OID, tt.typ.Kind, tt.typ.Modifier, got, tt.want)
		}
	}
}
