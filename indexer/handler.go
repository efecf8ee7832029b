package indexer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/dbsync"
	"tidemark/mapping"
)

// Documents is where the documents of one mapping are written: to one physical index,
// or to two while a second one is being built. It is safe for concurrent use.
type Documents struct {
	Index *mapping.Index

	mu      sync.Mutex
	targets []string // write aliases
}

// Targets returns the write aliases that documents are written to now.
func (d *Documents) Targets() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.targets
}

// SetTargets has the documents of every change from now on written to these write
// aliases. What is in a batch already goes where it was meant to go.
func (d *Documents) SetTargets(writeAliases ...string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.targets = slices.Clone(writeAliases)
}

// A Handler turns the messages of the stream into operations, and writes batches of them.
// It is the MessageHandler and, by [dbsync.OperationsOnly], the Batcher of a Syncer.
type Handler struct {
	dbsync.DefaultMessageHandler
	o       HandlerOptions
	sources map[mapping.TableName][]*Documents

	// The following belongs to the goroutine of Syncer.Run.
	ctx     context.Context          // see Begin
	xid     uint32                   // the transaction that the next message belongs to
	plans   map[uint32][]*streamPlan // by relation
	scratch []byte                   // a document being made
	merged  pglogrepl.TupleData      // see merge
}

// HandlerOptions says what a Handler works with. All of it is required.
type HandlerOptions struct {
	Syncer    *dbsync.Syncer
	Documents []*Documents
	Client    *Client
	Bulk      *Bulk
	Logger    *slog.Logger
}

// streamPlan turns rows of the stream into documents of one mapping.
type streamPlan struct {
	documents *Documents
	table     *mapping.Table
	plan      *mapping.Plan
	blind     error // why old rows cannot be told apart, nil if they can
}

// RowPlan turns rows that were selected into documents of one mapping. Columns is the
// select list that its rows have.
type RowPlan struct {
	Documents *Documents
	Table     *mapping.Table
	Columns   []string
	Plan      *mapping.Plan
	Targets   []string // write aliases that the rows go to
}

// NewRowPlan makes the plan for rows of a select list that has all the columns that
// documents of d need.
func NewRowPlan(d *Documents, t *mapping.Table, targets ...string) (*RowPlan, error) {
	columns := d.Index.Columns(t)
	plan, err := mapping.Compile(d.Index, t, columns)
	if err != nil {
		return nil, err
	}
	return &RowPlan{Documents: d, Table: t, Columns: columns, Plan: plan, Targets: targets}, nil
}

// NewHandler makes a Handler.
func NewHandler(o HandlerOptions) *Handler {
	h := &Handler{o: o, sources: make(map[mapping.TableName][]*Documents), plans: make(map[uint32][]*streamPlan)}
	for _, d := range o.Documents {
		h.sources[d.Index.Table] = append(h.sources[d.Index.Table], d)
	}
	return h
}

// Begin gives the handler the context of the run: the messages of the stream come
// without one. It is called before the first of them, see [dbsync.OnSlot].
func (h *Handler) Begin(ctx context.Context) { h.ctx = ctx }

// HandleBeginMessage notes which transaction the messages belong to.
func (h *Handler) HandleBeginMessage(_ int, msg *pglogrepl.BeginMessage) error {
	h.xid = msg.Xid
	return nil
}

// HandleRelationMessage compiles the plans for a table. The catalog that they are made
// of may be newer than the message: a column that the message does not have is read from
// the table, as a value that is too large to be in the log is. It must not be older, or
// documents would lack a column that the transaction has added, until the next time that
// the table is altered.
func (h *Handler) HandleRelationMessage(_ int, msg *pglogrepl.RelationMessage, _ *dbsync.PGTableInfo) error {
	name := mapping.TableName{Schema: msg.Namespace, Name: msg.RelationName}
	sources := h.sources[name]
	if len(sources) == 0 {
		return nil // published by somebody for somebody else
	}
	// A commit is in the stream before others see what it did to the catalog.
	visible := func(*pgconn.PgConn) error { return nil }
	if err := h.o.Syncer.ReadVisible(h.ctx, []uint32{h.xid}, nil, visible); err != nil {
		return fmt.Errorf("wait for the definition of table %s: %w", name, err)
	}
	table, err := mapping.LoadTable(h.ctx, h.o.Syncer.DB(), name.Schema, name.Name)
	if errors.Is(err, mapping.ErrNoTable) {
		return &dbsync.PermanentError{Err: fmt.Errorf("table %s is gone or was renamed; mend: change the mapping and start again", name)}
	}
	if err != nil {
		return err
	}
	columns := make([]string, len(msg.Columns))
	for i, c := range msg.Columns {
		columns[i] = c.Name
	}
	var plans []*streamPlan
	for _, d := range sources {
		plan, err := mapping.Compile(d.Index, table, columns)
		if err != nil {
			return &dbsync.PermanentError{Err: err}
		}
		plans = append(plans, &streamPlan{documents: d, table: table, plan: plan, blind: checkIdentity(msg, d.Index, table)})
	}
	h.plans[msg.RelationID] = plans
	return nil
}

