package expr

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgtype"

	"tidemark/mapping/catalog"
	"tidemark/mapping/value"
)

func plainType(oid uint32) *catalog.Type { return catalog.NewBase(oid, "") }

func listOfType(elem *catalog.Type) *catalog.Type {
	return &catalog.Type{OID: 1 << 20, Kind: catalog.KindArray, Elem: elem, Delim: ',', Modifier: elem.Modifier}
}

// goods is a table with a column of every kind of type.
var goods = &catalog.Table{Schema: "public", Name: "goods", Columns: []catalog.Column{
	{Name: "id", Type: plainType(pgtype.Int8OID), NotNull: true},
	{Name: "title", Type: plainType(pgtype.TextOID)},
	{Name: "brand", Type: plainType(pgtype.TextOID)},
	{Name: "status", Type: &catalog.Type{OID: 1 << 22, Kind: catalog.KindEnum, Category: 'E', Delim: ','}},
	{Name: "price_cents", Type: plainType(pgtype.Int4OID)},
	{Name: "stock", Type: plainType(pgtype.Int4OID)},
	{Name: "weight", Type: plainType(pgtype.NumericOID)},
	{Name: "serial", Type: &catalog.Type{OID: pgtype.NumericOID, Kind: catalog.KindBase, Delim: ',', Modifier: 10<<16 + 4}},
	{Name: "rating", Type: plainType(pgtype.Float8OID)},
	{Name: "active", Type: plainType(pgtype.BoolOID)},
	{Name: "featured", Type: plainType(pgtype.BoolOID)},
	{Name: "tags", Type: listOfType(plainType(pgtype.TextOID))},
	{Name: "sizes", Type: listOfType(plainType(pgtype.Int4OID))},
	{Name: "attrs", Type: plainType(pgtype.JSONBOID)},
	{Name: "image", Type: plainType(pgtype.ByteaOID)},
	{Name: "key", Type: plainType(pgtype.UUIDOID)},
	{Name: "created_at", Type: plainType(pgtype.TimestamptzOID)},
	{Name: "updated_at", Type: plainType(pgtype.TimestampOID)},
	{Name: "deleted_at", Type: plainType(pgtype.TimestamptzOID)},
	{Name: "released", Type: plainType(pgtype.DateOID)},
	// Names that mean something else, or are none.
	{Name: "date", Type: plainType(pgtype.DateOID)},
	{Name: "keys", Type: plainType(pgtype.TextOID)},
	{Name: "len", Type: plainType(pgtype.Int4OID)},
	{Name: "in", Type: plainType(pgtype.Int4OID)},
	{Name: "Weird Name", Type: plainType(pgtype.TextOID)},
	{Name: "Größe", Type: plainType(pgtype.TextOID)},
}}

// valuesOf returns the values of a row of goods for an expression: what the row
// does not name is NULL.
func valuesOf(e *Expression, row texts) [][]byte {
	values := make([][]byte, len(e.Columns))
	for i, name := range e.Columns {
		if text, ok := row[name]; ok {
			values[i] = append([]byte{}, text...)
		}
	}
	return values
}

type texts = map[string]string

