package control

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/dbsync"
	"tidemark/mapping"
	"tidemark/mapping/catalog"
)

// part is the part of the control schema that this package keeps. A step is added at the end of
// the list and never changed, see the package comment.
func part(schema string) *dbsync.SchemaPart {
	return &dbsync.SchemaPart{Schema: schema, Name: "tidemark", Steps: []dbsync.Migration{
		{Name: "tables of indices, requests and dead letters, of this or any earlier version", Up: setupTables},
		{Name: "mappings, tables and partitions of indices as JSON with names and a version of its own", Up: nameJSON},
		{Name: "table of what is proven of indices", Up: setupProofs},
		{Name: "where the versions of documents begin", Up: setupBases},
		{Name: "table of how the shards of indices were recovered", Up: setupRecoveries},
		{Name: "a generation of each physical index, and the table of their marks", Up: setupMarks},
		{Name: "tables of documents that are to be stored again, since they include a row that changed", Up: setupFanOuts},
		{Name: "table of who notes things of the indices of a slot", Up: setupEpochs},
		{Name: "table of the topics that operations go through", Up: setupTopics},
	}}
}

// withProofs is the version of the part that has the table of proofs.
const withProofs = 3

// withMarks is the version of the part that has the table of marks.
const withMarks = 6

// withTopics is the version of the part that has the table of topics.
const withTopics = 9

// withFanOuts is the version of the part that has the tables of fan-outs.
const withFanOuts = 7

// firstReadable is the first version of the part whose tables this program can read, if not
// write, before they are migrated.
const firstReadable = 1

// Migrate makes the tables in the control schema, or brings those of an earlier version to the
// form that this package works with. It is called when the slot is this process's: an instance of
// an earlier version that still follows it would go on with tables that are not as it knows them.
// A crash leaves everything as it was. Its errors are those of [dbsync.SchemaPart.Migrate].
func Migrate(ctx context.Context, db *sql.DB, schema string, log *slog.Logger) error {
	return dbsync.WithConn(ctx, db, func(conn *pgx.Conn) error { return part(schema).Migrate(ctx, conn, log) })
}

