package value

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgtype"

	"tidemark/mapping/catalog"
	"tidemark/mapping/jsontext"
)

func base(oid uint32) *catalog.Type { return catalog.NewBase(oid, "") }

func arrayOf(elem *catalog.Type) *catalog.Type {
	return &catalog.Type{OID: 1 << 20, Kind: catalog.KindArray, Elem: elem, Delim: ',', Modifier: elem.Modifier}
}

func domainOver(t *catalog.Type) *catalog.Type {
	return &catalog.Type{OID: 1 << 21, Kind: catalog.KindDomain, Base: t, Delim: ','}
}

func encoded(t *catalog.Type, text string) string {
	return string(FormOf(t).Encode(nil, []byte(text)))
}

func TestEncode(t *testing.T) {
	const (
		date, timestamp, timestamptz = pgtype.DateOID, pgtype.TimestampOID, pgtype.TimestamptzOID
		unknown                      = 99999
	)
	enum := &catalog.Type{OID: unknown, Kind: catalog.KindEnum, Category: 'E', Delim: ','}
	box := &catalog.Type{OID: pgtype.BoxOID, Kind: catalog.KindBase, Delim: ';'}
	tests := []struct {
		typ        *catalog.Type
		text, want string
	}{
		{base(pgtype.Int2OID), "-32768", "-32768"},
		{base(pgtype.Int4OID), "0", "0"},
		{base(pgtype.Int8OID), "9223372036854775807", "9223372036854775807"},
		{base(pgtype.OIDOID), "4294967295", "4294967295"},
		{base(pgtype.Int4OID), "what", `"what"`},
		{base(pgtype.Int4OID), "", `""`},
		{base(pgtype.Int4OID), "01", `"01"`},
		{base(pgtype.Int4OID), "-", `"-"`},
		{base(pgtype.NumericOID), "0.10", "0.10"},
		{base(pgtype.NumericOID), "123456789012345678901234567890.1234567890", "123456789012345678901234567890.1234567890"},
		{base(pgtype.NumericOID), "NaN", "null"},
		{base(pgtype.NumericOID), "Infinity", "null"},
		{base(pgtype.NumericOID), "-Infinity", "null"},
		{base(pgtype.NumericOID), "1.", `"1."`},
		{base(pgtype.NumericOID), strings.Repeat("9", 1000), strings.Repeat("9", 1000)},
		{base(pgtype.NumericOID), strings.Repeat("9", 1001), `"` + strings.Repeat("9", 1001) + `"`},
		{base(pgtype.Float4OID), "1e+30", "1e+30"},
		{base(pgtype.Float8OID), "1.7976931348623157e+308", "1.7976931348623157e+308"},
		{base(pgtype.Float8OID), "-0", "-0"},
		{base(pgtype.Float8OID), "-Infinity", "null"},
		{base(pgtype.Float8OID), "1e", `"1e"`},

		{base(pgtype.BoolOID), "t", "true"},
		{base(pgtype.BoolOID), "f", "false"},
		{base(pgtype.BoolOID), "false", "false"},
		{base(pgtype.BoolOID), "maybe", `"maybe"`},

		{base(pgtype.TextOID), "", `""`},
		{base(pgtype.TextOID), "a \"b\" \\ /", `"a \"b\" \\ /"`},
		{base(pgtype.TextOID), "eight or more, then \n\r\t\b\f\x01\x1f\x7f", `"eight or more, then \n\r\t\b\f\u0001\u001f` + "\x7f\""},
		{base(pgtype.TextOID), "naïve 日本 😀 \u2028", `"naïve 日本 😀 ` + "\u2028\""},
		{base(pgtype.TextOID), "bad \xff\xfe \"\xc3", `"bad ` + "\uFFFD\uFFFD" + ` \"` + "\uFFFD\""},
		{base(pgtype.BPCharOID), "ab  ", `"ab  "`},
		{enum, "on hold", `"on hold"`},
		{base(unknown), `(1,"x y")`, `"(1,\"x y\")"`},

		{base(date), "2026-01-31", `"2026-01-31"`},
		{base(date), "0044-03-15 BC", `"-0043-03-15"`},
		{base(date), "0001-12-31 BC", `"0000-12-31"`},
		{base(date), "4713-01-01 BC", `"-4712-01-01"`},
		{base(date), "10000-01-01", `"+10000-01-01"`},
		{base(date), "5874897-12-31", `"+5874897-12-31"`},
		{base(date), "infinity", "null"},
		{base(date), "-infinity", "null"},
		{base(date), "01/31/2026", `"01/31/2026"`},
		{base(date), "2026-01-31 12:00:00", `"2026-01-31 12:00:00"`},
		{base(timestamp), "2026-01-31 12:00:00", `"2026-01-31T12:00:00"`},
		{base(timestamp), "2026-01-31 12:00:00.123456", `"2026-01-31T12:00:00.123456"`},
		{base(timestamp), "294276-12-31 23:59:59.5", `"+294276-12-31T23:59:59.5"`},
		{base(timestamp), "4713-01-01 00:00:00 BC", `"-4712-01-01T00:00:00"`},
		{base(timestamp), "infinity", "null"},
		{base(timestamp), "2026-01-31 12:00:00.", `"2026-01-31 12:00:00."`},
		{base(timestamp), "2026-01-31 12:00:00\"", `"2026-01-31 12:00:00\""`},
		{base(timestamptz), "2026-01-31 12:00:00+00", `"2026-01-31T12:00:00Z"`},
		{base(timestamptz), "2026-01-31 12:00:00.5+05:30", `"2026-01-31T12:00:00.5+05:30"`},
		{base(timestamptz), "2026-01-31 12:00:00-08", `"2026-01-31T12:00:00-08:00"`},
		{base(timestamptz), "1850-01-31 12:00:00-03:30:15", `"1850-01-31T12:00:00-03:30:15"`},
		{base(timestamptz), "0044-03-15 12:00:00+00:53:28 BC", `"-0043-03-15T12:00:00+00:53:28"`},
		{base(timestamptz), "2026-01-31 12:00:00+00:00:00:00", `"2026-01-31 12:00:00+00:00:00:00"`},
		{base(timestamptz), "2026-01-31 12:00:00", `"2026-01-31 12:00:00"`},
		{base(pgtype.TimeOID), "24:00:00", `"24:00:00"`},
		{base(pgtype.IntervalOID), "1 year 2 mons -3 days", `"1 year 2 mons -3 days"`},

		{base(pgtype.JSONOID), "{\"a\" :\r\n [1, 2.50]}", `{"a" :   [1, 2.50]}`},
		{base(pgtype.JSONOID), `{"a":1,"b":{"a":2},"c":[{"a":3},{"a":4}]}`, `{"a":1,"b":{"a":2},"c":[{"a":3},{"a":4}]}`},
		{base(pgtype.JSONOID), `{"b":1,"a":{"x":1,"x":2.00},"b":"<"}`, `{"a":{"x":2.00},"b":"<"}`},
		{base(pgtype.JSONOID), `{"a":1,"\u0061":2}`, `{"a":2}`},
		{base(pgtype.JSONOID), `["a","a",{"k":"a","l":"k"}]`, `["a","a",{"k":"a","l":"k"}]`},
		{base(pgtype.JSONOID), `"x"`, `"x"`},
		{base(pgtype.JSONBOID), `{"a": "` + "\xff" + `"}`, `{"a": "` + "\uFFFD" + `"}`},
		{base(pgtype.JSONBOID), "", "null"},

		{base(pgtype.ByteaOID), `\x`, `""`},
		{base(pgtype.ByteaOID), `\x00ff10`, `"AP8Q"`},
		{base(pgtype.ByteaOID), `\x0`, `"\\x0"`},
		{base(pgtype.ByteaOID), `\xzz`, `"\\xzz"`},
		{base(pgtype.ByteaOID), `a\\b\000\377`, `"YVxiAP8="`},
		{base(pgtype.InetOID), "192.168.0.1/24", `"192.168.0.1/24"`},
		{base(pgtype.CIDROID), "10.0.0.0/8", `"10.0.0.0/8"`},
		{base(pgtype.CIDROID), "::ffff:1.2.3.0/120", `"1.2.3.0/24"`},
		{base(pgtype.CIDROID), "::ffff:1.2.3.0/x", `"::ffff:1.2.3.0/x"`},
		{base(pgtype.CIDROID), "::/0", `"::/0"`},

		{arrayOf(base(pgtype.Int4OID)), "{}", "[]"},
		{arrayOf(base(pgtype.Int4OID)), "{1,NULL,-3}", "[1,null,-3]"},
		{arrayOf(base(pgtype.Int4OID)), "{{1,2},{3,4}}", "[[1,2],[3,4]]"},
		{arrayOf(base(pgtype.Int4OID)), "[2:3]={1,2}", "[1,2]"},
		{arrayOf(base(pgtype.Int4OID)), "[0:0][-1:0]={{1,2}}", "[[1,2]]"},
		{arrayOf(base(pgtype.TextOID)), `{NULL,"NULL",null,"a \"b\" \\ c","",x y,"{}",","}`, `[null,"NULL","null","a \"b\" \\ c","","x y","{}",","]`},
		{arrayOf(base(pgtype.JSONBOID)), `{"{\"a\": [1, \"x\\\\y\"]}",1,NULL}`, `[{"a": [1, "x\\y"]},1,null]`},
		{arrayOf(base(pgtype.ByteaOID)), `{"\\x00ff10"}`, `["AP8Q"]`},
		{arrayOf(base(timestamptz)), `{"2026-01-31 12:00:00+00",infinity}`, `["2026-01-31T12:00:00Z",null]`},
		{arrayOf(box), "{(1,1),(0,0);(2,2),(1,1)}", `["(1,1),(0,0)","(2,2),(1,1)"]`},
		{arrayOf(enum), `{on,"on hold"}`, `["on","on hold"]`},
		{arrayOf(domainOver(base(pgtype.Int8OID))), `{1}`, `[1]`},
		{domainOver(arrayOf(domainOver(enum))), `{a}`, `["a"]`},
		{arrayOf(domainOver(arrayOf(base(pgtype.Int4OID)))), `{"{1,2}","{NULL}",NULL}`, `[[1,2],[null],null]`},
		{arrayOf(base(pgtype.Int4OID)), "{1,2", `"{1,2"`},
		{arrayOf(base(pgtype.Int4OID)), "{1}2", `"{1}2"`},
		{arrayOf(base(pgtype.Int4OID)), "{,1}", `"{,1}"`},
		{arrayOf(base(pgtype.Int4OID)), "{1,}", `"{1,}"`},
		{arrayOf(base(pgtype.Int4OID)), "{{1}{2}}", `"{{1}{2}}"`},
		{arrayOf(base(pgtype.Int4OID)), "{{{{{{{1}}}}}}}", `"{{{{{{{1}}}}}}}"`},
		{arrayOf(base(pgtype.Int4OID)), "1 2 3", `"1 2 3"`},
		{arrayOf(base(pgtype.TextOID)), `{"a`, `"{\"a"`},
	}
	for _, tt := range tests {
		got := encoded(tt.typ, tt.text)
		if got != tt.want {
			t.Errorf("oid %d: %.80q: got %.200s, want %.200s", tt.typ.OID, tt.text, got, tt.want)
		}
		if !json.Valid([]byte(got)) {
			t.Errorf("oid %d: %.80q: not JSON: %.200s", tt.typ.OID, tt.text, got)
		}
	}
}

