package indexer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/dbsync"
	"tidemark/indexer/search"
	"tidemark/mapping"
	"tidemark/mapping/catalog"
)

// Documents is where the documents of one mapping are written: to one physical index,
// or to two while a second one is being built. It is safe for concurrent use.
type Documents struct {
	Index *mapping.Index

	mu      sync.Mutex
	targets []Target
	changed atomic.Int64 // see Changed
}

// Changed returns how many changes of rows of its own tables the stream has brought.
func (d *Documents) Changed() int64 { return d.changed.Load() }

// A Target is a physical index that documents are written to.
type Target struct {
	Alias string        // its write alias
	Base  pglogrepl.LSN // of the versions of its documents, see [dbsync.Operation]
}

// Targets returns where documents are written to now.
func (d *Documents) Targets() []Target {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.targets
}

// SetTargets has the documents of every change from now on written to these. What is in a batch
// already goes where it was meant to go.
func (d *Documents) SetTargets(targets ...Target) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.targets = slices.Clone(targets)
}

// A Handler turns the messages of the stream into operations, and writes batches of them.
// It is the MessageHandler and, by [dbsync.OperationsOnly], the Batcher of a Syncer.
type Handler struct {
	dbsync.DefaultMessageHandler
	o       HandlerOptions
	roots   map[catalog.TableName][]*root
	related map[catalog.TableName][]*link

	// The following belongs to the goroutine of Syncer.Run.
	ctx       context.Context          // see Begin
	xid       uint32                   // the transaction that the next message belongs to
	plans     map[uint32][]*streamPlan // by relation, as links
	placed    map[uint32]*placed       // the same plans by the values that their rows have
	links     map[uint32][]*linkPlan
	described map[uint32]relation // what they are made for
	compiled  uint64              // the version of the catalog that plans and links are made for
	scratch   []byte              // a document being made
	merged    pglogrepl.TupleData // see merge
}

// HandlerOptions says what a Handler works with. All of it is required but FanOut, Altered, Missed,
// Doubted, Announced, Observe, FannedOut and Tied; Defer is, where related rows may be in more than FanOut documents.
type HandlerOptions struct {
	Syncer    *dbsync.Syncer
	Documents []*Documents
	Catalog   *Catalog
	Writer    Writer
	Logger    *slog.Logger

	// FanOut is how many documents of a source the changes of related rows in one batch may concern
	// so that the batch waits for them; 0: [limit.DefaultFanOut]. It waits for as many as there are such
	// rows, too, where these are more. Their keys are held at a time.
	FanOut int

	// Defer is called before documents are left as they are that the changes of a batch concern, since
	// they are more than FanOut. When it returns nil it is noted for good that they are to be stored
	// again. nil: such a change is an error.
	Defer func(ctx context.Context, f *FanOut) error

	// Altered is called when the stream describes a table that is not what it was before.
	// It must not wait for the stream.
	Altered func(now *catalog.Table)

	// Missed is called before changes are passed over that an index should have, since no
	// documents can be made of its tables as they are now. When it returns nil that is noted for
	// good, and the index gets no more changes until it is made anew. nil: such an index ends the
	// run, with an [*UnfitError].
	Missed func(ctx context.Context, d *Documents, why *UnfitError) error

	// Doubted is called when a row of a related table has changed, and which documents have it in
	// them cannot be found, because of why, however often it is tried. When it returns nil that is
	// noted for good, and the index is going to be compared with its tables. nil: it is tried again,
	// with everything else of the batch.
	Doubted func(ctx context.Context, d *Documents, why string) error

	// Announced is called when a message of the stream says that somebody changed the catalog, see
	// [dbsync.WithEventTriggers]. It must not wait for the stream. xid is the transaction that did it:
	// others may not see it yet, see [dbsync.Syncer.ReadVisible]. One transaction may announce many
	// changes, and each change twice.
	Announced func(xid uint32)

	// Unplaced, if given, is called when a row has a value that names an index, and there is none of it: the
	// row is in none. It is called once for each value, more often only where there are very many. It must not wait for
	// the stream.
	Unplaced func(of mapping.ValueColumn)

	// Observe, if given, is called after rows were read again, with the context that they were read with.
	Observe func(ctx context.Context, r Reread)

	// FannedOut, if given, is called when changes of related rows in a batch have been dealt with: how
	// many documents of one source have them in them and were stored again, and of how many of the rows
	// the documents were deferred.
	FannedOut func(index string, documents, deferred int)

	// Tied is called at the end of a transaction that has more groups of changes than versions can
	// tell apart, see [search.MaxGroup], before its position is confirmed: a copy of a request that
	// comes late may leave an older document. nil: nobody has to know.
	Tied func(ctx context.Context) error
}

