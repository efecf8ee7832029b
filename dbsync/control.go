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

// schemaPart is the part of the control schema that is kept by this package: the slot table. The
// watermark table has the name that this Syncer was given, so it is no part of the versions.
//
// Setup migrates it before the slot is ours, so that an earlier version may still follow the
// slot: steps only add what that one does not look at.
func (s *Syncer) schemaPart() *SchemaPart {
	return &SchemaPart{Schema: s.namespace, Name: "dbsync", Steps: []Migration{
		{Name: "table of slots, of this or any earlier version", Up: setupSlotTable},
		{Name: "note of the slots that want event triggers", Up: noteOfEventTriggers},
		{Name: "which tables each slot needs in its publication", Up: notePublished},
		{Name: "which columns of them each slot needs, and how the publication has got its tables", Up: noteColumns},
		{Name: "which slots are on a standby", Up: noteStandbys},
	}}
}

// setupSlotTable makes the slot table, or gives one of an earlier version the columns it lacks.
func setupSlotTable(ctx context.Context, tx pgx.Tx) error {
	have, err := Columns(ctx, tx, slotTable)
	if err != nil {
		return err
	}
	var statements []string
	if len(have) == 0 {
		// confirmed is written before the server is told, so a slot that stands further was
		// made anew or moved by somebody else, and changes are missing.
		statements = append(statements, `CREATE TABLE `+slotTable+` (slot text PRIMARY KEY, generation text NOT NULL,
			system_identifier text NOT NULL, timeline int NOT NULL, confirmed pg_lsn NOT NULL, lost text,
			made_at timestamptz NOT NULL DEFAULT now(), confirmed_at timestamptz NOT NULL DEFAULT now()) WITH (fillfactor = 50)`)
	} else {
		if !have["generation"] { // any that no other slot has
			statements = append(statements, `ALTER TABLE `+slotTable+` ADD COLUMN generation text NOT NULL DEFAULT upper(replace(gen_random_uuid()::text, '-', ''))`,
				`ALTER TABLE `+slotTable+` ALTER COLUMN generation DROP DEFAULT`)
		}
		if !have["lost"] { // a slot that was lost was noted by a position before all others
			statements = append(statements, `ALTER TABLE `+slotTable+` ADD COLUMN lost text`,
				`UPDATE `+slotTable+` SET lost = 'changes were missing already in an earlier version' WHERE confirmed = '0/0'`)
		}
	}
	for _, statement := range statements {
		if _, err := tx.Exec(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

// noteOfEventTriggers has the slot table say whether a slot wants the event triggers of
// [WithEventTriggers].
func noteOfEventTriggers(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Exec(ctx, `ALTER TABLE `+slotTable+` ADD COLUMN event_triggers boolean NOT NULL DEFAULT false`)
	return err
}

// notePublished has the slot table note which tables each slot needs, by their oids, and in which
// publication. NULL is a slot of which an earlier version did not note it.
func notePublished(ctx context.Context, tx pgx.Tx) error {
	have, err := Columns(ctx, tx, slotTable)
	if err != nil || have["published"] {
		return err
	}
	_, err = tx.Exec(ctx, `ALTER TABLE `+slotTable+` ADD COLUMN publication text, ADD COLUMN published oid[]`)
	return err
}

// noteColumns has the slot table note which columns each slot needs of its tables, where it does not
// need all, see noteOf, and makes the table that says how the publication has got its tables.
func noteColumns(ctx context.Context, tx pgx.Tx) error {
	if _, err := tx.Exec(ctx, `ALTER TABLE `+slotTable+` ADD COLUMN IF NOT EXISTS published_columns text[]`); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, `CREATE TABLE IF NOT EXISTS `+memberTable+` (member oid PRIMARY KEY, since oid NOT NULL)`)
	return err
}

// noteStandbys has the slot table note which slots are on a standby, where another one does not see them.
func noteStandbys(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Exec(ctx, `ALTER TABLE `+slotTable+` ADD COLUMN IF NOT EXISTS on_standby boolean NOT NULL DEFAULT false`)
	return err
}

// controlState is what there is of the control schema.
type controlState struct {
	closed     bool // the role may not even see what is in the schema
	watermarks bool // the watermark table is there
	readable   bool // what this version reads of slots is in the slot table, and the role may read it
	wishes     bool // the slot table has the note of the slots that want event triggers
	notes      slotNotes
	mayCreate  bool // the role may make objects in the database: schemas, publications
}

// planControl plans to make the control schema with the watermark table and the slot table, or
// to bring that up to date. Its error is a [*NewerSchemaError] where a later version has changed
// the schema.
func (p *plan) planControl(ctx context.Context, conn *pgx.Conn) error {
	s := p.s
	var schema, usage, create, notes, useWatermarks, useNotes, current, noted, columns, useMembers, useVersions bool
	err := conn.QueryRow(ctx, `SELECT pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE'),
		n.oid IS NOT NULL, coalesce(pg_catalog.has_schema_privilege(n.oid, 'USAGE'), false), coalesce(pg_catalog.has_schema_privilege(n.oid, 'CREATE'), false),
		w.oid IS NOT NULL, coalesce(pg_catalog.has_table_privilege(w.oid, 'SELECT') AND pg_catalog.has_table_privilege(w.oid, 'INSERT') AND pg_catalog.has_table_privilege(w.oid, 'UPDATE'), false),
		s.oid IS NOT NULL, coalesce(pg_catalog.has_table_privilege(s.oid, 'SELECT') AND pg_catalog.has_table_privilege(s.oid, 'INSERT') AND pg_catalog.has_table_privilege(s.oid, 'UPDATE'), false),
		EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = s.oid AND a.attname = 'lost'),
		EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = s.oid AND a.attname = 'event_triggers'),
		EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = s.oid AND a.attname = 'published'),
		EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = s.oid AND a.attname = 'published_columns') AND m.oid IS NOT NULL,
		m.oid IS NULL OR coalesce(pg_catalog.has_table_privilege(m.oid, 'SELECT') AND pg_catalog.has_table_privilege(m.oid, 'INSERT') AND pg_catalog.has_table_privilege(m.oid, 'UPDATE')
			AND pg_catalog.has_table_privilege(m.oid, 'DELETE'), false),
		v.oid IS NULL OR pg_catalog.has_table_privilege(v.oid, 'SELECT')
		FROM (VALUES (1)) one LEFT JOIN pg_catalog.pg_namespace n ON n.nspname = $1
		LEFT JOIN pg_catalog.pg_class w ON w.relnamespace = n.oid AND w.relname = $2
		LEFT JOIN pg_catalog.pg_class s ON s.relnamespace = n.oid AND s.relname = $3
		LEFT JOIN pg_catalog.pg_class v ON v.relnamespace = n.oid AND v.relname = $4
		LEFT JOIN pg_catalog.pg_class m ON m.relnamespace = n.oid AND m.relname = $5`, s.namespace, s.wmTable, slotTable, versionTable, memberTable).
		Scan(&p.state.mayCreate, &schema, &usage, &create, &p.state.watermarks, &useWatermarks, &notes, &useNotes, &current, &p.state.wishes, &noted, &columns, &useMembers, &useVersions)
	if err != nil {
		return fmt.Errorf("look for control schema %s: %w", s.namespace, err)
	}
	p.state.closed = schema && !usage
	// A slot table without that column is of an early version, and is read when it was migrated.
	p.state.readable = notes && useNotes && usage && current
	if notes && useNotes && usage {
		p.state.notes = earlierNotes
		switch {
		case noted && columns && useMembers:
			p.state.notes = currentNotes
		case noted:
			p.state.notes = tableNotes
		}
	}
	part := s.schemaPart()
	var pending []string
	if usage && useVersions {
		if pending, err = part.Pending(ctx, conn); err != nil {
			return err
		}
	}

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
	case !create && !(p.state.watermarks && notes && len(pending) == 0):
		p.control.warn(grant)
	}
	if !useVersions {
		p.control.refuse(&SetupError{Text: fmt.Sprintf("role %s may not use table %s.%s", user, s.namespace, versionTable),
			Hint: fmt.Sprintf("GRANT SELECT, INSERT, UPDATE ON %s TO %s;", part.table(), role)})
	}
	if !useMembers {
		p.control.refuse(&SetupError{Text: fmt.Sprintf("role %s may not use table %s.%s", user, s.namespace, memberTable),
			Hint: fmt.Sprintf("GRANT SELECT, INSERT, UPDATE, DELETE ON %s TO %s;", s.control(memberTable), role)})
	}
	migrate := func(ctx context.Context, conn *pgx.Conn) error { return part.Migrate(ctx, conn, s.log) }
	for _, t := range []struct {
		name        string
		there, used bool
		make        func(ctx context.Context, conn *pgx.Conn) error
	}{
		{s.wmTable, p.state.watermarks, useWatermarks, s.makeControl("watermark table "+s.wmTable, s.watermarkTable())},
		{slotTable, notes, useNotes, migrate},
	} {
		switch {
		case !t.there:
			p.control.step("make table "+s.namespace+"."+t.name, t.make)
		case !t.used:
			p.control.refuse(&SetupError{Text: fmt.Sprintf("role %s may not use table %s.%s", user, s.namespace, t.name),
				Hint: fmt.Sprintf("GRANT SELECT, INSERT, UPDATE ON %s TO %s;", s.control(t.name), role)})
		}
	}
	if notes { // otherwise the one step is to make it
		for _, says := range pending {
			p.control.step(says, migrate) // the first one does all that is left
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
