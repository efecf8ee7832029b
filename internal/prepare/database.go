package prepare

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/dbsync"
	"tidemark/mapping"
	"tidemark/mapping/catalog"
	"tidemark/reindex/control"
)

// database holds c against the database: its tables, the rights of the role, and what
// logical replication needs.
func (p *Prepared) database(ctx context.Context, c *mapping.Config, log *slog.Logger, patience time.Duration) error {
	db, err := connectPostgres(ctx, c, log, patience)
	if err != nil {
		return err
	}
	p.db = db.DB                             // whatever comes, Close closes it
	if !c.Postgres.ReplicationURL.IsZero() { // before what needs it says no more than that it is not there
		there, err := connectSlotServer(ctx, c, log, patience)
		if err != nil {
			return err
		}
		if err := there.Close(); err != nil {
			return fmt.Errorf("close the connection to the server of the slot: %w", err)
		}
	}
	for attempt := 1; ; attempt++ {
		err := p.inspect(ctx, c, db, log)
		if _, wrong := errors.AsType[mapping.Problems](err); !wrong || attempt == maxInspections {
			return err
		}
		altered, failed := p.wereAltered(ctx, c, db)
		if failed != nil {
			return failed
		}
		if !altered {
			return err
		}
		log.Info("a table was altered while the mapping was held against it, looking again")
	}
}

// maxInspections bounds how often the mapping is held against tables that are altered meanwhile.
const maxInspections = 5

// wereAltered reports whether a table is not what it was when it was loaded.
func (p *Prepared) wereAltered(ctx context.Context, c *mapping.Config, db *database) (bool, error) {
	now, err := catalog.LoadTables(ctx, db, c.Tables(), "")
	now.Follow(c.WithChildren())
	for name, t := range now {
		before := p.Tables[name]
		if (t == nil) != (before == nil) || t != nil && !t.Same(before) {
			return true, nil
		}
	}
	return false, err
}

// inspect is database for the tables as they are now.
func (p *Prepared) inspect(ctx context.Context, c *mapping.Config, db *database, log *slog.Logger) error {
	known, err := p.loadTables(ctx, c, db)
	if err != nil {
		return err
	}
	problems := c.Check(known)
	readable := make(catalog.Tables)
	for name, t := range p.Tables {
		problem, err := db.readable(ctx, c, t)
		if err != nil {
			return err
		}
		if problem != nil {
			problems = append(problems, *problem)
		} else {
			readable[name] = t
		}
	}
	p.Database, err = dbsync.Inspect(ctx, SyncerOptions(c, readable, log)...)
	if err != nil {
		return fmt.Errorf("inspect the database: %w", err)
	}
	if len(p.Database.Wrong) == 0 { // a role without the rights has been told so
		if p.Control, err = control.Look(ctx, db.DB, c.StateSchema()); err != nil {
			return fmt.Errorf("look at the control schema: %w", err)
		}
	}
	for _, wrong := range p.Database.Wrong {
		text := wrong.Text
		if server, ok := errors.AsType[*pgconn.PgError](wrong.Err); ok {
			text += ". Postgres says: " + server.Message
		} else if wrong.Err != nil {
			text += ": " + plain(wrong.Err).Error()
		}
		problems = append(problems, c.Problem("postgres", wrong.Hint, "%s", text))
	}
	if len(problems) > 0 {
		return problems
	}
	return db.explain(ctx, c, p.Tables)
}

// explain has Postgres plan the statements that make documents of each index: conditions
// in SQL, and columns of types that cannot be compared, are its to judge.
func (db *database) explain(ctx context.Context, c *mapping.Config, tables catalog.Tables) error {
	var problems mapping.Problems
	for _, ix := range c.Indices {
		for _, s := range ix.Sources {
			if len(s.Include) == 0 {
				continue
			}
			found, err := db.explainSource(ctx, c, s, tables)
			if err != nil {
				return fmt.Errorf("plan the documents of index %s: %w", s.Name(), err)
			}
			problems = append(problems, found...)
		}
	}
	if len(problems) > 0 {
		return problems
	}
	return nil
}

