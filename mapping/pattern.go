package mapping

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"tidemark/mapping/catalog"
)

// Where each tenant has a schema of its own, one table of the file is many tables of the database:
// table: "tenant_*.orders". Its documents are in one index, told apart by {schema} in id, or in one
// for each schema, told apart by {schema} in name. Which tables there are is known when the database has
// been asked, see [Config.Patterns]; from [Config.InSchemas] on a configuration names tables that are there, and
// nothing else knows of patterns.

// placeholder stands for the schema of the root table.
const placeholder = "{" + schemaName + "}"

const schemaName = "schema"

// MaxIndices is the most that max_indices may be.
const MaxIndices = 1000

// MaxTables bounds how many tables a pattern stands for in one index.
const MaxTables = 2000

// patternForm has what may stand before the dot, without quotes: at least one star.
var patternForm = regexp.MustCompile(`^([\pL_*][\pL\pN_$*-]*)\.(.+)$`)

// cutPattern returns the pattern of schemas that the name of a table begins with, and the rest of it. It
// is not ok where the schema is a name.
func cutPattern(text string) (pattern, rest string, ok bool) {
	m := patternForm.FindStringSubmatch(strings.TrimSpace(text))
	if m == nil || !strings.Contains(m[1], "*") {
		return "", "", false
	}
	return m[1], m[2], true
}

// patternText returns the name of tables whose schema is a pattern, as it is written.
func patternText(name catalog.TableName) string {
	return name.Schema + "." + catalog.QuoteIfNeeded(name.Name)
}

// checkPattern holds a pattern against what it would match.
func checkPattern(pattern string) error {
	if strings.Trim(pattern, "*") == "" {
		return errors.New("a pattern has more than *: the schemas of other programs would be in it, too")
	}
	return catalog.CheckIdent(pattern)
}

// checkOneSchema refuses the name of a schema that could not be told from a placeholder.
func checkOneSchema(schema string) error {
	if schema == placeholder {
		return errors.New("a schema of this name could not be told from that of the root table")
	}
	return nil
}

// matches reports whether the pattern has a schema. * stands for any text, also for none.
func matches(pattern, schema string) bool {
	parts := strings.Split(pattern, "*")
	first, last := parts[0], parts[len(parts)-1]
	if len(schema) < len(first)+len(last) || !strings.HasPrefix(schema, first) || !strings.HasSuffix(schema, last) {
		return false
	}
	rest := schema[len(first) : len(schema)-len(last)]
	for _, part := range parts[1 : len(parts)-1] {
		_, after, found := strings.Cut(rest, part)
		if !found {
			return false
		}
		rest = after
	}
	return true
}

// Patterns returns the tables of the file whose schema is a pattern, each once.
func (c *Config) Patterns() (patterns []catalog.TableName) {
	for _, ix := range c.Indices {
		for _, s := range ix.Sources {
			if s.open && !slices.Contains(patterns, s.Table) {
				patterns = append(patterns, s.Table)
			}
		}
	}
	return patterns
}

// Matches reports whether a table is one of those that a pattern stands for. Schemas of Postgres are in none,
// nor is a control schema.
func (c *Config) Matches(pattern, table catalog.TableName) bool {
	return pattern.Name == table.Name && matches(pattern.Schema, table.Schema) && !c.keepsState(table.Schema) &&
		!strings.HasPrefix(table.Schema, "pg_") && table.Schema != "information_schema"
}

