package cli

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"text/tabwriter"
	"unicode/utf8"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"tidemark/dbsync"
	"tidemark/indexer"
	"tidemark/indexer/search"
	"tidemark/internal/prepare"
	"tidemark/mapping"
	"tidemark/mapping/catalog"
	"tidemark/reindex/control"
)

const (
	// maxSample is how many rows preview shows at the most.
	maxSample = 1000

	// smallTable is up to how many rows all of them are read to choose some at random.
	smallTable = 10_000

	// shownValue is how many characters of a value are shown beside its column.
	shownValue = 60
)

type previewOptions struct {
	common
	ids    []string
	sample int
	json   bool
}

func newPreview(stderr io.Writer) *cobra.Command {
	o := previewOptions{common: common{level: level(slog.LevelWarn)}}
	c := &cobra.Command{
		Use:   "preview INDEX",
		Short: "Show the documents that rows give",
		Long: "Shows for some rows the document that the mapping file makes of each, the columns that it took, and the lines of the\n" +
			"bulk request that would store it. The rows are read now; the cluster is not asked anything, and nothing is changed\n" +
			"anywhere. Exit code 1: there is no such row, or no document can be made of one.",
		Example: "  tidemark preview products\n  tidemark preview products --id 17\n  tidemark preview products --sample 100 --json",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return errors.New("name one index")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			if o.sample < 1 || o.sample > maxSample {
				return &usageError{fmt.Errorf("--sample: want a number from 1 to %d", maxSample), c.CommandPath()}
			}
			if len(o.ids) > 0 && c.Flags().Changed("sample") {
				return &usageError{errors.New("--sample: rows are named by --id"), c.CommandPath()}
			}
			err := o.run(c.Context(), args[0], c.OutOrStdout(), stderr)
			if c.Context().Err() != nil {
				return errInterrupted
			}
			return err
		},
		ValidArgsFunction: func(_ *cobra.Command, given []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(given) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return indexNames(o.file)[1:], cobra.ShellCompDirectiveNoFileComp
		},
	}
	o.add(c)
	// No StringSlice: an _id may have a comma.
	c.Flags().StringArrayVar(&o.ids, "id", nil, "the row whose document has this `_id`; several times for several rows")
	c.Flags().IntVar(&o.sample, "sample", 5, "this `number` of rows, chosen at random")
	c.Flags().BoolVar(&o.json, "json", false, "print each row as a line of JSON")
	_ = c.RegisterFlagCompletionFunc("id", cobra.NoFileCompletions)
	_ = c.RegisterFlagCompletionFunc("sample", cobra.NoFileCompletions)
	return c
}

// errUnmade ends preview where a row gives no document that should; which is printed.
var errUnmade = errors.New("no document can be made of some rows, see above: they would be dead letters")

func (o *previewOptions) run(ctx context.Context, name string, out, stderr io.Writer) error {
	if name == "all" {
		return &usageError{errors.New("name one index"), "tidemark preview"}
	}
	log, _ := o.logger(stderr)
	whole, indices, err := readNamed(ctx, o.file, []string{name}, log, askPatience)
	if err != nil {
		return err
	}
	config := *whole
	config.Indices = indices // what is wrong with others does not matter here
	db, err := prepare.Open(ctx, &config, log, askPatience)
	if err != nil {
		return err
	}
	defer db.Close()
	tables, err := catalog.LoadTables(ctx, db, config.Tables(), "")
	if err != nil {
		return err
	}
	if problems := config.Check(tables); len(problems) > 0 {
		return problems
	}
	tables.Follow(config.WithChildren())
	v := &previewer{db: db, ix: indices[0], tables: tables, target: previewTarget(ctx, db, &config)}
	if err := db.QueryRowContext(ctx, `SELECT pg_catalog.pg_current_wal_insert_lsn()::text`).Scan(&v.at); err != nil {
		return fmt.Errorf("ask for the end of the log: %w", err)
	}
	previews, err := v.rows(ctx, o)
	if err != nil {
		return err
	}
	print, unmade := v.text, false
	if o.json {
		print = v.line
	}
	for _, p := range previews {
		unmade = unmade || p.Error != ""
		text, err := print(p)
		if err == nil {
			_, err = out.Write(text)
		}
		if err != nil {
			return fmt.Errorf("print what rows give: %w", err)
		}
	}
	if unmade {
		return errUnmade
	}
	return nil
}

// previewTarget is where documents of the index are written to, as far as the control schema says it.
func previewTarget(ctx context.Context, db *sql.DB, c *mapping.Config) indexer.Target {
	ix := c.Indices[0]
	if found, err := control.Look(ctx, db, c.StateSchema()); err == nil && found.Readable {
		if st, err := openControl(c, db).States().Read(ctx, ix.Name); err == nil && st != nil {
			live := st.Live
			if live.Physical == "" {
				live = st.Building
			}
			if live.Physical != "" {
				return indexer.Target{Alias: search.WriteAlias(ix.Name, live.Physical), Base: live.Base}
			}
		}
	}
	return indexer.Target{Alias: ix.Name} // nothing is filled yet, or an older version has noted it
}

