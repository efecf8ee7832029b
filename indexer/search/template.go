package search

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/elastic/go-elasticsearch/v8/esapi"
)

// A Template is an index template of the cluster that gives something to physical indices when they
// are made, beside what the request has that makes them.
type Template struct {
	Name       string
	DataStream bool             // it makes data streams, and no index can be made of a name that it matches
	Aliases    map[string]Alias // that an index is behind as soon as it is made
	Settings   []string         // keys
	Routed     bool             // a document without a routing is refused
	NoSource   bool             // documents are not kept
	Fields     []string         // names
}

// String says what it gives, "" if nothing.
func (t *Template) String() string {
	var parts []string
	if len(t.Aliases) > 0 {
		var aliases []string
		for _, name := range slices.Sorted(maps.Keys(t.Aliases)) {
			text := name
			if special := t.Aliases[name].String(); special != "" {
				text += " (" + special + ")"
			}
			aliases = append(aliases, text)
		}
		parts = append(parts, "the aliases "+strings.Join(aliases, ", "))
	}
	if len(t.Settings) > 0 {
		parts = append(parts, "the settings "+strings.Join(t.Settings, ", "))
	}
	if len(t.Fields) > 0 {
		parts = append(parts, "the fields "+strings.Join(t.Fields, ", "))
	}
	return strings.Join(parts, "; ")
}

// A TemplateError reports an index template by which an index cannot be kept.
type TemplateError struct {
	Template string
	Why      string
}

func (e *TemplateError) Error() string { return e.Text() + "; hint: " + e.Hint() }

// Text says what was found.
func (e *TemplateError) Text() string {
	return fmt.Sprintf("the index template %s %s", e.Template, e.Why)
}

// Hint says what to do.
func (e *TemplateError) Hint() string {
	return "change the template, or make one of a higher priority for the physical indices alone, or give the mapping another name"
}

// Permanent marks it for dbsync.IsPermanent.
func (e *TemplateError) Permanent() bool { return true }

// Check returns a *[TemplateError] when the physical indices of the index alias cannot be made, or
// would be seen or written by others, because of the template.
func (t *Template) Check(alias string) error {
	if t.DataStream {
		return &TemplateError{Template: t.Name, Why: "makes data streams of names as the physical indices have them, which cannot be made then"}
	}
	for _, name := range slices.Sorted(maps.Keys(t.Aliases)) {
		switch a := t.Aliases[name]; {
		case name == alias:
			return &TemplateError{Template: t.Name, Why: "puts each physical index behind the alias " + alias + " when it is made, so that searchers see it before it is filled"}
		case a.IsWriteIndex != nil && *a.IsWriteIndex:
			return &TemplateError{Template: t.Name, Why: "has whoever writes by the alias " + name + " write into the physical indices"}
		}
	}
	return nil
}

// Templates returns the index templates that give something to the physical indices of alias: one
// of those that are composed, or all of the older form. Where this user may not ask there are none.
func (c *Client) Templates(ctx context.Context, alias string) ([]*Template, error) {
	physical, _ := PhysicalName(alias, time.Now())
	composed, err := c.composedTemplate(ctx, physical)
	if err == nil && composed == nil {
		var old []*Template
		if old, err = c.oldTemplates(ctx, physical); err == nil {
			return old, nil
		}
	}
	if server, ok := errors.AsType[*ServerError](err); ok && server.Permanent() {
		return nil, nil
	}
	if err != nil || composed == nil {
		return nil, err
	}
	return []*Template{composed}, nil
}

// composedTemplate returns what the composable template of the highest priority gives, nil if none
// matches.
func (c *Client) composedTemplate(ctx context.Context, physical string) (*Template, error) {
	var all struct {
		Templates []struct {
			Name     string `json:"name"`
			Template struct {
				Patterns   []string  `json:"index_patterns"`
				Priority   int64     `json:"priority"`
				DataStream *struct{} `json:"data_stream"`
			} `json:"index_template"`
		} `json:"index_templates"`
	}
	const of = "index_templates.index_template."
	err := c.call(ctx, "look at the index templates", esapi.IndicesGetIndexTemplateRequest{
		FilterPath: []string{"index_templates.name", of + "index_patterns", of + "priority", of + "data_stream"}}, &all)
	if err != nil {
		return nil, err
	}
	var found *Template
	priority := int64(-1)
	for _, t := range all.Templates {
		if t.Template.Priority > priority && slices.ContainsFunc(t.Template.Patterns, func(p string) bool { return matches(p, physical) }) {
			found, priority = &Template{Name: t.Name, DataStream: t.Template.DataStream != nil}, t.Template.Priority
		}
	}
	if found == nil {
		return nil, nil
	}
	var simulated struct {
		Template templateBody `json:"template"`
	}
	err = c.call(ctx, "look what the index template "+found.Name+" gives", esapi.IndicesSimulateIndexTemplateRequest{Name: url.PathEscape(physical)}, &simulated)
	if err != nil {
		return nil, err
	}
	simulated.Template.into(found)
	return found, nil
}

// oldTemplates returns the templates of the older form that match, those that others are laid over
// first.
func (c *Client) oldTemplates(ctx context.Context, physical string) (found []*Template, err error) {
	var all map[string]struct {
		Patterns []string `json:"index_patterns"`
		Order    int64    `json:"order"`
		templateBody
	}
	if err := c.call(ctx, "look at the index templates of the older form", esapi.IndicesGetTemplateRequest{}, &all); err != nil {
		return nil, err
	}
	for name, t := range all {
		if slices.ContainsFunc(t.Patterns, func(p string) bool { return matches(p, physical) }) {
			made := &Template{Name: name}
			t.into(made)
			found = append(found, made)
		}
	}
	slices.SortFunc(found, func(a, b *Template) int {
		return cmp.Or(cmp.Compare(all[a.Name].Order, all[b.Name].Order), strings.Compare(a.Name, b.Name))
	})
	return found, nil
}

// A templateBody is what a template gives, as the server has it.
type templateBody struct {
	Aliases  map[string]Alias `json:"aliases"`
	Settings map[string]any   `json:"settings"`
	Mappings struct {
		Routing struct {
			Required bool `json:"required"`
		} `json:"_routing"`
		Source struct {
			Enabled *bool `json:"enabled"`
		} `json:"_source"`
		Properties map[string]json.RawMessage `json:"properties"`
	} `json:"mappings"`
}

func (b *templateBody) into(t *Template) {
	t.Aliases, t.Routed, t.Fields = b.Aliases, b.Mappings.Routing.Required, slices.Sorted(maps.Keys(b.Mappings.Properties))
	t.NoSource = b.Mappings.Source.Enabled != nil && !*b.Mappings.Source.Enabled
	var flat func(prefix string, settings map[string]any)
	flat = func(prefix string, settings map[string]any) {
		for _, key := range slices.Sorted(maps.Keys(settings)) {
			if nested, ok := settings[key].(map[string]any); ok {
				flat(prefix+key+".", nested)
			} else if full := prefix + key; full != "index.routing.allocation.include._tier_preference" { // Elasticsearch's own, of every index
				t.Settings = append(t.Settings, full)
			}
		}
	}
	flat("", b.Settings)
}

// matches reports whether a name is one of a pattern, in which * stands for anything.
func matches(pattern, name string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == name
	}
	name, ok := strings.CutPrefix(name, parts[0])
	if !ok {
		return false
	}
	last := len(parts) - 1
	for _, part := range parts[1:last] {
		at := strings.Index(name, part)
		if at < 0 {
			return false
		}
		name = name[at+len(part):]
	}
	return strings.HasSuffix(name, parts[last])
}