// InSchemas returns the configuration with the tables that there are in the place of patterns: found has the
// names of those that may be meant. An index whose name has {schema} becomes one for each schema. Where there
// are more than it takes, the last ones of found are left out, which is said in [Config.Left]. The error is [Problems].
func (c *Config) InSchemas(found []catalog.TableName) (*Config, error) {
	into := *c
	into.Indices, into.written = nil, c
	var problems Problems
	for _, ix := range c.Indices {
		if !ix.isPatterned() {
			into.Indices = append(into.Indices, ix)
			continue
		}
		schemas := ix.schemas(c, found)
		if len(schemas) == 0 {
			s := ix.Sources[0]
			problems = append(problems, c.Problem(s.Key("table"), "make the first schema, or correct the pattern", "no schema of the database has a table %s", patternText(s.Table)))
			continue
		}
		most, hint := MaxTables/len(ix.Sources), fmt.Sprintf("give each schema an index of its own, name: %q, or narrow the pattern", ix.Key+"-"+placeholder)
		if ix.byName(schemaName) {
			most, hint = ix.MaxIndices, "raise max_indices, or narrow the pattern"
		}
		if n := len(schemas); n > most {
			into.Left = append(into.Left, c.Problem(ix.Path(), hint, "%d schemas match, of which %d are taken: %s", n, most, leftOut(schemas[most:])))
			schemas = schemas[:most]
		}
		slices.Sort(schemas)
		into.Indices = append(into.Indices, ix.inSchemas(c, schemas, found)...)
	}
	for _, ix := range into.Indices {
		if err := checkIndexName(ix.Name); err != nil {
			problems = append(problems, c.Problem(ix.Path()+".name", "rename the schema, or have one index for all of them", "%s: %v", ix.Name, err))
		}
		if a, b := ix.alike(); a != nil {
			problems = append(problems, c.Problem(b.path, "an id of its own for each table", "documents of table %s could have the _id of one of table %s", b.Table, a.Table))
		}
	}
	if problems = append(problems, into.sameNames()...); len(problems) > 0 {
		return nil, problems
	}
	return &into, nil
}

// leftOut says which schemas are left out, bounded.
func leftOut(schemas []string) string {
	const most = 3
	text := strings.Join(schemas[:min(most, len(schemas))], ", ")
	if n := len(schemas) - most; n > 0 {
		return fmt.Sprintf("%s and %d more are left out", text, n)
	}
	if len(schemas) == 1 {
		return text + " is left out"
	}
	return text + " are left out"
}

// Written returns the configuration as the file has it, with patterns.
func (c *Config) Written() *Config {
	if c.written != nil {
		return c.written
	}
	return c
}

// Matched returns the root tables that stand in the place of patterns, each once.
func (c *Config) Matched() (matched []catalog.TableName) {
	seen := make(map[catalog.TableName]bool)
	for _, ix := range c.Indices {
		for _, s := range ix.Sources {
			if s.IsMatched() && !seen[s.Table] {
				seen[s.Table] = true
				matched = append(matched, s.Table)
			}
		}
	}
	return matched
}

// Only returns the configuration with nothing but some root tables that stand in the place of patterns.
func (c *Config) Only(roots ...catalog.TableName) *Config {
	only := *c
	only.Indices = nil
	for _, ix := range c.Indices {
		if part := ix.With(func(s *Source) bool { return s.IsMatched() && slices.Contains(roots, s.Table) }); len(part.Sources) > 0 {
			only.Indices = append(only.Indices, part)
		}
	}
	return &only
}

// With returns the part of the index that is told apart from the rest by its root tables: with only those
// sources for which keep holds. It is the index itself where it holds for all.
func (ix *Index) With(keep func(*Source) bool) *Index {
	if !slices.ContainsFunc(ix.Sources, func(s *Source) bool { return !keep(s) }) {
		return ix
	}
	part := *ix
	part.Sources = nil
	for _, s := range ix.Sources {
		if keep(s) {
			source := *s
			source.Index = &part
			part.Sources = append(part.Sources, &source)
		}
	}
	return &part
}

// Present returns the index without the tables of patterns that are gone: they are taken out of it by who resolves
// the patterns again, and until then nothing waits for them.
func (ix *Index) Present(tables catalog.Tables) *Index {
	return ix.With(func(s *Source) bool { return !s.IsMatched() || tables[s.Table] != nil })
}

// Present returns the configuration with what [Index.Present] returns of each index that has any table left.
func (c *Config) Present(tables catalog.Tables) *Config {
	present := *c
	present.Indices = nil
	for _, ix := range c.Indices {
		if part := ix.Present(tables); len(part.Sources) > 0 {
			present.Indices = append(present.Indices, part)
		}
	}
	return &present
}