func TestExpressionResult(t *testing.T) {
	const moment = "2026-01-31 12:00:00.5+00"
	tests := []struct {
		text string
		row  texts
		want string
	}{
		// What the manual shows.
		{`lower(title)`, texts{"title": "A ÄB"}, `"a äb"`},
		{`trim(title)`, texts{"title": "  a\t"}, `"a"`},
		{`brand + " " + title`, texts{"brand": "A", "title": "b"}, `"A b"`},
		{`join([brand, title, keys], " ")`, texts{"brand": "A", "keys": "c"}, `"A c"`},
		{`price_cents / 100.0`, texts{"price_cents": "1999"}, `19.99`},
		{`(price_cents ?? 0) / 100`, nil, `0`},
		{`stock > 0 ? "in stock" : "sold out"`, texts{"stock": "1"}, `"in stock"`},
		{`stock > 0 ? "in stock" : "sold out"`, nil, `"sold out"`},
		{`if stock > 0 { "in stock" } else { "sold out" }`, nil, `"sold out"`},
		{`title | trim() | lower()`, texts{"title": " A "}, `"a"`},
		{`let t = trim(title); t != "" ? t : nil`, texts{"title": " "}, `null`},
		{`$env["Weird Name"]`, texts{"Weird Name": "x"}, `"x"`},
		{`upper($env["Weird Name"]) + Größe`, texts{"Weird Name": "x", "Größe": "y"}, `"Xy"`},
		{`$env["in"] + len`, texts{"in": "1", "len": "2"}, `3`},

		// Values as they are read, and written again.
		{`id`, texts{"id": "9223372036854775807"}, `9223372036854775807`},
		{`serial`, texts{"serial": "1234567890"}, `1234567890`},
		{`serial`, texts{"serial": "NaN"}, `null`},
		{`weight`, texts{"weight": "0.10"}, `0.1`},
		{`weight`, texts{"weight": "NaN"}, `null`},
		{`weight`, texts{"weight": "Infinity"}, `null`},
		{`weight`, texts{"weight": "1e-400"}, `0`},
		{`(weight * 2) ?? -1`, texts{"weight": "-Infinity"}, `-1`},
		{`rating`, texts{"rating": "1e+30"}, `1e+30`},
		{`rating`, texts{"rating": "-0"}, `-0`},
		{`active`, texts{"active": "t"}, `true`},
		{`status`, texts{"status": "draft"}, `"draft"`},
		{`title`, texts{"title": "a\"\n\x01\xff"}, `"a\"\n\u0001` + "\uFFFD" + `"`},
		{`title`, texts{"title": ""}, `""`},
		{`key`, texts{"key": "b2c7…"}, `"b2c7…"`},
		{`image`, texts{"image": `\x0102`}, `"AQI="`},
		{`created_at`, texts{"created_at": moment}, `"2026-01-31T12:00:00.5Z"`},
		{`created_at`, texts{"created_at": "0044-03-15 12:00:00+00:53:28 BC"}, `"-0043-03-15T11:06:32Z"`},
		{`created_at`, texts{"created_at": "2026-01-31 23:30:00-01:30"}, `"2026-02-01T01:00:00Z"`},
		{`created_at`, texts{"created_at": "infinity"}, `null`},
		{`updated_at`, texts{"updated_at": "2026-01-31 12:00:00.123456"}, `"2026-01-31T12:00:00.123456"`},
		{`updated_at`, texts{"updated_at": "294276-12-31 23:59:59"}, `"+294276-12-31T23:59:59"`},
		{`released`, texts{"released": "2026-01-31"}, `"2026-01-31"`},
		{`released`, texts{"released": "5874897-12-31"}, `"+5874897-12-31"`},
		{`released`, texts{"released": "0001-01-01 BC"}, `"0000-01-01"`},
		{`released.AddDate(0, 1, 1)`, texts{"released": "2026-01-31"}, `"2026-03-04"`},
		{`released + duration("90m")`, texts{"released": "2026-01-31"}, `"2026-01-31T01:30:00"`},
		{`updated_at ?? created_at`, texts{"created_at": moment}, `"2026-01-31T12:00:00.5Z"`},
		{`created_at.Year()`, texts{"created_at": moment}, `2026`},
		{`created_at.Month()`, texts{"created_at": moment}, `1`},
		{`created_at.Format("2006-01")`, texts{"created_at": moment}, `"2026-01"`},
		{`(created_at - updated_at).Hours()`, texts{"created_at": moment, "updated_at": "2026-01-31 00:00:00.5"}, `12`},
		{`created_at > date("2026-01-01")`, texts{"created_at": moment}, `true`},
		{`date("31.01.2026", "02.01.2006")`, nil, `"2026-01-31T00:00:00Z"`},
		{`date(title)`, texts{"title": "Sat, 31 Jan 2026 12:00:00 MST"}, `"2026-01-31T12:00:00Z"`},
		{`date("2026-01-31T12:00:00+02:00")`, nil, `"2026-01-31T10:00:00Z"`},
		{`date ?? date("2026-01-31")`, texts{"date": "2020-02-29"}, `"2020-02-29"`},
		{`tags`, texts{"tags": `{a,"b \"c\" \\",NULL,"NULL"}`}, `["a","b \"c\" \\",null,"NULL"]`},
		{`tags`, texts{"tags": `{}`}, `[]`},
		{`tags`, texts{"tags": `[2:3]={x,y}`}, `["x","y"]`},
		{`sizes`, texts{"sizes": `{{1,2},{3,NULL}}`}, `[[1,2],[3,null]]`},
		{`attrs`, texts{"attrs": `{"b": [1, 2.50, null, "x\n"], "a": {"n": 12345678901}}`}, `{"a":{"n":12345678901},"b":[1,2.5,null,"x\n"]}`},
		{`attrs`, texts{"attrs": `null`}, `null`},
		{`1e21`, nil, `1e+21`},
		{`1e-7`, nil, `1e-07`},
		{`{"b": 1, "a": [title, nil, 1.0]}`, texts{"title": "x"}, `{"a":["x",null,1],"b":1}`},

		// Functions.
		{`len(title)`, texts{"title": "äö"}, `2`},
		{`split(title, ",")`, texts{"title": "a,b"}, `["a","b"]`},
		{`split(title, ",") | map(trim(#)) | filter(# != "")`, texts{"title": "a, b,,"}, `["a","b"]`},
		{`join(split(title, ","), ";")`, texts{"title": "a,b"}, `"a;b"`},
		{`int(title) + 1`, texts{"title": "41"}, `42`},
		{`float(title)`, texts{"title": "1.5"}, `1.5`},
		{`string(id) + "-" + status`, texts{"id": "7", "status": "x"}, `"7-x"`},
		{`7 % 4`, nil, `3`},
		{`7 / 2`, nil, `3.5`},
		{`2 ** 3`, nil, `8`},
		{`tags[0]`, texts{"tags": "{a,b}"}, `"a"`},
		{`tags[-1]`, texts{"tags": "{a,b}"}, `"b"`},
		{`tags[1:]`, texts{"tags": "{a,b}"}, `["b"]`},
		{`title[0:2]`, texts{"title": "abc"}, `"ab"`},
		{`get(tags, 5)`, texts{"tags": "{a,b}"}, `null`},
		{`map(tags, upper(#))`, texts{"tags": "{a,NULL}"}, `["A",null]`},
		{`filter(tags, # contains "a")`, texts{"tags": "{a,NULL,b}"}, `["a"]`},
		{`any(tags, # == "b")`, texts{"tags": "{NULL,b}"}, `true`},
		{`sum(sizes)`, texts{"sizes": "{1,2}"}, `3`},
		{`max(sizes)`, texts{"sizes": "{1,2}"}, `2`},
		{`sort(tags)`, texts{"tags": "{b,a}"}, `["a","b"]`},
		{`reduce(sizes, #acc + #, 0)`, texts{"sizes": "{1,2,3}"}, `6`},
		{`attrs.color`, texts{"attrs": `{"color":"red"}`}, `"red"`},
		{`attrs.a.b.c`, texts{"attrs": `{}`}, `null`},
		{`attrs?.a?.b`, texts{"attrs": `{"a":{"b":1}}`}, `1`},
		{`attrs["a b"]`, texts{"attrs": `{"a b":1}`}, `1`},
		{`lower(attrs.color)`, texts{"attrs": `{}`}, `null`},
		{`attrs.kind in ["a", "b"]`, texts{"attrs": `{"kind":1}`}, `false`},
		{`attrs.kind in [1, 2]`, texts{"attrs": `{"kind":1.0}`}, `true`},
		{`map(attrs.items, .price)`, texts{"attrs": `{"items":[{"price":1},{}]}`}, `[1,null]`},
		{`keys(attrs)`, texts{"attrs": `{"c":1,"a":2,"b":3}`}, `["a","b","c"]`},
		{`values(attrs)`, texts{"attrs": `{"c":1,"a":2,"b":3}`}, `[2,3,1]`},
		{`toPairs(attrs)`, texts{"attrs": `{"c":1,"a":2}`}, `[["a",2],["c",1]]`},
		{`fromPairs(toPairs(attrs))`, texts{"attrs": `{"c":1,"a":2}`}, `{"a":2,"c":1}`},
		{`groupBy(sizes, # % 2)`, texts{"sizes": "{1,2,3}"}, `{"0":[2],"1":[1,3]}`},
		{`fromJSON(title)`, texts{"title": `{"a":[1]}`}, `{"a":[1]}`},
		{`type(attrs)`, nil, `"nil"`},
		{`keys`, texts{"keys": "k"}, `"k"`},
		{`repeat(title, 3)`, texts{"title": "ab"}, `"ababab"`},
	}
	for _, test := range tests {
		e, err := Compile(test.text, goods)
		if err != nil {
			t.Errorf("%s: %v", test.text, err)
			continue
		}
		got, err := e.Append([]byte("x"), valuesOf(e, test.row))
		if err != nil {
			t.Errorf("%s: %v", test.text, err)
		} else if string(got) != "x"+test.want {
			t.Errorf("%s with %v gives %s, want %s", test.text, test.row, got[1:], test.want)
		}
	}
}

