package dbsync

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
)

// versionTable has one row for each part of the control schema: how many of the part's steps
// the schema has had.
const versionTable = "schema_version"

// migrateLock is the advisory lock under which a part is migrated, held until its transaction
// ends. It is another one than setupLock, which may be held for as long as it takes to make a
// slot; whoever takes both takes setupLock first. The number is "migrate" in ASCII.
const migrateLock = 0x6d696772617465

// A SchemaPart is the tables in the control schema that one package keeps, and the steps that
// bring them from any earlier form to the one that the package works with. The version of a
// part is how many of its steps the schema has had. Steps are only ever added, at the end.
type SchemaPart struct {
	Schema string // the control schema
	Name   string // as schema_version has it
	Steps  []Migration
}

// A Migration is one step.
type Migration struct {
	// Name says what the step does, in the words that an operator is shown.
	Name string

	// Up does it. In tx names without a schema are those of the control schema. It has to bear
	// what is there already: the first step of a part also meets the tables of versions that
	// kept no version, see [Columns].
	Up func(ctx context.Context, tx pgx.Tx) error
}

// A NewerSchemaError reports that a later version of the program has changed the control
// schema: what this one would write there may be wrong. Nothing was changed.
type NewerSchemaError struct {
	Schema, Part   string
	Version, Known int // of the part in the schema, and the last one that this program knows
}

func (e *NewerSchemaError) Error() string {
	return fmt.Sprintf("control schema %s was changed by a later version: its part %s has version %d, this program knows up to %d", e.Schema, e.Part, e.Version, e.Known)
}

// Hint says what to do.
func (e *NewerSchemaError) Hint() string { return "start the version that changed it, or a later one" }

// Permanent reports that repeating does not help.
func (e *NewerSchemaError) Permanent() bool { return true }

// Pending returns what Migrate would do, a line for each step; all steps where there is no
// schema. It changes nothing. Its error is a [*NewerSchemaError] where the schema has had more
// steps than there are, and a [*SetupError] where the role may not look.
func (p *SchemaPart) Pending(ctx context.Context, conn *pgx.Conn) (lines []string, err error) {
	steps, err := p.pending(ctx, conn)
	for i, step := range steps {
		lines = append(lines, fmt.Sprintf("migrate control schema %s to version %d of its part %s: %s", p.Schema, p.number(steps, i), p.Name, step.Name))
	}
	return lines, err
}

// number returns the version that a part has after one of the steps that were left.
func (p *SchemaPart) number(left []Migration, i int) int { return len(p.Steps) - len(left) + i + 1 }

// pending returns the steps that the schema has not had yet.
func (p *SchemaPart) pending(ctx context.Context, q querier) ([]Migration, error) {
	version, err := p.version(ctx, q)
	if err != nil {
		return nil, err
	}
	if version > len(p.Steps) {
		return nil, &NewerSchemaError{Schema: p.Schema, Part: p.Name, Version: version, Known: len(p.Steps)}
	}
	return p.Steps[version:], nil
}