// root is a table whose rows are documents. It is the Origin of the operations on them.
type root struct {
	documents *Documents
	source    *mapping.Source
}

func (r *root) String() string { return r.source.Name() }

// awaitsVisible reports whether documents of this table have related rows in them. Such a
// document is read again for what any of several transactions did, so a batch that changes or
// deletes one waits until others see all of the batch: a later change of a related row would
// find the row as it was before, and bring it back with a later version.
func (r *root) awaitsVisible() bool { return len(r.source.Include) > 0 }

// streamPlan turns rows of the stream into documents of one source.
type streamPlan struct {
	*root
	table *catalog.Table
	plan  *mapping.Plan
	blind error // why old rows cannot be told apart, nil if they can

	// shared says that within a transaction several rows may have one key. Then a key that a
	// row has left may be another one's by now, and what the stream brought of that one came
	// before: its document is not removed but read again.
	shared bool
}

// awaitsVisible reports what [root.awaitsVisible] does. Where rows share a key, who has it may
// be the work of a transaction other than the one that has it read.
func (p *streamPlan) awaitsVisible() bool { return p.shared || p.root.awaitsVisible() }

// sharesKeys reports whether several rows of a table may have the key of one document.
func sharesKeys(s *mapping.Source, t *catalog.Table) bool { return !t.Immediate(s.KeyColumns(t)) }

// RowPlan turns rows that were selected into documents of one source. It is the Origin of the
// windows that select them.
type RowPlan struct {
	Documents *Documents
	Source    *mapping.Source
	Table     *catalog.Table
	Selection *mapping.Selection // what its rows are made of
	Related   []uint32           // the oids of the other tables that they are made of
	Plan      *mapping.Plan
	Targets   []Target // that the rows go to

	// Live says that documents may be there already: that of a row which is none, by the
	// mapping's where, is removed.
	Live   bool
	refuse error // why no documents can be made of the rows; nil: they can
}

func (p *RowPlan) String() string { return p.Source.Name() }

// NewRowPlan makes the plan for rows that are selected to make documents of s.
func NewRowPlan(d *Documents, s *mapping.Source, tables catalog.Tables, targets ...Target) (*RowPlan, error) {
	selection, err := s.Select(tables)
	if err != nil {
		return nil, err
	}
	plan, err := mapping.Compile(s, tables[s.Table], selection.Names)
	if err != nil {
		return nil, err
	}
	p := &RowPlan{Documents: d, Source: s, Table: tables[s.Table], Selection: selection, Plan: plan, Targets: targets}
	for _, name := range s.Tables()[1:] {
		p.Related = append(p.Related, tables[name].OID)
	}
	if slices.ContainsFunc(s.Paths(), func(path *mapping.Path) bool { return path.Table() == s.Table }) {
		p.Related = append(p.Related, p.Table.OID) // it is related to itself
	}
	return p, nil
}

// NewHandler makes a Handler.
func NewHandler(o HandlerOptions) *Handler {
	h := &Handler{o: o, roots: make(map[catalog.TableName][]*root), related: make(map[catalog.TableName][]*link),
		plans: make(map[uint32][]*streamPlan), placed: make(map[uint32]*placed), links: make(map[uint32][]*linkPlan), described: make(map[uint32]relation)}
	for _, d := range o.Documents {
		h.Add(d)
	}
	return h
}

// Add has more documents made from the stream. It is called before the first message.
func (h *Handler) Add(d *Documents) {
	for _, source := range d.Index.Sources {
		r := &root{d, source}
		h.roots[source.Table] = append(h.roots[source.Table], r)
		for _, path := range source.Paths() {
			h.related[path.Table()] = append(h.related[path.Table()], &link{r, path})
		}
	}
}

// Begin gives the handler the context of the run: the messages of the stream come
// without one. It is called before the first of them, see [dbsync.OnSlot].
func (h *Handler) Begin(ctx context.Context) { h.ctx = ctx }

