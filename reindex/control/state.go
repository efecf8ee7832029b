package control

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"tidemark/mapping"
	"tidemark/mapping/catalog"
)

// A Version is one physical index of an index, and what its documents are made by.
type Version struct {
	Physical    string // its name; "" is none
	Fingerprint string // see [mapping.Index.Fingerprint]
	Mapping     string // see [mapping.Index.Encode]
	Tables      string // see [catalog.Tables.Encode]

	// Partitions is those that the tables had when the index had all of their rows, see
	// [Partitions.Encode].
	Partitions string

	// Generation is that of the tables whose changes the index has all of, see
	// [dbsync.Syncer.TableGeneration]; "" when it has missed some. Only a filling that comes to its
	// end gives the index in use one.
	Generation string

	// Base is where the versions of its documents begin, see [dbsync.Operation]. No change that
	// can still come was committed before.
	Base pglogrepl.LSN
}

// A State is what the control schema knows of one index.
type State struct {
	Name string // the alias

	// Live is behind the alias, zero before the first one is complete. Building is being filled,
	// zero if none is.
	Live, Building Version

	// Source is which of the index's tables is being read, from 0. Cursor is the key of the
	// last row of it that is stored in Building, the text of its columns; nil at the
	// beginning. Done counts the rows of all tables, Total is an estimate from when the
	// filling began, -1 if there was none.
	Source      int
	Cursor      []string
	Done, Total int64

	StartedAt time.Time // of the filling

	// ResumedAt is when a process began to read, or to go on reading, with ResumedRows of Done
	// stored before: how fast it is is counted from there.
	ResumedAt   time.Time
	ResumedRows int64

	FinishedAt time.Time // of the last one that was completed; zero if none was
}

// Newest returns the version that is being filled, or else the one in use.
func (st *State) Newest() Version {
	if st.Building.Physical != "" {
		return st.Building
	}
	return st.Live
}

// Incomplete reports whether the index in use misses changes, so that another one has to be built.
func (st *State) Incomplete() bool { return st.Live.Physical != "" && st.Live.Generation == "" }

// Follows reports whether the documents of a physical index have versions of the log that is followed
// now. The one in use does not, while another one is built since it has missed changes: of its log
// nothing is known.
func (st *State) Follows(physical string) bool {
	return physical != "" && (physical == st.Building.Physical && st.Building.Generation != "" || physical == st.Live.Physical && st.Live.Generation != "")
}

// NotBuilding notes in memory that nothing is being filled.
func (st *State) NotBuilding() {
	st.Building = Version{}
	st.Source, st.Cursor = 0, nil
}

// States is the table of states.
type States struct {
	schema *Schema
	table  string
}

// States returns the states in a control schema.
func (s *Schema) States() *States {
	return &States{schema: s, table: s.table("indices")}
}

// generations are the columns of both generations, also of a schema that has not been migrated and
// has one for both: check and status read that.
const generations = `coalesce(pg_catalog.to_jsonb(i) ->> 'live_generation', CASE WHEN live <> '' AND live_fingerprint <> '' THEN pg_catalog.to_jsonb(i) ->> 'generation' ELSE '' END),
	coalesce(pg_catalog.to_jsonb(i) ->> 'building_generation', CASE WHEN building <> '' THEN pg_catalog.to_jsonb(i) ->> 'generation' ELSE '' END)`

// Read returns the state of an index, nil if there is none.
func (s *States) Read(ctx context.Context, name string) (*State, error) {
	st := &State{Name: name}
	var finished sql.NullTime
	err := s.schema.db.QueryRowContext(ctx, `SELECT `+generations+`, live, live_fingerprint, live_mapping, live_tables, live_partitions, building, building_fingerprint, building_mapping, building_tables, building_partitions,
		coalesce((to_jsonb(i) ->> 'live_base')::pg_lsn, '0/0'), coalesce((to_jsonb(i) ->> 'building_base')::pg_lsn, '0/0'), source, cursor, -- a schema that is not migrated yet has none
		rows_done, rows_total, started_at, resumed_at, resumed_rows, finished_at FROM `+s.table+` AS i WHERE name = $1`, name).
		Scan(&st.Live.Generation, &st.Building.Generation, &st.Live.Physical, &st.Live.Fingerprint, &st.Live.Mapping, &st.Live.Tables, &st.Live.Partitions, &st.Building.Physical, &st.Building.Fingerprint, &st.Building.Mapping, &st.Building.Tables, &st.Building.Partitions, &st.Live.Base, &st.Building.Base, &st.Source, pgtype.NewMap().SQLScanner(&st.Cursor),
			&st.Done, &st.Total, &st.StartedAt, &st.ResumedAt, &st.ResumedRows, &finished)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the state of index %s: %w", name, err)
	}
	st.FinishedAt = finished.Time
	return st, nil
}

