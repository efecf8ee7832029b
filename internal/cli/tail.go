package cli

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"tidemark/dbsync"
	"tidemark/internal/prepare"
	"tidemark/mapping"
	"tidemark/mapping/catalog"
)

const (
	// tailPause is how long is waited before the log is asked for more.
	tailPause = 200 * time.Millisecond
	// tailChanges is about how many changes are read at a time: whole transactions.
	tailChanges = 1000
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
			"JSON. It reads the log by a temporary slot of its own, which Postgres drops when the command ends: the slot that indices\n" +
			"are kept by is not touched, and the cluster is not asked anything. Values of rows are printed: beware of who sees them.\n\n" +
			"The operations: store (with the document), delete, reread (the row is read again by its key, since the log does not have all\n" +
			"of its document), related (documents that have the row in them are found and read again), truncate.",
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
	t := &tailer{config: &config, tables: tables, out: out, left: o.count, relations: make(map[uint32]*tailRelation), slot: "tidemark_tail_" + strings.ToLower(rand.Text())}
	// A session of its own: the slot ends with it.
	return dbsync.WithConn(ctx, db, func(conn *pgx.Conn) error { return t.follow(ctx, conn) })
}

// A tailer shows changes.
type tailer struct {
	config    *mapping.Config
	tables    catalog.Tables
	out       io.Writer
	left      int // changes to show; 0: without end
	slot      string
	relations map[uint32]*tailRelation

	commit pglogrepl.LSN // of the transaction that messages are of
	xid    uint32
}

// A tailRelation is a table as the log describes it.
type tailRelation struct {
	msg     *pglogrepl.RelationMessage
	name    catalog.TableName
	sources []*tailSource
	related []string // sources whose documents have its rows in them
}

// A tailSource is an index whose documents are made of rows of a relation.
type tailSource struct {
	*mapping.Source
	plan *mapping.Plan
}

// errTailDone ends it after enough changes.
var errTailDone = errors.New("enough changes were shown")

