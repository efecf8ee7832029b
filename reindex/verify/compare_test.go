package verify

import "testing"

func TestCompareDocuments(t *testing.T) {
	for _, test := range []struct {
		name, want, got  string
		path, from, to   string
		more             int
		partial, differs bool
	}{
		{name: "the same", want: `{"a":1}`, got: `{"a":1}`},
		{name: "another order, and blanks", want: `{"a":1,"b":[1,{"c":null}]}`, got: ` { "b": [1, {"c":null}], "a": 1 } `},
		{name: "null and no field", want: `{"a":null,"b":{"c":null}}`, got: `{"b":{}}`},
		{name: "no field and null", want: `{"b":{}}`, got: `{"a":null,"b":{"c":null}}`},
		{name: "null and an empty object", want: `{"a":null}`, got: `{"a":{}}`, differs: true, path: "a", from: "null", to: "{}"},
		{name: "a value", want: `{"a":1,"b":2}`, got: `{"a":1,"b":3}`, differs: true, path: "b", from: "2", to: "3"},
		{name: "digits", want: `{"a":2.50}`, got: `{"a":2.5}`, differs: true, path: "a", from: "2.50", to: "2.5"},
		{name: "a long number", want: `{"a":9007199254740993}`, got: `{"a":9007199254740992}`, differs: true, path: "a", from: "9007199254740993", to: "9007199254740992"},
		{name: "number and text", want: `{"a":1}`, got: `{"a":"1"}`, differs: true, path: "a", from: "1", to: `"1"`},
		{name: "missing field", want: `{"a":1}`, got: `{}`, differs: true, path: "a", from: "1"},
		{name: "field too many", want: `{}`, got: `{"a":[]}`, differs: true, path: "a", to: "[]"},
		{name: "null in an array", want: `{"a":[1,null]}`, got: `{"a":[1]}`, differs: true, path: "a", from: "[1,null]", to: "[1]"},
		{name: "deep", want: `{"a":[{"b":{"c":1}},{"b":{"c":2}}],"d":1}`, got: `{"a":[{"b":{"c":1}},{"b":{"c":3}}],"d":2}`, differs: true, path: "a[1].b.c", from: "2", to: "3", more: 1},
		{name: "fields that are not kept", want: `{"a":1,"b":{"c":1,"d":2}}`, got: `{"b":{"d":2}}`, partial: true},
		{name: "numbers that the server has written", want: `{"a":2.50,"b":[1e2]}`, got: `{"b":[100.0]}`, partial: true},
		{name: "fields that are kept", want: `{"a":1,"b":2}`, got: `{"b":3}`, partial: true, differs: true, path: "b", from: "2", to: "3"},
	} {
		t.Run(test.name, func(t *testing.T) {
			form := storedWhole
			if test.partial {
				form = storedPartly
			}
			d, err := compareDocuments([]byte(test.want), []byte(test.got), form)
			if err != nil {
				t.Fatal(err)
			}
			if d == nil != !test.differs {
				t.Fatalf("got %+v", d)
			}
			if want := (deviation{test.path, test.from, test.to, test.more}); d != nil && *d != want {
				t.Errorf("got %+v, want %+v", *d, want)
			}
		})
	}
	if _, err := compareDocuments([]byte(`{`), []byte(`{}`), storedWhole); err == nil {
		t.Error("no error")
	}
}