func TestEncodeLongBytea(t *testing.T) {
	for _, n := range []int{1, 2, 3, 191, 192, 193, 1000} {
		want, err := json.Marshal(bytes.Repeat([]byte{0, 0xAB}, n)[:n])
		if err != nil {
			t.Fatal(err)
		}
		text := `\x` + strings.Repeat("00ab", n)[:2*n]
		if got := encoded(base(pgtype.ByteaOID), text); got != string(want) {
			t.Errorf("%d bytes in hex: got %s, want %s", n, got, want)
		}
		text = strings.Repeat(`\000\253`, n)[:4*n]
		if got := encoded(base(pgtype.ByteaOID), text); got != string(want) {
			t.Errorf("%d bytes in escape format: got %s, want %s", n, got, want)
		}
	}
}

func FuzzNumber(f *testing.F) {
	for _, seed := range []string{"0", "-1.5e+10", "NaN", "00", "1e", ".5", "-", "+1", "1.0E-2", "Infinity"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		number := len(text) > 0 && text[0] != '"' && json.Valid(text) && strings.Trim(string(text), "+-.eE0123456789") == ""
		if got := isNumber(text); got != number {
			t.Fatalf("isNumber(%q) is %v", text, got)
		}
		if got := appendNumber(nil, text); !json.Valid(got) {
			t.Fatalf("%q: not JSON: %q", text, got)
		}
	})
}

