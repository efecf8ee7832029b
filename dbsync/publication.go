package dbsync

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// publicationMark is the comment by which a publication is known as ours to change.
const publicationMark = "kept by dbsync"

// planPublication plans to make the publication, or to keep one that a Syncer made equal to
// the tables asked for, and checks one that somebody else made. isNew is true when it has to be
// made.
func (p *plan) planPublication(ctx context.Context, conn *pgx.Conn) (isNew bool, err error) {
	s := p.s
	if p.state.closed {
		return false, nil // Postgres does not let it look at the watermark table, and the plan is refused
	}
	pub, err := s.readPublication(ctx, conn)
	if err != nil {
		return false, err
	}
	watermarks := s.control(s.wmTable)
	all := append(slices.Clone(s.tables), watermarks)
	there := all
	if !p.state.watermarks {
		there = s.tables
	}
	if !pub.exists {
		statement := s.newPublication(all)
		p.publication.step(fmt.Sprintf("make publication %s for %d tables", s.publication, len(all)), func(ctx context.Context, conn *pgx.Conn) error {
			return s.createPublication(ctx, conn, statement)
		})
		return true, p.checkRights(ctx, conn, publicationChange{verb: "make", tables: there, statement: statement})
	}
	if !pub.complete {
		p.publication.refuse(s.incompletePublication())
	}
	var partitioned []string // roots that it lists by their partitions, which is refused
	if !pub.ours {
		if partitioned, err = p.checkForeignPublication(ctx, conn, pub, there); err != nil {
			return false, err
		}
	}
	missing, extra, err := s.comparePublication(ctx, conn, there)
	if err != nil {
		return false, err
	}
	missing = slices.DeleteFunc(missing, func(name string) bool { return slices.Contains(partitioned, name) })
	added := missing // of those that are there
	if !p.state.watermarks {
		missing = append(slices.Clone(missing), watermarks)
	}
	if len(missing)+len(extra) == 0 {
		return false, nil
	}
	switch {
	case pub.ours && len(s.tables) > 0:
		p.publication.step(fmt.Sprintf("change publication %s: add %d tables, remove %d", s.publication, len(missing), len(extra)), func(ctx context.Context, conn *pgx.Conn) error {
			return s.changePublication(ctx, conn, all, "added", missing, "removed", extra)
		})
		return false, p.checkRights(ctx, conn, publicationChange{verb: "change", tables: added, foreign: !pub.owned,
			statement: fmt.Sprintf("ALTER PUBLICATION %s ADD TABLE %s", quoteIdent(s.publication), strings.Join(missing, ", "))})
	case len(missing) > 0:
		lacking := s.lackingPublication(missing)
		if !p.state.watermarks { // so that the hint can be done at all
			lacking.Hint = strings.Join(s.watermarkStatements(), "\n") + "\n" + lacking.Hint
		}
		p.publication.refuse(lacking)
	}
	return false, nil
}

// checkForeignPublication checks what only a publication can have that no Syncer made. It
// returns which of the tables it lists by their partitions, as quoted names.
func (p *plan) checkForeignPublication(ctx context.Context, conn *pgx.Conn, pub publicationState, tables []string) (partitioned []string, err error) {
	s := p.s
	name := quoteIdent(s.publication)
	if !pub.viaRoot {
		rows, err := conn.Query(ctx, `SELECT t.name FROM pg_catalog.unnest($1::text[]) AS t(name)
			JOIN pg_catalog.pg_class c ON c.oid = pg_catalog.to_regclass(t.name) WHERE c.relkind = 'p'`, tables)
		if err != nil {
			return nil, fmt.Errorf("look for partitioned tables: %w", err)
		}
		if partitioned, err = pgx.CollectRows(rows, pgx.RowTo[string]); err != nil {
			return nil, fmt.Errorf("look for partitioned tables: %w", err)
		}
		if len(partitioned) > 0 {
			p.publication.refuse(&SetupError{Hint: fmt.Sprintf("ALTER PUBLICATION %s SET (publish_via_partition_root = true);", name),
				Text: fmt.Sprintf("publication %s gives changes of %s under the names of partitions", s.publication, strings.Join(partitioned, ", "))})
		}
	}
	if s.serverVersion < 150000 {
		return partitioned, nil // it has no filters
	}
	rows, err := conn.Query(ctx, `SELECT pg_catalog.format('%I.%I', schemaname, tablename) FROM pg_catalog.pg_publication_tables
		WHERE pubname = $1 AND rowfilter IS NOT NULL AND pg_catalog.to_regclass(pg_catalog.format('%I.%I', schemaname, tablename))
			IN (SELECT pg_catalog.to_regclass(t.name) FROM pg_catalog.unnest($2::text[]) AS t(name)) ORDER BY 1`, s.publication, tables)
	if err != nil {
		return nil, fmt.Errorf("look for row filters of publication %s: %w", s.publication, err)
	}
	filtered, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("look for row filters of publication %s: %w", s.publication, err)
	}
	for _, table := range filtered {
		p.publication.warn(&SetupError{Hint: fmt.Sprintf("ALTER PUBLICATION %s DROP TABLE %s; ALTER PUBLICATION %s ADD TABLE %s;", name, table, name, table),
			Text: fmt.Sprintf("publication %s has a row filter on %s, so that some changes would be missing", s.publication, table)})
	}
	return partitioned, nil
}

