package mapping

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"tidemark/mapping/catalog"
)

func (r *reader) indices(n *yaml.Node, path string, c *Config) {
	r.entries(n, path, func(key, value *yaml.Node) {
		c.Indices = append(c.Indices, r.index(key, value, join(path, key.Value)))
	})
	r.nonEmpty()
	if len(n.Content) == 0 && (n.Kind == yaml.MappingNode || isNull(n)) {
		r.problem(n, "indices: {products: {table: public.products}}", "%s is empty: no table to index", path)
	}
}

// index reads one index: a table, or several in a list, and what the server is to know.
func (r *reader) index(key, n *yaml.Node, path string) *Index {
	ix := &Index{Key: key.Value, Name: key.Value, Reindex: Reindex{Chunk: DefaultChunk}, MaxIndices: DefaultMaxIndices}
	var properties map[string]*yaml.Node // of mappings
	own := &Source{Index: ix, path: path}
	keys := r.sourceKeys(own)
	of := slices.Sorted(maps.Keys(keys)) // that belong to a table
	keys["tables"] = func(n *yaml.Node, path string) {
		r.list(n, path, "a list of tables, each with what belongs to it", func(item *yaml.Node, path string) {
			s := &Source{Index: ix, path: path}
			given := r.object(item, path, r.sourceKeys(s))
			r.require("table")
			if given["table"] == nil && item.Kind == yaml.MappingNode {
				r.problem(item, "table: public.products", "%s.table is missing", path)
			}
			ix.Sources = append(ix.Sources, s)
		})
	}
	keys["name"] = r.text(&ix.Name)
	keys["max_indices"] = r.integer(&ix.MaxIndices, 1, MaxIndices)
	keys["settings"] = r.free(&ix.Settings)
	keys["mappings"] = func(n *yaml.Node, path string) {
		r.free(&ix.Mappings)(n, path)
		properties = entriesOf(n, "properties")
	}
	keys["reindex"] = func(n *yaml.Node, path string) {
		r.object(n, path, map[string]keyReader{
			"chunk":    r.integer(&ix.Reindex.Chunk, 1, 1000000),
			"keep_old": r.integer(&ix.Reindex.KeepOld, 0, 100),
			"readers":  r.integer(&ix.Reindex.Readers, 0, MaxReaders),

			"max_rows_per_second": r.integer(&ix.Reindex.MaxRowsPerSecond, 0, 1000000000),
		})
	}
	given := r.object(n, path, keys)
	r.requireOne("table", "tables")
	at := given["name"]
	if at == nil {
		at = key
	}
	r.indexName(at, path, ix)
	switch {
	case given["tables"] == nil:
		ix.Sources = []*Source{own}
		if given["table"] == nil && (n.Kind == yaml.MappingNode || isNull(n)) {
			r.problem(key, "table: public."+ix.Key, "%s.table is missing", path)
		}
	default:
		for _, name := range of {
			if given[name] != nil {
				r.problem(given[name], "put it into an entry of tables", "%s.%s: tables is given as well", path, name)
			}
		}
		r.prefixes(ix)
	}
	r.patterns(ix)
	for _, s := range ix.Sources {
		for _, f := range s.Fields {
			if p := properties[f.Name]; p != nil && len(f.Params) > 0 {
				r.problem(p, "keep one of them", "%s.mappings.properties.%s: fields describes this field as well, in line %d", path, f.Name, r.places.line(f.path))
			}
		}
	}
	return ix
}

// sourceKeys reads what belongs to one table of an index.
func (r *reader) sourceKeys(s *Source) map[string]keyReader {
	return map[string]keyReader{
		"table":   r.table(r.rootTable(s), &s.Children),
		"id":      func(n *yaml.Node, path string) { r.id(n, path, s) },
		"routing": r.checked(&s.Routing, catalog.CheckIdent, ""),
		"where":   r.text(&s.Where),
		"fields":  func(n *yaml.Node, path string) { r.fields(n, path, &s.Shape) },
		"include": func(n *yaml.Node, path string) { r.includes(n, path, &s.Shape, 1) },
	}
}

// prefixes makes sure that the documents of several tables cannot have the same _id: what
// each of them begins with is the beginning of no other. Those of a pattern are all held against
// others when it is known which tables there are.
func (r *reader) prefixes(ix *Index) {
	var of Index
	for i, b := range ix.Sources {
		for _, a := range ix.Sources[:i] {
			if a.Table.Name == "" || b.Table.Name == "" {
				continue // reported
			}
			of.Sources = []*Source{a.in(&of, a.Table.Schema), b.in(&of, b.Table.Schema)}
			if first, _ := of.alike(); first != nil {
				r.problemAt(b.path, fmt.Sprintf("an id of its own for each table, such as id: %q", b.Table.Name+"-{id}"),
					"%s: documents of table %s could have the _id of one of table %s", b.path, b.Table, a.Table)
				break
			}
		}
	}
}

