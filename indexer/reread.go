package indexer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/dbsync"
	"tidemark/indexer/search"
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

	// findKeys is how many keys of documents whose related rows changed are held at a time.
	// Each page searches anew, so a change that concerns more of them costs that again.
	findKeys = 10_000
)

// rereadKey is the Tag of an operation whose row has to be read again.
type rereadKey struct {
	root
	values [][]byte // text of the key columns, nil for NULL
	found  bool     // by a related row: the operation's routing is not known yet
}

// rereads are the documents of a batch that have to be read again, by what they are made of.
type rereads struct {
	roots []*rootRereads
	xids  []uint32 // that what is read must show
}

// rootRereads are those of one source.
type rootRereads struct {
	root
	direct  []dbsync.Operation // whose rows changed, or were incomplete
	lookups []*dbsync.Operation
	version pglogrepl.LSN // the latest of lookups
}

// newRereads begins with what has to be visible. With related rows that is everything in
// the batch: a document is made of what several transactions did, and whatever is read for
// the sake of one must not be older than another one's. Otherwise it is what the documents
// themselves wait for; two transactions that change one row are visible in their order.
func newRereads(ops []dbsync.Operation) *rereads {
	w := new(rereads)
	all, own := make(map[uint32]bool), make(map[uint32]bool)
	related := false
	for i := range ops {
		op := &ops[i]
		all[op.Xid] = true
		switch tag := op.Tag.(type) {
		case *rereadKey:
			own[op.Xid] = true
			related = related || len(tag.source.Include) > 0
		case *relatedKey:
			related = true
		case *streamPlan: // it removes documents
			related = related || len(tag.source.Include) > 0
		}
	}
	if !related {
		all = own
	}
	delete(all, 0) // rows of windows
	w.xids = slices.Collect(maps.Keys(all))
	return w
}

// add takes up an operation whose document has to be read again.
func (w *rereads) add(op *dbsync.Operation) {
	switch tag := op.Tag.(type) {
	case *rereadKey:
		r := w.of(tag.root)
		r.direct = append(r.direct, *op)
	case *relatedKey:
		r := w.of(root{tag.documents, tag.path.Source})
		r.lookups = append(r.lookups, op)
		r.version = max(r.version, op.Version)
	}
}

func (w *rereads) of(r root) *rootRereads {
	for _, have := range w.roots {
		if have.root == r {
			return have
		}
	}
	w.roots = append(w.roots, &rootRereads{root: r})
	return w.roots[len(w.roots)-1]
}

// reread reads the rows of one source again and writes their documents: those that changed
// themselves, and those that related rows which changed are in, page by page in the order
// of the key. A key that gives no row any more is a deletion; if the row is there under
// another key, that change is in the stream.
//
// The rows may be newer than the operations' versions say. That does no harm: what made
// them newer comes with a later version.
func (h *Handler) reread(ctx context.Context, r *rootRereads, xids []uint32) error {
	rows, err := h.o.Catalog.plan(r.root)
	if err != nil {
		return &dbsync.PermanentError{Err: err}
	}
	direct := make(map[string]bool, len(r.direct))
	for i := range r.direct {
		op := &r.direct[i]
		op.Version = max(op.Version, r.version)
		direct[op.ID] = true
	}
	if rows, err = h.writeAgain(ctx, rows, r.direct, xids); err != nil || len(r.lookups) == 0 {
		return err
	}
	lookups, targets := r.lookupsByPath()
	for after, more := [][]byte(nil), true; more; {
		var keys [][][]byte
		if keys, rows, err = h.find(ctx, rows, lookups, after, xids); err != nil {
			return err
		}
		if more = len(keys) == findKeys; more {
			after = keys[len(keys)-1]
		}
		var ops []dbsync.Operation
		for _, values := range keys {
			id := rows.Plan.IDOf(values)
			if direct[id] {
				continue // its document is as new
			}
			for _, target := range targets {
				ops = append(ops, dbsync.Operation{Index: target, ID: id, Version: r.version, Reread: true, Tag: &rereadKey{root: r.root, values: values, found: true}})
			}
		}
		if rows, err = h.writeAgain(ctx, rows, ops, xids); err != nil {
			return err
		}
	}
	return nil
}