// Make makes a control schema that holds nothing but what this package keeps, if it is missing, and does what
// Migrate does.
func Make(ctx context.Context, db *sql.DB, schema string, log *slog.Logger) error {
	err := dbsync.WithConn(ctx, db, func(conn *pgx.Conn) error {
		var exists bool
		if err := conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = $1)`, schema).Scan(&exists); err != nil || exists {
			return err
		}
		_, err := conn.Exec(ctx, `CREATE SCHEMA IF NOT EXISTS `+catalog.QuoteIdent(schema))
		return err
	})
	if server, ok := errors.AsType[*pgconn.PgError](err); ok && server.Code == "42501" {
		return &dbsync.SetupError{Text: "the role may not make control schema " + schema, Err: err,
			Hint: fmt.Sprintf("as a role that may, with the name of the one that may not for ROLE: CREATE SCHEMA %s AUTHORIZATION ROLE;", catalog.QuoteIdent(schema))}
	}
	if err != nil {
		return fmt.Errorf("make control schema %s: %w", schema, err)
	}
	return Migrate(ctx, db, schema, log)
}

// A Condition is how this package's part of the control schema stands to the program.
type Condition struct {
	// Made reports whether the tables were made, by this or an earlier version. The one of dead
	// letters is the same in all versions.
	Made bool

	// Unnoted reports that an earlier version made the tables which noted no indices: whose those are
	// that have names as of ours and no stamp is known by that alone.
	Unnoted bool

	// Readable reports whether states and requests can be read as they are.
	Readable bool

	// Proofs reports whether there is the table of proofs.
	Proofs bool

	// Marks reports whether there is the table of marks.
	Marks bool

	// FanOuts reports whether there are the tables of fan-outs.
	FanOuts bool

	// Topics reports whether there is the table of topics.
	Topics bool

	// Pending is what Migrate would do, a line for each step.
	Pending []string
}

// Look returns the condition of the control schema, and changes nothing. Its errors are those of
// [dbsync.SchemaPart.Pending].
func Look(ctx context.Context, db *sql.DB, schema string) (c Condition, err error) {
	err = dbsync.WithConn(ctx, db, func(conn *pgx.Conn) error {
		p := part(schema)
		if c.Pending, err = p.Pending(ctx, conn); err != nil {
			return err
		}
		if version := len(p.Steps) - len(c.Pending); version > 0 {
			c.Made, c.Readable, c.Proofs = true, version >= firstReadable, version >= withProofs
			c.Marks, c.FanOuts, c.Topics = version >= withMarks, version >= withFanOuts, version >= withTopics
			return nil
		}
		// Of what was made before there were versions the last column is looked for.
		var noted bool
		err := conn.QueryRow(ctx, `SELECT count(*) FILTER (WHERE c.relname = 'dead_letters' AND a.attname = 'id') > 0,
				count(DISTINCT c.relname) FILTER (WHERE (c.relname, a.attname) IN (('dead_letters', 'id'), ('requests', 'id'), ('indices', 'live_partitions'))) = 3,
				count(*) FILTER (WHERE c.relname = 'indices') > 0
			FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid
			WHERE n.nspname = $1 AND c.relname IN ('dead_letters', 'requests', 'indices')`, schema).
			Scan(&c.Made, &c.Readable, &noted)
		c.Unnoted = c.Made && !noted
		if err != nil {
			return fmt.Errorf("look for the tables in control schema %s: %w", schema, err)
		}
		return nil
	})
	return c, err
}

// An OlderSchemaError reports that an earlier version of the program has made the control
// schema, and none of this version has followed the slot yet.
type OlderSchemaError struct{}

func (*OlderSchemaError) Error() string { return "the control schema is of an earlier version" }

// Hint says what to do.
func (*OlderSchemaError) Hint() string {
	return "start tidemark run of this version; an instance of an earlier version that is running has to be stopped for it"
}

// Current returns an [*OlderSchemaError] if the tables were made and have to be migrated before
// anything is written there.
func (c Condition) Current() error {
	if c.Made && len(c.Pending) > 0 {
		return &OlderSchemaError{}
	}
	return nil
}

// setupTables is step 1. Each table is made where it is missing: versions that kept no version
// made one after the other, and an earlier one that was started by mistake may have made some.
func setupTables(ctx context.Context, tx pgx.Tx) error {
	for _, setup := range []func(context.Context, pgx.Tx) ([]string, error){deadLetterStatements, indexStatements, requestStatements} {
		statements, err := setup(ctx, tx)
		if err != nil {
			return err
		}
		for _, statement := range statements {
			if _, err := tx.Exec(ctx, statement); err != nil {
				return err
			}
		}
	}
	return nil
}

// deadLetterStatements make the table of dead letters, which has never changed.
func deadLetterStatements(ctx context.Context, tx pgx.Tx) ([]string, error) {
	have, err := dbsync.Columns(ctx, tx, "dead_letters")
	if err != nil || len(have) > 0 {
		return nil, err
	}
	// document_key is a hash of index, id and routing: an id and a routing may together be more
	// than an index of Postgres takes.
	return []string{`CREATE TABLE dead_letters (
		id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
		document_key bytea NOT NULL,
		index_name   text NOT NULL,
		doc_id       text NOT NULL,
		routing      text NOT NULL,
		operation    text NOT NULL CHECK (operation IN ('index', 'delete')),
		version      pg_lsn NOT NULL,
		status       integer NOT NULL,
		type         text NOT NULL,
		reason       text NOT NULL,
		document     text,
		created_at   timestamptz NOT NULL DEFAULT now(),
		attempts     integer NOT NULL DEFAULT 1,
		UNIQUE (document_key, version)
	)`}, nil
}

// requestStatements make the table of requests. Its columns have never changed. Where a request
// of a refresh by keys names a table, as early versions wrote it, all sources of that are meant.
func requestStatements(ctx context.Context, tx pgx.Tx) ([]string, error) {
	have, err := dbsync.Columns(ctx, tx, "requests")
	if err != nil || len(have) > 0 {
		return nil, err
	}
	return []string{`CREATE TABLE requests (
		id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
		slot        text NOT NULL,
		kind        text NOT NULL,
		index_name  text NOT NULL,
		source      text NOT NULL DEFAULT '',
		condition   text NOT NULL DEFAULT '',
		keys        text[],
		phase       text NOT NULL DEFAULT 'waiting',
		message     text NOT NULL DEFAULT '',
		rows_done   bigint NOT NULL DEFAULT 0,
		created_at  timestamptz NOT NULL DEFAULT now(),
		finished_at timestamptz
	)`}, nil
}

// indexStatements make the table of indices, or give one of an earlier version what it lacks.
// Columns came in this order, so that a table without one has none of the later ones.
func indexStatements(ctx context.Context, tx pgx.Tx) (statements []string, err error) {
	have, err := dbsync.Columns(ctx, tx, "indices")
	if err != nil {
		return nil, err
	}
	if len(have) == 0 {
		return []string{`CREATE TABLE indices (
			name                 text PRIMARY KEY,
			generation           text NOT NULL,
			live                 text NOT NULL DEFAULT '',
			live_fingerprint     text NOT NULL DEFAULT '',
			live_mapping         text NOT NULL DEFAULT '',
			live_tables          text NOT NULL DEFAULT '',
			live_partitions      text NOT NULL DEFAULT '',
			building             text NOT NULL DEFAULT '',
			building_fingerprint text NOT NULL DEFAULT '',
			building_mapping     text NOT NULL DEFAULT '',
			building_tables      text NOT NULL DEFAULT '',
			building_partitions  text NOT NULL DEFAULT '',
			source               integer NOT NULL DEFAULT 0,
			cursor               text[],
			rows_done            bigint NOT NULL DEFAULT 0,
			rows_total           bigint NOT NULL DEFAULT -1,
			started_at           timestamptz NOT NULL DEFAULT now(),
			resumed_at           timestamptz NOT NULL DEFAULT now(),
			resumed_rows         bigint NOT NULL DEFAULT 0,
			finished_at          timestamptz
		)`}, nil
	}
	if !have["source"] {
		statements = append(statements, `ALTER TABLE indices ADD COLUMN source integer NOT NULL DEFAULT 0`)
	}
	if !have["live_mapping"] {
		statements = append(statements,
			`ALTER TABLE indices ADD COLUMN live_mapping text NOT NULL DEFAULT '', ADD COLUMN building_mapping text NOT NULL DEFAULT ''`,
			// The cursor may have its columns in the order of the id, and not of the index that the
			// rows are read by: to go on from there would leave rows out, and nobody would notice.
			// They are read again, into the same physical index.
			`UPDATE indices SET source = 0, cursor = NULL, rows_done = 0 WHERE cardinality(cursor) > 1`)
	}
	if !have["live_tables"] {
		statements = append(statements, `ALTER TABLE indices ADD COLUMN live_tables text NOT NULL DEFAULT '', ADD COLUMN building_tables text NOT NULL DEFAULT ''`)
	}
	if !have["resumed_at"] {
		statements = append(statements,
			`ALTER TABLE indices ADD COLUMN resumed_at timestamptz NOT NULL DEFAULT now(), ADD COLUMN resumed_rows bigint NOT NULL DEFAULT 0`,
			`UPDATE indices SET resumed_rows = rows_done`) // or the rate would count rows of before
	}
	if !have["live_partitions"] {
		return append(statements, `ALTER TABLE indices ADD COLUMN live_partitions text NOT NULL DEFAULT '', ADD COLUMN building_partitions text NOT NULL DEFAULT ''`), nil
	}
	// The first form was the leaves alone, by table: its keys have a dot. Read as the next one it
	// would be no leaves, and documents listed, so that those of a partition that is gone stayed.
	for _, column := range []string{"live_partitions", "building_partitions"} {
		statements = append(statements, `UPDATE indices SET `+column+` = jsonb_build_object('leaves', `+column+`::jsonb, 'unlisted', true)::text
			WHERE `+column+` <> '' AND EXISTS (SELECT FROM jsonb_object_keys(`+column+`::jsonb) AS k(key) WHERE key LIKE '%.%')`)
	}
	return statements, nil
}

// nameJSON is step 2. What was JSON with the names of Go's fields gets names and a version of its
// own, so that a field can be named otherwise in the program without a change of what is stored.
func nameJSON(ctx context.Context, tx pgx.Tx) error {
	convert := map[string]func(text string) (string, error){
		"live_mapping": encodeMapping, "building_mapping": encodeMapping,
		"live_tables": encodeTables, "building_tables": encodeTables,
		"live_partitions": encodePartitions, "building_partitions": encodePartitions,
	}
	for column, encode := range convert {
		rows, err := tx.Query(ctx, `SELECT name, `+column+` FROM indices WHERE `+column+` <> ''`)
		if err != nil {
			return err
		}
		type cell struct{ Name, Text string }
		cells, err := pgx.CollectRows(rows, pgx.RowToStructByPos[cell])
		if err != nil {
			return err
		}
		for _, c := range cells {
			text, err := encode(c.Text)
			if err != nil {
				return fmt.Errorf("%s of index %s: %w", column, c.Name, err)
			}
			if _, err := tx.Exec(ctx, `UPDATE indices SET `+column+` = $2 WHERE name = $1`, c.Name, text); err != nil {
				return err
			}
		}
	}
	return nil
}

// setupBases is step 4. The documents of earlier versions have positions of the log as versions,
// which are below those that are counted from its beginning.
func setupBases(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Exec(ctx, `ALTER TABLE indices ADD COLUMN live_base pg_lsn NOT NULL DEFAULT '0/0', ADD COLUMN building_base pg_lsn NOT NULL DEFAULT '0/0'`)
	return err
}

func encodeMapping(text string) (string, error) {
	ix, err := mapping.DecodeIndex(text)
	if err != nil {
		return "", err
	}
	return ix.Encode()
}

func encodeTables(text string) (string, error) {
	tables, err := catalog.DecodeTables(text)
	if err != nil {
		return "", err
	}
	return tables.Encode()
}

func encodePartitions(text string) (string, error) {
	p, err := DecodePartitions(text)
	if err != nil {
		return "", err
	}
	return p.Encode()
}

// setupMarks is step 6. Which of both physical indices a generation was of, was told by an empty
// fingerprint of the one in use: it missed changes then.
func setupMarks(ctx context.Context, tx pgx.Tx) error {
	for _, statement := range []string{
		`ALTER TABLE indices ADD COLUMN live_generation text NOT NULL DEFAULT ''`,
		`ALTER TABLE indices RENAME COLUMN generation TO building_generation`,
		`ALTER TABLE indices ALTER COLUMN building_generation SET DEFAULT ''`,
		`UPDATE indices SET live_generation = CASE WHEN live <> '' AND live_fingerprint <> '' THEN building_generation ELSE '' END,
			building_generation = CASE WHEN building <> '' THEN building_generation ELSE '' END`,
		// Versions before made indices without a mark; what is noted here is ours all the same.
		`CREATE TABLE physical_indices (
			physical    text PRIMARY KEY,
			index_name  text NOT NULL,
			incarnation text NOT NULL DEFAULT '',
			mark_number bigint NOT NULL DEFAULT 0,
			mark        text NOT NULL DEFAULT '',
			next_mark   text NOT NULL DEFAULT '',
			marked_at   timestamptz NOT NULL DEFAULT now()
		)`,
		`CREATE INDEX physical_indices_index ON physical_indices (index_name)`,
		`INSERT INTO physical_indices (physical, index_name) SELECT live, name FROM indices WHERE live <> '' UNION SELECT building, name FROM indices WHERE building <> ''`,
	} {
		if _, err := tx.Exec(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

// setupFanOuts is step 7.
func setupFanOuts(ctx context.Context, tx pgx.Tx) error {
	for _, statement := range []string{
		// hash is of physical, source, path and key: these may together be more than an index of
		// Postgres takes. asked counts up with every row that is asked for; again is its number when
		// it was asked for after the pass that has taken the row began.
		`CREATE TABLE fan_outs (
			slot       text NOT NULL,
			hash       bytea NOT NULL,
			index_name text NOT NULL,
			physical   text NOT NULL,
			source     text NOT NULL,
			path       text NOT NULL,
			key        text[],
			asked      bigint GENERATED BY DEFAULT AS IDENTITY,
			asked_at   timestamptz NOT NULL DEFAULT now(),
			taken      boolean NOT NULL DEFAULT false,
			again      bigint,
			again_at   timestamptz,
			PRIMARY KEY (slot, hash)
		)`,
		`CREATE INDEX fan_outs_group ON fan_outs (slot, physical, source, path, asked)`,
		`CREATE TABLE fan_out_passes (
			slot      text NOT NULL,
			physical  text NOT NULL,
			source    text NOT NULL,
			path      text NOT NULL,
			runner    text NOT NULL,
			cursor    text[],
			rows_done bigint NOT NULL DEFAULT 0,
			began_at  timestamptz NOT NULL DEFAULT now(),
			PRIMARY KEY (slot, physical, source, path)
		)`,
	} {
		if _, err := tx.Exec(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}
