package dbsync

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// slotTable holds what is known of each slot, in the control schema.
const slotTable = "dbsync_slots"

// control returns the quoted name of a table in the control schema.
func (s *Syncer) control(table string) string { return pgx.Identifier{s.namespace, table}.Sanitize() }

// watermarkTable is the statement that makes the watermark table. It has one row per slot.
// Every watermark is an update of it, so it stays on its page.
func (s *Syncer) watermarkTable() string {
	return "CREATE TABLE " + s.control(s.wmTable) +
		" (slot text PRIMARY KEY, token text NOT NULL, at timestamptz NOT NULL DEFAULT now()) WITH (fillfactor = 50)"
}

// notesTable is the statement that makes the slot table. confirmed is written before the
// server is told, so a slot that stands further was made anew or moved by somebody else, and
// changes are missing.
func (s *Syncer) notesTable() string {
	return "CREATE TABLE " + s.control(slotTable) +
		" (slot text PRIMARY KEY, generation text NOT NULL, system_identifier text NOT NULL, timeline int NOT NULL, confirmed pg_lsn NOT NULL," +
		" lost text, made_at timestamptz NOT NULL DEFAULT now(), confirmed_at timestamptz NOT NULL DEFAULT now()) WITH (fillfactor = 50)"
}

// controlState is what there is of the control schema.
type controlState struct {
	closed     bool // the role may not even see what is in the schema
	watermarks bool // the watermark table is there
	readable   bool // the slot table is there, and the role may read it
	mayCreate  bool // the role may make objects in the database: schemas, publications
}

// planControl plans to make the control schema with the watermark table and the slot table.
func (p *plan) planControl(ctx context.Context, conn *pgx.Conn) error {
	s := p.s
	var schema, usage, create, notes, useWatermarks, useNotes bool
	err := conn.QueryRow(ctx, `SELECT pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE'),
		n.oid IS NOT NULL, coalesce(pg_catalog.has_schema_privilege(n.oid, 'USAGE'), false), coalesce(pg_catalog.has_schema_privilege(n.oid, 'CREATE'), false),
		w.oid IS NOT NULL, coalesce(pg_catalog.has_table_privilege(w.oid, 'SELECT') AND pg_catalog.has_table_privilege(w.oid, 'INSERT') AND pg_catalog.has_table_privilege(w.oid, 'UPDATE'), false),
		s.oid IS NOT NULL, coalesce(pg_catalog.has_table_privilege(s.oid, 'SELECT') AND pg_catalog.has_table_privilege(s.oid, 'INSERT') AND pg_catalog.has_table_privilege(s.oid, 'UPDATE'), false)
		FROM (VALUES (1)) one LEFT JOIN pg_catalog.pg_namespace n ON n.nspname = $1
		LEFT JOIN pg_catalog.pg_class w ON w.relnamespace = n.oid AND w.relname = $2
		LEFT JOIN pg_catalog.pg_class s ON s.relnamespace = n.oid AND s.relname = $3`, s.namespace, s.wmTable, slotTable).
		Scan(&p.state.mayCreate, &schema, &usage, &create, &p.state.watermarks, &useWatermarks, &notes, &useNotes)
	if err != nil {
		return fmt.Errorf("look for control schema %s: %w", s.namespace, err)
	}
	p.state.closed = schema && !usage
	p.state.readable = notes && useNotes && usage

	user := s.config.User
	role, name := quoteIdent(user), quoteIdent(s.namespace)
	grant := &SetupError{Text: fmt.Sprintf("role %s may not make its tables in control schema %s", user, s.namespace),
		Hint: fmt.Sprintf("GRANT USAGE, CREATE ON SCHEMA %s TO %s;", name, role)}
	switch {
	case !schema:
		says := "make control schema " + s.namespace
		if !p.state.mayCreate {
			says = ""
			p.control.warn(&SetupError{Text: fmt.Sprintf("role %s may not make control schema %s", user, s.namespace),
				Hint: fmt.Sprintf("CREATE SCHEMA %s AUTHORIZATION %s;", name, role)})
		}
		p.control.step(says, s.makeControl("control schema "+s.namespace, "CREATE SCHEMA "+name))
	case p.state.closed:
		p.control.refuse(grant)
	case !create && !(p.state.watermarks && notes):
		p.control.warn(grant)
	}
	for _, t := range []struct {
		what, name, statement string
		there, used           bool
	}{
		{"watermark table", s.wmTable, s.watermarkTable(), p.state.watermarks, useWatermarks},
		{"slot table", slotTable, s.notesTable(), notes, useNotes},
	} {
		switch {
		case !t.there:
			p.control.step("make table "+s.namespace+"."+t.name, s.makeControl(t.what+" "+t.name, t.statement))
		case !t.used:
			p.control.refuse(&SetupError{Text: fmt.Sprintf("role %s may not use table %s.%s", user, s.namespace, t.name),
				Hint: fmt.Sprintf("GRANT SELECT, INSERT, UPDATE ON %s TO %s;", s.control(t.name), role)})
		}
	}
	return nil
}

// makeControl returns what makes an object of the control schema by a statement.
func (s *Syncer) makeControl(what, statement string) func(ctx context.Context, conn *pgx.Conn) error {
	return func(ctx context.Context, conn *pgx.Conn) error {
		if _, err := conn.Exec(ctx, statement); err != nil {
			if sqlState(err) == "42501" {
				return &SetupError{Text: fmt.Sprintf("role %s may not make %s", s.config.User, what), Err: err,
					Hint: "run as a role that may: " + statement}
			}
			return fmt.Errorf("make %s: %w", what, err)
		}
		s.log.Info("made "+what, "statement", statement)
		return nil
	}
}
