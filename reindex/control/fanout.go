package control

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"tidemark/dbsync"
	"tidemark/mapping/value"
)

// FanOuts is what is noted of documents that are to be stored again since a related row has changed
// that is in them, where they are too many for the stream to wait for: one row of the table fan_outs
// for each related row, by the values that lead to its documents, and for each physical index. A
// change of a row that is noted already adds nothing.
//
// They are worked off by passes, of one physical index, source and path each. A pass takes what is
// asked for when it begins; what is asked for again since needs another one, however often.
type FanOuts struct {
	schema          *Schema
	slot            string
	fanOuts, passes string // tables
	states          string // the one of States
}

// FanOuts returns those of the slot.
func (s *Schema) FanOuts() *FanOuts {
	return &FanOuts{schema: s, slot: s.slot, fanOuts: s.table("fan_outs"), passes: s.table("fan_out_passes"), states: s.table("indices")}
}

// A FanOutGroup is what one pass may take up together.
type FanOutGroup struct {
	Index    string
	Physical string
	Source   string // a [SourceName]
	Path     string // a [mapping.Path], as text; "": every document of the source
}

// A FanOut is a related row whose documents are to be stored again.
type FanOut struct {
	FanOutGroup
	Key []string // values of the path's columns; nil: every document of the source
}

// hash tells apart what is asked for.
func (f *FanOut) hash() []byte {
	var text []byte
	for _, part := range append([]string{f.Physical, f.Source, f.Path}, f.Key...) {
		text = append(binary.AppendUvarint(text, uint64(len(part))), part...)
	}
	sum := sha256.Sum256(text)
	return sum[:]
}

// askedAtOnce bounds what one statement asks for.
const askedAtOnce = 5000