// Begin notes that a physical index is being filled, from the beginning. known are the physical
// indices that the process which notes it knows as in use or being filled; where the control schema
// has another one in use, it is a *[TakenOverError]: what that process knows is from before. nil: it
// has just read what there is, and goes on with what it likes of it.
func (s *States) Begin(ctx context.Context, st *State, known []string) error {
	err := s.schema.query(ctx, func(row pgx.Row) error { return row.Scan(&st.StartedAt) }, `INSERT INTO `+s.table+` AS i (name, live_generation, live, live_fingerprint, live_mapping, live_tables, building, building_fingerprint, building_mapping, building_tables, rows_total, live_partitions, building_partitions, live_base, building_base, building_generation)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
		ON CONFLICT (name) DO UPDATE SET live_generation = excluded.live_generation, building_generation = excluded.building_generation, live = excluded.live, live_fingerprint = excluded.live_fingerprint,
			live_mapping = excluded.live_mapping, live_tables = excluded.live_tables, building = excluded.building, building_fingerprint = excluded.building_fingerprint,
			building_mapping = excluded.building_mapping, building_tables = excluded.building_tables,
			live_partitions = excluded.live_partitions, building_partitions = excluded.building_partitions,
			live_base = excluded.live_base, building_base = excluded.building_base,
			source = 0, cursor = NULL, rows_done = 0, rows_total = excluded.rows_total, started_at = now()
			WHERE $17::text[] IS NULL OR i.live IN ('', excluded.live) OR i.live = ANY ($17)
		RETURNING started_at`,
		st.Name, st.Live.Generation, st.Live.Physical, st.Live.Fingerprint, st.Live.Mapping, st.Live.Tables, st.Building.Physical, st.Building.Fingerprint, st.Building.Mapping, st.Building.Tables, st.Total, st.Live.Partitions, st.Building.Partitions, st.Live.Base, st.Building.Base, st.Building.Generation, known)
	if errors.Is(err, pgx.ErrNoRows) {
		return &TakenOverError{Index: st.Name, Building: st.Live.Physical}
	}
	if err != nil {
		return fmt.Errorf("note that %s is being filled: %w", st.Building.Physical, err)
	}
	st.Source, st.Cursor, st.Done = 0, nil, 0
	return nil
}

// Forget notes that all indices whose changes come from a slot, but for those named in
// kept, miss changes from now on. It returns the names of those that did not before.
func (s *States) Forget(ctx context.Context, slotGeneration string, kept []string) (names []string, err error) {
	err = s.schema.query(ctx, func(row pgx.Row) error { return row.Scan(&names) }, `WITH forgotten AS (
		UPDATE `+s.table+` SET live_generation = '', building_generation = ''
		WHERE $1 IN (pg_catalog.split_part(live_generation, '/', 1), pg_catalog.split_part(building_generation, '/', 1)) AND name <> ALL ($2) RETURNING name)
		SELECT coalesce(pg_catalog.array_agg(name ORDER BY name), '{}') FROM forgotten`, slotGeneration, kept)
	if err != nil {
		return nil, fmt.Errorf("note which indices are not kept any more: %w", err)
	}
	return names, nil
}