// HandleBeginMessage notes which transaction the messages belong to, and takes up what the tables
// are by now.
func (h *Handler) HandleBeginMessage(_ int, msg *pglogrepl.BeginMessage) error {
	h.xid = msg.Xid
	if h.compiled != h.o.Catalog.Version() {
		return h.recompile()
	}
	return nil
}

// HandleCommitMessage reports a transaction whose changes have not all got a version of their own.
func (h *Handler) HandleCommitMessage(_ int, msg *pglogrepl.CommitMessage) error {
	if h.o.Syncer.Group() <= search.MaxGroup || h.o.Tied == nil {
		return nil
	}
	if err := h.o.Tied(h.ctx); err != nil {
		return fmt.Errorf("note that the changes of a transaction at %s have too few versions: %w", msg.CommitLSN, err)
	}
	return nil
}

// HandleLogicalMessage makes the handler a [dbsync.LogicalMessageHandler], which takes up that the
// catalog was changed. Other messages in the log are other people's.
func (h *Handler) HandleLogicalMessage(_ int, msg *pglogrepl.LogicalDecodingMessage) error {
	if msg.Prefix == dbsync.CatalogPrefix && msg.Transactional && h.o.Announced != nil {
		h.o.Announced(h.xid)
	}
	return nil
}

// HandleRelationMessage compiles the plans for a table, which is known by its oid: names are
// given to other tables. What was streamed of a table that had the name before leads to nothing;
// the one that has it now is read by itself.
//
// The catalog that the plans are made of may be newer than the message: a column that the message
// does not have, or has with another type, is read from the table, as a value that is too large
// to be in the log is. It must not be older, or documents would lack a column that the transaction
// has added, until the next time that the table is altered.
func (h *Handler) HandleRelationMessage(_ int, msg *pglogrepl.RelationMessage, _ *dbsync.PGTableInfo) error {
	h.forget(msg.RelationID)
	names := h.o.Catalog.names(msg.RelationID)
	if len(names) == 0 {
		names = []catalog.TableName{{Schema: msg.Namespace, Name: msg.RelationName}}
	}
	var found []described
	for _, name := range names {
		if len(h.roots[name]) == 0 && len(h.related[name]) == 0 {
			continue // published by somebody for somebody else
		}
		before := h.o.Catalog.Tables()[name] // the change may be from then
		table, err := h.describe(name, msg)
		if err != nil {
			return err
		}
		if table != nil {
			found = append(found, described{table, before})
		}
	}
	return h.compile(msg, found)
}

// A relation is what the stream has described last under one oid.
type relation struct {
	msg  *pglogrepl.RelationMessage
	name catalog.TableName // of the mapping, that the relation itself had; zero: it is only a child of others
}

// A described is a table whose rows a relation of the stream has: the relation itself, or one that
// it inherits from.
type described struct {
	table  *catalog.Table
	before *catalog.Table // what it was when plans were made last; nil: that is not known
}

// recompile makes the plans anew for what the tables are now. What the stream describes anew comes
// with a message; but the types of its columns may be altered without one.
func (h *Handler) recompile() error {
	h.compiled = h.o.Catalog.Version()
	tables := h.o.Catalog.Tables()
	for oid, r := range maps.Clone(h.described) { // which compile changes
		var found []described
		for _, name := range h.o.Catalog.names(oid) {
			// A table that inherits from this one since may have been described before it did.
			if tables[name].OID == oid && len(h.plans[oid])+len(h.links[oid]) == 0 {
				continue
			}
			d := described{table: tables[name]}
			for _, p := range h.plans[oid] {
				if p.table.OID == d.table.OID {
					d.before = p.table
				}
			}
			found = append(found, d)
		}
		if name := r.name; name != (catalog.TableName{}) && tables[name].OID != oid { // see describe
			if err := h.missTable(name, taken(name)); err != nil {
				return err
			}
		}
		if err := h.compile(r.msg, found); err != nil {
			return err
		}
	}
	return nil
}

// forget drops the plans for the rows of a table: they lead to nothing.
func (h *Handler) forget(oid uint32) {
	delete(h.described, oid)
	delete(h.plans, oid)
	delete(h.placed, oid)
	delete(h.links, oid)
}