// version returns how many steps the schema has had. 0 is a schema that is not there, is empty,
// or is of a version of the program that kept none.
func (p *SchemaPart) version(ctx context.Context, q querier) (version int, err error) {
	var there bool
	err = q.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname = $1 AND c.relname = $2)`, p.Schema, versionTable).Scan(&there)
	if err == nil && there {
		err = q.QueryRow(ctx, `SELECT version FROM `+p.table()+` WHERE part = $1`, p.Name).Scan(&version)
	}
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return 0, nil
	case sqlState(err) == "42501":
		return 0, &SetupError{Text: fmt.Sprintf("the role may not read the version of control schema %s", p.Schema), Err: err,
			Hint: fmt.Sprintf("as a role that may, with the name of the one that may not for ROLE: GRANT USAGE ON SCHEMA %s TO ROLE; GRANT SELECT, INSERT, UPDATE ON %s TO ROLE;", quoteIdent(p.Schema), p.table())}
	case err != nil:
		return 0, fmt.Errorf("read the version of part %s of control schema %s: %w", p.Name, p.Schema, err)
	}
	return version, nil
}

// table returns the quoted name of the table of versions.
func (p *SchemaPart) table() string { return pgx.Identifier{p.Schema, versionTable}.Sanitize() }

// Migrate runs the steps that the schema has not had yet, all in one transaction: a crash, or an
// error of any step, leaves the schema as it was. Of several processes that begin at once one
// runs them, and the others find nothing left to do. The schema exists; where nothing is to be
// done it is only read. The errors are those of [SchemaPart.Pending], before anything is changed,
// and a [*SetupError] where the role may not do what a step does.
func (p *SchemaPart) Migrate(ctx context.Context, conn *pgx.Conn, log *slog.Logger) error {
	steps, err := p.pending(ctx, conn)
	if err != nil || len(steps) == 0 {
		return err
	}
	slow := time.AfterFunc(5*time.Second, func() {
		log.Warn("waiting to change the control schema: somebody holds a lock on a table in it; see pg_blocking_pids", "schema", p.Schema)
	})
	defer slow.Stop()
	// A role may have another isolation by default, which would not show what was committed
	// while the lock was waited for.
	err = pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadWrite}, func(tx pgx.Tx) (err error) {
		steps, err = p.migrate(ctx, tx)
		return err
	})
	if sqlState(err) == "42501" {
		return &SetupError{Text: fmt.Sprintf("the role may not change control schema %s", p.Schema), Err: err,
			Hint: fmt.Sprintf("as a role that may, with the name of the one that may not for ROLE: GRANT USAGE, CREATE ON SCHEMA %s TO ROLE; and for each table in it: ALTER TABLE … OWNER TO ROLE;", quoteIdent(p.Schema))}
	}
	if err != nil {
		return err
	}
	for i, step := range steps {
		log.Info("migrated the control schema", "schema", p.Schema, "part", p.Name, "version", p.number(steps, i), "step", step.Name)
	}
	return nil
}

// migrate runs the steps that the schema has not had yet, and returns which these were.
func (p *SchemaPart) migrate(ctx context.Context, tx pgx.Tx) ([]Migration, error) {
	// As all commits of ours it waits for this server's disk, and not for a standby that hangs.
	if _, err := tx.Exec(ctx, `SET LOCAL synchronous_commit = local`); err != nil {
		return nil, fmt.Errorf("migrate control schema %s: %w", p.Schema, err)
	}
	if _, err := tx.Exec(ctx, `SELECT pg_catalog.pg_advisory_xact_lock($1)`, migrateLock); err != nil {
		return nil, fmt.Errorf("wait for others to migrate control schema %s: %w", p.Schema, err)
	}
	steps, err := p.pending(ctx, tx) // somebody else may have run them meanwhile
	if err != nil || len(steps) == 0 {
		return nil, err
	}
	if _, err := tx.Exec(ctx, `CREATE TABLE IF NOT EXISTS `+p.table()+` (part text PRIMARY KEY, version integer NOT NULL, migrated_at timestamptz NOT NULL)`); err != nil {
		return nil, fmt.Errorf("make table %s: %w", p.table(), err)
	}
	if _, err := tx.Exec(ctx, `SELECT pg_catalog.set_config('search_path', $1, true)`, quoteIdent(p.Schema)); err != nil {
		return nil, fmt.Errorf("migrate control schema %s: %w", p.Schema, err)
	}
	for i, step := range steps {
		if err := step.Up(ctx, tx); err != nil {
			return nil, fmt.Errorf("migrate control schema %s, step %d of part %s (%s): %w", p.Schema, p.number(steps, i), p.Name, step.Name, err)
		}
	}
	_, err = tx.Exec(ctx, `INSERT INTO `+p.table()+` (part, version, migrated_at) VALUES ($1, $2, now())
		ON CONFLICT (part) DO UPDATE SET version = excluded.version, migrated_at = excluded.migrated_at`, p.Name, len(p.Steps))
	if err != nil {
		return nil, fmt.Errorf("note the version of part %s of control schema %s: %w", p.Name, p.Schema, err)
	}
	return steps, nil
}

// Columns returns the columns of a table in the control schema, none where there is no such
// table. It is for the [Migration] that meets tables of versions that kept no version: what is
// there is not made again, as even ADD COLUMN IF NOT EXISTS takes the rights of the owner.
func Columns(ctx context.Context, tx pgx.Tx, table string) (map[string]bool, error) {
	rows, err := tx.Query(ctx, `SELECT a.attname FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
		JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname = pg_catalog.current_schema() AND c.relname = $1 AND a.attnum > 0 AND NOT a.attisdropped`, table)
	if err != nil {
		return nil, fmt.Errorf("look for table %s: %w", table, err)
	}
	columns := make(map[string]bool)
	var name string
	if _, err := pgx.ForEachRow(rows, []any{&name}, func() error { columns[name] = true; return nil }); err != nil {
		return nil, fmt.Errorf("look for table %s: %w", table, err)
	}
	return columns, nil
}