// lookupsByPath puts together what is looked up by one path, and the write aliases that the
// documents go to. No lookups at all stand for every row.
func (r *rootRereads) lookupsByPath() (lookups []mapping.Lookup, targets []string) {
	all := false
	seen := make(map[string]bool)
	for _, op := range r.lookups {
		key := op.Tag.(*relatedKey)
		for _, target := range key.targets {
			if !slices.Contains(targets, target) {
				targets = append(targets, target)
			}
		}
		if key.values == nil {
			all = true
			continue
		}
		if _, row, _ := strings.Cut(op.ID, "/"); seen[row] {
			continue // of another transaction
		} else {
			seen[row] = true
		}
		i := slices.IndexFunc(lookups, func(l mapping.Lookup) bool { return l.Path == key.path })
		if i < 0 {
			i = len(lookups)
			lookups = append(lookups, mapping.Lookup{Path: key.path, Keys: make([][][]byte, len(key.values))})
		}
		for j, v := range key.values {
			lookups[i].Keys[j] = append(lookups[i].Keys[j], v)
		}
	}
	if all {
		return nil, targets
	}
	return lookups, targets
}

// find returns the keys of the rows whose documents are concerned by lookups, a page of
// them after the key after, and the plan to read them by. What it costs does not depend on
// how many lookups there are, but on how many rows they find.
func (h *Handler) find(ctx context.Context, rows *RowPlan, lookups []mapping.Lookup, after [][]byte, xids []uint32) (keys [][][]byte, _ *RowPlan, err error) {
	rows, err = h.withPlan(ctx, rows, false, func(rows *RowPlan) error {
		query, args, err := rows.Source.Find(h.o.Catalog.Tables(), lookups, after, findKeys)
		if err != nil {
			return &dbsync.PermanentError{Err: err}
		}
		keys = nil
		return h.o.Syncer.ReadVisible(ctx, xids, rows.Selection.Locks, func(conn *pgconn.PgConn) error {
			result := conn.ExecParams(ctx, query, args, nil, nil, nil)
			for result.NextRow() {
				values := make([][]byte, len(result.Values()))
				for i, v := range result.Values() {
					values[i] = slices.Clone(v)
				}
				keys = append(keys, values)
			}
			_, err := result.Close()
			return err
		})
	})
	if err != nil {
		return nil, rows, fmt.Errorf("find the documents of %s whose related rows changed: %w", rows.Source.Name(), err)
	}
	return keys, rows, nil
}

// writeAgain reads rows again and writes their documents, in pieces that are bounded in
// bytes. It returns the plan that it came to.
func (h *Handler) writeAgain(ctx context.Context, rows *RowPlan, ops []dbsync.Operation, xids []uint32) (*RowPlan, error) {
	n := firstRereadKeys
	suspects := 0 // so many rows, the next ones, have one among them that no document can be made of
	for len(ops) > 0 {
		n = min(n, len(ops))
		var made, left []dbsync.Operation
		var err error
		rows, err = h.withPlan(ctx, rows, suspects > 0, func(rows *RowPlan) error {
			made, left, err = h.readAgain(ctx, rows, ops[:n], xids)
			return err
		})
		if IsDataError(err) {
			// One of the rows has what Postgres cannot make a document of.
			if n > 1 {
				suspects, n = n, n/2
				continue
			}
			refused := ops[0]
			refused.Reread, refused.Tag = false, &search.Unmade{Err: err}
			made, left, err = []dbsync.Operation{refused}, nil, nil
			suspects = 0
		}
		if err != nil {
			return rows, fmt.Errorf("read %d rows of %s again: %w", n, rows.Table.TableName(), err)
		}
		if err := h.o.Bulk.Write(ctx, made); err != nil {
			return rows, err
		}
		bytes := 0
		for i := range made {
			bytes += len(made[i].Body)
		}
		ops, suspects = append(left, ops[n:]...), max(0, suspects-n+len(left))
		n = max(1, min(maxRereadKeys, rereadBytes*len(made)/max(bytes, 1)))
		if suspects > 0 {
			n = min(n, (suspects+1)/2)
		}
	}
	return rows, nil
}

// withPlan calls f, and once more with the plan for the tables as they are now if Postgres
// takes exception to the statement: they were altered since the stream described them. When
// searching for a value that it takes exception to, that is known not to be why.
func (h *Handler) withPlan(ctx context.Context, rows *RowPlan, searching bool, f func(rows *RowPlan) error) (*RowPlan, error) {
	err := f(rows)
	if !IsRefusedStatement(err) || searching && IsDataError(err) {
		return rows, err
	}
	altered, err := h.o.Catalog.Reload(ctx, h.o.Syncer.DB(), rows)
	if err != nil {
		return rows, err
	}
	return altered, f(altered)
}

