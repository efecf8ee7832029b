package indexer

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/dbsync"
	"tidemark/mapping"
	"tidemark/mapping/catalog"
	"tidemark/mapping/value"
)

const (
	// The documents of one query are held until its transaction has ended, so they are
	// bounded by number and in bytes. How many rows it asks for follows from the size of
	// those before, so that few are sent for nothing.
	firstRereadKeys = 64
	maxRereadKeys   = 2000
	rereadBytes     = 4 << 20
)

// A Reread is one statement by which rows were read again, for metrics and traces.
type Reread struct {
	Index     string // the alias
	Related   bool   // since rows changed that are in their documents; false: since they changed themselves, and the stream does not carry all of them
	Documents int    // that were made of them, or deleted, for each physical index
	Began     time.Time
	Duration  time.Duration
	Err       error // nil: it succeeded
}

// observe tells of a reading that began at a time.
func (r *rowReader) observe(ctx context.Context, began time.Time, what changed, documents int, err error) {
	if r.handler.o.Observe != nil {
		r.handler.o.Observe(ctx, Reread{Index: r.Plan.Documents.Index.Name, Related: what == aRelatedRow, Documents: documents, Began: began, Duration: time.Since(began), Err: err})
	}
}

// reread reads the rows of one source again and writes their documents: those that changed
// themselves, and those that related rows which changed are in, see rereadRelated. A key that gives no row any more is a deletion; if the row is there under
// another key, that change is in the stream. A row that is there with another routing leaves
// the document of the routing that the operation has: it has moved since, which is in the
// stream as well, or it is another row, which got the key in the same transaction.
//
// The rows may be newer than the operations' versions say. That does no harm: what made
// them newer comes with a later version.
func (h *Handler) reread(ctx context.Context, w *rereads, visible []uint32) error {
	plan, err := h.o.Catalog.plan(w.root)
	if err != nil {
		return err
	}
	r := h.newRowReader(plan, visible)
	direct := make(map[string]bool, len(w.direct))
	for i := range w.direct {
		op := &w.direct[i]
		if latest := w.latest; latest != nil && op.OlderThan(latest) {
			op.Version, op.Group = latest.Version, latest.Group
		}
		direct[op.ID] = true
	}
	if err := r.write(ctx, w.direct, itself); err != nil || len(w.lookups) == 0 {
		return err
	}
	return h.rereadRelated(ctx, r, w, direct)
}

// lookupsByPath puts together what is looked up by one path, each row once however many
// transactions changed it, and where the documents go to. No lookups at all stand for every
// row.
func (w *rereads) lookupsByPath() (lookups []mapping.Lookup, targets []Target) {
	all := false
	seen := make(map[string]bool)
	var row []byte
	for _, op := range w.lookups {
		path := op.Origin.(*link).path // see sortBatch
		if target := (Target{op.Index, op.Base}); !slices.Contains(targets, target) {
			targets = append(targets, target)
		}
		if op.Key == nil {
			all = true
			continue
		}
		i := slices.IndexFunc(lookups, func(l mapping.Lookup) bool { return l.Path == path })
		if i < 0 {
			i = len(lookups)
			lookups = append(lookups, mapping.Lookup{Path: path, Keys: make([][][]byte, len(op.Key))})
		}
		row = binary.AppendUvarint(row[:0], uint64(i))
		for _, v := range op.Key {
			row = append(binary.AppendUvarint(row, uint64(len(v))), v...)
		}
		if seen[string(row)] {
			continue
		}
		seen[string(row)] = true
		for j, v := range op.Key {
			lookups[i].Keys[j] = append(lookups[i].Keys[j], v)
		}
	}
	if all {
		return nil, targets
	}
	return lookups, targets
}

// A rowReader reads rows of one source again and writes their documents.
type rowReader struct {
	*Finder
	handler *Handler
}

// newRowReader makes one for a plan. What it reads shows the transactions visible.
func (h *Handler) newRowReader(plan *RowPlan, visible []uint32) *rowReader {
	read := func(ctx context.Context, tables []string, f func(*pgconn.PgConn) error) error {
		return h.o.Syncer.ReadVisible(ctx, visible, tables, f)
	}
	return &rowReader{handler: h, Finder: &Finder{Syncer: h.o.Syncer, Catalog: h.o.Catalog, Plan: plan, Read: read}}
}

// A changed says what has changed that a row is read again for.
type changed uint8

const (
	// The row itself, so the operation knows by which routing its document was known, and a row
	// that is gone has to be deleted.
	itself changed = iota

	// A row that is put into its document. Only the row says by which routing that is known,
	// and when it is gone its deletion is in the stream, with the routing.
	aRelatedRow
)

