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
		if err := checkIndexName(key.Value); err != nil {
			r.problem(key, "a name such as products", "%s: %v", join(path, key.Value), err)
		}
		c.Indices = append(c.Indices, r.index(key, value, join(path, key.Value)))
	})
	r.nonEmpty()
	if len(n.Content) == 0 && (n.Kind == yaml.MappingNode || isNull(n)) {
		r.problem(n, "indices: {products: {table: public.products}}", "%s is empty: no table to index", path)
	}
}

// index reads one index: a table, or several in a list, and what the server is to know.
func (r *reader) index(key, n *yaml.Node, path string) *Index {
	ix := &Index{Name: key.Value, Reindex: Reindex{Chunk: DefaultChunk}}
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
	switch {
	case given["tables"] == nil:
		ix.Sources = []*Source{own}
		if given["table"] == nil && (n.Kind == yaml.MappingNode || isNull(n)) {
			r.problem(key, "table: public."+ix.Name, "%s.table is missing", path)
		}
	default:
		for _, name := range of {
			if given[name] != nil {
				r.problem(given[name], "put it into an entry of tables", "%s.%s: tables is given as well", path, name)
			}
		}
		r.prefixes(ix)
	}
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
		"table":   r.table(&s.Table, &s.Children),
		"id":      func(n *yaml.Node, path string) { r.id(n, path, s) },
		"routing": r.checked(&s.Routing, catalog.CheckIdent, ""),
		"where":   r.text(&s.Where),
		"fields":  func(n *yaml.Node, path string) { r.fields(n, path, &s.Shape) },
		"include": func(n *yaml.Node, path string) { r.includes(n, path, &s.Shape, 1) },
	}
}

// prefixes makes sure that the documents of several tables cannot have the same _id: what
// each of them begins with is the beginning of no other.
func (r *reader) prefixes(ix *Index) {
	for i, a := range ix.Sources {
		for _, b := range ix.Sources[:i] {
			if a.Table.Name == "" || b.Table.Name == "" {
				continue // reported
			}
			if strings.HasPrefix(a.Prefix(), b.Prefix()) || strings.HasPrefix(b.Prefix(), a.Prefix()) {
				r.problemAt(a.path, fmt.Sprintf("an id of its own for each table, such as id: %q", a.Table.Name+"-{id}"),
					"%s: documents of table %s could have the _id of one of table %s", a.path, a.Table, b.Table)
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

// table reads the name of a table, alone or with whether the rows of its children count.
func (r *reader) table(into *catalog.TableName, children *bool) keyReader {
	return func(n *yaml.Node, path string) {
		if r.either(func() { r.tableName(into)(n, path) }, func() { r.tableWith(into, children)(n, path) }) {
			return
		}
		if n.Kind != yaml.MappingNode {
			r.tableName(into)(n, path)
			return
		}
		r.tableWith(into, children)(n, path)
	}
}

// tableWith reads the name of a table with whether the rows of its children count.
func (r *reader) tableWith(into *catalog.TableName, children *bool) keyReader {
	return func(n *yaml.Node, path string) {
		given := r.object(n, path, map[string]keyReader{"name": r.tableName(into), "children": r.boolean(children)})
		r.require("name")
		if given["name"] == nil {
			r.problem(n, "table: {name: public.payment, children: true}", "%s.name is missing", path)
		}
	}
}

// tableName reads the name of a table.
func (r *reader) tableName(into *catalog.TableName) keyReader {
	return func(n *yaml.Node, path string) {
		var text string
		if r.text(&text)(n, path); text == "" {
			return
		}
		name, err := catalog.ParseTableName(text)
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