// Each operation with an operand that is NULL, and with none that is.
func TestExpressionNull(t *testing.T) {
	full := texts{"title": "a", "brand": "a", "status": "a", "price_cents": "1", "stock": "1", "weight": "1", "rating": "1", "active": "t",
		"featured": "t", "tags": "{a}", "sizes": "{1}", "attrs": `{"a": 1}`, "created_at": "2026-01-31 00:00:00+00",
		"updated_at": "2026-01-31 00:00:00", "deleted_at": "2026-01-31 00:00:00+00", "released": "2026-01-31", "id": "1"}
	tests := []struct{ text, full, null string }{
		{`title == nil`, `false`, `true`},
		{`title != nil`, `true`, `false`},
		{`nil == price_cents`, `false`, `true`},
		{`deleted_at == nil`, `false`, `true`},
		{`active == nil`, `false`, `true`},
		{`tags == nil`, `false`, `true`},
		{`attrs == nil`, `false`, `true`},
		{`title == "a"`, `true`, `false`},
		{`title != "a"`, `false`, `true`},
		{`"a" == title`, `true`, `false`},
		{`"a" != title`, `false`, `true`},
		{`title == brand`, `true`, `true`},
		{`title != brand`, `false`, `false`},
		{`lower(title) == trim(brand)`, `true`, `true`},
		{`lower(title) != trim(brand)`, `false`, `false`},
		{`stock == 1`, `true`, `false`},
		{`stock != 1`, `false`, `true`},
		{`stock == price_cents`, `true`, `true`},
		{`stock + 0 == price_cents + 0`, `true`, `true`},
		{`weight == 1`, `true`, `false`},
		{`rating == weight`, `true`, `true`},
		{`active == true`, `true`, `false`},
		{`created_at == updated_at`, `true`, `true`},
		{`created_at != date("2026-01-31")`, `false`, `true`},
		{`title ?? "b"`, `"a"`, `"b"`},
		{`title ?? brand`, `"a"`, `null`},
		{`title ?? brand ?? status ?? "x"`, `"a"`, `"x"`},
		{`stock in [0, 1]`, `true`, `false`},
		{`stock not in [0, 1]`, `false`, `true`},
		{`stock in 0..5`, `true`, `false`},
		{`title in ["", "a"]`, `true`, `false`},
		{`title not in ["", "a"]`, `false`, `true`},
		{`title in [brand]`, `true`, `false`},
		{`weight in [0, 1]`, `true`, `false`},
		{`attrs.a in [0, 1]`, `true`, `false`},
		{`"a" in tags`, `true`, `false`},
		{`title in tags`, `true`, `false`},
		{`title < "b"`, `true`, `null`},
		{`title > "b"`, `false`, `null`},
		{`stock <= 1`, `true`, `null`},
		{`1 >= stock`, `true`, `null`},
		{`created_at < deleted_at`, `false`, `null`},
		{`stock + price_cents`, `2`, `null`},
		{`stock + 1`, `2`, `null`},
		{`1 - stock`, `0`, `null`},
		{`stock * weight`, `1`, `null`},
		{`price_cents / 100.0`, `0.01`, `null`},
		{`price_cents / stock`, `1`, `null`},
		{`stock % 2`, `1`, `null`},
		{`stock ** 2`, `1`, `null`},
		{`stock ^ 2`, `1`, `null`},
		{`-stock`, `-1`, `null`},
		{`+stock`, `1`, `null`},
		{`title + "b"`, `"ab"`, `null`},
		{`title + brand + status`, `"aaa"`, `null`},
		{`created_at - updated_at == duration("0s")`, `true`, `false`},
		{`title matches "^a"`, `true`, `null`},
		{`title matches brand`, `true`, `null`},
		{`title contains "a"`, `true`, `null`},
		{`title startsWith brand`, `true`, `null`},
		{`title endsWith "a"`, `true`, `null`},
		{`not (title contains "a")`, `false`, `null`},
		{`stock..2`, `[1,2]`, `null`},
		{`title[0:1]`, `"a"`, `null`},
		{`title[:1]`, `"a"`, `null`},
		{`tags[0]`, `"a"`, `null`},
		{`tags[0:stock]`, `["a"]`, `null`},
		{`attrs.a`, `1`, `null`},
		{`attrs?.a`, `1`, `null`},
		{`attrs[title]`, `1`, `null`},
		{`attrs.a + 1`, `2`, `null`},
		{`lower(title)`, `"a"`, `null`},
		{`trim(title)`, `"a"`, `null`},
		{`trim(title, "x")`, `"a"`, `null`},
		{`replace(title, "a", brand)`, `"a"`, `null`},
		{`split(title, ",", stock)`, `["a"]`, `null`},
		{`repeat(title, stock)`, `"a"`, `null`},
		{`len(title)`, `1`, `null`},
		{`len(tags)`, `1`, `null`},
		{`string(stock)`, `"1"`, `null`},
		{`int(title == "a" ? "1" : title)`, `1`, `null`},
		{`float(stock)`, `1`, `null`},
		{`abs(stock)`, `1`, `null`},
		{`round(weight)`, `1`, `null`},
		{`max(stock, price_cents)`, `1`, `null`},
		{`toJSON(title)`, `"\"a\""`, `null`},
		{`fromJSON(title == "a" ? "1" : title)`, `1`, `null`},
		{`date(title == "a" ? "2026-01-31" : title)`, `"2026-01-31T00:00:00Z"`, `null`},
		{`keys(attrs)`, `["a"]`, `null`},
		{`join(tags, ",")`, `"a"`, `null`},
		{`join([title, brand], ",")`, `"a,a"`, `""`},
		{`[title, stock]`, `["a",1]`, `[null,null]`},
		{`{"a": title}`, `{"a":"a"}`, `{"a":null}`},
		{`created_at.Year()`, `2026`, `null`},
		{`created_at.Format(title)`, `"a"`, `null`},
		{`map(tags, # + title)`, `["aa"]`, `null`},
		{`map([1], # + stock)`, `[2]`, `[null]`},
		{`filter([1, 2], # > stock)`, `[2]`, `[]`},
		{`all([1], # == stock)`, `true`, `false`},
		{`all([1], # <= stock)`, `true`, `false`},
		{`none([1], # > stock)`, `true`, `true`},
		{`count([1, 1], # <= stock)`, `2`, `0`},
		{`find([1, 2], # >= stock)`, `1`, `null`},
		{`len(filter([1, 2], # > stock))`, `1`, `0`},
		{`len(filter([1, 2], # > stock)) > 0`, `true`, `false`},
		{`map(filter([1, 2], # > stock), # * 2)`, `[4]`, `[]`},
		{`filter([1, 2], # > stock)[0] ?? 7`, `2`, ``},
		{`first(filter([1, 2], # > stock))`, `2`, `null`},
		{`active ? 1 : 2`, `1`, `2`},
		{`not active ? 1 : 2`, `2`, `2`},
		{`stock > 0 ? title : brand`, `"a"`, `null`},
		{`not active`, `false`, `null`},
		{`active and featured`, `true`, `null`},
		{`active or featured`, `true`, `null`},
		{`active and true`, `true`, `null`},
		{`true and active`, `true`, `null`},
		{`active and false`, `false`, `false`},
		{`false and active`, `false`, `false`},
		{`active or true`, `true`, `true`},
		{`true or active`, `true`, `true`},
		{`active or false`, `true`, `null`},
		{`false or active`, `true`, `null`},
		{`active && not (stock > 5)`, `true`, `null`},
		{`stock > 5 || title == nil`, `false`, `true`},
		{`stock > 5 or stock <= 5 or title != "a"`, `true`, `true`},
		{`let a = title; let b = lower(a); b == "a" or b == nil`, `true`, `true`},
		{`stock; title`, `"a"`, `null`},
	}
	for _, test := range tests {
		e, err := Compile(test.text, goods)
		if err != nil {
			t.Errorf("%s: %v", test.text, err)
			continue
		}
		for range 2 { // with what the first time left in the pool
			if got, err := e.Append(nil, valuesOf(e, full)); err != nil || string(got) != test.full {
				t.Errorf("%s gives %s (%v), want %s", test.text, got, err, test.full)
			}
			if got, err := e.Append(nil, valuesOf(e, nil)); test.null != "" && (err != nil || string(got) != test.null) {
				t.Errorf("%s with NULL gives %s (%v), want %s", test.text, got, err, test.null)
			}
		}
	}
}

