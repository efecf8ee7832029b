package mapping

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"gopkg.in/yaml.v3"
)

// JSONSchema returns a JSON Schema of mapping files (draft 7, which editors know), as indented JSON.
//
// It is made by the readers of the keys themselves: each is called without a file, and says what it would take.
// What is said about each key stands in keyTexts.
// So it has every key, and no other. Of what belongs together (user and password, say), of names and of
// expressions it knows nothing: it takes some files that [Parse] refuses, and refuses none that Parse takes, but
// for numbers with _ in them.
func JSONSchema() ([]byte, error) {
	r := &reader{shared: make(map[string]*schema), places: make(places)}
	root := r.describe(func() { r.config(someValue, defaults()) })
	root.Schema = "http://json-schema.org/draft-07/schema#"
	root.Title = "Mapping file of Tidemark"
	root.Definitions = r.shared
	if err := explainAll(root); err != nil {
		return nil, fmt.Errorf("make the schema: %w", err)
	}
	text, err := json.MarshalIndent(root, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("make the schema: %w", err)
	}
	return append(text, '\n'), nil
}

// A schema is the part of a JSON Schema that mapping files need.
type schema struct {
	Schema string `json:"$schema,omitempty"`
	Title  string `json:"title,omitempty"`
	Ref    string `json:"$ref,omitempty"`

	Description string `json:"description,omitempty"`

	Type      any       `json:"type,omitempty"` // one name, or several
	Const     any       `json:"const,omitempty"`
	Enum      []string  `json:"enum,omitempty"`
	Pattern   string    `json:"pattern,omitempty"`
	MinLength int       `json:"minLength,omitempty"`
	Minimum   *int      `json:"minimum,omitempty"`
	Maximum   *int      `json:"maximum,omitempty"`
	Items     *schema   `json:"items,omitempty"`
	MinItems  int       `json:"minItems,omitempty"`
	AnyOf     []*schema `json:"anyOf,omitempty"`
	AllOf     []*schema `json:"allOf,omitempty"`

	Properties           map[string]*schema `json:"properties,omitempty"`
	AdditionalProperties any                `json:"additionalProperties,omitempty"` // false, or a schema
	MinProperties        int                `json:"minProperties,omitempty"`
	Required             []string           `json:"required,omitempty"`

	Default     any                `json:"default,omitempty"`
	Definitions map[string]*schema `json:"definitions,omitempty"`
}

// What stands for the file where there is none.
var (
	someKey   = &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str"}
	someValue = &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
)

// describe returns what f, which calls a reader, says that it takes.
func (r *reader) describe(f func()) *schema {
	around := r.schema
	defer func() { r.schema = around }()
	s := new(schema)
	r.schema = s
	f()
	return s
}

// describeKeys says what a mapping takes under each of its keys.
func (r *reader) describeKeys(path string, keys map[string]keyReader) {
	s := r.schema
	s.object()
	s.Properties = make(map[string]*schema, len(keys))
	for _, name := range slices.Sorted(maps.Keys(keys)) {
		if read := keys[name]; read != nil {
			s.Properties[name] = r.describe(func() { read(someValue, join(path, name)) })
		}
	}
}

// described has more be said of what a reader takes, where that is described.
func (r *reader) described(read keyReader, more func(s *schema)) keyReader {
	return func(n *yaml.Node, path string) {
		read(n, path)
		if r.schema != nil {
			more(r.schema)
		}
	}
}

// either says that one of several is taken, and reports whether that is what is asked for: otherwise there is
// a file, and nothing is done.
func (r *reader) either(kinds ...func()) bool {
	s := r.schema
	if s == nil {
		return false
	}
	for _, kind := range kinds {
		s.AnyOf = append(s.AnyOf, r.describe(kind))
	}
	return true
}

// define says what is taken once, by a name, since it may stand in itself; and reports whether that is what is
// asked for.
func (r *reader) define(name string, f func()) bool {
	s := r.schema
	if s == nil {
		return false
	}
	if r.shared[name] == nil {
		r.shared[name] = new(schema) // it may come again meanwhile
		*r.shared[name] = *r.describe(f)
	}
	s.Ref = "#/definitions/" + name
	return true
}

// require says that a mapping has keys.
func (r *reader) require(names ...string) {
	if r.schema != nil {
		r.schema.Required = append(r.schema.Required, names...)
		r.schema.Type = "object" // and so it is not nothing
	}
}

// requireOne says that a mapping has one of some keys.
func (r *reader) requireOne(names ...string) {
	if r.schema == nil {
		return
	}
	one := new(schema)
	for _, name := range names {
		one.AnyOf = append(one.AnyOf, &schema{Required: []string{name}})
	}
	r.schema.Type = "object"
	r.schema.AllOf = append(r.schema.AllOf, one)
}

// property says what a mapping takes under one key.
func (r *reader) property(name string, value *schema) {
	if r.schema != nil {
		r.schema.Properties = map[string]*schema{name: value}
	}
}

// onlyList says that a single value is no list of one.
func (r *reader) onlyList() {
	if r.schema != nil {
		*r.schema = *r.schema.AnyOf[0]
	}
}

// nonEmpty says that a mapping has something in it.
func (r *reader) nonEmpty() {
	if r.schema != nil {
		r.schema.Type, r.schema.MinProperties = "object", 1
	}
}

// object says that a mapping is taken; nothing at all is an empty one.
func (s *schema) object() { s.Type = []string{"object", "null"} }

// list says that a list of items is taken that is not empty, and a single scalar, too.
func (s *schema) list(item *schema) {
	list := &schema{Type: "array", Items: item, MinItems: 1}
	if item.Type == "object" {
		*s = *list
		return
	}
	s.AnyOf = []*schema{list, item}
}

// text says that a text is taken. Without anything in it, it is a mistake.
func (s *schema) text(standard string) {
	s.Type, s.MinLength, s.Default = "string", 1, notZero(standard)
}

const (
	// expanded is what has a ${NAME} in it: nothing more is known of it.
	expanded = `\$\{`

	sizePattern     = `^[0-9]{1,12} ?(B|KiB|MiB|GiB)?$`
	durationPattern = `^([0-9]+(\.[0-9]*)?(ns|us|µs|ms|s|m|h))+$`
	intervalPattern = `^(off|[0-9]+|([0-9]+(\.[0-9]*)?(ns|us|µs|ms|s|m|h))+)$`
)

// anyOf says that one of some forms is taken, or what becomes one of them by the environment.
func (s *schema) anyOf(forms ...*schema) {
	s.AnyOf = append(forms, &schema{Type: "string", Pattern: expanded})
}

// words says that one of a few words is taken.
func (s *schema) words(words []string) {
	*s = schema{}
	s.anyOf(&schema{Enum: words})
}

// notZero returns a value that is the default of a key, nil for none.
func notZero(value any) any {
	if reflect.ValueOf(value).IsZero() {
		return nil
	}
	return value
}
