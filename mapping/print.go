package mapping

import (
	"bytes"
	"fmt"
	"maps"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// Print returns what a mapping file comes to, as a mapping file: with ${…}, aliases and merges filled in, and with
// the defaults of keys that it does not have. In the place of secrets, and of what may be some, stands ***. Its error is
// that of [Read].
func Print(path string) ([]byte, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, unreadable(path, err)
	}
	return printFile(path, text, os.LookupEnv)
}

func printFile(name string, text []byte, lookupEnv func(string) (string, bool)) ([]byte, error) {
	_, r, root, err := parse(name, text, lookupEnv)
	if err != nil {
		return nil, err
	}
	described := &reader{shared: make(map[string]*schema), places: make(places)}
	known := described.describe(func() { described.config(someValue, defaults()) })
	var b bytes.Buffer
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if err := e.Encode(fillIn(r.shown(root), known)); err != nil {
		return nil, fmt.Errorf("print the mapping file: %w", err)
	}
	return b.Bytes(), nil
}

// perhapsSecret finds values that may be a secret wherever they stand: what is read from a file, or from a variable
// whose name says so.
var perhapsSecret = regexp.MustCompile(`(?i)\$\{file:|\$\{[^}]*(PASS|SECRET|TOKEN|KEY|CREDENTIAL|AUTH)[^}]*\}`)

// shown returns a copy of a node without comments, and with *** for what is not shown. What begins an expansion is
// written so that it is none when it is read again.
func (r *reader) shown(n *yaml.Node) *yaml.Node {
	c := *n
	c.HeadComment, c.LineComment, c.FootComment, c.Anchor, c.Content = "", "", "", "", nil
	for i, below := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 0 {
			key := *below
			key.HeadComment, key.LineComment, key.FootComment, key.Anchor = "", "", "", ""
			c.Content = append(c.Content, &key)
			continue
		}
		c.Content = append(c.Content, r.shown(below))
	}
	if n.Kind != yaml.ScalarNode {
		return &c
	}
	switch raw := r.expanded[n]; {
	case r.secrets[n]:
		c.Value, c.Tag, c.Style = redacted(n.Value), "!!str", 0
	case perhapsSecret.MatchString(raw):
		c.Value, c.Tag, c.Style = hidden, "!!str", 0
	case raw != "":
		c.Style = 0
		if r.literals[n] {
			c.Tag = "" // without quotes
		}
		c.Value = strings.NewReplacer("${", "$${", "$$", "$$$$").Replace(c.Value)
	}
	return &c
}

// redacted returns what may be shown of a secret: of the URL of a database, where it is.
func redacted(text string) string {
	u, err := url.Parse(text)
	if err != nil || !strings.HasPrefix(u.Scheme, "postgres") || u.Host == "" || strings.Contains(strings.ToLower(u.RawQuery), "pass") {
		return hidden
	}
	if _, set := u.User.Password(); set {
		u.User = url.UserPassword(u.User.Username(), "hidden")
		return strings.Replace(u.String(), ":hidden@", ":"+hidden+"@", 1)
	}
	return u.String()
}

// fillIn adds to a mapping the keys that have a default and are not in it.
func fillIn(n *yaml.Node, known *schema) *yaml.Node {
	if n.Kind != yaml.MappingNode {
		if !isNull(n) || len(known.Properties) == 0 {
			return n
		}
		n = &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"} // a section whose keys are all commented out
	}
	have := make(map[string]bool)
	for i := 0; i+1 < len(n.Content); i += 2 {
		name := n.Content[i].Value
		have[name] = true
		below := known.Properties[name]
		if more, ok := known.AdditionalProperties.(*schema); ok && below == nil {
			below = more
		}
		if below != nil {
			n.Content[i+1] = fillIn(n.Content[i+1], below)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(known.Properties)) {
		below := known.Properties[name]
		if have[name] || len(below.Required) > 0 { // what has keys of its own that it cannot be without is left out for a reason
			continue
		}
		var value *yaml.Node
		if below.Default != nil {
			value = new(yaml.Node)
			if value.Encode(below.Default) != nil {
				continue // every default is a text, a number or a boolean
			}
		} else if len(below.Required) > 0 {
			continue // it is not wanted: it is nothing without what has no default
		} else if value = fillIn(&yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}, below); len(value.Content) == 0 {
			continue
		}
		n.Content = append(n.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: name}, value)
	}
	return n
}