// StandsFor reports whether a root table is, or was, one of those that a pattern of the index stands for.
func (ix *Index) StandsFor(table catalog.TableName) bool {
	return slices.ContainsFunc(ix.Sources, func(s *Source) bool {
		return s.Pattern != (catalog.TableName{}) && s.Pattern.Name == table.Name && matches(s.Pattern.Schema, table.Schema)
	})
}

// IsMatched reports whether the table of the source stands in the place of a pattern.
func (s *Source) IsMatched() bool { return s.Pattern != (catalog.TableName{}) }

// SameTables reports whether both have the same indices, of the same root tables and values.
func (c *Config) SameTables(other *Config) bool {
	of := func(c *Config) (all []string) {
		for _, ix := range c.Indices {
			for _, s := range ix.Sources {
				all = append(all, fmt.Sprintf("%s %s %q", ix.Name, s.Table, s.only()))
			}
		}
		slices.Sort(all)
		return all
	}
	return slices.Equal(of(c), of(other))
}

// alike returns two sources whose documents could have the same _id, nil if there are none: what those of one
// begin with is the beginning of those of the other.
func (ix *Index) alike() (a, b *Source) {
	sorted := ix.sortedSources()
	for i := 1; i < len(sorted); i++ {
		if strings.HasPrefix(sorted[i].Prefix(), sorted[i-1].Prefix()) {
			return sorted[i-1], sorted[i]
		}
	}
	return nil, nil
}

// isPatterned reports whether the index has tables of many schemas.
func (ix *Index) isPatterned() bool {
	return slices.ContainsFunc(ix.Sources, func(s *Source) bool { return s.open })
}

// schemas returns the schemas that the patterns of the index match, in the order of found.
func (ix *Index) schemas(c *Config, found []catalog.TableName) (schemas []string) {
	for _, table := range found {
		if !slices.Contains(schemas, table.Schema) && slices.ContainsFunc(ix.Sources, func(s *Source) bool { return s.open && c.Matches(s.Table, table) }) {
			schemas = append(schemas, table.Schema)
		}
	}
	return schemas
}

// inSchemas returns what the index comes to: itself with the tables of all schemas, or one for each.
func (ix *Index) inSchemas(c *Config, schemas []string, found []catalog.TableName) []*Index {
	var all []*Index
	whole := *ix
	whole.Sources = nil
	for _, s := range ix.Sources {
		if !s.open {
			whole.Sources = append(whole.Sources, s.in(&whole, s.Table.Schema))
		}
	}
	for _, schema := range schemas {
		into := &whole
		if ix.byName(schemaName) {
			of := *ix
			of.Name, of.Sources = strings.ReplaceAll(ix.Name, placeholder, schema), nil
			into = &of
			all = append(all, into)
		}
		for _, s := range ix.Sources {
			if s.open && slices.ContainsFunc(found, func(t catalog.TableName) bool { return t.Schema == schema && c.Matches(s.Table, t) }) {
				into.Sources = append(into.Sources, s.in(into, schema))
			}
		}
	}
	if all == nil {
		all = []*Index{&whole}
	}
	return all
}

// sameNames reports indices that have the same name.
func (c *Config) sameNames() (problems Problems) {
	first := make(map[string]*Index)
	for _, ix := range c.Indices {
		other := first[ix.Name]
		if other == nil {
			first[ix.Name] = ix
			continue
		}
		problems = append(problems, c.Problem(ix.Path()+".name", "give one of them another name", "index %s has the name of that of %s", ix.Name, other.Path()))
	}
	return problems
}

// resolved returns an index without patterns with nothing left open, and any other as it is.
func (ix *Index) resolved() *Index {
	if ix.isPatterned() {
		return ix
	}
	into := *ix
	into.Sources = nil
	for _, s := range ix.Sources {
		into.Sources = append(into.Sources, s.in(&into, s.Table.Schema))
	}
	return &into
}

