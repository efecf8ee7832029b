package mapping

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"tidemark/mapping/catalog"
	"tidemark/mapping/expr"
	"tidemark/mapping/value"
)

// gcDeletes is how long the server keeps the version of a deleted document
// unless the mapping says otherwise: long enough for a late, older write to be
// refused even if it was held back by an hour of trouble.
const gcDeletes = "1h"

// Body returns the body of the request that creates the index: settings with flat keys, and
// mappings.
//
//   - Settings may be given nested or dotted, with or without "index." before them.
//   - The field of each column follows from its type. Where the mapping gives
//     parameters, under fields or under mappings.properties, they are added to
//     those; a type among them means that none of ours is kept.
//   - Other keys of mappings are taken over. dynamic is false unless given.
//
// The same mapping of the same tables always gives the same bytes.
func (ix *Index) Body(tables catalog.Tables) ([]byte, error) {
	properties := make(map[string]any)
	for _, s := range ix.Sources {
		own, err := s.properties(tables[s.Table], tables)
		if err != nil {
			return nil, fmt.Errorf("index %s: %w", s.Name(), err)
		}
		for name, params := range own {
			if have, ok := properties[name]; ok && !reflect.DeepEqual(have, params) {
				return nil, fmt.Errorf("index %s: field %s of table %s is not what it is of another table; give both the same type", ix.Name, name, s.Table)
			}
			properties[name] = params
		}
	}
	given := plainMap(ix.Mappings)
	mappings := map[string]any{"dynamic": false}
	for key, value := range given {
		if key != "properties" {
			mappings[key] = value
		}
	}
	if more, ok := given["properties"].(map[string]any); ok {
		for name, value := range more {
			params, ok := value.(map[string]any)
			derived, _ := properties[name].(map[string]any)
			if !ok {
				return nil, fmt.Errorf("index %s: mappings.properties.%s: want the parameters of a field", ix.Name, name)
			}
			properties[name] = mergeField(derived, params)
		}
	} else if given["properties"] != nil {
		return nil, fmt.Errorf("index %s: mappings.properties: want fields by name", ix.Name)
	}
	mappings["properties"] = properties

	settings := make(map[string]any)
	flatten(settings, "", plainMap(ix.Settings))
	if _, ok := settings["index.gc_deletes"]; !ok {
		settings["index.gc_deletes"] = gcDeletes
	}
	body, err := value.Marshal(map[string]any{"settings": settings, "mappings": mappings})
	if err != nil {
		return nil, fmt.Errorf("index %s: %w", ix.Name, err)
	}
	return body, nil
}

// properties returns the index fields of objects of rows of t.
func (s *Shape) properties(t *catalog.Table, tables catalog.Tables) (map[string]any, error) {
	if t == nil {
		return nil, catalog.ErrNoTable
	}
	properties, err := fieldProperties(s.DocumentFields(t), t)
	if err != nil {
		return nil, err
	}
	for _, in := range s.Include {
		if properties[in.Name], err = in.property(tables); err != nil {
			return nil, fmt.Errorf("include %s: %w", in.Name, err)
		}
	}
	return properties, nil
}

func fieldProperties(fields []Field, t *catalog.Table) (map[string]any, error) {
	properties := make(map[string]any, len(fields))
	for i := range fields {
		f := &fields[i]
		derived, err := f.derived(t)
		if err != nil {
			return nil, fmt.Errorf("field %s: %w", f.Name, err)
		}
		properties[f.Name] = mergeField(derived, plainMap(f.Params))
	}
	return properties, nil
}

// derived returns the index field that follows from what the field is made of.
func (f *Field) derived(t *catalog.Table) (map[string]any, error) {
	switch {
	case f.Group != nil:
		properties, err := fieldProperties(f.Group, t)
		return map[string]any{"properties": properties}, err
	case f.Constant != nil:
		return constantField(plain(f.Constant.Value)), nil
	case f.Expr != "":
		e, err := expr.Compile(f.Expr, t)
		if err != nil {
			return nil, err
		}
		return e.Field(), nil
	}
	form, err := value.FormFor(t.Column(f.Column).Type, f.As)
	if err != nil {
		return nil, err
	}
	return form.Field, nil
}