// write reads rows again and writes their documents, in pieces that are bounded in bytes.
func (r *rowReader) write(ctx context.Context, ops []dbsync.Operation, what changed) error {
	n := firstRereadKeys
	var suspicion Suspicion
	for len(ops) > 0 {
		n = min(n, len(ops))
		stale := IsRefusedStatement
		if suspicion.rows > 0 {
			stale = isStatementError // an error of a row is what is looked for
		}
		var now current
		began := time.Now()
		err := r.withPlan(ctx, stale, func() (err error) {
			now, err = r.read(ctx, r.Plan, ops[:n], what)
			return err
		})
		r.observe(ctx, began, what, len(now.made), err)
		if IsRefusedValue(err) && (suspicion.rows == 0 || n == 1) {
			kept, failed := r.deleteRefused(ctx, ops[:n], what)
			if failed != nil {
				return fmt.Errorf("delete documents of %s: %w", r.Plan.Table.TableName(), failed)
			}
			if len(kept) < n {
				suspicion.Clear()
				ops = append(kept, ops[n:]...)
				continue
			}
		}
		if dbsync.IsRowError(err) {
			next, ended := suspicion.Failed(ctx, n, err)
			if ended == nil && next > 0 {
				n = next
				continue
			}
			why := err
			if err = ended; err == nil {
				now, err = r.refuse(ctx, ops[:1], what, why)
			}
		}
		if err != nil {
			return fmt.Errorf("read %d rows of %s again: %w", n, r.Plan.Table.TableName(), err)
		}
		if err := r.handler.o.Writer.Write(ctx, now.made); err != nil {
			return err
		}
		bytes := 0
		for i := range now.made {
			bytes += len(now.made[i].Body)
		}
		suspicion.Passed(n - len(now.left))
		ops = append(now.left, ops[n:]...)
		n = suspicion.Bound(min(maxRereadKeys, rereadBytes*len(now.made)/max(bytes, 1)))
	}
	return nil
}

// refuse has operations on one row refused because of why, which no document can be made for. Of
// the row its key and routing are read alone: it may be gone, or routed otherwise, by now.
func (r *rowReader) refuse(ctx context.Context, ops []dbsync.Operation, what changed, why error) (current, error) {
	now, err := r.read(ctx, r.Plan.Refusing(why), ops, what)
	if !dbsync.IsRowError(err) {
		return now, err
	}
	now = current{} // nothing of the row can be read
	for _, op := range ops {
		op.Kind, op.Err = dbsync.Refused, why
		now.made = append(now.made, op)
	}
	return now, nil
}

// deleteRefused deletes the documents whose key has a value that the type of its column does not
// take, as no row has it: the type is another one since. It returns the other operations.
func (r *rowReader) deleteRefused(ctx context.Context, ops []dbsync.Operation, what changed) (kept []dbsync.Operation, err error) {
	columns := r.Plan.Source.KeyColumns(r.Plan.Table)
	keys := make([][][]byte, len(columns))
	for i := range ops {
		for j, v := range ops[i].Key {
			keys[j] = append(keys[j], v)
		}
	}
	refused, err := refusedKeys(ctx, r.Syncer.DB(), r.Plan.Table, columns, keys)
	if err != nil {
		return nil, err
	}
	var gone []dbsync.Operation
	for i := range ops {
		switch {
		case !refused[i]:
			kept = append(kept, ops[i])
		case what == itself:
			gone = append(gone, deletion(&ops[i]))
		}
	}
	return kept, r.handler.o.Writer.Write(ctx, gone)
}

// current is what operations have become by the rows as they are now.
type current struct {
	made []dbsync.Operation
	left []dbsync.Operation // as they were: there was no room for their documents
}

// add adds the document of a row to the operations that asked for it, all of one ID.
func (c *current) add(read dbsync.Operation, wanted []*dbsync.Operation, what changed) {
	var moved []dbsync.Operation // away from there: their rows are routed otherwise now
	before := len(c.made)
	for _, op := range wanted {
		if what == itself && op.Routing != read.Routing {
			moved = append(moved, deletion(op))
		}
		again := read
		again.Index, again.Version, again.Group, again.Base, again.Xid = op.Index, op.Version, op.Group, op.Base, op.Xid
		// One document of an index may be wanted by several routings.
		if i := slices.IndexFunc(c.made[before:], func(made dbsync.Operation) bool { return made.Index == op.Index }); i < 0 {
			c.made = append(c.made, again)
		} else if made := &c.made[before+i]; made.OlderThan(op) {
			*made = again
		}
	}
	c.made = slices.Insert(c.made, before, moved...)
}

// deletion returns the deletion of the document that an operation is on.
func deletion(op *dbsync.Operation) dbsync.Operation {
	gone := *op
	gone.Kind, gone.Body, gone.Origin, gone.Key = dbsync.Delete, nil, nil, nil
	return gone
}

