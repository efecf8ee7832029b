package mapping

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"gopkg.in/yaml.v3"
)

// compiledSchema returns the schema as others use it.
func compiledSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	text, err := JSONSchema()
	if err != nil {
		t.Fatal(err)
	}
	again, err := JSONSchema()
	if err != nil || !bytes.Equal(text, again) {
		t.Fatalf("the schema is another one each time, %v", err)
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("tidemark.json", document); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("tidemark.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// asJSON returns a YAML document as an editor has it.
func asJSON(text []byte) (value any, err error) {
	if err := yaml.Unmarshal(text, &value); err != nil {
		return nil, err
	}
	encoded, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	return jsonschema.UnmarshalJSON(bytes.NewReader(encoded))
}

// TestSchemaTakesTheExample holds the example against the schema, with its optional keys and without.
func TestSchemaTakesTheExample(t *testing.T) {
	s := compiledSchema(t)
	text, _ := exampleDir(t)
	optionals := optional.ReplaceAllString(text, "$1")
	for name, text := range map[string]string{"as it is": text, "optional keys": optionals, "alternatives": alternative.ReplaceAllString(replaced.ReplaceAllString(optionals, ""), "$1")} {
		document, err := asJSON([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Validate(document); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// beyondSchema are the files that the schema takes and the reader does not: what has to do with other keys, with
// names, with files or the environment.
var beyondSchema = regexp.MustCompile(`^(control-schema|duplicate-.*|ca-file-.*|env-(file|name|once|unclosed|unset).*|field-(and-property|group|name|several-things|twice)|fields-list|id-(template|twice)|include-(depth|keys|kind|limit|name|on|order|through|where)|index-name.*|` +
	`kafka-(brokers|groups-(names|same-cluster|long|table-in-schema)|ca-file|cert-.*|key-file|retention|sasl-(aws|control|oauth-.*|plain|scram|token-file)|tls-and-.*|topic.*)|` +
	`listen.*|admin-hosts|bulk-(bytes|poison).*|max-document-bytes-.*|port-expanded|publication-long|search-(api-key|password|url|user|aws-and|cert|key|cloud-id|headers|proxy-url|token).*|several-in-line-order|slot.*|table-(in-control-schema|name)|tables-(keys|prefix)|url-.*|settings-value|verify-every|merge-of-text|two-documents)$`)

// TestSchemaOfBadFiles holds every file that the reader refuses against the schema.
func TestSchemaOfBadFiles(t *testing.T) {
	s := compiledSchema(t)
	files, err := filepath.Glob("testdata/bad/*.bad.yaml")
	if err != nil {
		t.Fatal(err)
	}
	refused := 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(filepath.Base(file), ".bad.yaml")
		document, err := asJSON(text)
		if err != nil {
			continue // not YAML, or not JSON
		}
		if err := s.Validate(document); err != nil {
			refused++
		} else if !beyondSchema.MatchString(name) {
			t.Errorf("the schema takes %s", name)
		}
	}
	if refused < 30 {
		t.Errorf("the schema refuses %d of %d files", refused, len(files))
	}
}

// A place is where in a file a value may stand: names of keys, and 0 for the first item of a list.
type place []any

// String is the place as problems name it.
func (p place) String() string {
	var b strings.Builder
	for i, step := range p {
		switch {
		case step == 0:
			b.WriteString("[0]")
		case i == 0:
			fmt.Fprint(&b, step)
		default:
			fmt.Fprintf(&b, ".%v", step)
		}
	}
	return b.String()
}

// with returns the document with the value at the place.
func (p place) with(document, value any) any {
	if len(p) == 0 {
		return value
	}
	if p[0] == 0 {
		return []any{p[1:].with(nil, value)}
	}
	m, _ := document.(map[string]any)
	if m = maps.Clone(m); m == nil {
		m = make(map[string]any)
	}
	m[p[0].(string)] = p[1:].with(m[p[0].(string)], value)
	return m
}

// places returns every place that the schema knows, those in definitions once.
func (s *schema) places(at place, root *schema, seen map[string]bool, visit func(place, *schema)) {
	if name, ok := strings.CutPrefix(s.Ref, "#/definitions/"); ok {
		if !seen[name] {
			seen[name] = true
			root.Definitions[name].places(at, root, seen, visit)
		}
		return
	}
	visit(at, s)
	for _, other := range s.AnyOf {
		other.places(at, root, seen, visit)
	}
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		s.Properties[name].places(append(slices.Clone(at), name), root, seen, visit)
	}
	if more, ok := s.AdditionalProperties.(*schema); ok {
		more.places(append(slices.Clone(at), "a"), root, seen, visit)
	}
	if s.Items != nil {
		s.Items.places(append(slices.Clone(at), 0), root, seen, visit)
	}
}

// beyondKey are problems of a key that have to do with others.
var beyondKey = regexp.MustCompile(`is missing|is given as well|made of several|stands twice|belongs to|left|is kept|one row is put in|rows are counted|value is one column|holds no|cannot be read|no such file|want 16 characters`)

// TestSchemaIsWhatTheReaderTakes puts values of every kind at every place that the schema knows: what the reader
// takes there the schema takes, and what the reader does not take the schema takes only of texts whose form it
// does not know.
func TestSchemaIsWhatTheReaderTakes(t *testing.T) {
	compiled := compiledSchema(t)
	r := &reader{shared: make(map[string]*schema), places: make(places)}
	root := r.describe(func() { r.config(someValue, defaults()) })
	root.Definitions = r.shared
	base := map[string]any{"search": map[string]any{"urls": []any{"http://h"}}, "indices": map[string]any{"a": map[string]any{"table": "t"}}}

	tried, taken := 0, 0
	try := func(at place, value any) {
		t.Helper()
		document := at.with(base, value)
		text, err := json.Marshal(document)
		if err != nil {
			t.Fatal(err)
		}
		asRead, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		refused := compiled.Validate(asRead)
		_, err = Parse("t.yaml", text, env())
		problems, _ := errors.AsType[Problems](err)
		problem := ""
		for _, p := range problems {
			here := p.Text == at.String() || strings.HasPrefix(p.Text, at.String()+":") || strings.HasPrefix(p.Text, at.String()+" is empty") || strings.HasPrefix(p.Text, at.String()+".zzz: unknown")
			if here && !beyondKey.MatchString(p.Text) || len(at) == 0 {
				problem = p.Text
			}
		}
		tried++
		_, isText := value.(string)
		switch {
		case refused == nil && problem == "":
			taken++
		case refused != nil && problem == "" && len(problems) == 0:
			t.Errorf("%s: %s: the reader takes it, and the schema does not: %v", at, text, refused)
		case refused == nil && problem != "" && (!isText || value == ""):
			t.Errorf("%s: %s: the schema takes it, and the reader does not: %s", at, text, problem)
		}
	}
	seen := make(map[string]bool)
	root.places(nil, root, seen, func(at place, s *schema) {
		if len(at) == 0 {
			return
		}
		values := []any{0, 1, -1, 7, 1 << 40, 1.5, true, nil, []any{}, map[string]any{}, "", "x", "5m", "8MiB", "off", "dead_letter"}
		for _, bound := range []*int{s.Minimum, s.Maximum} {
			if bound != nil {
				values = append(values, *bound-1, *bound, *bound+1)
			}
		}
		for _, word := range s.Enum {
			values = append(values, word)
		}
		for _, value := range values {
			try(at, value)
		}
		// A key that nobody knows.
		if s.AdditionalProperties == false {
			try(at, map[string]any{"zzz": 1})
		}
	})
	if tried < 1000 || taken < 200 {
		t.Errorf("%d values were tried, %d taken", tried, taken)
	}
}
