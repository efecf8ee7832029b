package cli

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"

	"github.com/jackc/pglogrepl"
	"github.com/spf13/cobra"

	"tidemark/dbsync"
	"tidemark/indexer"
	"tidemark/internal/prepare"
	"tidemark/mapping/catalog"
)

type tailOptions struct {
	common
	indices []string
	count   int
}

func newTail(stderr io.Writer) *cobra.Command {
	o := tailOptions{common: common{level: level(slog.LevelWarn)}}
	c := &cobra.Command{
		Use:   "tail",
		Short: "Show changes as they are committed, and what they do to documents",
		Long: "Shows each change of a mapped table as it is committed from now on, decoded, and the operations that it gives, as lines of\n" +
			"JSON: those that a running instance makes of it. It reads the log by a temporary slot of its own, which Postgres drops when\n" +
			"the command ends: the slot that indices are kept by is not touched, nothing is written, and the cluster is not asked\n" +
			"anything. Values of rows are printed: beware of who sees them.\n\n" +
			"The operations: store (with the document), delete, refused (no document can be made: a dead letter), reread (the row is read\n" +
			"again by its key, since the log does not have all of its document), related (documents that have the row in them are found\n" +
			"by its values and read again), truncate.",
		Example: "  tidemark tail\n  tidemark tail --index products --count 10",
		Args:    noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			if o.count < 0 {
				return &usageError{errors.New("--count: want a number from 0 on"), c.CommandPath()}
			}
			err := o.run(c.Context(), c.OutOrStdout(), stderr)
			if c.Context().Err() != nil {
				return nil // how it ends
			}
			return err
		},
	}
	o.add(c)
	c.Flags().StringSliceVar(&o.indices, "index", nil, "only changes of tables of these `indices` (a,b,…)")
	c.Flags().IntVar(&o.count, "count", 0, "end after `n` changes; 0: when it is interrupted")
	_ = c.RegisterFlagCompletionFunc("index", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return indexNames(o.file), cobra.ShellCompDirectiveNoFileComp
	})
	return c
}

func (o *tailOptions) run(ctx context.Context, out, stderr io.Writer) error {
	log, _ := o.logger(stderr)
	whole, indices, err := readNamed(ctx, o.file, orAll(o.indices), log, askPatience)
	if err != nil {
		return err
	}
	config := *whole
	config.Indices = indices
	db, err := prepare.Open(ctx, &config, log, askPatience)
	if err != nil {
		return err
	}
	defer db.Close()
	tables, err := catalog.LoadTables(ctx, db, config.Tables(), config.Postgres.Publication)
	if err != nil {
		return err
	}
	if problems := config.Check(tables); len(problems) > 0 {
		return problems
	}
	tables.Follow(config.WithChildren())
	if err := hasPublication(ctx, db, config.Postgres.Publication); err != nil {
		return err
	}
	syncer, err := dbsync.NewTail(prepare.SyncerOptions(&config, tables, log)...)
	if err != nil {
		return err
	}
	defer syncer.Close()
	var documents []*indexer.Documents
	for _, ix := range indices {
		d := &indexer.Documents{Index: ix}
		d.SetTargets(indexer.Target{Alias: ix.Name})
		documents = append(documents, d)
	}
	// It has neither client nor Bulk: what it marks is shown, and never written.
	handler := indexer.NewHandler(indexer.HandlerOptions{Syncer: syncer, Documents: documents, Catalog: indexer.NewCatalog(tables, config.Postgres.Publication), Logger: log})
	handler.Begin(ctx)
	syncer.MessageHandler = handler
	t := &tailer{tables: tables, out: out, left: o.count}
	err = syncer.Tail(ctx, "tidemark_tail_"+strings.ToLower(rand.Text()), t.show)
	if errors.Is(err, errTailDone) {
		return nil
	}
	return err
}

// hasPublication makes sure that there is one: without it Postgres decodes nothing.
func hasPublication(ctx context.Context, db *sql.DB, name string) error {
	var there bool
	if err := db.QueryRowContext(ctx, `SELECT EXISTS (SELECT FROM pg_catalog.pg_publication WHERE pubname = $1)`, name).Scan(&there); err != nil {
		return fmt.Errorf("look for publication %s: %w", name, err)
	}
	if !there {
		return fmt.Errorf("there is no publication %s yet%s", name, withHint("tidemark run makes it"))
	}
	return nil
}