func TestCondition(t *testing.T) {
	tests := []struct {
		text string
		row  texts
		want bool
	}{
		{`deleted_at == nil`, nil, true},
		{`deleted_at == nil`, texts{"deleted_at": "2026-01-31 00:00:00+00"}, false},
		{`status != "draft"`, texts{"status": "live"}, true},
		{`status != "draft"`, texts{"status": "draft"}, false},
		{`status != "draft"`, nil, true},
		{`active`, nil, false},
		{`active`, texts{"active": "t"}, true},
		{`not active`, nil, false},
		{`price_cents > 100`, nil, false},
		{`not (price_cents > 100)`, nil, false},
		{`not (price_cents > 100 and active)`, texts{"active": "t"}, false},
		{`not (price_cents > 100 and active)`, texts{"active": "f"}, true},
		{`attrs.public == true`, texts{"attrs": `{"public":true}`}, true},
		{`attrs.public and active`, texts{"attrs": `{}`, "active": "t"}, false},
		{`true`, nil, true},
	}
	for _, test := range tests {
		e, err := CompileCondition(test.text, goods)
		if err != nil {
			t.Errorf("%s: %v", test.text, err)
			continue
		}
		if got, err := e.Holds(valuesOf(e, test.row)); err != nil || got != test.want {
			t.Errorf("%s with %v is %v (%v), want %v", test.text, test.row, got, err, test.want)
		}
	}
}

