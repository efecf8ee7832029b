package dbsync

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// publishLock is the advisory lock under which a publication is changed, held until the transaction
// ends that does it. It is another one than setupLock, which may be held for as long as it takes
// to make a slot; whoever takes both takes setupLock first, or only tries for it. The number is
// "publish" in ASCII.
const publishLock = 0x7075626c697368

// planPublication plans to make the publication, or to make of one that a Syncer made what the
// slots that use it need, and checks one that somebody else made. isNew is true when it has to be
// made.
func (p *plan) planPublication(ctx context.Context, conn *pgx.Conn) (isNew bool, err error) {
	s := p.s
	if p.state.closed {
		return false, nil // Postgres does not let it look at the watermark table, and the plan is refused
	}
	w, err := s.wants(ctx, conn)
	if err != nil {
		return false, err
	}
	all := w.tables
	if !p.state.watermarks {
		w.tables = slices.Clone(s.tables)
	}
	look, err := s.lookAtPublication(ctx, conn, w, p.state.notes)
	if err != nil {
		return false, err
	}
	if look.oid == 0 {
		statement, made := s.newPublication(look, p.state.watermarks)
		p.publication.step(fmt.Sprintf("make publication %s for %d tables", s.publication, len(all)), func(ctx context.Context, conn *pgx.Conn) error {
			return s.createPublication(ctx, conn, statement, made)
		})
		p.publication.step("", s.setupPublication)
		return true, p.checkRights(ctx, conn, addition{verb: "make", tables: w.names(), statement: statement})
	}
	var added []string // of the watermark table
	if !p.state.watermarks {
		added = []string{s.control(s.wmTable)}
		if look.all || !look.ours && slices.Contains(look.schemas, s.namespace) {
			added = nil // it will be in there when it is made
		}
	}
	for _, wrong := range s.problems(look, added) {
		p.publication.refuse(wrong)
	}
	extra := keepExtras
	if !w.noted {
		extra = removeExtras
	}
	c := s.change(look, extra)
	var needed []string
	for _, t := range look.tables {
		if _, put := c.lists[t.name]; put {
			needed = append(needed, t.name)
		}
	}
	if look.ours {
		c.added = append(c.added, added...)
	}
	p.publication.step(c.sentence(s.publication), s.setupPublication)
	if statements := c.statements(s.publication); len(statements) > 0 {
		return false, p.checkRights(ctx, conn, addition{verb: "change", tables: needed, foreign: !look.owned, statement: strings.Join(statements, "; ")})
	}
	return false, nil
}

// An addition is a statement that puts tables into the publication.
type addition struct {
	verb      string // make or change
	foreign   bool   // the publication is there, and not the role's own
	tables    []string
	statement string
}

// checkRights holds the role against what Postgres wants of who puts tables into a
// publication: to own them, and the publication, or to be able to make one.
func (p *plan) checkRights(ctx context.Context, conn *pgx.Conn, a addition) error {
	s := p.s
	rows, err := conn.Query(ctx, `SELECT DISTINCT r.rolname, r.rolsuper
		FROM pg_catalog.unnest($1::text[]) AS t(name) JOIN pg_catalog.pg_class c ON c.oid = pg_catalog.to_regclass(t.name)
		JOIN pg_catalog.pg_roles r ON r.oid = c.relowner WHERE NOT pg_catalog.pg_has_role(c.relowner, 'USAGE') ORDER BY 1`, a.tables)
	if err != nil {
		return fmt.Errorf("read the owners of the tables: %w", err)
	}
	var owners []string
	var owner string
	var super, anySuper bool
	if _, err := pgx.ForEachRow(rows, []any{&owner, &super}, func() error {
		owners, anySuper = append(owners, quoteIdent(owner)), anySuper || super
		return nil
	}); err != nil {
		return fmt.Errorf("read the owners of the tables: %w", err)
	}
	mayNotMake := a.verb == "make" && !p.state.mayCreate
	if len(owners) == 0 && !a.foreign && !mayNotMake {
		return nil
	}

	role := quoteIdent(s.config.User)
	byOthers := []string{a.statement + ";"}
	if !p.state.watermarks {
		byOthers = append(s.watermarkStatements(), byOthers...)
	}
	hint := "as a role that may:\n" + strings.Join(byOthers, "\n")
	if !anySuper { // a right that nobody should give away for this
		var grants []string
		if mayNotMake {
			grants = append(grants, fmt.Sprintf("GRANT CREATE ON DATABASE %s TO %s;", quoteIdent(s.dbName), role))
		}
		if len(owners) > 0 {
			grants = append(grants, fmt.Sprintf("GRANT %s TO %s;", strings.Join(owners, ", "), role))
		}
		if a.foreign {
			grants = append(grants, fmt.Sprintf("ALTER PUBLICATION %s OWNER TO %s;", quoteIdent(s.publication), role))
		}
		hint = strings.Join(grants, "\n") + "\nor, " + hint
	}
	p.publication.warn(&SetupError{Hint: hint,
		Text: fmt.Sprintf("role %s may not %s publication %s: that takes CREATE on the database and the rights of the owner of each table", s.config.User, a.verb, s.publication)})
	return nil
}