// A publicationChange is a statement that puts tables into the publication.
type publicationChange struct {
	verb      string // make or change
	foreign   bool   // the publication is there, and not the role's own
	tables    []string
	statement string
}

// checkRights holds the role against what Postgres wants of who puts tables into a
// publication: to own them, and the publication, or to be able to make one.
func (p *plan) checkRights(ctx context.Context, conn *pgx.Conn, change publicationChange) error {
	s := p.s
	rows, err := conn.Query(ctx, `SELECT DISTINCT r.rolname, r.rolsuper
		FROM pg_catalog.unnest($1::text[]) AS t(name) JOIN pg_catalog.pg_class c ON c.oid = pg_catalog.to_regclass(t.name)
		JOIN pg_catalog.pg_roles r ON r.oid = c.relowner WHERE NOT pg_catalog.pg_has_role(c.relowner, 'USAGE') ORDER BY 1`, change.tables)
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
	mayNotMake := change.verb == "make" && !p.state.mayCreate
	if len(owners) == 0 && !change.foreign && !mayNotMake {
		return nil
	}

	role := quoteIdent(s.config.User)
	byOthers := []string{change.statement + ";"}
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
		if change.foreign {
			grants = append(grants, fmt.Sprintf("ALTER PUBLICATION %s OWNER TO %s;", quoteIdent(s.publication), role))
		}
		hint = strings.Join(grants, "\n") + "\nor, " + hint
	}
	p.publication.warn(&SetupError{Hint: hint,
		Text: fmt.Sprintf("role %s may not %s publication %s: that takes CREATE on the database and the rights of the owner of each table", s.config.User, change.verb, s.publication)})
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

// publicationState is what the server says of a publication.
type publicationState struct {
	exists   bool
	complete bool // every kind of change is published
	viaRoot  bool // changes of a partition are those of its root
	ours     bool // a Syncer made it, and may change it
	owned    bool // by this role
}

func (s *Syncer) readPublication(ctx context.Context, q querier) (p publicationState, err error) {
	p.exists = true
	err = q.QueryRow(ctx, `SELECT pubinsert AND pubupdate AND pubdelete AND pubtruncate, pubviaroot,
		coalesce(pg_catalog.obj_description(oid, 'pg_publication') = $2, false), pg_catalog.pg_has_role(pubowner, 'USAGE')
		FROM pg_catalog.pg_publication WHERE pubname = $1`, s.publication, publicationMark).
		Scan(&p.complete, &p.viaRoot, &p.ours, &p.owned)
	if errors.Is(err, pgx.ErrNoRows) {
		return publicationState{}, nil
	}
	if err != nil {
		return publicationState{}, fmt.Errorf("look for publication %s: %w", s.publication, err)
	}
	return p, nil
}

func (s *Syncer) incompletePublication() *SetupError {
	return &SetupError{Text: fmt.Sprintf("publication %s leaves out some kinds of change", s.publication),
		Hint: fmt.Sprintf("ALTER PUBLICATION %s SET (publish = 'insert, update, delete, truncate');", quoteIdent(s.publication))}
}