// checkIdentity makes sure that old rows carry what tells which document they are. It
// was so at the start; somebody may have changed the replica identity since. Of a
// partitioned table the message tells the identity of the table itself, but old rows carry
// that of their partitions, which only the catalog knows.
//
// Inserts need no identity. What else was logged without it stays in the slot as it is,
// so mending the table lets it pass no more than starting again does.
func checkIdentity(msg *pglogrepl.RelationMessage, ix *mapping.Index, table *mapping.Table) error {
	identity := make(map[string]bool)
	for _, c := range msg.Columns {
		identity[c.Name] = c.Flags&1 != 0
	}
	needs := ix.KeyColumns(table)
	if ix.Routing != "" {
		needs = append(slices.Clip(needs), ix.Routing)
	}
	for _, name := range needs {
		if !identity[name] && !(table.Partitioned && table.Identity.Covers([]string{name})) {
			return &dbsync.PermanentError{Err: fmt.Errorf("index %s: %s was changed while column %s was not in its replica identity, so it is not known which documents are gone; "+
				"mend: ALTER TABLE %s REPLICA IDENTITY FULL, drop the replication slot, and start with on_slot_lost: reindex",
				ix.Name, table.TableName(), mapping.QuoteIdent(name), table.TableName())}
		}
	}
	return nil
}

// HandleInsertMessage stores the documents of a new row.
func (h *Handler) HandleInsertMessage(_ int, msg *pglogrepl.InsertMessage, _ *pglogrepl.RelationMessage, _ *dbsync.PGTableInfo) error {
	for _, p := range h.plans[msg.RelationID] {
		if err := h.store(p, msg.Tuple); err != nil {
			return err
		}
	}
	return nil
}

// HandleUpdateMessage stores the documents of a row as it is now. When its key or its
// routing changed, the document that it had before is removed.
func (h *Handler) HandleUpdateMessage(_ int, msg *pglogrepl.UpdateMessage, _ *pglogrepl.RelationMessage, _ *dbsync.PGTableInfo) error {
	plans := h.plans[msg.RelationID]
	if len(plans) == 0 {
		return nil
	}
	row := h.merge(msg.NewTuple, msg.OldTuple)
	for _, p := range plans {
		if p.blind != nil {
			return p.blind
		}
		if msg.OldTuple != nil {
			if err := h.removeMoved(p, msg.OldTuple, row); err != nil {
				return err
			}
		}
		if err := h.store(p, row); err != nil {
			return err
		}
	}
	return nil
}

// merge returns the new row, with values that it lacks taken from the old one: one that
// is kept outside of the row and did not change is not sent again, but with REPLICA
// IDENTITY FULL, or in a key, it is in the old row.
func (h *Handler) merge(row, old *pglogrepl.TupleData) *pglogrepl.TupleData {
	if old == nil || !slices.ContainsFunc(row.Columns, unchanged) {
		return row
	}
	h.merged.ColumnNum = row.ColumnNum
	h.merged.Columns = append(h.merged.Columns[:0], row.Columns...)
	for i, c := range h.merged.Columns {
		if unchanged(c) && i < len(old.Columns) && old.Columns[i].DataType == pglogrepl.TupleDataTypeText {
			h.merged.Columns[i] = old.Columns[i]
		}
	}
	return &h.merged
}

func unchanged(c *pglogrepl.TupleDataColumn) bool {
	return c.DataType == pglogrepl.TupleDataTypeToast
}

// removeMoved removes the document of an old row if the new row's is another one.
func (h *Handler) removeMoved(p *streamPlan, old, row *pglogrepl.TupleData) error {
	oldID, oldRouting, err := p.identify(old)
	if err != nil {
		return err
	}
	id, routing, err := p.identify(row)
	if err != nil {
		return err
	}
	if id != oldID || routing != oldRouting {
		h.mark(p, dbsync.Operation{ID: oldID, Routing: oldRouting, Delete: true})
	}
	return nil
}

// HandleDeleteMessage removes the documents of a row.
func (h *Handler) HandleDeleteMessage(_ int, msg *pglogrepl.DeleteMessage, _ *pglogrepl.RelationMessage, _ *dbsync.PGTableInfo) error {
	for _, p := range h.plans[msg.RelationID] {
		if p.blind != nil {
			return p.blind
		}
		id, routing, err := p.identify(msg.OldTuple)
		if err != nil {
			return err
		}
		h.mark(p, dbsync.Operation{ID: id, Routing: routing, Delete: true})
	}
	return nil
}