// compile makes the plans for the rows of a relation as a message describes them, which are rows of
// these tables. An index whose documents cannot be made of them misses changes from here on.
func (h *Handler) compile(msg *pglogrepl.RelationMessage, of []described) error {
	h.forget(msg.RelationID)
	if len(of) == 0 {
		return nil
	}
	r := relation{msg: msg}
	var parents []uint32
	for _, d := range of {
		if d.table.OID == msg.RelationID {
			r.name = d.table.TableName()
		} else {
			parents = append(parents, d.table.OID)
		}
		if err := h.compileFor(msg, d.table, d.before); err != nil {
			return err
		}
	}
	h.described[msg.RelationID] = r
	h.placed[msg.RelationID] = placePlans(h.plans[msg.RelationID])
	slices.Sort(parents)
	h.o.Syncer.Inherit(msg.RelationID, parents...)
	return nil
}

// compileFor adds the plans for rows of one table.
func (h *Handler) compileFor(msg *pglogrepl.RelationMessage, table, before *catalog.Table) error {
	name, inherited := table.TableName(), table.OID != msg.RelationID
	plans := h.plans[msg.RelationID]
	for _, r := range h.roots[name] {
		if inherited && !r.source.Children {
			continue // an index in use, by the mapping before
		}
		needs := r.source.KeyColumns(table)
		if r.source.Routing != "" {
			needs = append(slices.Clip(needs), r.source.Routing)
		}
		if r.source.Only != nil {
			needs = append(slices.Clip(needs), r.source.Only.Column)
		}
		if !carries(msg, needs) {
			continue
		}
		plan, err := mapping.Compile(r.source, table, streamed(msg, table, needs))
		if err != nil {
			if err := h.miss(r.documents, err); err != nil {
				return err
			}
			continue
		}
		plans = append(plans, &streamPlan{root: r, table: table, plan: plan, blind: checkIdentity(msg, r.documents.Index.Name, needs, table),
			shared: sharesKeys(r.source, table) || before != nil && sharesKeys(r.source, before)})
	}
	h.plans[msg.RelationID] = plans
	links := h.links[msg.RelationID]
	for _, l := range h.related[name] {
		if (!inherited || l.path.Children()) && carries(msg, l.path.Columns()) {
			links = append(links, newLinkPlan(l, msg, table))
		}
	}
	h.links[msg.RelationID] = links
	return nil
}

// carries reports whether a message has columns that rows are found by. One that has not is from
// before a column got its name: such changes are passed over, as an index whose rows are found by
// another column than before is made anew, from rows that are read after them.
func carries(msg *pglogrepl.RelationMessage, columns []string) bool {
	return !slices.ContainsFunc(columns, func(name string) bool {
		return !slices.ContainsFunc(msg.Columns, func(c *pglogrepl.RelationMessageColumn) bool { return c.Name == name })
	})
}

// streamed returns the names of a message's columns, "" for one that is not as the table has it
// now. Those in needs, by which rows are found, are taken as they are: a value that has become
// none of their type finds no row.
func streamed(msg *pglogrepl.RelationMessage, table *catalog.Table, needs []string) []string {
	columns := make([]string, len(msg.Columns))
	for i, c := range msg.Columns {
		now := table.Column(c.Name)
		if slices.Contains(needs, c.Name) || now != nil && now.Type.OID == c.DataType {
			columns[i] = c.Name
		}
	}
	return columns
}

// describe returns what the catalog has of the table that a message is about, nil if the name is
// another table's by now, or no one's. The message may say nothing of what was altered: generated
// columns are not in it.
func (h *Handler) describe(name catalog.TableName, msg *pglogrepl.RelationMessage) (*catalog.Table, error) {
	// A commit is in the stream before others see what it did to the catalog.
	visible := func(*pgconn.PgConn) error { return nil }
	if err := h.o.Syncer.ReadVisible(h.ctx, []uint32{h.xid}, nil, visible); err != nil {
		return nil, fmt.Errorf("wait for the definition of table %s: %w", name, err)
	}
	before := h.o.Catalog.Tables()[name]
	defer dbsync.AtServer(h.ctx)()
	table, err := h.o.Catalog.load(h.ctx, h.o.Syncer.DB(), name)
	if err != nil {
		return nil, err
	}
	if table == nil {
		what := goneOrRenamed
		now := catalog.TableName{Schema: msg.Namespace, Name: msg.RelationName}
		if now != name && before != nil && before.OID == msg.RelationID {
			what = "is called " + now.String() + " now"
		}
		return nil, h.missTable(name, gone(name, what))
	}
	if h.o.Altered != nil && before != nil && !table.Same(before) {
		h.o.Altered(table)
	}
	if before != nil && before.OID == msg.RelationID && table.OID != msg.RelationID {
		// It may get its name back before anybody looks, and then nothing would tell that its changes
		// were passed over. A table that inherits from it no more is told by the catalog.
		return nil, h.missTable(name, taken(name))
	}
	if !table.Has(msg.RelationID) {
		h.o.Logger.Info("changes of a table that had the name before, or inherited from it, are passed over", "table", name.String(), "oid", msg.RelationID, "oid_now", table.OID)
		return nil, nil
	}
	return table, nil
}