// A tailer prints changes.
type tailer struct {
	tables catalog.Tables // of the mapping
	out    io.Writer
	left   int // changes to show; 0: without end
}

// errTailDone ends it after enough changes.
var errTailDone = errors.New("enough changes were shown")

// A changeLine is a change as it is printed.
type changeLine struct {
	Position   string          `json:"position"` // of the commit
	Xid        uint32          `json:"xid"`
	Change     string          `json:"change"` // insert, update, delete, truncate
	Table      string          `json:"table"`
	Old        map[string]any  `json:"old,omitempty"` // what the log has of the row before
	New        map[string]any  `json:"new,omitempty"`
	Operations []operationLine `json:"operations"`
}

// An operationLine is what a change does to documents.
type operationLine struct {
	Do       string          `json:"do"`
	Index    string          `json:"index"`
	ID       string          `json:"id,omitempty"` // of truncate: how the ids begin
	Routing  string          `json:"routing,omitempty"`
	Key      []*string       `json:"key,omitempty"` // of reread and related: the values that rows are found by
	Document json.RawMessage `json:"document,omitempty"`
	Error    string          `json:"error,omitempty"` // of refused: why no document can be made, a dead letter
}

// show prints a change, unless it is of a table of no index that is shown.
func (t *tailer) show(c *dbsync.TailedChange) error {
	mapped := func(r *pglogrepl.RelationMessage) bool {
		return t.tables[catalog.TableName{Schema: r.Namespace, Name: r.RelationName}] != nil
	}
	if len(c.Operations) == 0 && !slices.ContainsFunc(c.Relations, mapped) {
		return nil
	}
	line := &changeLine{Position: c.Commit.String(), Xid: c.Xid, Operations: []operationLine{}}
	var names []string
	for _, r := range c.Relations {
		names = append(names, catalog.TableName{Schema: r.Namespace, Name: r.RelationName}.String())
	}
	line.Table = strings.Join(names, ", ")
	switch m := c.Message.(type) {
	case *pglogrepl.InsertMessage:
		line.Change, line.New = "insert", rowValues(c.Relations[0], m.Tuple)
	case *pglogrepl.UpdateMessage:
		line.Change, line.Old, line.New = "update", rowValues(c.Relations[0], m.OldTuple), rowValues(c.Relations[0], m.NewTuple)
	case *pglogrepl.DeleteMessage:
		line.Change, line.Old = "delete", rowValues(c.Relations[0], m.OldTuple)
	case *pglogrepl.TruncateMessage:
		line.Change = "truncate"
	}
	for i := range c.Operations {
		line.Operations = append(line.Operations, operationOf(&c.Operations[i]))
	}
	return t.print(line)
}

// operationOf is an operation as it is printed.
func operationOf(op *dbsync.Operation) operationLine {
	line := operationLine{Do: op.Kind.String(), Index: op.Index, ID: op.ID, Routing: op.Routing, Document: op.Body}
	if op.Err != nil {
		line.Error = dbsync.WithoutValues(op.Err)
	}
	for _, v := range op.Key {
		var text *string // nil: NULL
		if v != nil {
			s := string(v)
			text = &s
		}
		line.Key = append(line.Key, text)
	}
	return line
}

// rowValues are what the log has of a row, in the text form of the database; what it does not have is left out.
func rowValues(r *pglogrepl.RelationMessage, row *pglogrepl.TupleData) map[string]any {
	if row == nil {
		return nil
	}
	values := make(map[string]any)
	for i, c := range row.Columns {
		if i >= len(r.Columns) {
			break
		}
		switch c.DataType {
		case pglogrepl.TupleDataTypeNull:
			values[r.Columns[i].Name] = nil
		case pglogrepl.TupleDataTypeText:
			values[r.Columns[i].Name] = string(c.Data)
		}
	}
	return values
}

func (t *tailer) print(line *changeLine) error {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(line); err != nil {
		return fmt.Errorf("print a change: %w", err)
	}
	if _, err := io.WriteString(t.out, b.String()); err != nil {
		return fmt.Errorf("print a change: %w", err)
	}
	if t.left > 0 {
		if t.left--; t.left == 0 {
			return errTailDone
		}
	}
	return nil
}
