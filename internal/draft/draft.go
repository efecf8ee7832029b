// Package draft makes the text of a mapping file from what the catalog of a database says:
// an index for each table, and includes for its foreign keys.
//
// The text is for a person to go on with, and complete as it is: a table or an include
// that [mapping.Config.Check] would refuse is in it as a comment, with the statement that
// fixes it. What is written is what was checked, so both never differ. Whether the role may
// follow the log, and whether the cluster takes the indices, is not looked at.
package draft

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"tidemark/mapping"
	"tidemark/mapping/catalog"
)

// Options say what is drafted.
type Options struct {
	URL      string // of the database, without a password in it; written as it is
	Variable string // the environment variable that holds the URL, written instead of it
	// Without both, the file leaves it to PGHOST, PGDATABASE and their like.

	SearchURLs []string // of the cluster, at least one
	SearchUser string   // empty: no authentication; its password is left to SEARCH_PASSWORD

	Schemas []string // whose tables are taken; empty: all but those of Postgres and Tidemark
	Tables  []string // to have an index, as the mapping file names tables; empty: all of Schemas
}

// A Draft is a mapping file that fits the database.
type Draft struct {
	Text    []byte
	Indices int // in it
	LeftOut int // tables that need a statement before they can have one
}

// Make reads the catalog of db and drafts a mapping file. Its error is a [mapping.Problems]
// where the options name what is not there, or where no table can have an index.
func Make(ctx context.Context, db *sql.DB, o Options) (*Draft, error) {
	// One snapshot, so that all parts of the catalog fit together.
	tx, err := db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
	if err != nil {
		return nil, fmt.Errorf("read the catalog: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // nothing was written
	c, err := readSurvey(ctx, tx)
	if err != nil {
		return nil, err
	}
	selected, err := c.selected(o)
	if err != nil {
		return nil, err
	}
	d := &drafter{survey: c}
	d.file(o, selected)
	if d.indices == 0 {
		if len(d.refused) == 0 {
			return nil, mapping.Problems{{File: "database " + c.database, Text: "there is no table in it to index", Hint: "name another database, or other schemas: --schema"}}
		}
		return nil, d.refused
	}
	text := []byte(oneIdentity(d.b.String()))
	if err := d.accepted(text); err != nil {
		return nil, err
	}
	return &Draft{Text: text, Indices: d.indices, LeftOut: d.leftOut}, nil
}

var wholeRows = []*regexp.Regexp{
	regexp.MustCompile(`(ALTER TABLE ".+ REPLICA IDENTITY )FULL(;)`),
	regexp.MustCompile(`(ALTER TABLE %s REPLICA IDENTITY )FULL(', relid::regclass\) FROM pg_partition_tree\('.+'\) WHERE)`),
}

// oneIdentity has a table that is to log whole rows for one include not be told to log
// only its key for another.
func oneIdentity(text string) string {
	for _, statement := range wholeRows {
		for _, m := range statement.FindAllStringSubmatch(text, -1) {
			text = strings.ReplaceAll(text, m[1]+"DEFAULT"+m[2], m[0])
		}
	}
	return text
}

// accepted makes sure that the parts, each of which was checked, are right as a whole.
func (d *drafter) accepted(text []byte) error {
	config, err := mapping.Parse("draft", text, func(string) (string, bool) { return "postgres://localhost/db", true })
	if err == nil {
		if problems := config.Check(d.tables); len(problems) > 0 {
			err = problems
		}
	}
	if err != nil {
		return fmt.Errorf("the draft itself is not right, which is a fault of Tidemark: %w", err)
	}
	return nil
}

// selected returns the tables that are to have an index.
func (c *survey) selected(o Options) ([]catalog.TableName, error) {
	var problems mapping.Problems
	in := make(map[string]bool)
	for _, schema := range o.Schemas {
		if in[schema] = true; !c.schemas[schema] {
			problems = append(problems, mapping.Problem{File: "--schema", Text: fmt.Sprintf("no tables in a schema %s", catalog.QuoteIdent(schema)), Hint: "its schemas with tables: " + strings.Join(c.schemaNames(), ", ")})
		}
	}
	inside := func(name catalog.TableName) bool { return len(in) == 0 || in[name.Schema] }
	var selected []catalog.TableName
	add := make(map[catalog.TableName]bool)
	for _, text := range o.Tables {
		name, err := catalog.ParseTableName(text)
		if err != nil {
			problems = append(problems, mapping.Problem{File: "--tables", Text: fmt.Sprintf("%s: %v", text, err), Hint: `public.products, or 'public."Weird.Name"'`})
			continue
		}
		if found := c.called(name, inside); found != nil {
			name = *found
		} else {
			problems = append(problems, c.noTable(name))
		}
		add[name] = true
	}
	for _, name := range c.names {
		if len(o.Tables) == 0 && inside(name) && !c.pureLink(name) || add[name] {
			selected = append(selected, name)
		}
	}
	if len(problems) > 0 {
		return nil, problems
	}
	return selected, nil
}

// called returns the table of this name, or else the only one that is called so in another
// schema.
func (c *survey) called(name catalog.TableName, inside func(catalog.TableName) bool) *catalog.TableName {
	if c.facts[name] != nil && inside(name) {
		return &name
	}
	var found []catalog.TableName
	for _, other := range c.names {
		if name.Schema == "public" && other.Name == name.Name && inside(other) {
			found = append(found, other)
		}
	}
	if len(found) == 1 {
		return &found[0]
	}
	return nil
}

// maxNamed bounds a list of what there is.
const maxNamed = 20

// noTable says of a table that is not there what check would say of it.
func (c *survey) noTable(name catalog.TableName) mapping.Problem {
	d := drafter{survey: c}
	p := mapping.Problem{File: "--tables"}
	if c.facts[name] != nil {
		p.Text, p.Hint = fmt.Sprintf("table %s is not in a schema of --schema", name), "add its schema: --schema "+name.Schema
		return p
	}
	if _, err := d.tryOut("table: " + scalar(name.String())); err != nil {
		if problems, ok := errors.AsType[mapping.Problems](err); ok {
			p.Text, p.Hint = reason(problems[0]), problems[0].Hint
		}
	}
	if p.Hint == "" {
		var names []string
		for _, name := range c.names[:min(len(c.names), maxNamed)] {
			names = append(names, name.String())
		}
		p.Hint = "there are: " + strings.Join(names, ", ")
		if len(c.names) > maxNamed {
			p.Hint += ", …"
		}
	}
	return p
}