func (db *database) explainSource(ctx context.Context, c *mapping.Config, s *mapping.Source, tables catalog.Tables) (problems mapping.Problems, err error) {
	// check takes up what Postgres refuses, and passes on any other error.
	check := func(key string, err error) error {
		refused, ok := errors.AsType[*RefusedError](err)
		if ok {
			problems = append(problems, c.Problem(key, "write what Postgres takes", "%v", refused))
			return nil
		}
		return err
	}
	// Each condition first by itself, where it knows no other table than its own.
	conditions := s.Conditions()
	for _, key := range slices.Sorted(maps.Keys(conditions)) {
		condition := conditions[key]
		if err := check(key, CheckCondition(ctx, db.DB, tables[condition.Table], condition.SQL)); err != nil {
			return nil, err
		}
	}
	if len(problems) > 0 {
		return problems, nil // the statements below would be refused for the same
	}
	selection, err := s.Select(tables)
	if err != nil {
		return nil, err
	}
	_, err = db.ExecContext(ctx, "EXPLAIN "+selection.Statement(tables[s.Table].From()+" "+mapping.Root))
	if err = check(s.Key("include"), refused(err)); err != nil || len(problems) > 0 {
		return problems, err
	}
	for _, path := range s.Paths() {
		lookup := mapping.Lookup{Path: path, Keys: make([][][]byte, len(path.Columns()))}
		query, args, err := s.Find(tables, []mapping.Lookup{lookup}, nil, 1)
		if err != nil {
			return nil, err
		}
		given := make([]any, len(args))
		for i, arg := range args {
			given[i] = string(arg)
		}
		_, err = db.ExecContext(ctx, "EXPLAIN "+query, given...)
		if err = check(s.Key("include"), refused(err)); err != nil || len(problems) > 0 {
			return problems, err
		}
	}
	return nil, nil
}

// loadTables reads the catalog about every table that c names. Where one of them is
// missing, known holds the names of all others too: one may have been meant.
func (p *Prepared) loadTables(ctx context.Context, c *mapping.Config, db *database) (known map[catalog.TableName]*catalog.Table, err error) {
	p.Tables = make(catalog.Tables)
	loaded, err := catalog.LoadTables(ctx, db, c.Tables(), "")
	if err != nil {
		return nil, err
	}
	missing := false
	for name, t := range loaded {
		if t == nil {
			missing = true
		} else {
			p.Tables[name] = t
		}
	}
	p.Tables.Follow(c.WithChildren())
	if !missing {
		return p.Tables, nil
	}
	known = maps.Clone(p.Tables)
	rows, err := db.QueryContext(ctx, `SELECT n.nspname, c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' LIMIT 10000`)
	if err != nil {
		return nil, fmt.Errorf("list the tables of the database: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var name catalog.TableName
		if err := rows.Scan(&name.Schema, &name.Name); err != nil {
			return nil, fmt.Errorf("list the tables of the database: %w", err)
		}
		if known[name] == nil {
			known[name] = &catalog.Table{Schema: name.Schema, Name: name.Name}
		}
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("list the tables of the database: %w", err)
	}
	return known, nil
}

// readable tries to read the table as the backfill will. A table whose rows a policy hides
// is reported by the mapping's check.
func (db *database) readable(ctx context.Context, c *mapping.Config, t *catalog.Table) (*mapping.Problem, error) {
	name := catalog.QuoteIdent(t.Schema) + "." + catalog.QuoteIdent(t.Name)
	_, err := db.ExecContext(ctx, "SELECT FROM "+name+" LIMIT 0")
	if err == nil || t.RowSecurity {
		return nil, nil
	}
	server, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || server.Code != "42501" {
		return nil, fmt.Errorf("read table %s: %w", t.TableName(), err)
	}
	i := slices.IndexFunc(c.Indices, func(ix *mapping.Index) bool { return slices.Contains(ix.Tables(), t.TableName()) })
	p := c.Problem(c.Indices[i].Path()+".table",
		fmt.Sprintf("GRANT USAGE ON SCHEMA %s TO %s;\nGRANT SELECT ON %s TO %s;", catalog.QuoteIdent(t.Schema), catalog.QuoteIdent(db.role), name, catalog.QuoteIdent(db.role)),
		"role %s may not read table %s. Postgres says: %s", db.role, t.TableName(), server.Message)
	return &p, nil
}