func TestExpressionProblems(t *testing.T) {
	tests := []struct{ text, want string }{
		{``, `the expression is empty`},
		{" \n", `the expression is empty`},
		{strings.Repeat(" ", 4097), `the expression has 4097 bytes, at most 4096 are possible`},
		{`lower(titel)`, `table public.goods has no column titel (character 7): did you mean title?`},
		{`$env["weird name"]`, `table public.goods has no column weird name (character 5): did you mean Weird Name?`},
		{`lowr(title)`, `no function lowr (character 1): did you mean lower?`},
		{`title(1)`, `no function title (character 1)`},
		{`now()`, `now() is not there: a document must follow from its row alone, not from the time (character 1)`},
		{`::now()`, `now() is not there: a document must follow from its row alone, not from the time (character 3)`},
		{`timezone("Europe/Berlin")`, `timezone() is not there: a document must follow from its row alone, not from the zones that the machine knows (character 1)`},
		{`created_at.In(nil)`, `no method of this name (character 12): those of dates and durations: Year, Month, Day,`},
		{`created_at.Local()`, `no method of this name (character 12): `},
		{`attrs.Local()`, `no method of this name (character 7): `},
		{`let f = first([created_at]).Local; f()`, `no function f (character 36)`},
		{`(title)(1)`, `unexpected token Bracket("(") (character 8)`},
		{`$env`, `$env can only be read as $env["a column"] (character 1)`},
		{`len($env)`, `$env can only be read as $env["a column"] (character 5)`},
		{`$env[title]`, `$env can only be read as $env["a column"] (character 1)`},
		{`get($env, "title")`, `$env can only be read as $env["a column"] (character 5)`},
		{`title + 1`, `invalid operation: + (mismatched types string and int) (character 7)`},
		{"title\n  + stock", `invalid operation: + (mismatched types string and int) (line 2, character 3)`},
		{`stock == "1"`, `invalid operation: == (mismatched types int and string) (character 7)`},
		{`tags == "a"`, `invalid operation: == (mismatched types []any and string) (character 6)`},
		{`"a" < deleted_at`, `invalid operation: < (mismatched types string and time.Time) (character 5)`},
		{`lower(stock)`, `cannot use int as argument (type string) to call lower (character 7)`},
		{`lower(title, 1)`, `too many arguments to call lower (character 1)`},
		{`join([id, title], " ")`, `join takes strings, these are int (character 1): make them strings with string()`},
		{`join(sizes)`, `join takes strings, these are int (character 1): make them strings with string()`},
		{`title +`, `unexpected token EOF (character 7)`},
		{`title = "a"`, `unexpected token Operator("=") (character 7)`},
		{`"a`, `literal not terminated (character 3)`},
		{`title matches "("`, "error parsing regexp: missing closing ): `(` (character 7)"},
		{`1 % 0`, `integer divide by zero (character 3)`},
		{`let title = 1; title`, `cannot redeclare title (character 5)`},
		{`released.wall`, `type time.Time has no field wall (character 10)`},
	}
	for _, test := range tests {
		_, err := Compile(test.text, goods)
		var ee *Error
		if !errors.As(err, &ee) {
			t.Errorf("%s: the error is %v (%T), want %s", test.text, err, err, test.want)
		} else if !strings.HasPrefix(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: the error is %s, want %s", test.text, err, test.want)
		}
	}
	for _, test := range []struct{ text, want string }{
		{`nil`, `the expression is always nil`},
		{`created_at - updated_at`, `a duration has no JSON form: take its Seconds(), Minutes() or Hours()`},
		{`[duration("1s")]`, `a duration has no JSON form`},
		{`created_at.Year`, `a value of type func`},
		{`b"a"`, `bytes have no JSON form`},
	} {
		if _, err := Compile(test.text, goods); err == nil || !strings.HasPrefix(err.Error(), test.want) {
			t.Errorf("%s: the error is %v, want %s", test.text, err, test.want)
		}
	}
	for _, test := range []struct{ text, want string }{
		{`title`, `a condition must be true or false, this is string`},
		{`stock`, `a condition must be true or false, this is int`},
		{`nil`, `a condition must be true or false, this is nil`},
		{`tags`, `a condition must be true or false, this is an array`},
		{`attrs.public`, `a condition must be true or false, this is of a type that only a row tells: compare it with something: … == true`},
	} {
		if _, err := CompileCondition(test.text, goods); err == nil || err.Error() != test.want {
			t.Errorf("%s: the error is %v, want %s", test.text, err, test.want)
		}
	}
}