func (s *Syncer) lackingPublication(missing []string) *SetupError {
	list := strings.Join(missing, ", ")
	return &SetupError{Text: fmt.Sprintf("publication %s, which was not made by this program, lacks %s", s.publication, list),
		Hint: fmt.Sprintf("ALTER PUBLICATION %s ADD TABLE %s;", quoteIdent(s.publication), list)}
}

// newPublication is the statement that makes the publication for tables.
func (s *Syncer) newPublication(tables []string) string {
	options := "publish_via_partition_root = true"
	if s.serverVersion >= 180000 {
		options += ", publish_generated_columns = stored"
	}
	return fmt.Sprintf("CREATE PUBLICATION %s FOR TABLE %s WITH (%s)", quoteIdent(s.publication), strings.Join(tables, ", "), options)
}

func (s *Syncer) createPublication(ctx context.Context, conn *pgx.Conn, statement string) error {
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, statement); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, fmt.Sprintf("COMMENT ON PUBLICATION %s IS '%s'", quoteIdent(s.publication), publicationMark))
		return err
	})
	if err != nil {
		return s.publicationError(err, statement)
	}
	s.log.Info("made publication", "publication", s.publication, "statement", statement)
	return nil
}

// changePublication makes the tables of the publication these; log says what is different.
//
// What changes before it commits is not published, not even the rest of a transaction that is
// under way. Windows therefore wait until every such transaction has ended.
func (s *Syncer) changePublication(ctx context.Context, conn *pgx.Conn, tables []string, log ...any) error {
	statement := fmt.Sprintf("ALTER PUBLICATION %s SET TABLE %s", quoteIdent(s.publication), strings.Join(tables, ", "))
	if _, err := conn.Exec(ctx, statement); err != nil {
		return s.publicationError(err, statement)
	}
	s.log.Info("changed publication", append([]any{"publication", s.publication}, log...)...)
	return nil
}

func (s *Syncer) publicationError(err error, statement string) error {
	switch sqlState(err) {
	case "42501":
		return &SetupError{Text: fmt.Sprintf("role %s may not make publication %s", s.config.User, s.publication), Err: err,
			Hint: "as owner of the tables and with CREATE on the database, or as superuser: " + statement + ";"}
	case "42P01":
		return &SetupError{Text: "publication " + s.publication, Err: err, Hint: "name existing tables"}
	}
	return fmt.Errorf("publication %s: %w", s.publication, err)
}

// comparePublication returns which of the tables the publication lacks, and which it has
// beyond them, as quoted names.
func (s *Syncer) comparePublication(ctx context.Context, conn *pgx.Conn, tables []string) (missing, extra []string, err error) {
	rows, err := conn.Query(ctx, `SELECT schemaname, tablename FROM pg_catalog.pg_publication_tables WHERE pubname = $1`, s.publication)
	if err != nil {
		return nil, nil, fmt.Errorf("read the tables of publication %s: %w", s.publication, err)
	}
	published := make(map[string]bool)
	var schema, table string
	if _, err := pgx.ForEachRow(rows, []any{&schema, &table}, func() error {
		published[pgx.Identifier{schema, table}.Sanitize()] = true
		return nil
	}); err != nil {
		return nil, nil, fmt.Errorf("read the tables of publication %s: %w", s.publication, err)
	}
	wanted := make(map[string]bool)
	for _, t := range tables {
		var schema, name string
		err := conn.QueryRow(ctx, `SELECT n.nspname, c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
			WHERE c.oid = pg_catalog.to_regclass($1)`, t).Scan(&schema, &name)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil, nil, &SetupError{Text: fmt.Sprintf("table %s does not exist", t), Hint: "name an existing table"}
		}
		if err != nil {
			return nil, nil, fmt.Errorf("look for table %s: %w", t, err)
		}
		full := pgx.Identifier{schema, name}.Sanitize()
		wanted[full] = true
		if !published[full] {
			missing = append(missing, full)
		}
	}
	for t := range published {
		if !wanted[t] {
			extra = append(extra, t)
		}
	}
	return missing, extra, nil
}
