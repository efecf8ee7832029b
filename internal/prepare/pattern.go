package prepare

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"tidemark/dbsync"
	"tidemark/mapping"
	"tidemark/mapping/catalog"
	"tidemark/reindex/control"
)

// Read reads a mapping file, and puts the tables of the database in the place of patterns, and values of columns in names of
// indices. It connects to the database only where there are any, and waits for it for as long as patience. Its errors are those of [mapping.Read] and [Prepare].
func Read(ctx context.Context, file string, log *slog.Logger, patience time.Duration) (*mapping.Config, error) {
	c, err := mapping.Read(file)
	if err != nil {
		return nil, err
	}
	return ReadTables(ctx, c, log, patience)
}

// ReadTables is Read for a file that was read before.
func ReadTables(ctx context.Context, c *mapping.Config, log *slog.Logger, patience time.Duration) (*mapping.Config, error) {
	c = c.Written()
	if len(c.Patterns()) == 0 && len(c.ValueColumns()) == 0 {
		return c, nil
	}
	db, err := connectPostgres(ctx, c, log, patience)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	known, err := followedTables(ctx, db.DB, c)
	if err != nil {
		return nil, err
	}
	resolved, err := Resolve(ctx, db.DB, c, known)
	if err != nil {
		return nil, err
	}
	return ResolveValues(ctx, db.DB, resolved, nil)
}

// Resolve puts the tables of the database in the place of the patterns of a file. A table that came since, and
// of which no documents can be made yet, is left out, and [mapping.Config.Left] says why: one schema that is not
// complete holds up no other. known are tables whose documents are in an index: whatever they lack now is for who
// follows them to say. The error is [mapping.Problems] where nothing is left.
func Resolve(ctx context.Context, db *sql.DB, c *mapping.Config, known map[catalog.TableName]bool) (*mapping.Config, error) {
	found, err := matchingTables(ctx, db, c)
	if err != nil {
		return nil, err
	}
	// What is followed goes before what came since, where there are more than an index takes.
	slices.SortStableFunc(found, func(a, b catalog.TableName) int {
		switch {
		case known[a] == known[b]:
			return 0
		case known[a]:
			return -1
		}
		return 1
	})
	resolved, err := c.InSchemas(found)
	if err != nil {
		return nil, err
	}
	var fresh []catalog.TableName
	for _, name := range resolved.Matched() {
		if !known[name] {
			fresh = append(fresh, name)
		}
	}
	unfit, err := unfitTables(ctx, db, resolved, fresh)
	if err != nil || len(unfit) == 0 {
		return resolved, err
	}
	if len(unfit) == len(resolved.Matched()) { // what they lack is for somebody to see at once
		var all mapping.Problems
		for _, name := range fresh {
			all = append(all, unfit[name]...)
		}
		return nil, all
	}
	fit := slices.DeleteFunc(found, func(name catalog.TableName) bool { return len(unfit[name]) > 0 })
	if resolved, err = c.InSchemas(fit); err != nil {
		return nil, err
	}
	for _, name := range fresh {
		for _, p := range unfit[name][:min(1, len(unfit[name]))] {
			p.Text = fmt.Sprintf("table %s is left out: %s", name, p.Text)
			resolved.Left = append(resolved.Left, p)
		}
	}
	return resolved, nil
}