// Others returns the indices of the slot, whose generation is given, that are not among kept.
func (s *States) Others(ctx context.Context, slotGeneration string, kept []string) (names []string, err error) {
	err = s.schema.db.QueryRowContext(ctx, `SELECT coalesce(pg_catalog.array_agg(name ORDER BY name), '{}') FROM `+s.table+`
		WHERE $1 IN (pg_catalog.split_part(live_generation, '/', 1), pg_catalog.split_part(building_generation, '/', 1)) AND name <> ALL ($2)`, slotGeneration, kept).
		Scan(pgtype.NewMap().SQLScanner(&names))
	if err != nil {
		return nil, fmt.Errorf("look for indices that are not in the mapping: %w", err)
	}
	return names, nil
}

// Remove removes the state of an index.
func (s *States) Remove(ctx context.Context, name string) error {
	if _, err := s.schema.exec(ctx, `DELETE FROM `+s.table+` WHERE name = $1`, name); err != nil {
		return fmt.Errorf("remove the state of index %s: %w", name, err)
	}
	return nil
}

// Miss notes that an index misses changes from now on: it has no generation until it is made anew.
func (s *States) Miss(ctx context.Context, name string) error {
	if _, err := s.schema.exec(ctx, `UPDATE `+s.table+` SET live_generation = '', building_generation = '' WHERE name = $1`, name); err != nil {
		return fmt.Errorf("note that index %s misses changes: %w", name, err)
	}
	return nil
}

// Spoil notes that a physical index of an index misses changes: it is gone back to no more.
func (s *States) Spoil(ctx context.Context, name, physical string) error {
	_, err := s.schema.exec(ctx, `UPDATE `+s.table+` SET live_generation = CASE WHEN live = $2 THEN '' ELSE live_generation END,
		building_generation = CASE WHEN building = $2 THEN '' ELSE building_generation END WHERE name = $1`, name, physical)
	if err != nil {
		return fmt.Errorf("note that %s misses changes: %w", physical, err)
	}
	return nil
}

// Resume notes that the filling begins, or goes on, now.
func (s *States) Resume(ctx context.Context, st *State) error {
	return s.update(ctx, st, `UPDATE `+s.table+` SET resumed_at = now(), resumed_rows = rows_done WHERE name = $1 AND building = $2`, st.Name, st.Building.Physical)
}

// RowsPerSecond is how many rows of the filling were stored in a second since it began or
// went on; 0 while that is not known.
func (st *State) RowsPerSecond(now time.Time) float64 {
	took := now.Sub(st.ResumedAt).Seconds()
	if st.Building.Physical == "" || took <= 0 {
		return 0
	}
	return float64(st.Done-st.ResumedRows) / took
}

// Advance notes how far the filling is: everything up to the cursor is stored.
func (s *States) Advance(ctx context.Context, st *State) error {
	return s.update(ctx, st, `UPDATE `+s.table+` SET source = $3, cursor = $4, rows_done = $5 WHERE name = $1 AND building = $2`,
		st.Name, st.Building.Physical, st.Source, st.Cursor, st.Done)
}

// Finish notes that the index that was filled is the one behind the alias. It can be
// repeated when its answer was lost.
func (s *States) Finish(ctx context.Context, st *State) error {
	err := s.schema.query(ctx, func(row pgx.Row) error { return row.Scan(&st.FinishedAt) }, `UPDATE `+s.table+` SET live = $2, live_fingerprint = $3, live_mapping = $5, live_tables = $6, live_partitions = $7, live_base = $8,
		live_generation = CASE WHEN building = '' THEN live_generation ELSE building_generation END, building_generation = '', building = '', building_fingerprint = '', building_mapping = '', building_tables = '', building_partitions = '',
		source = 0, cursor = NULL, rows_done = $4, finished_at = now() WHERE name = $1 AND (building = $2 OR building = '' AND live = $2)
		RETURNING finished_at`,
		st.Name, st.Building.Physical, st.Building.Fingerprint, st.Done, st.Building.Mapping, st.Building.Tables, st.Building.Partitions, st.Building.Base)
	if errors.Is(err, pgx.ErrNoRows) {
		return &TakenOverError{Index: st.Name, Building: st.Building.Physical}
	}
	if err != nil {
		return fmt.Errorf("note the state of index %s: %w", st.Name, err)
	}
	return nil
}