func TestExpressionRunErrors(t *testing.T) {
	tests := []struct {
		text string
		row  texts
		want string
	}{
		{`stock % price_cents`, texts{"stock": "1", "price_cents": "0"}, `integer divide by zero (character 7)`},
		{`stock / price_cents`, texts{"stock": "1", "price_cents": "0"}, `+Inf has no JSON form`},
		{`stock / price_cents`, texts{"stock": "0", "price_cents": "0"}, `NaN has no JSON form`},
		{`tags[5]`, texts{"tags": "{a}"}, `index out of range: 5 (array length is 1) (character 5)`},
		{`int(title)`, texts{"title": "x"}, `invalid operation: int(x) (character 1)`},
		{`date(title)`, texts{"title": "x"}, `"x" is no date of the layout 2006`},
		{`sum(tags)`, texts{"tags": "{a}"}, `invalid operation: string + int (character 1)`},
		{`sum(sizes)`, texts{"sizes": "{NULL}"}, `invalid operation: <nil> + int (character 1)`},
		{`attrs.a + 1`, texts{"attrs": `{"a":"x"}`}, `invalid operation: string + int (character 9)`},
		{`attrs.a and true`, texts{"attrs": `{"a":"x"}`}, `interface conversion: any is string, not bool`},
		{`len(map(1..stock, #))`, texts{"stock": "2000000"}, `memory budget exceeded`},
		{`repeat(title, stock)`, texts{"stock": "2000000", "title": "x"}, `repeat makes at most 1048576 bytes (character 1)`},
		{`weight`, texts{"weight": "1e400"}, `column weight: cannot read "1e400" as a double precision number`},
		{`stock`, texts{"stock": "x"}, `column stock: cannot read "x" as an integer`},
		{`active`, texts{"active": "x"}, `column active: cannot read "x" as a boolean`},
		{`attrs`, texts{"attrs": `{"a":`}, `column attrs: cannot read "{\"a\":" as JSON`},
		{`tags`, texts{"tags": `{a`}, `column tags: cannot read "{a" as an array`},
		{`released`, texts{"released": `x`}, `column released: cannot read "x" as a date`},
		{`{(title): 1}`, nil, `interface conversion: any is nil, not string`},
		{`[duration("1s"), attrs]`, nil, `a duration has no JSON form`},
	}
	for _, test := range tests {
		e, err := Compile(test.text, goods)
		if err != nil {
			t.Errorf("%s: %v", test.text, err)
			continue
		}
		before := []byte("before")
		got, err := e.Append(before, valuesOf(e, test.row))
		if err == nil || !strings.HasPrefix(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: the error is %v, want %s", test.text, err, test.want)
		}
		if string(got) != "before" {
			t.Errorf("%s: after an error the document is %s", test.text, got)
		}
		if got, err := e.Append(before, valuesOf(e, test.row)); err == nil || string(got) != "before" {
			t.Errorf("%s: the second time it gives %s (%v)", test.text, got, err)
		}
	}
}