// watermarkStatements make the watermark table for the role, run by somebody else.
func (s *Syncer) watermarkStatements() []string {
	role := quoteIdent(s.config.User)
	return []string{
		fmt.Sprintf("CREATE SCHEMA IF NOT EXISTS %s AUTHORIZATION %s;", quoteIdent(s.namespace), role),
		s.watermarkTable() + ";",
		fmt.Sprintf("ALTER TABLE %s OWNER TO %s;", s.control(s.wmTable), role),
	}
}

// newPublication is the statement that makes the publication for the tables of a look, and for the
// watermark table where that is not among them yet, and what is to be noted of it.
func (s *Syncer) newPublication(look *publicationLook, watermarks bool) (statement string, c publicationChange) {
	options := "publish_via_partition_root = true"
	if s.serverVersion >= 180000 {
		options += ", publish_generated_columns = stored"
	}
	var tables []string
	for i := range look.tables {
		t := &look.tables[i]
		if !t.own {
			continue
		}
		wanted := s.wantedList(look, t, removeExtras)
		tables = append(tables, t.name+t.columnList(wanted))
		if wanted != nil {
			c.made = append(c.made, madeMembership{table: t.oid})
		}
	}
	if !watermarks {
		tables = append(tables, s.control(s.wmTable))
	}
	return fmt.Sprintf("CREATE PUBLICATION %s FOR TABLE %s WITH (%s)", quoteIdent(s.publication), only(tables), options), c
}

func (s *Syncer) createPublication(ctx context.Context, conn *pgx.Conn, statement string, c publicationChange) error {
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, statement); err != nil {
			return err
		}
		var oid uint32
		if err := tx.QueryRow(ctx, `SELECT oid FROM pg_catalog.pg_publication WHERE pubname = $1`, s.publication).Scan(&oid); err != nil {
			return err
		}
		if err := s.noteMemberships(ctx, tx, oid, &c); err != nil {
			return err
		}
		return s.markPublication(ctx, tx)
	})
	if err != nil {
		return s.publicationError(err, "make", statement)
	}
	s.log.Info("made publication", "publication", s.publication, "statement", statement)
	return nil
}

// markPublication writes the comment that says who keeps the publication.
func (s *Syncer) markPublication(ctx context.Context, tx pgx.Tx) error {
	var statement string
	if err := tx.QueryRow(ctx, `SELECT pg_catalog.format('COMMENT ON PUBLICATION %I IS %L', $1::text, $2::text)`, s.publication, s.mark()).Scan(&statement); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, statement)
	return err
}