// A previewer shows what rows of one index give.
type previewer struct {
	db     *sql.DB
	ix     *mapping.Index
	tables catalog.Tables
	target indexer.Target
	at     string // the end of the log, as the commit of the rows
}

// A rowPreview is what one row gives.
type rowPreview struct {
	Index    string          `json:"index"`
	Table    string          `json:"table"`
	ID       string          `json:"id"`
	Routing  string          `json:"routing,omitempty"`
	Holds    bool            `json:"holds"` // it is a document, by where
	Error    string          `json:"error,omitempty"`
	Document json.RawMessage `json:"document,omitempty"`
	Bulk     []string        `json:"bulk"` // lines
	Fields   []fieldPreview  `json:"fields,omitempty"`

	where string
}

// A fieldPreview is a field with what it is made of.
type fieldPreview struct {
	Field  string `json:"field"`
	Column string `json:"column"`
	Type   string `json:"type,omitempty"`
	Value  string `json:"value"` // JSON, shortened; of a list how many there are
}

// rows reads the rows that are meant, and makes what they give.
func (v *previewer) rows(ctx context.Context, o *previewOptions) (previews []rowPreview, err error) {
	if len(o.ids) == 0 {
		for _, s := range v.ix.Sources {
			plan, err := v.plan(s)
			if err != nil {
				return nil, err
			}
			found, err := v.sample(ctx, plan, o.sample)
			if err != nil {
				return nil, err
			}
			previews = append(previews, found...)
		}
		return previews, nil
	}
	for _, id := range o.ids {
		p, err := v.byID(ctx, id)
		if err != nil {
			return nil, err
		}
		previews = append(previews, *p)
	}
	return previews, nil
}

func (v *previewer) plan(s *mapping.Source) (*indexer.RowPlan, error) {
	return indexer.NewRowPlan(&indexer.Documents{Index: v.ix}, s, v.tables, v.target)
}

// sample reads some rows of a source. Of a large table a few pages are read, and its first rows where these
// have too few.
func (v *previewer) sample(ctx context.Context, plan *indexer.RowPlan, n int) ([]rowPreview, error) {
	from := plan.Table.From() + " " + mapping.Root
	if rows := plan.Table.EstimatedRows; rows >= 0 && rows <= smallTable {
		return v.read(ctx, plan, plan.Selection.Statement(fmt.Sprintf("%s ORDER BY pg_catalog.random() LIMIT %d", from, n)), nil)
	} else if rows > 0 {
		percent := min(100, 100*float64(100*n)/float64(rows))
		found, err := v.read(ctx, plan, plan.Selection.Statement(fmt.Sprintf("%s TABLESAMPLE SYSTEM (%g) LIMIT %d", from, percent, n)), nil)
		if err != nil || len(found) == n {
			return found, err
		}
	}
	return v.read(ctx, plan, plan.Selection.Statement(fmt.Sprintf("%s LIMIT %d", from, n)), nil)
}

// byID reads the row of a document.
func (v *previewer) byID(ctx context.Context, id string) (*rowPreview, error) {
	for _, s := range v.ix.Sources {
		if !s.Identifies(id) {
			continue
		}
		if s.IsHashed(id) {
			return nil, fmt.Errorf("_id %q is the hash of a key, and does not tell the key", id)
		}
		key, ok := s.KeyOf(v.tables[s.Table], id)
		if !ok {
			continue
		}
		plan, err := v.plan(s)
		if err != nil {
			return nil, err
		}
		query, args := indexer.KeysQuery(plan, [][][]byte{key})
		found, err := v.read(ctx, plan, query, args)
		if err != nil && !indexer.IsRefusedValue(err) {
			return nil, err
		}
		if len(found) > 0 {
			return &found[0], nil
		}
	}
	var made []string
	for _, s := range v.ix.Sources {
		made = append(made, s.IDText(v.tables[s.Table])+" of "+s.Table.String())
	}
	return nil, fmt.Errorf("index %s: there is no row whose document has the _id %q; it is made of %s", v.ix.Name, id, strings.Join(made, ", or "))
}