// Reload reads again what the tables are that rows are made of, and returns the plan for
// them as they are now.
func (c *Catalog) Reload(ctx context.Context, q catalog.Querier, rows *RowPlan) (*RowPlan, error) {
	for _, name := range rows.Source.Tables() {
		_, err := c.load(ctx, q, name)
		if errors.Is(err, catalog.ErrNoTable) {
			return nil, gone(name, goneOrRenamed)
		}
		if err != nil {
			return nil, err
		}
	}
	altered, err := NewRowPlan(rows.Documents, rows.Source, c.Tables(), rows.Targets...)
	if err != nil {
		return nil, &dbsync.PermanentError{Err: err}
	}
	altered.Live = rows.Live
	return altered, nil
}

// IsRefusedStatement reports whether Postgres takes exception to what a statement says, and
// not to the moment.
func IsRefusedStatement(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && strings.HasPrefix(pg.Code, "42") || IsDataError(err)
}

// IsDataError reports whether Postgres takes exception to a value.
func IsDataError(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && strings.HasPrefix(pg.Code, "22")
}

// readAgain returns the operations with the documents of their rows as they are now. The
// rows that go beyond rereadBytes are left: their operations come back as they are.
func (h *Handler) readAgain(ctx context.Context, p *RowPlan, ops []dbsync.Operation, xids []uint32) (made, left []dbsync.Operation, err error) {
	// A batch may hold the same document for two indices: they get the same row.
	wanted := make(map[string][]*dbsync.Operation, len(ops))
	keys := make([][][]byte, 0, len(ops))
	for i := range ops {
		op := &ops[i]
		if wanted[op.ID] == nil {
			keys = append(keys, op.Tag.(*rereadKey).values)
		}
		wanted[op.ID] = append(wanted[op.ID], op)
	}
	query, args := KeysQuery(p, keys)
	err = h.o.Syncer.ReadVisible(ctx, xids, p.Selection.Locks, func(conn *pgconn.PgConn) error {
		result := conn.ExecParams(ctx, query, args, nil, nil, nil)
		var failed error
		bytes := 0
		for result.NextRow() {
			row := RowOf(result.Values())
			read, err := p.identify(row)
			if err != nil {
				failed = err
				continue
			}
			full := bytes >= rereadBytes
			if !full {
				makeDocument(&read, p.Plan, row, nil)
				bytes += len(read.Body)
			}
			for _, op := range wanted[read.ID] {
				if full {
					left = append(left, *op)
					continue
				}
				// What the row is routed by may have changed since. That change is in the stream,
				// too, and a document that changed itself goes where it would have gone.
				again := read
				again.Index, again.Version, again.Xid = op.Index, op.Version, op.Xid
				if !op.Tag.(*rereadKey).found {
					again.Routing = op.Routing
				}
				made = append(made, again)
			}
			delete(wanted, read.ID)
		}
		if _, err := result.Close(); err != nil {
			return err
		}
		return failed
	})
	if err != nil {
		return nil, nil, err
	}
	for _, gone := range wanted {
		for _, op := range gone {
			if !op.Tag.(*rereadKey).found { // the deletion of another one is in the stream, with its routing
				made = append(made, dbsync.Operation{Index: op.Index, ID: op.ID, Routing: op.Routing, Version: op.Version, Xid: op.Xid, Delete: true})
			}
		}
	}
	return made, left, nil
}

// KeysQuery returns the statement that selects rows by key, and its parameters: one
// array of text for each key column.
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
		fmt.Fprintf(&on, "%s.%s %s k.%s::%s", mapping.Root, catalog.QuoteIdent(name), typ.Operator("="), k, typ.Name)
		column := make([][]byte, len(keys))
		for j := range keys {
			column[j] = keys[j][i]
		}
		args = append(args, value.TextArray(column))
	}
	return fmt.Sprintf("SELECT %s FROM ROWS FROM (%s) AS k(%s) JOIN %s %s ON %s",
		p.Selection.List, &from, strings.Join(names, ", "), p.Table.From(), mapping.Root, &on), args
}