// missTable notes that all indices whose documents are made of a table miss changes from here on. One with tables of
// a pattern misses nothing of a root table that is gone: its rows are none any more.
func (h *Handler) missTable(name catalog.TableName, why error) error {
	for _, r := range h.roots[name] {
		if r.source.IsMatched() {
			continue
		}
		if err := h.miss(r.documents, why); err != nil {
			return err
		}
	}
	for _, l := range h.related[name] {
		if l.root.source.IsMatched() { // its schema may be gone as a whole
			if _, err := h.o.Catalog.load(h.ctx, h.o.Syncer.DB(), l.root.source.Table); err != nil {
				return err
			}
			if h.o.Catalog.HasLeft(l.root.source) {
				continue
			}
		}
		if err := h.miss(l.root.documents, why); err != nil {
			return err
		}
	}
	return nil
}

// miss notes that an index misses changes from here on, because of why. A crash before that is
// noted costs nothing: the position is not confirmed.
func (h *Handler) miss(d *Documents, why error) error {
	unfit, ok := errors.AsType[*UnfitError](why)
	if !ok {
		unfit = &UnfitError{Index: d.Index.Name, Err: why}
	}
	if h.o.Missed == nil {
		return unfit
	}
	return h.o.Missed(h.ctx, d, unfit)
}

// checkIdentity makes sure that old rows carry what tells which document they are. It
// was so at the start; somebody may have changed the replica identity since. Of a
// partitioned table the message tells the identity of the table itself, but old rows carry
// that of their partitions, which only the catalog knows.
//
// Inserts need no identity. What else was logged without it stays in the slot as it is,
// so fixing the table lets it pass no more than starting again does.
func checkIdentity(msg *pglogrepl.RelationMessage, index string, needs []string, table *catalog.Table) error {
	identity := make(map[string]bool)
	for _, c := range msg.Columns {
		identity[c.Name] = c.Flags&1 != 0
	}
	for _, name := range needs {
		if !identity[name] && !(table.Partitioned && table.Identity.Covers([]string{name})) {
			form := "FULL"
			if table.Virtual() != nil {
				form = "USING INDEX …, of one that has the column"
			}
			return &dbsync.PermanentError{Err: fmt.Errorf("index %s: %s was changed while column %s was not in its replica identity, so it is not known which documents are gone; "+
				"hint: ALTER TABLE %s REPLICA IDENTITY %s, drop the replication slot, and start with on_slot_lost: reindex",
				index, table.TableName(), catalog.QuoteIdent(name), table.TableName(), form)}
		}
	}
	return nil
}

// HandleInsertMessage stores the documents of a new row.
func (h *Handler) HandleInsertMessage(_ int, msg *pglogrepl.InsertMessage, _ *pglogrepl.RelationMessage, _ *dbsync.PGTableInfo) error {
	now, _ := h.plansFor(msg.RelationID, msg.Tuple, nil)
	for _, p := range now {
		if err := h.store(p, msg.Tuple); err != nil {
			return err
		}
	}
	return h.relate(msg.RelationID, change{row: msg.Tuple, made: true})
}