// read reads rows, and makes what they give.
func (v *previewer) read(ctx context.Context, plan *indexer.RowPlan, query string, args [][]byte) (previews []rowPreview, err error) {
	err = dbsync.WithConn(ctx, v.db, func(conn *pgx.Conn) error {
		rows := conn.PgConn().ExecParams(ctx, query, args, nil, nil, nil)
		for rows.NextRow() {
			p, err := v.row(plan, rows.Values())
			if err != nil {
				rows.Close()
				return err
			}
			previews = append(previews, *p)
		}
		_, err := rows.Close()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read rows of %s: %w", plan.Table.TableName(), err)
	}
	return previews, nil
}

// row makes what one row gives.
func (v *previewer) row(plan *indexer.RowPlan, values [][]byte) (*rowPreview, error) {
	tuple := indexer.RowOf(values)
	id, identified := plan.Plan.ID(tuple)
	routing, routed := plan.Plan.Routing(tuple)
	if !identified || !routed {
		return nil, fmt.Errorf("a row of %s has no key", plan.Table.TableName())
	}
	p := &rowPreview{Index: v.ix.Name, Table: plan.Source.Table.String(), ID: id, Routing: routing, where: plan.Source.Where}
	commit, err := pglogrepl.ParseLSN(v.at)
	if err != nil {
		return nil, fmt.Errorf("ask for the end of the log: %w", err)
	}
	op := dbsync.Operation{Kind: dbsync.Delete, Index: v.target.Alias, ID: id, Routing: routing, Version: commit, Base: v.target.Base}
	holds, failed := plan.Plan.Holds(tuple)
	if p.Holds = holds && failed == nil; p.Holds {
		op.Kind = dbsync.Store
		if op.Body, failed = plan.Plan.AppendDocument(nil, tuple); failed == nil {
			p.Document = op.Body
			if p.Fields, err = fieldsOf(plan.Source.Describe(v.tables), op.Body); err != nil {
				return nil, fmt.Errorf("document %q: %w", id, err)
			}
		}
	}
	if failed != nil {
		p.Error, p.Bulk = dbsync.WithoutValues(failed), []string{}
		return p, nil
	}
	lines, err := search.Lines(&op)
	if err != nil {
		return nil, err
	}
	p.Bulk = strings.Split(strings.TrimSuffix(string(lines), "\n"), "\n")
	return p, nil
}

// fieldsOf are the fields of a document, each with what it is made of.
func fieldsOf(made []mapping.Line, document []byte) (fields []fieldPreview, err error) {
	decoder := json.NewDecoder(bytes.NewReader(document))
	decoder.UseNumber()
	var root any
	if err := decoder.Decode(&root); err != nil {
		return nil, err
	}
	for _, line := range made {
		fields = append(fields, fieldPreview{Field: line.Path, Column: line.Column, Type: line.Type, Value: valueAt(root, line.Path)})
	}
	return fields, nil
}

// valueAt returns the value at a path of names as JSON; of what is in a list, how many objects or values
// that has.
func valueAt(value any, path string) string {
	for path != "" {
		object, ok := value.(map[string]any)
		if !ok {
			return "null" // the object around it
		}
		if whole, ok := object[path]; ok { // a column may have a dot in its name
			value = whole
			break
		}
		name, rest, _ := strings.Cut(path, ".")
		single, listed := strings.CutSuffix(name, "[]")
		value, path = object[single], rest
		if list, ok := value.([]any); ok && listed {
			return fmt.Sprintf("%d of them", len(list))
		}
	}
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return err.Error() // it was JSON before
	}
	text := bytes.TrimSpace(b.Bytes())
	if utf8.RuneCount(text) > shownValue {
		return string([]rune(string(text))[:shownValue]) + "…"
	}
	return string(text)
}

// line is a preview as a line of JSON.
func (v *previewer) line(p rowPreview) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(p)
	return b.Bytes(), err
}

// text is a preview for people.
func (v *previewer) text(p rowPreview) ([]byte, error) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %q", p.Index, p.ID)
	if p.Routing != "" {
		fmt.Fprintf(&b, " routing %q", p.Routing)
	}
	fmt.Fprintf(&b, ", of a row of %s\n", p.Table)
	switch {
	case p.Error != "":
		fmt.Fprintf(&b, "  no document can be made of it: %s\n", p.Error)
	case !p.Holds:
		fmt.Fprintf(&b, "  it is no document: %s is not true for it; one that is there is deleted\n", p.where)
	default:
		w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "  field\tcolumn\ttype\tvalue")
		for _, f := range p.Fields {
			fmt.Fprintf(w, "  %s\t%s\t%s\t%s\n", f.Field, f.Column, f.Type, f.Value)
		}
		if err := w.Flush(); err != nil {
			return nil, err
		}
		b.WriteString("  document\n    ")
		if err := json.Indent(&b, p.Document, "    ", "  "); err != nil {
			return nil, err
		}
		b.WriteByte('\n')
	}
	if len(p.Bulk) > 0 {
		b.WriteString("  bulk\n")
		for _, line := range p.Bulk {
			b.WriteString("    " + line + "\n")
		}
	}
	b.WriteByte('\n')
	return b.Bytes(), nil
}
