package mapping

import (
	"encoding/json"
	"strings"
	"testing"
)

// TestEveryKeyIsExplained looks at each key of the schema as an editor has it, wherever it stands: its text says a
// sentence, and an editor finds it beside the key.
func TestEveryKeyIsExplained(t *testing.T) {
	text, err := JSONSchema()
	if err != nil {
		t.Fatal(err)
	}
	var root map[string]any
	if err := json.Unmarshal(text, &root); err != nil {
		t.Fatal(err)
	}
	keys := 0
	var walk func(path string, part any)
	walk = func(path string, part any) {
		switch part := part.(type) {
		case []any:
			for _, p := range part {
				walk(path, p)
			}
		case map[string]any:
			if properties, ok := part["properties"].(map[string]any); ok {
				for name, value := range properties {
					keys++
					said := value.(map[string]any)
					if about, _ := said["description"].(string); len(about) < 20 || !strings.HasSuffix(about, ".") {
						t.Errorf("%s.%s: %q", path, name, about)
					}
					if said["$ref"] != nil {
						t.Errorf("%s.%s: a description beside a reference is not shown", path, name)
					}
				}
			}
			for name, p := range part {
				walk(path+"."+name, p)
			}
		}
	}
	walk("", root)
	if keys < 80 {
		t.Errorf("%d keys", keys)
	}
}

// TestTextOfNoKey has a key without a text, and a text without a key.
func TestTextOfNoKey(t *testing.T) {
	part := func(name string) *schema {
		return &schema{Properties: map[string]*schema{"admin": {Properties: map[string]*schema{name: {Type: "string"}}}}}
	}
	if err := explainAll(part("port")); err == nil || err.Error() != "key admin.port has no text" {
		t.Errorf("a key without a text: %v", err)
	}
	if err := explainAll(part("listen")); err == nil || !strings.Contains(err.Error(), "and no such key") {
		t.Errorf("texts without a key: %v", err)
	}
}
