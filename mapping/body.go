package mapping

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"tidemark/mapping/catalog"
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
	given := ix.Mappings
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
	flatten(settings, "", ix.Settings)
	if _, ok := settings["index.gc_deletes"]; !ok {
		settings["index.gc_deletes"] = gcDeletes
	}
	body, err := value.Marshal(map[string]any{"settings": settings, "mappings": mappings})
	if err != nil {
		return nil, fmt.Errorf("index %s: %w", ix.Name, err)
	}
	return body, nil
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