// HandleTruncateMessage removes all documents of the tables.
func (h *Handler) HandleTruncateMessage(_ int, _ *pglogrepl.TruncateMessage, tables []*pglogrepl.RelationMessage) error {
	for _, r := range tables {
		for _, p := range h.plans[r.RelationID] {
			h.mark(p, dbsync.Operation{Truncate: true})
		}
	}
	return nil
}

// HandleRow stores the document of a row that a window read. The window's Tag is a
// *RowPlan.
func (h *Handler) HandleRow(w *dbsync.Window, row *pglogrepl.TupleData) error {
	p, ok := w.Tag.(*RowPlan)
	if !ok {
		return &dbsync.PermanentError{Err: fmt.Errorf("row of a window without a plan, its tag is %T", w.Tag)}
	}
	op, err := p.operation(row, h.document(p.Plan, row))
	if err != nil {
		return err
	}
	for _, target := range p.Targets {
		op.Index = target
		h.o.Syncer.MarkOperation(op)
	}
	return nil
}

// operation returns the operation that stores a selected row.
func (p *RowPlan) operation(row *pglogrepl.TupleData, body []byte) (dbsync.Operation, error) {
	id, ok := p.Plan.ID(row)
	routing, routed := p.Plan.Routing(row)
	if !ok || !routed {
		return dbsync.Operation{}, &dbsync.PermanentError{Err: fmt.Errorf("a row selected from %s has no key", p.Table.TableName())}
	}
	return dbsync.Operation{ID: id, Routing: routing, Body: body}, nil
}

// store stores the document of a row, or has it read again when the row lacks a part.
func (h *Handler) store(p *streamPlan, row *pglogrepl.TupleData) error {
	id, routing, err := p.identify(row)
	if err != nil {
		return err
	}
	op := dbsync.Operation{ID: id, Routing: routing}
	if p.plan.Complete(row) {
		op.Body = h.document(p.plan, row)
	} else {
		op.Reread = true
		op.Tag = &rereadKey{plan: p, values: p.plan.KeyValues(row)}
	}
	h.mark(p, op)
	return nil
}

// maxScratch is the size from which on the storage for a document is not kept.
const maxScratch = 1 << 20

// document returns the document of a row, valid until the next one is made.
func (h *Handler) document(p *mapping.Plan, row *pglogrepl.TupleData) []byte {
	if cap(h.scratch) > maxScratch {
		h.scratch = nil
	}
	h.scratch = p.AppendDocument(h.scratch[:0], row)
	return h.scratch
}

// identify returns which document a row of the stream is.
func (p *streamPlan) identify(row *pglogrepl.TupleData) (id, routing string, err error) {
	id, ok := p.plan.ID(row)
	routing, routed := p.plan.Routing(row)
	if !ok || !routed {
		return "", "", &dbsync.PermanentError{Err: fmt.Errorf("index %s: a change of %s does not carry the row's key (%s)",
			p.documents.Index.Name, p.table.TableName(), strings.Join(p.documents.Index.KeyColumns(p.table), ", "))}
	}
	return id, routing, nil
}

// mark puts an operation into the batch, once for each index that is written to.
func (h *Handler) mark(p *streamPlan, op dbsync.Operation) {
	for _, target := range p.documents.Targets() {
		op.Index = target
		h.o.Syncer.MarkOperation(op)
	}
}

// BatchOperations writes a batch: first what removes all documents of an index, then what
// has to be read again, then the rest. It returns nil when everything is stored, or kept
// as a dead letter. In what order does not matter otherwise: the batch has one operation
// per document.
func (h *Handler) BatchOperations(ctx context.Context, ops []dbsync.Operation) error {
	var again []dbsync.Operation
	ready := ops
	for i := range ops {
		if ops[i].Reread || ops[i].Truncate {
			ready, again = separate(ops, i)
			break
		}
	}
	rereads := make(map[*streamPlan][]dbsync.Operation)
	var order []*streamPlan
	for _, op := range again {
		if op.Truncate {
			if err := h.truncate(ctx, &op); err != nil {
				return err
			}
			continue
		}
		plan := op.Tag.(*rereadKey).plan
		if rereads[plan] == nil {
			order = append(order, plan)
		}
		rereads[plan] = append(rereads[plan], op)
	}
	for _, plan := range order {
		if err := h.reread(ctx, plan, rereads[plan]); err != nil {
			return err
		}
	}
	return h.o.Bulk.Write(ctx, ready)
}

// separate copies the operations that need more than writing out of the others. The
// first of them is at i; ops stays as it is, because the batch may come again.
func separate(ops []dbsync.Operation, i int) (ready, again []dbsync.Operation) {
	ready = append(make([]dbsync.Operation, 0, len(ops)), ops[:i]...)
	for _, op := range ops[i:] {
		if op.Reread || op.Truncate {
			again = append(again, op)
		} else {
			ready = append(ready, op)
		}
	}
	return ready, again
}