// entriesOf returns the keys of the mapping below key in n.
func entriesOf(n *yaml.Node, key string) map[string]*yaml.Node {
	keys := make(map[string]*yaml.Node)
	for i := 0; n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
		if below := n.Content[i+1]; n.Content[i].Value == key && below.Kind == yaml.MappingNode {
			for j := 0; j+1 < len(below.Content); j += 2 {
				keys[below.Content[j].Value] = below.Content[j]
			}
		}
	}
	return keys
}

// table reads the name of a table, alone or with whether the rows of its children count, by the reader of
// names.
func (r *reader) table(name keyReader, children *bool) keyReader {
	return func(n *yaml.Node, path string) {
		if r.either(func() { name(n, path) }, func() { r.tableWith(name, children)(n, path) }) {
			return
		}
		if n.Kind != yaml.MappingNode {
			name(n, path)
			return
		}
		r.tableWith(name, children)(n, path)
	}
}

// tableWith reads the name of a table with whether the rows of its children count.
func (r *reader) tableWith(name keyReader, children *bool) keyReader {
	return func(n *yaml.Node, path string) {
		given := r.object(n, path, map[string]keyReader{"name": name, "children": r.boolean(children)})
		r.require("name")
		if given["name"] == nil {
			r.problem(n, "table: {name: public.payment, children: true}", "%s.name is missing", path)
		}
	}
}

// rootTable reads the name of a table whose rows are documents: its schema may be a pattern.
func (r *reader) rootTable(s *Source) keyReader {
	return func(n *yaml.Node, path string) {
		into := &s.Table
		pattern, rest, ok := cutPattern(n.Value)
		if r.schema != nil || n.Kind != yaml.ScalarNode || !ok {
			r.tableName(into)(n, path)
			return
		}
		if err := checkPattern(pattern); err != nil {
			r.problem(n, `"tenant_*.products" for the tables of many schemas`, "%s: %s: %v", path, r.show(n), err)
			return
		}
		within := *n
		within.Value = rest
		if r.tableName(into)(&within, path); into.Name != "" {
			into.Schema, s.open = pattern, true
		}
	}
}

// relatedTable reads the name of a table that is included: it may be one of the same schema as the root table.
func (r *reader) relatedTable(into *catalog.TableName) keyReader {
	return func(n *yaml.Node, path string) {
		rest, ok := strings.CutPrefix(n.Value, placeholder+".")
		if _, _, many := cutPattern(n.Value); many {
			r.problem(n, `"{schema}.products" for the table of the same schema as the root table`, "%s: %s: many schemas are for the table whose rows are documents", path, r.show(n))
			return
		}
		if r.schema != nil || n.Kind != yaml.ScalarNode || !ok {
			r.tableName(into)(n, path)
			return
		}
		within := *n
		within.Value = rest
		if r.tableName(into)(&within, path); into.Name != "" {
			into.Schema = placeholder
		}
	}
}

// tableName reads the name of one table.
func (r *reader) tableName(into *catalog.TableName) keyReader {
	return func(n *yaml.Node, path string) {
		var text string
		if r.text(&text)(n, path); text == "" {
			return
		}
		name, err := catalog.ParseTableName(text)
		if err == nil {
			err = checkOneSchema(name.Schema)
		}
		if err != nil {
			r.problem(n, `public.products, or 'public."Weird.Name"'`, "%s: %s: %v", path, r.show(n), err)
			return
		}
		if strings.HasPrefix(name.Schema, "pg_") || name.Schema == "information_schema" {
			r.problem(n, "", "%s: %s: Postgres does not log changes of its catalog for others", path, r.show(n))
			return
		}
		*into = name
	}
}

// id reads the columns of the _id, or a text that has them in braces.
func (r *reader) id(n *yaml.Node, path string, s *Source) {
	if n.Kind == yaml.ScalarNode && strings.ContainsAny(n.Value, "{}") {
		r.checked(new(string), func(text string) error {
			var err error
			s.Literals, s.ID, err = parseTemplate(text)
			return err
		}, `id: "product-{id}"`)(n, path)
		return
	}
	r.list(n, path, "a list of columns", func(item *yaml.Node, path string) {
		var column string
		if r.checked(&column, catalog.CheckIdent, "")(item, path); column == "" {
			return
		}
		if slices.Contains(s.ID, column) {
			r.problem(item, "keep one of them", "%s: %s stands twice", path, r.show(item))
			return
		}
		s.ID = append(s.ID, column)
	})
}