// Abandon notes that nothing is being filled any more.
func (s *States) Abandon(ctx context.Context, st *State) error {
	return s.update(ctx, st, `UPDATE `+s.table+` SET building = '', building_generation = '', building_fingerprint = '', building_mapping = '', building_tables = '', building_partitions = '', source = 0, cursor = NULL
		WHERE name = $1 AND building IN ($2, '')`, st.Name, st.Building.Physical)
}

// NotePartitions notes that the index in use has all rows of these partitions, and no others.
func (s *States) NotePartitions(ctx context.Context, st *State) error {
	return s.update(ctx, st, `UPDATE `+s.table+` SET live_partitions = $3 WHERE name = $1 AND live = $2`, st.Name, st.Live.Physical, st.Live.Partitions)
}

// Adopt notes that the index in use is as another mapping, or other tables, have it.
func (s *States) Adopt(ctx context.Context, st *State) error {
	return s.update(ctx, st, `UPDATE `+s.table+` SET live_fingerprint = $3, live_mapping = $4, live_tables = $5 WHERE name = $1 AND live = $2 AND building = ''`,
		st.Name, st.Live.Physical, st.Live.Fingerprint, st.Live.Mapping, st.Live.Tables)
}

// Join notes that the index in use has the documents of other root tables, besides what Adopt notes.
func (s *States) Join(ctx context.Context, st *State) error {
	return s.update(ctx, st, `UPDATE `+s.table+` SET live_fingerprint = $3, live_mapping = $4, live_tables = $5, live_generation = $6, live_partitions = $7 WHERE name = $1 AND live = $2 AND building = '' AND live_generation <> ''`,
		st.Name, st.Live.Physical, st.Live.Fingerprint, st.Live.Mapping, st.Live.Tables, st.Live.Generation, st.Live.Partitions)
}

// Tables returns the tables that any index of the control schema is made of.
func (s *States) Tables(ctx context.Context) (names []catalog.TableName, err error) {
	indices, err := s.Mappings(ctx)
	for _, ix := range indices {
		names = append(names, ix.Tables()...)
	}
	return names, err
}

// Mappings returns the mappings by which the documents of any index of the control schema are made.
func (s *States) Mappings(ctx context.Context) (indices []*mapping.Index, err error) {
	rows, err := s.schema.db.QueryContext(ctx, `SELECT m FROM `+s.table+`, LATERAL (VALUES (live_mapping), (building_mapping)) AS of (m) WHERE m <> ''`)
	if err != nil {
		return nil, fmt.Errorf("read what the indices are made of: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			return nil, fmt.Errorf("read what the indices are made of: %w", err)
		}
		if ix, err := mapping.DecodeIndex(text); err == nil { // else it is of a later version, which run says
			indices = append(indices, ix)
		}
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read what the indices are made of: %w", err)
	}
	return indices, nil
}

// update runs a statement that must change the one row of the state.
func (s *States) update(ctx context.Context, st *State, statement string, args ...any) error {
	n, err := s.schema.exec(ctx, statement, args...)
	if err != nil {
		return fmt.Errorf("note the state of index %s: %w", st.Name, err)
	}
	if n != 1 {
		return &TakenOverError{Index: st.Name, Building: st.Building.Physical}
	}
	return nil
}

// HasGrown reports whether the mapping is that of the index in use, and its tables have only
// got columns since that are NULL in the rows that they had. The texts may be of an earlier
// version; one that cannot be read costs a rebuild.
func HasGrown(ix *mapping.Index, st *State, tables catalog.Tables) bool {
	if st.Building.Physical != "" || st.Live.Physical == "" || !ix.EncodedAs(st.Live.Mapping) {
		return false
	}
	before, err := catalog.DecodeTables(st.Live.Tables)
	if err != nil {
		return false
	}
	for _, name := range ix.Tables() {
		if was := before[name]; was == nil || !tables[name].Grown(was) {
			return false
		}
	}
	// What Tidemark makes of the same mapping and the same tables may be other documents
	// since it was upgraded.
	return ix.Matches(st.Live.Fingerprint, before)
}