func TestExpressionColumns(t *testing.T) {
	for text, want := range map[string][]string{
		`1`:                               nil,
		`title`:                           {"title"},
		`stock + price_cents * stock`:     {"price_cents", "stock"},
		`attrs.title`:                     {"attrs"},
		`{title: brand}`:                  {"brand"},
		`map(tags, ({title: #}))`:         {"tags"},
		`date(title)`:                     {"title"},
		`let x = title; x + brand`:        {"title", "brand"},
		`$env["title"] + $env["keys"]`:    {"title", "keys"},
		`keys(attrs)`:                     {"attrs"},
		`$env["Weird Name"] ?? keys`:      {"keys", "Weird Name"},
		`any(tags, # == title) ? id : id`: {"id", "title", "tags"},
	} {
		if e, err := Compile(text, goods); err != nil {
			t.Errorf("%s: %v", text, err)
		} else if !reflect.DeepEqual(e.Columns, want) {
			t.Errorf("%s reads %q, want %q", text, e.Columns, want)
		}
	}
}

func TestExpressionField(t *testing.T) {
	boolField := map[string]any{"type": "boolean"}
	for text, want := range map[string]map[string]any{
		`id`: value.LongField, `serial`: value.LongField, `len(title)`: value.LongField, `created_at.Month()`: value.LongField, `created_at.Unix()`: value.LongField,
		`weight`: value.DoubleField, `id / 2`: value.DoubleField, `rating ?? 0.0`: value.DoubleField,
		`stock ?? 0.5`: value.DoubleField, `active ? 1 : 2.5`: value.DoubleField, `max(stock, weight)`: value.DoubleField, `mean(sizes)`: value.DoubleField,
		`max(sizes)`: value.LongField, `first(sizes) ?? 0`: value.LongField, `let x = stock; active ? x : nil`: value.LongField, `sizes ?? []`: value.LongField,
		`title`: value.TextField, `status`: value.TextField, `key`: value.TextField, `image`: value.TextField, `stock > 0 ? "a" : nil`: value.TextField,
		`active`: boolField, `title == nil`: boolField, `active and featured`: boolField, `stock > 1`: boolField,
		`created_at`: value.DateField, `released`: value.DateField, `created_at + duration("1h")`: value.DateField,
		`tags`: value.TextField, `sizes`: value.LongField, `map(tags, len(#))`: value.LongField, `[1, 2]`: value.LongField, `split(title, ",")`: value.TextField,
		`attrs`: value.DisabledField, `attrs.a`: value.DisabledField, `{"a": 1}`: value.DisabledField, `[1, "a"]`: value.DisabledField, `stock ?? title`: value.DisabledField, `attrs ?? 1`: value.DisabledField,
		`first(tags)`: value.TextField,
	} {
		if e, err := Compile(text, goods); err != nil {
			t.Errorf("%s: %v", text, err)
		} else if !reflect.DeepEqual(e.Field(), want) {
			t.Errorf("%s is for the field %v, want %v", text, e.Field(), want)
		}
	}
}