// in returns the source for the root table of one schema, as a part of ix.
func (s *Source) in(ix *Index, schema string) *Source {
	in := *s
	in.Index, in.Shape = ix, s.Shape.in(schema)
	if s.open {
		in.Pattern = s.Table
	}
	if i := slices.Index(s.ID, schemaName); s.open && i >= 0 && s.Literals != nil {
		// As templateID writes a value: the ids of two schemas never begin alike.
		text := string(templateID(nil, s.Literals[i:i+2], []byte(schema)))
		in.Literals = slices.Concat(s.Literals[:i], []string{text}, s.Literals[i+2:])
		in.ID = slices.Concat(s.ID[:i], s.ID[i+1:])
	}
	in.Table.Schema, in.open = schema, false
	return &in
}

// in returns the shape of objects for the root table of one schema.
func (s Shape) in(schema string) Shape {
	s.Fields = mapAll(s.Fields, func(f Field) Field { return f.in(schema) })
	s.Include = mapAll(s.Include, func(in *Include) *Include {
		of := *in
		of.Shape = in.Shape.in(schema)
		if of.Table.Schema == placeholder {
			of.Table.Schema = schema
		}
		if in.Through != nil {
			through := *in.Through
			if through.Table.Schema == placeholder {
				through.Table.Schema = schema
			}
			of.Through = &through
		}
		return &of
	})
	return s
}

func (f Field) in(schema string) Field {
	f.Group = mapAll(f.Group, func(g Field) Field { return g.in(schema) })
	if f.Schema {
		f.Schema, f.Constant = false, &Constant{schema}
	}
	return f
}

// byName reports whether the name of the index has this in braces.
func (ix *Index) byName(name string) bool { return strings.Contains(ix.Name, "{"+name+"}") }

// Path returns the path of the index in the file, for [Config.Problem].
func (ix *Index) Path() string { return join("indices", ix.Key) }

// namePart is a column or the schema in the name of an index.
var namePart = regexp.MustCompile(`\{([^{}]*)\}`)

// indexName checks the name of an index, with what stands in braces in it.
func (r *reader) indexName(n *yaml.Node, path string, ix *Index) {
	parts := namePart.FindAllStringSubmatch(ix.Name, -1)
	columns := 0
	for _, part := range parts {
		if part[1] == schemaName {
			continue
		}
		if err := catalog.CheckIdent(part[1]); err != nil {
			r.problem(n, `name: "orders-{region}"`, "%s: %s: %v", path, r.show(n), err)
			return
		}
		if columns++; columns > 1 {
			r.problem(n, `name: "orders-{region}", or a generated column that has both`, "%s: %s: one column may stand in the name of an index", path, r.show(n))
			return
		}
	}
	if err := checkIndexName(namePart.ReplaceAllString(ix.Name, "x")); err != nil {
		r.problem(n, "a name such as products", "%s: %v", path, err)
	}
}

// patterns makes sure that the documents and indices of many schemas can be told apart.
func (r *reader) patterns(ix *Index) {
	for _, s := range ix.Sources {
		if s.Table.Name == "" {
			continue // reported
		}
		named := ix.byName(schemaName)
		i := slices.Index(s.ID, schemaName)
		switch {
		case !s.open:
			if named {
				r.problemAt(s.Key("table"), `table: "tenant_*.`+s.Table.Name+`", or a name without {schema}`, "%s.table: the name of the index has {schema}, and table %s is of one", s.path, s.Table)
			}
		case s.Literals == nil && i >= 0:
			r.problemAt(s.Key("id"), `id: "{schema}-{id}"`, "%s.id: schema stands in a list, where it is a column", s.path)
		case s.Literals != nil && len(s.ID) == 1 && i == 0:
			r.problemAt(s.Key("id"), `id: "{schema}-{id}"`, "%s.id: it has no column of the table", s.path)
		case !named && i != 0:
			r.problemAt(s.Key("id"), `id: "{schema}-{id}"`, "%s: rows of two schemas could have the same _id, which has to begin with {schema}", s.path)
		case i == len(s.ID)-1 && i >= 0 && s.Literals[i+1] == "":
			r.problemAt(s.Key("id"), `id: "{schema}-{id}"`, "%s.id: something has to stand behind {schema}", s.path)
		}
	}
}