// Ask notes that documents are to be stored again. What is in no pass yet and asked for is asked for
// once. When it returns nil that is on disk.
func (f *FanOuts) Ask(ctx context.Context, asked []FanOut) error {
	return f.inTurn(ctx, "note whose documents are to be stored again", func(tx pgx.Tx) error {
		for part := range slices.Chunk(asked, askedAtOnce) {
			columns := make([][][]byte, 5)
			hashes := make([][]byte, len(part))
			for i := range part {
				a := &part[i]
				var key []byte
				if a.Key != nil {
					values := make([][]byte, len(a.Key))
					for j, v := range a.Key {
						values[j] = []byte(v)
					}
					key = value.TextArray(values)
				}
				hashes[i] = a.hash()
				for j, v := range [][]byte{[]byte(a.Index), []byte(a.Physical), []byte(a.Source), []byte(a.Path), key} {
					columns[j] = append(columns[j], v)
				}
			}
			args := []any{f.slot, hashes}
			for _, c := range columns {
				args = append(args, string(value.TextArray(c)))
			}
			_, err := tx.Exec(ctx, `INSERT INTO `+f.fanOuts+` AS f (slot, hash, index_name, physical, source, path, key)
				SELECT DISTINCT ON (k.hash) $1::text, k.hash, k.index_name, k.physical, k.source, k.path, k.key::text[]
				FROM ROWS FROM (pg_catalog.unnest($2::bytea[]), pg_catalog.unnest($3::text::text[]), pg_catalog.unnest($4::text::text[]), pg_catalog.unnest($5::text::text[]), pg_catalog.unnest($6::text::text[]), pg_catalog.unnest($7::text::text[]))
					AS k(hash, index_name, physical, source, path, key)
				ON CONFLICT (slot, hash) DO UPDATE SET again = coalesce(f.again, excluded.asked), again_at = coalesce(f.again_at, pg_catalog.now()) WHERE f.taken`, args...)
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// inTurn calls do in a transaction, one at a time of all that change the tables: a pass takes and
// gives back many rows.
func (f *FanOuts) inTurn(ctx context.Context, what string, do func(tx pgx.Tx) error) error {
	err := f.schema.note(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `LOCK TABLE `+f.fanOuts+` IN SHARE ROW EXCLUSIVE MODE`); err != nil {
			return err
		}
		return do(tx)
	})
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// A FanOutStatus is how far a group is.
type FanOutStatus struct {
	FanOutGroup
	Related int64     // rows whose documents are to be stored again; every document counts as one
	Asked   int64     // a number that grows with time, of the first of them
	Since   time.Time // when that was asked for
	Stored  int64     // documents, by the pass under way
}

// A FanOutSum is what an index has to have stored again.
type FanOutSum struct {
	Related int64     // rows whose documents are to be stored again, for each physical index; every document of a source counts as one
	Since   time.Time // when the first of them was asked for; zero: none is
	Stored  int64     // documents, by the passes under way
}

// SumFanOuts returns what of open is of an index.
func SumFanOuts(open []FanOutStatus, index string) (s FanOutSum) {
	for _, o := range open {
		if o.Index != index {
			continue
		}
		s.Related += o.Related
		s.Stored += o.Stored
		if s.Since.IsZero() || o.Since.Before(s.Since) {
			s.Since = o.Since
		}
	}
	return s
}

// Open returns what is not done, in the order in which it was asked for.
func (f *FanOuts) Open(ctx context.Context) (open []FanOutStatus, err error) {
	err = dbsync.WithConn(ctx, f.schema.db, func(conn *pgx.Conn) error {
		rows, err := conn.Query(ctx, `SELECT f.index_name, f.physical, f.source, f.path, count(*), min(f.asked), min(f.asked_at), coalesce(min(p.rows_done), 0)
			FROM `+f.fanOuts+` f LEFT JOIN `+f.passes+` p USING (slot, physical, source, path) WHERE f.slot = $1
			GROUP BY f.index_name, f.physical, f.source, f.path ORDER BY min(f.asked)`, f.slot)
		if err != nil {
			return err
		}
		open, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (s FanOutStatus, err error) {
			err = row.Scan(&s.Index, &s.Physical, &s.Source, &s.Path, &s.Related, &s.Asked, &s.Since, &s.Stored)
			return s, err
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", f.fanOuts, err)
	}
	return open, nil
}

// Newest returns the number of what was asked for last of a physical index and is not done; 0: nothing is.
func (f *FanOuts) Newest(ctx context.Context, physical string) (asked int64, err error) {
	err = f.schema.db.QueryRowContext(ctx, `SELECT coalesce(max(greatest(asked, again)), 0) FROM `+f.fanOuts+` WHERE slot = $1 AND physical = $2`, f.slot, physical).Scan(&asked)
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", f.fanOuts, err)
	}
	return asked, nil
}

// Left returns how many related rows of a physical index there are of what was asked for up to a
// number and is not done, and something that changes as long as it is worked on.
func (f *FanOuts) Left(ctx context.Context, physical string, asked int64) (left int64, progress string, err error) {
	err = f.schema.db.QueryRowContext(ctx, `SELECT count(*), pg_catalog.format('%s %s', count(*), (SELECT pg_catalog.string_agg(p::text, ' ' ORDER BY p) FROM `+f.passes+` p WHERE p.slot = $1))
		FROM `+f.fanOuts+` WHERE slot = $1 AND physical = $2 AND asked <= $3`, f.slot, physical, asked).Scan(&left, &progress)
	if err != nil {
		return 0, "", fmt.Errorf("read %s: %w", f.fanOuts, err)
	}
	return left, progress, nil
}

// A FanOutPass is a pass through the documents of a group.
type FanOutPass struct {
	FanOutGroup
	Keys   [][]string // of the related rows that it has taken; none: every document
	Cursor []string   // the key of the last document that is stored; nil at the beginning
	Stored int64      // documents

	runner string
}

const (
	// maxTaken and maxTakenBytes bound what one pass takes.
	maxTaken      = 1000
	maxTakenBytes = 1 << 20
)

// Begin begins a pass through a group, or goes on with the one under way, whoever has begun it: from
// then on it is the runner's alone. nil: nothing is to be done.
func (f *FanOuts) Begin(ctx context.Context, g FanOutGroup, runner string) (p *FanOutPass, err error) {
	err = f.inTurn(ctx, "begin to store the documents of related rows of "+g.Index+" again", func(tx pgx.Tx) error {
		p = &FanOutPass{FanOutGroup: g, runner: runner}
		err := tx.QueryRow(ctx, `INSERT INTO `+f.passes+` (slot, physical, source, path, runner) VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (slot, physical, source, path) DO UPDATE SET runner = excluded.runner RETURNING cursor, rows_done`,
			f.slot, g.Physical, g.Source, g.Path, runner).Scan(&p.Cursor, &p.Stored)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `UPDATE `+f.fanOuts+` SET taken = true WHERE slot = $1 AND hash IN (
				SELECT hash FROM (SELECT hash, pg_catalog.row_number() OVER w AS n, pg_catalog.sum(pg_catalog.octet_length(key::text)) OVER w AS bytes
					FROM `+f.fanOuts+` WHERE slot = $1 AND physical = $2 AND source = $3 AND path = $4 WINDOW w AS (ORDER BY asked, hash)) AS waiting
				WHERE n = 1 OR n <= $5 AND bytes <= $6)
			AND NOT EXISTS (SELECT FROM `+f.fanOuts+` WHERE slot = $1 AND physical = $2 AND source = $3 AND path = $4 AND taken)`,
			f.slot, g.Physical, g.Source, g.Path, maxTaken, maxTakenBytes)
		if err != nil {
			return err
		}
		rows, err := tx.Query(ctx, `SELECT coalesce(key, '{}') FROM `+f.fanOuts+` WHERE slot = $1 AND physical = $2 AND source = $3 AND path = $4 AND taken ORDER BY asked, hash`,
			f.slot, g.Physical, g.Source, g.Path)
		if err != nil {
			return err
		}
		if p.Keys, err = pgx.CollectRows(rows, pgx.RowTo[[]string]); err != nil || len(p.Keys) > 0 {
			return err
		}
		p = nil
		_, err = tx.Exec(ctx, `DELETE FROM `+f.passes+` WHERE slot = $1 AND physical = $2 AND source = $3 AND path = $4`, f.slot, g.Physical, g.Source, g.Path)
		return err
	})
	if err != nil {
		return nil, err
	}
	if p != nil && g.Path == "" {
		p.Keys = nil
	}
	return p, nil
}

// Advance notes how far a pass is: everything up to its cursor is stored.
func (f *FanOuts) Advance(ctx context.Context, p *FanOutPass) error {
	n, err := f.schema.exec(ctx, `UPDATE `+f.passes+` SET cursor = $6, rows_done = $7 WHERE slot = $1 AND physical = $2 AND source = $3 AND path = $4 AND runner = $5`,
		f.slot, p.Physical, p.Source, p.Path, p.runner, p.Cursor, p.Stored)
	switch {
	case err != nil:
		return fmt.Errorf("note how far the documents of related rows of %s are stored again: %w", p.Index, err)
	case n == 0:
		return &TakenOverError{Index: p.Index}
	}
	return nil
}

// End notes that a pass has come to its end: what it has taken is done, but for what was asked for
// again since. It can be repeated when its answer was lost.
func (f *FanOuts) End(ctx context.Context, p *FanOutPass) error {
	return f.inTurn(ctx, "note that the documents of related rows of "+p.Index+" are stored again", func(tx pgx.Tx) error {
		var runner string
		err := tx.QueryRow(ctx, `SELECT runner FROM `+f.passes+` WHERE slot = $1 AND physical = $2 AND source = $3 AND path = $4`, f.slot, p.Physical, p.Source, p.Path).Scan(&runner)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return nil // it has ended
		case err != nil:
			return err
		case runner != p.runner:
			return &TakenOverError{Index: p.Index}
		}
		for _, statement := range []string{
			`DELETE FROM ` + f.passes + ` WHERE slot = $1 AND physical = $2 AND source = $3 AND path = $4`,
			`DELETE FROM ` + f.fanOuts + ` WHERE slot = $1 AND physical = $2 AND source = $3 AND path = $4 AND taken AND again IS NULL`,
			`UPDATE ` + f.fanOuts + ` SET taken = false, asked = again, asked_at = again_at, again = NULL, again_at = NULL WHERE slot = $1 AND physical = $2 AND source = $3 AND path = $4 AND taken`,
		} {
			if _, err := tx.Exec(ctx, statement, f.slot, p.Physical, p.Source, p.Path); err != nil {
				return err
			}
		}
		return nil
	})
}

// Drop forgets a group: something else sees to its documents.
func (f *FanOuts) Drop(ctx context.Context, g FanOutGroup) error {
	return f.inTurn(ctx, "forget the documents of related rows of "+g.Index, func(tx pgx.Tx) error {
		for _, table := range []string{f.fanOuts, f.passes} {
			if _, err := tx.Exec(ctx, `DELETE FROM `+table+` WHERE slot = $1 AND physical = $2 AND source = $3 AND path = $4`, f.slot, g.Physical, g.Source, g.Path); err != nil {
				return err
			}
		}
		return nil
	})
}

// Forget forgets what is of no physical index in use or being filled any more, or of an index that is
// none of these. What is in use is taken from the states: one that is noted there is asked for later.
func (f *FanOuts) Forget(ctx context.Context, indices []string) error {
	return f.inTurn(ctx, "forget the documents of related rows of indices that are gone", func(tx pgx.Tx) error {
		gone := `slot = $1 AND physical NOT IN (SELECT p FROM ` + f.states + `, LATERAL (VALUES (live), (building)) AS v(p) WHERE name = ANY ($2))`
		for _, table := range []string{f.fanOuts, f.passes} {
			if _, err := tx.Exec(ctx, `DELETE FROM `+table+` WHERE `+gone, f.slot, indices); err != nil {
				return err
			}
		}
		return nil
	})
}