func (s *Syncer) publicationError(err error, verb, statement string) error {
	switch sqlState(err) {
	case "42501":
		return &SetupError{Text: fmt.Sprintf("role %s may not %s publication %s", s.config.User, verb, s.publication), Err: err,
			Hint: "as owner of the tables and with CREATE on the database, or as superuser: " + statement + ";"}
	case "42P01":
		return &SetupError{Text: "publication " + s.publication, Err: err, Hint: "name existing tables"}
	case "22023": // ERRCODE_INVALID_PARAMETER_VALUE of check_publication_add_relation: a view, or an unlogged table
		return &SetupError{Text: "publication " + s.publication, Err: err, Hint: "name tables whose changes are in the log"}
	}
	return fmt.Errorf("publication %s: %w", s.publication, err)
}

// setupPublication makes of the publication what it has to be.
func (s *Syncer) setupPublication(ctx context.Context, conn *pgx.Conn) error {
	w, err := s.wants(ctx, conn)
	if err == nil {
		s.published, err = s.publish(ctx, conn, w)
	}
	return err
}

// publish makes of the publication what it has to be, notes what this slot needs, and returns how
// the tables are in it. It does so under a lock, so that nobody changes it by an older note.
//
// What changes before the publication is changed is not published, not even the rest of a
// transaction that is under way. Windows therefore wait until every such transaction has ended.
func (s *Syncer) publish(ctx context.Context, conn *pgx.Conn, w wanted) (m membership, err error) {
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadWrite})
	if err != nil {
		return m, fmt.Errorf("change publication %s: %w", s.publication, err)
	}
	defer tx.Rollback(context.WithoutCancel(ctx))
	// quiet says that no other process is in its setup, where it needs tables before they are noted,
	// and that none begins one before this is committed.
	var quiet bool
	if _, err := tx.Exec(ctx, "SELECT pg_catalog.pg_advisory_xact_lock($1)", publishLock); err != nil {
		return m, fmt.Errorf("wait for others to change publication %s: %w", s.publication, err)
	}
	if err := tx.QueryRow(ctx, "SELECT pg_catalog.pg_try_advisory_xact_lock_shared($1)", setupLock).Scan(&quiet); err != nil {
		return m, fmt.Errorf("change publication %s: %w", s.publication, err)
	}
	look, err := s.lookAtPublication(ctx, tx, w, currentNotes)
	if err != nil {
		return m, err
	}
	if err := s.usable(look); err != nil {
		return m, err
	}
	extra := keepExtras
	if quiet && !w.noted {
		extra = removeExtras
	}
	c := s.change(look, extra)
	busy, err := s.lockRelisted(ctx, tx, look, &c)
	if err != nil {
		return m, err
	}
	if busy {
		c = s.change(look, extra)
	}
	for _, statement := range c.statements(s.publication) {
		if _, err := tx.Exec(ctx, statement); err != nil {
			return m, s.publicationError(err, "change", statement)
		}
	}
	if err := s.noteMemberships(ctx, tx, look.oid, &c); err != nil {
		return m, err
	}
	if c.mark {
		if err := s.markPublication(ctx, tx); err != nil {
			return m, fmt.Errorf("mark publication %s as kept: %w", s.publication, err)
		}
	}
	if own := look.own(s.publication); !c.noted {
		// A slot that is not there yet is noted, with this, when it is made.
		if _, err := tx.Exec(ctx, `UPDATE `+s.control(slotTable)+` SET publication = $2, published = $3, published_columns = coalesce($4::text[], '{}') WHERE slot = $1`,
			s.slot, own.publication, own.tables, own.columns); err != nil {
			return m, fmt.Errorf("note which tables slot %s needs: %w", s.slot, err)
		}
	}
	if len(c.added)+len(c.again)+len(c.relisted) > 0 {
		if look, err = s.lookAtPublication(ctx, tx, w, currentNotes); err != nil {
			return m, err
		}
		err = s.barrier.change(func() error { return tx.Commit(ctx) })
	} else {
		err = tx.Commit(ctx)
	}
	if err != nil {
		return m, fmt.Errorf("change publication %s: %w", s.publication, err)
	}
	s.columnsPending.Store(busy)
	if c.sentence(s.publication) != "" {
		s.log.Info("changed publication", "publication", s.publication, "added", c.added, "removed", c.removed, "put_right", c.putRight, "columns", c.columns)
	}
	if c.mark {
		s.log.Info("marked publication as kept from the control schema", "publication", s.publication, "schema", s.namespace)
	}
	return look.membership(), nil
}