func FuzzDate(f *testing.F) {
	for _, seed := range []string{"2026-01-31", "2026-01-31 12:00:00.5+05:30", "0044-03-15 12:00:00+00:53:28 BC", "infinity", "10000-01-01 00:00:00", " BC", "20260-1-31", "2026-01-31 12:00:00-08:"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, encode := range []Encoder{appendDate, appendTimestamp, appendTimestamptz} {
			if got := encode(nil, text); !json.Valid(got) {
				t.Fatalf("%q: not JSON: %q", text, got)
			}
		}
	})
}

// FuzzArray holds the parser against a plain model: what was put in comes out.
func FuzzArray(f *testing.F) {
	f.Add("a", "NULL", "x \"y\" \\", byte(2))
	f.Add("", "{}", ",;", byte(1))
	f.Add("1", "2", "[1:2]={3}", byte(6))
	f.Fuzz(func(t *testing.T, a, b, c string, depth byte) {
		values := []string{a, b, c}
		var text strings.Builder
		for i, v := range values {
			if i > 0 {
				text.WriteByte(',')
			}
			text.WriteString(`"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(v) + `"`)
		}
		dims := 1 + int(depth%maxDimensions)
		array := strings.Repeat("{", dims) + text.String() + ",NULL" + strings.Repeat("}", dims)
		got := encoded(arrayOf(base(pgtype.TextOID)), "[1:4]="+array)
		var want []byte
		for i, v := range values {
			if i > 0 {
				want = append(want, ',')
			}
			want = jsontext.Append(want, []byte(v))
		}
		if s := strings.Repeat("[", dims) + string(want) + ",null" + strings.Repeat("]", dims); got != s {
			t.Fatalf("%s: got %s, want %s", array, got, s)
		}
	})
}

// FuzzArrayText returns the parser what no server sends.
func FuzzArrayText(f *testing.F) {
	for _, seed := range []string{"{1,2}", "{{1},{2}}", "[1:2]={a,b}", `{"a\"",NULL}`, "{", "}", "{,}", `{"`, `{"\`, "{{}}", "[=", "{}{}"} {
		f.Add([]byte(seed))
	}
	types := []*catalog.Type{arrayOf(base(pgtype.TextOID)), arrayOf(base(pgtype.Int4OID)), arrayOf(base(pgtype.ByteaOID)), arrayOf(arrayOf(base(pgtype.TimestampOID)))}
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, typ := range types {
			if got := FormOf(typ).Encode(nil, text); !json.Valid(got) {
				t.Fatalf("%q: not JSON: %q", text, got)
			}
		}
	})
}

func FuzzJSON(f *testing.F) {
	for _, seed := range []string{`{"a":1,"a":2}`, "[1,\n{\"\\u0061\":{}}]", `{"a":{"b":[{"c":"d"}]}}`, `"\ud800"`, `1e999`, `{"` + strings.Repeat(`a":1,"`, 3) + `b":2}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		got := AppendJSON(nil, text) // never panics
		if !json.Valid(text) || !utf8.Valid(text) {
			return
		}
		if !json.Valid(got) || bytes.ContainsAny(got, "\r\n") {
			t.Fatalf("%q: not JSON on one line: %q", text, got)
		}
		var want, have any
		if json.Unmarshal(text, &want) == nil {
			if err := json.Unmarshal(got, &have); err != nil {
				t.Fatal(err)
			}
			w, _ := json.Marshal(want)
			h, _ := json.Marshal(have)
			if !bytes.Equal(w, h) {
				t.Fatalf("%q became %q", text, got)
			}
		}
		if again, ok := repeatedKey(got); ok {
			t.Fatalf("%q still has %q twice: %q", text, again, got)
		}
	})
}

// repeatedKey finds a key that an object has twice, by the tokens of encoding/json.
func repeatedKey(text []byte) (string, bool) {
	dec := json.NewDecoder(bytes.NewReader(text))
	var seen []map[string]bool // nil for an array
	key := false
	for {
		token, err := dec.Token()
		if err != nil {
			return "", false
		}
		switch v := token.(type) {
		case json.Delim:
			switch v {
			case '{':
				seen = append(seen, map[string]bool{})
			case '[':
				seen = append(seen, nil)
			default:
				seen = seen[:len(seen)-1]
			}
			key = len(seen) > 0 && seen[len(seen)-1] != nil
			continue
		case string:
			if key {
				if seen[len(seen)-1][v] {
					return v, true
				}
				seen[len(seen)-1][v] = true
				key = false
				continue
			}
		}
		key = len(seen) > 0 && seen[len(seen)-1] != nil
	}
}