// HandleUpdateMessage stores the documents of a row as it is now. When its key or its
// routing changed, the document that it had before is removed.
func (h *Handler) HandleUpdateMessage(_ int, msg *pglogrepl.UpdateMessage, _ *pglogrepl.RelationMessage, _ *dbsync.PGTableInfo) error {
	row := h.merge(msg.NewTuple, msg.OldTuple)
	now, left := h.plansFor(msg.RelationID, row, msg.OldTuple)
	for _, p := range left {
		if err := h.removeRow(p, msg.OldTuple); err != nil {
			return err
		}
	}
	for _, p := range now {
		if p.blind != nil {
			return p.blind
		}
		if msg.OldTuple != nil {
			if err := h.removeOld(p, msg.OldTuple, row); err != nil {
				return err
			}
		}
		if err := h.store(p, row); err != nil {
			return err
		}
	}
	return h.relate(msg.RelationID, change{old: msg.OldTuple, row: row, full: msg.OldTupleType == pglogrepl.UpdateMessageTupleTypeOld})
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

// removeOld removes the document of an old row if the new row's is another one.
func (h *Handler) removeOld(p *streamPlan, old, row *pglogrepl.TupleData) error {
	oldID, oldRouting, err := p.identify(old)
	if err != nil {
		return err
	}
	id, routing, err := p.identify(row)
	if err != nil {
		return err
	}
	if id != oldID || routing != oldRouting {
		h.remove(p, old, oldID, oldRouting)
	}
	return nil
}

// remove removes the document of an old row.
func (h *Handler) remove(p *streamPlan, old *pglogrepl.TupleData, id, routing string) {
	op := dbsync.Operation{Kind: dbsync.Delete, ID: id, Routing: routing, AwaitVisible: p.awaitsVisible()}
	if p.shared {
		op.Kind, op.Origin, op.Key = dbsync.Reread, p.root, p.plan.KeyValues(old)
	}
	h.mark(p, op)
}

// removeRow removes the document of a row that is gone, or is in another index.
func (h *Handler) removeRow(p *streamPlan, old *pglogrepl.TupleData) error {
	if p.blind != nil {
		return p.blind
	}
	id, routing, err := p.identify(old)
	if err != nil {
		return err
	}
	h.remove(p, old, id, routing)
	return nil
}

// HandleDeleteMessage removes the documents of a row.
func (h *Handler) HandleDeleteMessage(_ int, msg *pglogrepl.DeleteMessage, _ *pglogrepl.RelationMessage, _ *dbsync.PGTableInfo) error {
	_, left := h.plansFor(msg.RelationID, nil, msg.OldTuple)
	for _, p := range left {
		if err := h.removeRow(p, msg.OldTuple); err != nil {
			return err
		}
	}
	return h.relate(msg.RelationID, change{old: msg.OldTuple})
}

// HandleTruncateMessage removes all documents of the tables, and has those read again that
// rows of the tables were in. Where the rows of children count, other documents stay: whoever
// watches the catalog sees whose file is another one.
func (h *Handler) HandleTruncateMessage(_ int, _ *pglogrepl.TruncateMessage, tables []*pglogrepl.RelationMessage) error {
	for _, r := range tables {
		for _, p := range h.plans[r.RelationID] {
			if p.table.WithChildren {
				if h.o.Altered != nil {
					h.o.Altered(p.table)
				}
				continue
			}
			h.mark(p, dbsync.Operation{Kind: dbsync.Truncate, ID: p.source.Prefix(), AwaitVisible: p.awaitsVisible()})
		}
		for _, l := range h.links[r.RelationID] {
			h.markRelated(l, nil)
		}
	}
	return nil
}

// HandleRow stores the document of a row that a window read. The window's Origin is a
// *RowPlan.
func (h *Handler) HandleRow(w *dbsync.Window, row *pglogrepl.TupleData) error {
	p, ok := w.Origin.(*RowPlan)
	if !ok {
		return &dbsync.PermanentError{Err: fmt.Errorf("row of a window without a plan, its origin is %T", w.Origin)}
	}
	op, err := p.identify(row)
	if err != nil {
		return err
	}
	if p.refuse != nil {
		op.Kind, op.Err = dbsync.Refused, p.refuse
	} else if h.complete(&op, p.Plan, row); op.Kind == dbsync.Delete && !p.Live {
		return nil // it is not there
	}
	for _, target := range p.Targets {
		op.Index, op.Base = target.Alias, target.Base
		h.o.Syncer.MarkOperation(op)
	}
	return nil
}

// makeDocument completes an operation that has its ID: it stores the document of row, or
// deletes it where the mapping's where leaves the row out, or is refused where no document can
// be made. The document is written over what scratch holds; used is scratch as far as it grew.
func makeDocument(op *dbsync.Operation, p *mapping.Plan, row *pglogrepl.TupleData, scratch []byte) (used []byte) {
	holds, err := p.Holds(row)
	switch {
	case err != nil:
		err = fmt.Errorf("where: %w", err)
	case !holds:
		op.Kind = dbsync.Delete
		return scratch
	default:
		scratch, err = p.AppendDocument(scratch[:0], row)
	}
	if err != nil {
		op.Kind, op.Err = dbsync.Refused, err
	} else {
		op.Body = scratch
	}
	return scratch
}

// complete is makeDocument in storage of the handler: the batch has to copy the document
// before the next one is made.
func (h *Handler) complete(op *dbsync.Operation, p *mapping.Plan, row *pglogrepl.TupleData) {
	h.scratch = makeDocument(op, p, row, h.scratch)
	if op.Given = len(op.Body) > maxScratch; op.Given || cap(h.scratch) > maxScratch {
		h.scratch = nil
	}
}

// identify returns an operation on the document of a selected row.
func (p *RowPlan) identify(row *pglogrepl.TupleData) (dbsync.Operation, error) {
	id, ok := p.Plan.ID(row)
	routing, routed := p.Plan.Routing(row)
	if !ok || !routed {
		return dbsync.Operation{}, &dbsync.PermanentError{Err: fmt.Errorf("a row selected from %s has no key", p.Table.TableName())}
	}
	return dbsync.Operation{ID: id, Routing: routing}, nil
}

// store stores the document of a row, or has it read again when the row lacks a part.
func (h *Handler) store(p *streamPlan, row *pglogrepl.TupleData) error {
	id, routing, err := p.identify(row)
	if err != nil {
		return err
	}
	op := dbsync.Operation{ID: id, Routing: routing, AwaitVisible: p.awaitsVisible()}
	if p.plan.Complete(row) {
		h.complete(&op, p.plan, row)
	} else {
		op.Kind, op.Origin, op.Key = dbsync.Reread, p.root, p.plan.KeyValues(row)
	}
	h.mark(p, op)
	return nil
}

// maxScratch is the size from which on the storage for a document is not kept.
const maxScratch = 1 << 20

// identify returns which document a row of the stream is.
func (p *streamPlan) identify(row *pglogrepl.TupleData) (id, routing string, err error) {
	id, ok := p.plan.ID(row)
	routing, routed := p.plan.Routing(row)
	if !ok || !routed {
		return "", "", &dbsync.PermanentError{Err: fmt.Errorf("index %s: a change of %s does not carry the row's key (%s)",
			p.documents.Index.Name, p.table.TableName(), strings.Join(p.source.KeyColumns(p.table), ", "))}
	}
	return id, routing, nil
}

// mark puts an operation into the batch, once for each index that is written to.
func (h *Handler) mark(p *streamPlan, op dbsync.Operation) {
	p.documents.changed.Add(1)
	for _, target := range p.documents.Targets() {
		op.Index, op.Base = target.Alias, target.Base
		h.o.Syncer.MarkOperation(op)
	}
}

// BatchOperations writes a batch: first what removes all documents of an index, then what has to be
// read again, then the rest. It returns nil when everything is stored, or kept as a dead letter. In
// what order does not matter: versions tell.
func (h *Handler) BatchOperations(ctx context.Context, batch *dbsync.Batch) error {
	s, err := sortBatch(batch)
	if err != nil {
		return err
	}
	for _, op := range s.truncations {
		if err := h.o.Writer.Truncate(ctx, op); err != nil {
			return err
		}
	}
	for _, w := range s.rereads {
		err := h.reread(ctx, w, s.visible)
		unfit, ok := errors.AsType[*UnfitError](err)
		switch {
		case ok && h.o.Catalog.HasLeft(w.root.source):
			err = nil
		case ok && h.o.Missed != nil:
			err = h.o.Missed(ctx, w.root.documents, unfit)
		}
		if err != nil {
			return err
		}
	}
	if len(s.rereads) == 0 && len(s.visible) > 0 {
		// What removed documents with related rows must be visible when it is forwarded.
		if err := h.o.Syncer.ReadVisible(ctx, s.visible, nil, func(*pgconn.PgConn) error { return nil }); err != nil {
			return err
		}
	}
	return h.o.Writer.Write(ctx, s.ready)
}