// usable returns why the publication is of no use, nil if it is, or can be made so.
func (s *Syncer) usable(look *publicationLook) error {
	if look.oid == 0 {
		return &SlotLostError{Slot: s.slot, Reason: "publication " + s.publication + " does not exist any more", Confirmed: s.Position()}
	}
	if wrong := s.problems(look, nil); len(wrong) > 0 {
		return wrong[0]
	}
	return nil
}

// Publish makes tables what this slot needs of its publication, in place of those of [ForTables]
// and named as there; each has to exist. It is meant to be called again and again while the slot
// is followed, as somebody may change the publication at any time. Where all is right that costs
// three statements which look at the catalog, and nothing is locked.
//
// A publication that a Syncer made is changed: tables are put in, those that no slot needs any
// more are taken out, and so are columns where all slots name those that they need; and what it
// leaves out otherwise is put right: kinds of change, rows by conditions, columns by lists of others
// or because they are generated, the names of partitioned tables.
//
// changed reports whether these are other tables than at the last look, or since then one of them
// has come into the publication, or got other columns there, be it by this call, another Syncer, or
// somebody by hand. Then changes of it may be missing, unless a Syncer only gave it other columns;
// [Syncer.TableGeneration] is another one for exactly those tables of which some may be. Windows that began before count no more, and later ones wait until every transaction
// has ended that was open when the publication was changed.
//
// Columns of a table are changed when nobody writes to it. Where somebody does, for longer than a
// fifth of a second, they stay as they are: see [Syncer.ColumnsPending].
//
// It returns a [*SetupError] with the hint where somebody else has to act: the publication is not
// one that a Syncer made from this control schema, and lacks something; the role may not change
// it; a table does not exist. A [*SlotLostError] says that the publication is gone, so that changes
// are missing of all tables. Any other error may be passing, and what was asked for may have been
// done: call it again.
func (s *Syncer) Publish(ctx context.Context, tables ...string) (changed bool, err error) {
	w := wanted{}
	for _, name := range tables {
		needed, err := parseNeeded(name)
		if err != nil {
			return false, fmt.Errorf("Publish: %w", err)
		}
		w.tables = append(w.tables, needed)
	}
	if len(w.tables) == 0 {
		return false, errors.New("Publish: name at least one table")
	}
	s.publishing.Lock()
	defer s.publishing.Unlock()
	named := w.tables
	w.tables = s.withWatermarks(named)
	var now membership
	err = WithConn(ctx, s.db, func(conn *pgx.Conn) error {
		look, err := s.lookAtPublication(ctx, conn, w, currentNotes)
		if err != nil {
			return err
		}
		if err := s.usable(look); err != nil {
			return err
		}
		if c := s.change(look, removeExtras); c.isNothing() {
			s.columnsPending.Store(false)
			now = look.membership()
			return nil
		}
		now, err = s.publish(ctx, conn, w)
		return err
	})
	if err != nil {
		return false, err
	}
	s.tables = named
	if now.equal(s.published) {
		return false, nil
	}
	// Also when another process did it, of which nothing else tells.
	_ = s.barrier.change(func() error { return nil })
	if err := s.passOver(ctx); err != nil { // the watermark table may have been out
		return false, err
	}
	s.published = now
	return true, nil
}

// ColumnsPending reports whether the last [Syncer.Publish] has left columns of a table as they were,
// since others wrote to it: it is to be called again some time.
func (s *Syncer) ColumnsPending() bool { return s.columnsPending.Load() }

// isNothing reports whether all is as it should be.
func (c *publicationChange) isNothing() bool {
	return len(c.statements("")) == 0 && !c.mark && c.noted
}

func (m membership) equal(other membership) bool {
	return m.publication == other.publication && maps.Equal(m.tables, other.tables)
}

// list returns the tables by their oids, ascending.
func (m membership) list() []uint32 { return slices.Sorted(maps.Keys(m.tables)) }
