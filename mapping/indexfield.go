package mapping

import (
	"fmt"

	"tidemark/mapping/catalog"
	"tidemark/mapping/expr"
	"tidemark/mapping/value"
)

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
		properties[f.Name] = mergeField(derived, f.Params)
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
		return constantField(f.Constant.Value), nil
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