// read reads the rows of operations by plan as they are now. When their documents come to rereadBytes,
// the rest is left.
func (r *rowReader) read(ctx context.Context, plan *RowPlan, ops []dbsync.Operation, what changed) (now current, err error) {
	// A batch may hold the same document for two indices: they get the same row.
	wanted := make(map[string][]*dbsync.Operation, len(ops))
	keys := make([][][]byte, 0, len(ops))
	for i := range ops {
		op := &ops[i]
		if wanted[op.ID] == nil {
			keys = append(keys, op.Key)
		}
		wanted[op.ID] = append(wanted[op.ID], op)
	}
	query, args := KeysQuery(plan, keys)
	err = r.Read(ctx, plan.Selection.Locks, func(conn *pgconn.PgConn) error {
		result := conn.ExecParams(ctx, query, args, nil, nil, nil)
		var failed error
		bytes := 0
		for result.NextRow() {
			row := RowOf(result.Values())
			read, err := plan.identify(row)
			if err != nil {
				failed = err
				continue
			}
			full := bytes >= rereadBytes
			switch {
			case full:
			case plan.refuse != nil:
				read.Kind, read.Err = dbsync.Refused, plan.refuse
			default:
				makeDocument(&read, plan.Plan, row, nil)
				bytes += len(read.Body)
			}
			if full {
				for _, op := range wanted[read.ID] {
					now.left = append(now.left, *op)
				}
			} else {
				now.add(read, wanted[read.ID], what)
			}
			delete(wanted, read.ID)
		}
		if _, err := result.Close(); err != nil {
			return dbsync.AtRows(err)
		}
		return failed
	})
	if err != nil {
		return current{}, err
	}
	if what != itself {
		return now, nil
	}
	for _, gone := range wanted {
		for _, op := range gone {
			now.made = append(now.made, deletion(op))
		}
	}
	return now, nil
}

// Reload looks up what the tables are now that the rows of a plan are made of, and returns the
// plan for that. Its error is an [*UnfitError] when a table is gone, or the mapping does not fit any more.
func (c *Catalog) Reload(ctx context.Context, q catalog.Querier, p *RowPlan) (*RowPlan, error) {
	for _, name := range p.Source.Tables() {
		t, err := c.load(ctx, q, name)
		if err != nil {
			return nil, err
		}
		if t == nil {
			return nil, &UnfitError{Index: p.Documents.Index.Name, Err: gone(name, goneOrRenamed)}
		}
	}
	altered, err := NewRowPlan(p.Documents, p.Source, c.Tables(), p.Targets...)
	if err != nil {
		return nil, &UnfitError{Index: p.Documents.Index.Name, Err: err}
	}
	altered.Live = p.Live
	return altered, nil
}

// KeyTexts returns a key as the control schema and requests have it; nil for nil.
func KeyTexts(key [][]byte) []string {
	var texts []string
	for _, v := range key {
		texts = append(texts, string(v))
	}
	return texts
}

// KeyOf returns the key that KeyTexts made texts of.
func KeyOf(texts []string) [][]byte {
	var key [][]byte
	for _, v := range texts {
		key = append(key, []byte(v))
	}
	return key
}

// KeysQuery returns the statement that selects rows by key, and its parameters: one
// array of text for each key column. A domain may refuse values that are in its columns, by a
// constraint that is NOT VALID, so values are those of the type below.
func KeysQuery(p *RowPlan, keys [][][]byte) (query string, args [][]byte) {
	var from, on strings.Builder
	var names []string
	for i, name := range p.Source.KeyColumns(p.Table) {
		if i > 0 {
			from.WriteString(", ")
			on.WriteString(" AND ")
		}
		k := fmt.Sprintf("k%d", i)
		names = append(names, k)
		fmt.Fprintf(&from, "pg_catalog.unnest($%d::pg_catalog.text[])", i+1)
		typ := p.Table.Column(name).Type
		fmt.Fprintf(&on, "%s.%s %s k.%s::%s", mapping.Root, catalog.QuoteIdent(name), typ.Operator("="), k, typ.Root().Name)
		column := make([][]byte, len(keys))
		for j := range keys {
			column[j] = keys[j][i]
		}
		args = append(args, value.TextArray(column))
	}
	if rows := p.Source.RowsOf(p.Table, mapping.Root); rows != "" {
		on.WriteString(" AND " + rows)
	}
	return p.Selection.Statement(fmt.Sprintf("ROWS FROM (%s) AS k(%s) JOIN %s %s ON %s",
		&from, strings.Join(names, ", "), p.Table.From(), mapping.Root, &on)), args
}