// A column by itself must be in the document as it is without an expression,
// but for what the manual says of numbers and JSON.
func TestExpressionIsColumn(t *testing.T) {
	for _, test := range []struct {
		column string
		values []string
	}{
		{"id", []string{"0", "-9223372036854775808"}},
		{"active", []string{"t", "f"}},
		{"title", []string{"", "a", "\xff\x00\"\\", strings.Repeat("lang", 100)}},
		{"image", []string{`\x`, `\x00ff`}},
		{"created_at", []string{"2026-01-31 12:00:00+00", "2026-01-31 12:00:00.000001+00", "4714-11-24 00:00:00+00 BC", "-infinity"}},
		{"updated_at", []string{"2026-01-31 00:00:00", "0001-01-01 00:00:00 BC", "10000-01-01 00:00:00.1", "infinity"}},
		{"released", []string{"2026-01-31", "0044-03-15 BC", "10000-01-01", "4714-11-24 BC"}},
		{"tags", []string{`{}`, `{a,NULL,"","{"}`, `{{a},{b}}`, `[0:1]={a,b}`}},
		{"sizes", []string{`{1,-2}`}},
	} {
		e, err := Compile(test.column, goods)
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range test.values {
			want := string(value.FormOf(goods.Column(test.column).Type).Encode(nil, []byte(text)))
			if got, err := e.Append(nil, [][]byte{[]byte(text)}); err != nil || string(got) != want {
				t.Errorf("%s %q: the expression gives %s (%v), the column %s", test.column, text, got, err, want)
			}
		}
	}
}

// Everything that compiles is to be evaluated by many goroutines.
func TestExpressionConcurrent(t *testing.T) {
	e, err := Compile(`let t = trim(title); join([t, brand], "-") + string(stock * 2)`, goods)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 500 {
				title := fmt.Sprintf("%d.%d", g, i%3)
				want := fmt.Sprintf(`"%s-b%d"`, title, 2*g)
				got, err := e.Append(nil, valuesOf(e, texts{"title": " " + title, "brand": "b", "stock": fmt.Sprint(g)}))
				if err != nil || string(got) != want {
					t.Errorf("got %s (%v), want %s", got, err, want)
					return
				}
			}
		})
	}
	wg.Wait()
}

func BenchmarkExpression(b *testing.B) {
	for _, bench := range []struct {
		text string
		rows []texts
	}{
		{`status != "draft"`, []texts{{"status": "draft"}, {"status": "live"}}},
		{`deleted_at == nil`, []texts{{}, {}}},
		{`price_cents / 100.0`, []texts{{"price_cents": "1999"}, {"price_cents": "123456"}}},
		{`lower(trim(title))`, []texts{{"title": " Blue Suede Shoes "}, {"title": "Red Shoes"}}},
		{`join([brand, title], " ")`, []texts{{"brand": "Acme", "title": "Shoes"}, {"title": "Red Shoes"}}},
	} {
		b.Run(bench.text, func(b *testing.B) {
			e, err := Compile(bench.text, goods)
			if err != nil {
				b.Fatal(err)
			}
			rows := [][][]byte{valuesOf(e, bench.rows[0]), valuesOf(e, bench.rows[1])}
			dst := make([]byte, 0, 1<<10)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if _, err := e.Append(dst, rows[i%2]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
