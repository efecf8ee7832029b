package reindex

import (
	"os"
	"regexp"
	"testing"

	"tidemark/mapping/catalog"
)

// inWords are the effects as docs/schema-changes.md has them.
var inWords = map[effect]string{replan: "plan only", refresh: "stored again", compare: "compared", rebuild: "built anew", hold: "held"}

// documentedRule finds the lines of the page's table: `kind`: what it is | **effect** … | **effect** … |
var documentedRule = regexp.MustCompile("(?m)^\\| `([a-z ]+)`: [^|]+\\| \\*\\*([a-z ]+)\\*\\*[^|]*\\| (?:\\*\\*([a-z ]+)\\*\\* )?\\|$")

// TestRulesAreDocumented holds the table of docs/schema-changes.md equal to rules. A kind of
// difference of columns has an effect in the last column, one of tables none.
func TestRulesAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../docs/schema-changes.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := make(map[catalog.DifferenceKind][]string)
	for _, m := range documentedRule.FindAllSubmatch(page, -1) {
		documented[catalog.DifferenceKind(m[1])] = []string{string(m[2]), string(m[3])}
	}
	for _, kind := range catalog.DifferenceKinds {
		rule, ok := rules[kind]
		if !ok {
			t.Errorf("nothing says what %q leads to", kind)
			continue
		}
		said := documented[kind]
		if said == nil {
			t.Errorf("the page says nothing of %q", kind)
			continue
		}
		if want := inWords[rule.read]; said[0] != want {
			t.Errorf("%q: the page says %q, the code %q", kind, said[0], want)
		}
		if want := inWords[rule.unread]; said[1] != want && !(said[1] == "" && rule.unread == replan) {
			t.Errorf("%q in a column that is left out: the page says %q, the code %q", kind, said[1], want)
		}
		delete(documented, kind)
	}
	for kind := range documented {
		t.Errorf("the page has %q, which is no kind of difference", kind)
	}
	if len(rules) != len(catalog.DifferenceKinds) {
		t.Errorf("%d rules for %d kinds", len(rules), len(catalog.DifferenceKinds))
	}
}
