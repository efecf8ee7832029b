package expr

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"tidemark/mapping/value"
)

var expressionSeeds = []string{
	`status != "draft"`, `price_cents / 100.0`, `join([brand, title], " ")`, `let x = lower(title); x ?? "a"`,
	`map(filter(tags, # != "a"), upper(#))`, `$env["Weird Name"]`, `created_at.Format("2006")`, `not (active and stock > 1) or featured`,
	`attrs?.a.b[0]`, `reduce(sizes, #acc + #, 0)`, `groupBy(tags, #)`, `sortBy(sizes, -#, "desc")`, `title in ["", "a"]`, `1..stock`,
	`if active { 1 } else { 2 }`, `tags[1:]`, `toPairs(attrs)`, `stock % len`, `sum(map(sizes, # * 2))`, `::len(title)`, `b"x"`,
	`active and featured`, `active or featured`, `title == brand`, `stock == len ? title : brand`, `any(tags, # == title)`, `stock not in sizes`,
}

// loops reports whether text may take long: loops within loops are not bounded.
func loops(text string) bool { return strings.Contains(text, "..") && len(text) > 40 }

// Neither the compiler nor what it made may panic, whatever the text. What is
// given must be JSON on one line, and twice the same.
func FuzzExpression(f *testing.F) {
	for _, seed := range expressionSeeds {
		f.Add(seed)
	}
	rows := []texts{nil, {"title": "a", "brand": "b", "status": "draft", "price_cents": "1", "stock": "3", "len": "2", "weight": "1.5",
		"active": "t", "featured": "f", "tags": "{a,NULL}", "sizes": "{1,2}", "attrs": `{"a":{"b":[1]}}`, "created_at": "2026-01-31 00:00:00+00"}}
	f.Fuzz(func(t *testing.T, text string) {
		if loops(text) {
			return
		}
		e, err := Compile(text, goods)
		if err != nil {
			if strings.ContainsAny(err.Error(), "\n") || strings.Contains(err.Error(), "\x00") && !strings.Contains(text, "\x00") {
				t.Fatalf("%q: the error is %q", text, err)
			}
			return
		}
		for _, row := range rows {
			got, err := e.Append(nil, valuesOf(e, row))
			again, errAgain := e.Append(nil, valuesOf(e, row))
			if string(got) != string(again) || fmt.Sprint(err) != fmt.Sprint(errAgain) {
				t.Fatalf("%q gives %s (%v), then %s (%v)", text, got, err, again, errAgain)
			}
			if err == nil && (!json.Valid(got) || strings.ContainsRune(string(got), '\n')) {
				t.Fatalf("%q gives %q", text, got)
			}
		}
	})
}

// Where nothing is NULL, the rule for nil and the optimizer change nothing of
// what expr-lang gives.
func FuzzNullRule(f *testing.F) {
	for _, seed := range expressionSeeds {
		f.Add(seed)
	}
	row := texts{}
	for _, c := range goods.Columns {
		row[c.Name] = "1"
		if variableOf(c.Type).typ == value.TimeType {
			row[c.Name] = "2026-01-31 00:00:00"
		}
	}
	row["active"], row["featured"] = "t", "f"
	row["attrs"], row["tags"], row["sizes"] = `{"a":{"b":[1]}}`, "{a,b}", "{1,2}"
	f.Fuzz(func(t *testing.T, text string) {
		if loops(text) || strings.Contains(text, "nil") {
			return
		}
		p, err := parseChecked(text, goods)
		if err != nil {
			return
		}
		plain, err := p.compile()
		if err != nil {
			return
		}
		want, err := plain.Append(nil, valuesOf(plain, row))
		if err != nil {
			return // the optimizer may know better
		}
		e, _, err := compileText(text, goods)
		if err != nil {
			t.Fatalf("%q compiles only plainly: %v", text, err)
		}
		if got, err := e.Append(nil, valuesOf(e, row)); err != nil || string(got) != string(want) {
			t.Fatalf("%q gives %s (%v), plainly %s", text, got, err, want)
		}
	})
}

// and, or and not over two columns, each true, false or NULL, against the truth
// tables of SQL.
func TestExpressionLogic(t *testing.T) {
	type formula struct {
		text string
		eval func(a, b int) int // 0: false, 1: NULL, 2: true
	}
	level := []formula{
		{"active", func(a, _ int) int { return a }},
		{"featured", func(_, b int) int { return b }},
		{"true", func(_, _ int) int { return 2 }},
		{"false", func(_, _ int) int { return 0 }},
	}
	for range 2 {
		next := level[:4:4]
		for _, x := range level {
			next = append(next, formula{"not (" + x.text + ")", func(a, b int) int { return 2 - x.eval(a, b) }})
			for _, y := range level[:min(len(level), 12)] {
				next = append(next,
					formula{"(" + x.text + ") and (" + y.text + ")", func(a, b int) int { return min(x.eval(a, b), y.eval(a, b)) }},
					formula{"(" + x.text + ") or (" + y.text + ")", func(a, b int) int { return max(x.eval(a, b), y.eval(a, b)) }})
			}
		}
		level = next
	}
	truth := [][]byte{[]byte("f"), nil, []byte("t")}
	for _, f := range level {
		e, err := Compile(f.text, goods)
		if err != nil {
			t.Fatalf("%s: %v", f.text, err)
		}
		for a := range 3 {
			for b := range 3 {
				row := [][]byte{truth[a], truth[b]}
				if len(e.Columns) == 1 && e.Columns[0] == "featured" {
					row = row[1:]
				}
				want := []string{"false", "null", "true"}[f.eval(a, b)]
				if got, err := e.Append(nil, row[:len(e.Columns)]); err != nil || string(got) != want {
					t.Fatalf("%s with %s, %s gives %s (%v), want %s", f.text, truth[a], truth[b], got, err, want)
				}
			}
		}
	}
}
