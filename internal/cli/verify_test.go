package cli

import (
	"bytes"
	"encoding/json"
	"testing"

	"tidemark/reindex/verify"
)

func TestPart(t *testing.T) {
	for _, test := range []struct {
		text string
		want part
		ok   bool
	}{
		{"1%", 0.01, true}, {"0.5%", 0.005, true}, {"100%", 0, true}, {" 10 %", 0, false},
		{"1", 0, false}, {"0%", 0, false}, {"101%", 0, false}, {"-1%", 0, false}, {"NaN%", 0, false}, {"", 0, false},
	} {
		var p part
		if err := p.Set(test.text); (err == nil) != test.ok || p != test.want {
			t.Errorf("%q: got %v, %v", test.text, p, err)
		}
	}
}

// TestVerifyPrinter prints what people read.
func TestVerifyPrinter(t *testing.T) {
	var out bytes.Buffer
	p := verifyPrinter{o: verifyOptions{show: 4, repair: true}, out: &out}
	for _, d := range []verify.Difference{
		{Index: "products", ID: "7", Kind: verify.Missing, Repaired: true},
		{Index: "products", ID: `a"b`, Routing: "3", Kind: verify.Extra, Note: `the row's routing is "4"`},
		{Index: "products", ID: "8", Kind: verify.Differs, Path: "price", Want: "2.50", More: 2},
		{Index: "products", ID: "9", Kind: verify.Unmade, Note: "no document can be made of the row: divide by zero"},
		{Index: "products", ID: "10", Kind: verify.Missing},
	} {
		if err := p.found(d); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.result(&verify.Result{Index: "products", Rows: 1000, Documents: 999, Missing: 2, Extra: 1, Differing: 2, Repaired: 1}); err != nil {
		t.Fatal(err)
	}
	p = verifyPrinter{o: verifyOptions{sample: 0.01}, out: &out}
	if err := p.result(&verify.Result{Index: "orders", Rows: 1, Documents: 1, Undecided: 1}); err != nil {
		t.Fatal(err)
	}
	const want = `products "7": the row has no document (repaired)
products "a\"b" routing "3": the document has no row: the row's routing is "4"
products "8": price: want 2.50, got no field, and 2 more
products "9": no document can be made of the row: divide by zero
products: … and 1 more
products: 1000 rows and 999 documents compared: 2 missing, 1 without a row, 2 different; 1 repaired
orders: a sample of 1%: 1 row and 1 document compared: equal; 1 document changed at every look, and could not be compared
`
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", &out, want)
	}
}

// TestVerifyUsage says what is wrong with the command line.
func TestVerifyUsage(t *testing.T) {
	for _, args := range [][]string{{"verify"}, {"verify", "a", "--sample", "5"}} {
		if code, out, _ := tidemark(t, args...); code != exitConfig || out != "" {
			t.Errorf("%q: exit code %d, printed %q", args, code, out)
		}
	}
}

// TestDifferenceLine has the version of a difference as that of a dead letter is.
func TestDifferenceLine(t *testing.T) {
	for _, test := range []struct {
		version int64
		want    string
	}{
		{0x16B3748, `{"index":"products","id":"7","kind":"extra","version":"0/16B3748"}`},
		{0, `{"index":"products","id":"7","kind":"extra"}`},
	} {
		got, err := json.Marshal(newDifferenceLine(&verify.Difference{Index: "products", ID: "7", Kind: verify.Extra, Version: test.version}))
		if err != nil || string(got) != test.want {
			t.Errorf("%s, %v, want %s", got, err, test.want)
		}
	}
}
