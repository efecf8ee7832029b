package mapping

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// gcDeletes is how long the server keeps the version of a deleted document
// unless the mapping says otherwise: long enough for a late, older write to be
// refused even if it was held back by an hour of trouble.
const gcDeletes = "1h"

// Body gives the body of the request that creates an index for documents of t:
// settings with flat keys, and mappings.
//
//   - Settings may be given nested or dotted, with or without "index." before them.
//   - The field of each column follows from its type. Where the mapping gives
//     parameters, under fields or under mappings.properties, they are added to
//     those; a type among them means that none of ours is kept.
//   - Other keys of mappings are taken over. dynamic is false unless given.
//
// The same mapping of the same table always gives the same bytes.
func (ix *Index) Body(t *Table) ([]byte, error) {
	properties := make(map[string]any)
	for _, f := range ix.DocumentFields(t) {
		properties[f.Name] = mergeField(formOf(t.Column(f.Column).Type).field, plainMap(f.Params))
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
	body, err := marshal(map[string]any{"settings": settings, "mappings": mappings})
	if err != nil {
		return nil, fmt.Errorf("index %s: %w", ix.Name, err)
	}
	return body, nil
}

// mergeField gives the parameters of a field: more over derived, or more alone
// if it says what type the field has.
func mergeField(derived, more map[string]any) map[string]any {
	if more["type"] != nil {
		return more
	}
	return merge(derived, more)
}

// merge gives a copy of base with the keys of over, maps merged in turn.
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

// plainMap gives a copy of what YAML gave as JSON has it: maps have strings as
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

// marshal gives JSON with sorted keys, and `<` and `&` as they are: analyzers
// have them in patterns.
func marshal(value any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(value); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// Fingerprint gives a hash, in 32 hex digits, of everything that decides what
// the documents of t and their index look like: two mappings with the same
// fingerprint would fill the same index with the same documents. It does not
// change with the order of columns, fields or keys, nor between versions of
// Postgres.
func (ix *Index) Fingerprint(t *Table) string {
	type field struct{ Name, Column, Type, Form string }
	content := struct {
		Table   TableName
		ID      []string
		Routing string
		Fields  []field
		Body    json.RawMessage
		Error   string
	}{Table: t.TableName(), ID: ix.KeyColumns(t), Routing: ix.Routing}
	for _, f := range ix.DocumentFields(t) {
		typ := t.Column(f.Column).Type
		content.Fields = append(content.Fields, field{f.Name, f.Column, typ.Name, formOf(typ).name})
	}
	slices.SortFunc(content.Fields, func(a, b field) int { return strings.Compare(a.Name, b.Name) })
	body, err := ix.Body(t)
	if err != nil {
		// No index can be made of it. It is still a mapping of its own.
		content.Error = err.Error()
	}
	content.Body = body
	text, err := marshal(content)
	if err != nil {
		text = []byte(err.Error()) // names and valid JSON: cannot be
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:16])
}