// constantField returns the index field for a value that the mapping gives.
func constantField(v any) map[string]any {
	switch v := v.(type) {
	case bool:
		return map[string]any{"type": "boolean"}
	case int, int64, uint64:
		return value.LongField
	case float64:
		return value.DoubleField
	case []any:
		if len(v) > 0 {
			return constantField(v[0])
		}
	case map[string]any:
		properties := make(map[string]any, len(v))
		for name, below := range v {
			properties[name] = constantField(below)
		}
		return map[string]any{"properties": properties}
	}
	return value.KeywordField
}

// property returns the index field of what is included.
func (in *Include) property(tables catalog.Tables) (map[string]any, error) {
	t := tables[in.Table]
	if t == nil {
		return nil, fmt.Errorf("table %s: %w", in.Table, catalog.ErrNoTable)
	}
	name := in.Value
	if in.Aggregate != "" {
		name = in.Column
	}
	switch {
	case in.Aggregate != "" && in.Column == "":
		return value.LongField, nil
	case name != "":
		c := t.Column(name)
		if c == nil {
			return nil, fmt.Errorf("table %s has no column %s", in.Table, name)
		}
		if in.Aggregate != "" {
			return value.FormOf(in.Aggregate.of(c.Type)).Field, nil
		}
		return value.FormOf(c.Type).Field, nil
	}
	properties, err := in.Shape.properties(t, tables)
	if err != nil {
		return nil, err
	}
	field := map[string]any{"properties": properties}
	if in.Many == ManyNested {
		field["type"] = "nested"
	}
	return field, nil
}

// mergeField returns the parameters of a field: more over derived, or more alone
// if it says what type the field has.
func mergeField(derived, more map[string]any) map[string]any {
	if more["type"] != nil {
		return more
	}
	return merge(derived, more)
}

// merge returns a copy of base with the keys of over, maps merged in turn.
func merge(base, over map[string]any) map[string]any {
	merged := maps.Clone(base)
	if merged == nil {
		merged = make(map[string]any, len(over))
	}
	for key, value := range over {
		below, ok1 := merged[key].(map[string]any)
		above, ok2 := value.(map[string]any)
		if ok1 && ok2 {
			value = merge(below, above)
		}
		merged[key] = value
	}
	return merged
}

// flatten writes settings to dst under keys that begin with "index.". Where one
// is given twice, nested and dotted, the one that comes last in the order of
// the keys is taken.
func flatten(dst map[string]any, prefix string, settings map[string]any) {
	for _, key := range slices.Sorted(maps.Keys(settings)) {
		full := prefix + key
		if nested, ok := settings[key].(map[string]any); ok {
			flatten(dst, full+".", nested)
			continue
		}
		if !strings.HasPrefix(full, "index.") {
			full = "index." + full
		}
		dst[full] = settings[key]
	}
}

// plainMap returns a copy of what YAML gave as JSON has it: maps have strings as
// keys, and a date is what was written.
func plainMap(m map[string]any) map[string]any {
	if m == nil {
		return nil
	}
	return plain(m).(map[string]any)
}

func plain(value any) any {
	switch v := value.(type) {
	case map[string]any:
		copied := make(map[string]any, len(v))
		for key, below := range v {
			copied[key] = plain(below)
		}
		return copied
	case map[any]any:
		copied := make(map[string]any, len(v))
		for key, below := range v {
			copied[fmt.Sprint(key)] = plain(below)
		}
		return copied
	case []any:
		copied := make([]any, len(v))
		for i, below := range v {
			copied[i] = plain(below)
		}
		return copied
	case time.Time:
		if v.Equal(v.Truncate(24 * time.Hour)) {
			return v.Format(time.DateOnly)
		}
		return v.Format(time.RFC3339Nano)
	}
	return value
}