// matchingTables returns the tables that the patterns of the file stand for.
func matchingTables(ctx context.Context, db *sql.DB, c *mapping.Config) (found []catalog.TableName, err error) {
	patterns := c.Patterns()
	var names []string
	for _, p := range patterns {
		names = append(names, p.Name)
	}
	rows, err := db.QueryContext(ctx, `SELECT n.nspname, c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relname = ANY ($1) AND c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence <> 't' ORDER BY 1, 2`, names)
	if err != nil {
		return nil, fmt.Errorf("look for the tables of patterns: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var name catalog.TableName
		if err := rows.Scan(&name.Schema, &name.Name); err != nil {
			return nil, fmt.Errorf("look for the tables of patterns: %w", err)
		}
		if slices.ContainsFunc(patterns, func(p catalog.TableName) bool { return c.Matches(p, name) }) {
			found = append(found, name)
		}
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("look for the tables of patterns: %w", err)
	}
	return found, nil
}

// unfitTables says what keeps documents from being made of root tables that are not followed yet, by name.
func unfitTables(ctx context.Context, db *sql.DB, c *mapping.Config, fresh []catalog.TableName) (map[catalog.TableName]mapping.Problems, error) {
	if len(fresh) == 0 {
		return nil, nil
	}
	unfit := make(map[catalog.TableName]mapping.Problems)
	tables, err := catalog.LoadTables(ctx, db, c.Only(fresh...).Tables(), "")
	if err != nil {
		return nil, err
	}
	present := make(catalog.Tables)
	reader, err := asDatabase(ctx, db)
	if err != nil {
		return nil, err
	}
	// The first one of each name that is taken up: a field has the type that it has there.
	first := make(map[string]catalog.TableName)
	for _, name := range c.Matched() {
		if _, there := first[name.Name]; !there && !slices.Contains(fresh, name) {
			first[name.Name] = name
		}
	}
	followed, err := catalog.LoadTables(ctx, db, c.Only(slices.Collect(maps.Values(first))...).Tables(), "")
	if err != nil {
		return nil, err
	}
	maps.Copy(tables, followed)
	for _, root := range fresh {
		own := c.Only(root)
		problems := own.Check(tables)
		for _, name := range own.Tables() {
			t := tables[name]
			if t == nil || len(problems) > 0 {
				continue
			}
			problem, err := reader.readable(ctx, own, t)
			if err != nil {
				return nil, err
			}
			if problem != nil {
				problems = append(problems, *problem)
			}
		}
		if len(problems) == 0 {
			problems = unlike(c, root, first[root.Name], tables)
		}
		if len(problems) > 0 {
			unfit[root] = problems
			continue
		}
		if _, there := first[root.Name]; !there {
			first[root.Name] = root
		}
		for _, name := range own.Tables() {
			present[name] = tables[name]
		}
	}
	return unfit, unpublished(ctx, c, present, fresh, unfit)
}

// unlike says in which field a root table is not like the first one, which is zero if there is none, of each index
// that has both.
func unlike(c *mapping.Config, root, first catalog.TableName, tables catalog.Tables) (problems mapping.Problems) {
	for _, ix := range c.Only(first, root).Indices {
		if len(ix.Sources) < 2 || tables[first] == nil {
			continue
		}
		if _, err := ix.Body(tables); err != nil {
			problems = append(problems, c.Problem(ix.Path(), "give the columns of both tables the same type", "%v", err))
		}
	}
	return problems
}

// unpublished adds those of the fresh root tables which the role cannot put into the publication.
func unpublished(ctx context.Context, c *mapping.Config, present catalog.Tables, fresh []catalog.TableName, unfit map[catalog.TableName]mapping.Problems) error {
	wrong := func(roots ...catalog.TableName) ([]*dbsync.SetupError, error) {
		own := c.Only(roots...)
		if len(own.Indices) == 0 {
			return nil, nil
		}
		tables := make(catalog.Tables)
		for _, name := range own.Tables() {
			tables[name] = present[name]
		}
		found, err := dbsync.Inspect(ctx, SyncerOptions(own, tables, slog.New(slog.DiscardHandler))...)
		if err != nil {
			return nil, fmt.Errorf("inspect the database: %w", err)
		}
		return found.Wrong, nil
	}
	fit := slices.DeleteFunc(slices.Clone(fresh), func(name catalog.TableName) bool { return len(unfit[name]) > 0 })
	all, err := wrong(fit...)
	if err != nil || len(all) == 0 {
		return err
	}
	for _, root := range fit {
		own, err := wrong(root)
		if err != nil {
			return err
		}
		for _, w := range own {
			// What is wrong with the server is said by Prepare; where it is the table, that is in the text.
			if strings.Contains(w.Text+w.Hint, present[root].SQL()) {
				unfit[root] = append(unfit[root], c.Problem("postgres", w.Hint, "%s", w.Text))
			}
		}
	}
	return nil
}

// followedTables returns the tables that the indices of the slot are made of, by what the control schema has.
func followedTables(ctx context.Context, db *sql.DB, c *mapping.Config) (map[catalog.TableName]bool, error) {
	known := make(map[catalog.TableName]bool)
	condition, err := control.Look(ctx, db, c.StateSchema())
	if err != nil {
		return nil, fmt.Errorf("look at the control schema: %w", err)
	}
	if !condition.Readable {
		return known, nil
	}
	names, err := control.Open(db, c.StateSchema(), c.Postgres.Slot).States().Tables(ctx)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		known[name] = true
	}
	return known, nil
}