func (t *tailer) follow(ctx context.Context, conn *pgx.Conn) error {
	publication := t.config.Postgres.Publication
	var there bool
	if err := conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_catalog.pg_publication WHERE pubname = $1)`, publication).Scan(&there); err != nil {
		return fmt.Errorf("look for publication %s: %w", publication, err)
	}
	if !there {
		return fmt.Errorf("there is no publication %s yet%s", publication, withHint("tidemark run makes it"))
	}
	// Postgres waits for the transactions that are writing now to end.
	if _, err := conn.Exec(ctx, `SELECT pg_catalog.pg_create_logical_replication_slot($1, 'pgoutput', true)`, t.slot); err != nil {
		return fmt.Errorf("make a temporary slot: %w", err)
	}
	defer func() {
		// At once, and not when the connection is closed. If that fails the session's end does it.
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_, _ = conn.Exec(end, `SELECT pg_catalog.pg_drop_replication_slot($1)`, t.slot)
	}()
	for {
		n, err := t.read(ctx, conn)
		if errors.Is(err, errTailDone) {
			return nil
		}
		if err != nil {
			return err
		}
		if n > 0 {
			continue
		}
		select {
		case <-time.After(tailPause): // nothing tells a session what is written
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// read shows what is there, and returns how many messages that were.
func (t *tailer) read(ctx context.Context, conn *pgx.Conn) (n int, err error) {
	rows, err := conn.Query(ctx, `SELECT data FROM pg_catalog.pg_logical_slot_get_binary_changes($1, NULL, $2, 'proto_version', '1', 'publication_names', $3)`,
		t.slot, tailChanges, catalog.QuoteIdent(t.config.Postgres.Publication))
	if err != nil {
		return 0, fmt.Errorf("read the log: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var data []byte
		if err := rows.Scan(&data); err != nil {
			return n, fmt.Errorf("read the log: %w", err)
		}
		n++
		msg, err := pglogrepl.Parse(data)
		if err != nil {
			return n, fmt.Errorf("read the log: %w", err)
		}
		if err := t.show(msg); err != nil {
			return n, err
		}
	}
	if err := rows.Err(); err != nil {
		return n, fmt.Errorf("read the log: %w", err)
	}
	return n, nil
}

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
	ID       string          `json:"id,omitempty"`
	Routing  string          `json:"routing,omitempty"`
	Document json.RawMessage `json:"document,omitempty"`
	Error    string          `json:"error,omitempty"` // why no document can be made: a dead letter
}

func (t *tailer) show(msg pglogrepl.Message) error {
	switch m := msg.(type) {
	case *pglogrepl.BeginMessage:
		t.commit, t.xid = m.FinalLSN, m.Xid
	case *pglogrepl.RelationMessage:
		return t.describe(m)
	case *pglogrepl.InsertMessage:
		return t.change("insert", m.RelationID, nil, m.Tuple)
	case *pglogrepl.UpdateMessage:
		return t.change("update", m.RelationID, m.OldTuple, m.NewTuple)
	case *pglogrepl.DeleteMessage:
		return t.change("delete", m.RelationID, m.OldTuple, nil)
	case *pglogrepl.TruncateMessage:
		for _, id := range m.RelationIDs {
			r := t.relations[id]
			if r == nil {
				continue
			}
			line := t.line("truncate", r)
			for _, s := range r.sources {
				line.Operations = append(line.Operations, operationLine{Do: "truncate", Index: s.Index.Name})
			}
			line.Operations = append(line.Operations, r.relatedLines()...)
			if err := t.print(line); err != nil {
				return err
			}
		}
	}
	return nil
}

// describe takes up what a table is like.
func (t *tailer) describe(m *pglogrepl.RelationMessage) error {
	r := &tailRelation{msg: m, name: catalog.TableName{Schema: m.Namespace, Name: m.RelationName}}
	delete(t.relations, m.RelationID)
	var columns []string
	for _, c := range m.Columns {
		columns = append(columns, c.Name)
	}
	for _, ix := range t.config.Indices {
		for _, s := range ix.Sources {
			if s.Table == r.name {
				plan, err := mapping.Compile(s, t.tables[s.Table], columns)
				if err != nil {
					return err
				}
				r.sources = append(r.sources, &tailSource{s, plan})
			}
			if slices.ContainsFunc(s.Paths(), func(p *mapping.Path) bool { return p.Table() == r.name }) {
				r.related = append(r.related, ix.Name)
			}
		}
	}
	if len(r.sources)+len(r.related) > 0 {
		t.relations[m.RelationID] = r
	}
	return nil
}

func (r *tailRelation) relatedLines() (lines []operationLine) {
	for _, name := range r.related {
		lines = append(lines, operationLine{Do: "related", Index: name})
	}
	return lines
}

func (t *tailer) line(change string, r *tailRelation) *changeLine {
	return &changeLine{Position: t.commit.String(), Xid: t.xid, Change: change, Table: r.name.String(), Operations: []operationLine{}}
}

// change shows the change of a row, of which a part may be missing on either side.
func (t *tailer) change(what string, relation uint32, before, after *pglogrepl.TupleData) error {
	r := t.relations[relation]
	if r == nil {
		return nil // of no index that is shown
	}
	line := t.line(what, r)
	line.Old, line.New = r.values(before), r.values(after)
	for _, s := range r.sources {
		line.Operations = append(line.Operations, s.operations(before, after)...)
	}
	line.Operations = append(line.Operations, r.relatedLines()...)
	return t.print(line)
}

// operations are what a change does to documents of the source.
func (s *tailSource) operations(before, after *pglogrepl.TupleData) (lines []operationLine) {
	at := func(row *pglogrepl.TupleData) (operationLine, bool) {
		if row == nil {
			return operationLine{}, false
		}
		id, ok := s.plan.ID(row)
		routing, routed := s.plan.Routing(row)
		return operationLine{Index: s.Index.Name, ID: id, Routing: routing}, ok && routed
	}
	now, there := at(after)
	if old, ok := at(before); ok && (!there || old.ID != now.ID || old.Routing != now.Routing) {
		old.Do = "delete"
		lines = append(lines, old)
	}
	if after == nil {
		return lines
	}
	after = merged(before, after)
	now.Do = "store"
	switch {
	case !there || len(s.Include) > 0 || !s.plan.Complete(after):
		now.Do = "reread"
	default:
		holds, err := s.plan.Holds(after)
		if err == nil && !holds {
			now.Do = "delete"
		} else if err == nil {
			now.Document, err = s.plan.AppendDocument(nil, after)
		}
		if err != nil {
			now.Document, now.Error = nil, dbsync.WithoutValues(err)
		}
	}
	return append(lines, now)
}

// merged is the new row with those values of the old one that did not change and are too large to be logged again,
// where the replica identity is the whole row.
func merged(before, after *pglogrepl.TupleData) *pglogrepl.TupleData {
	if before == nil || len(before.Columns) != len(after.Columns) {
		return after
	}
	row := *after
	row.Columns = slices.Clone(after.Columns)
	for i, c := range row.Columns {
		if c.DataType == pglogrepl.TupleDataTypeToast && before.Columns[i].DataType == pglogrepl.TupleDataTypeText {
			row.Columns[i] = before.Columns[i]
		}
	}
	return &row
}

// values are what the log has of a row, in the text form of the database; what it does not have is left out.
func (r *tailRelation) values(row *pglogrepl.TupleData) map[string]any {
	if row == nil {
		return nil
	}
	values := make(map[string]any)
	for i, c := range row.Columns {
		if i >= len(r.msg.Columns) {
			break
		}
		switch c.DataType {
		case pglogrepl.TupleDataTypeNull:
			values[r.msg.Columns[i].Name] = nil
		case pglogrepl.TupleDataTypeText:
			values[r.msg.Columns[i].Name] = string(c.Data)
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
