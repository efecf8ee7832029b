package control

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"tidemark/dbsync"
)

// A Proof is what is known of an index's being equal to its tables: when both were compared last,
// how far the comparison under way is, and whether something has happened since that nothing but
// a comparison answers. The zero value but for Index: nothing is known.
type Proof struct {
	Index string

	// Physical is the physical index that the walks are about, "" before the first one.
	Physical string

	// Unproven says that the index may differ from its tables by something that the stream does
	// not show.
	Unproven Doubt

	Walk Walk // under way; zero if none is
	Last Walk // the last one that came to its end; zero if none has
}

// A Doubt is why an index may differ from its tables. The zero value is none.
type Doubt struct {
	Since time.Time // of the first reason
	Noted time.Time // of the last one
	Why   string    // all reasons, one after the other; bounded
}

// A WalkPhase is what a walk is at.
type WalkPhase string

const (
	WalkRows      WalkPhase = "rows"      // rows are read, and their documents compared
	WalkDocuments WalkPhase = "documents" // documents are listed, and their rows looked for
)

// A Walk is one comparison of an index with its tables: first all rows, source by source, then all
// documents.
type Walk struct {
	Number     int64     // of the walks of this index, from 1; 0: none
	BeganAt    time.Time // by the clock of Postgres, as all times here
	FinishedAt time.Time // zero while it is under way

	Phase WalkPhase

	// In the phase of rows everything up to the row with the key Cursor of the source with the
	// number Source was compared, and repaired where that is wanted. Key are the columns of the
	// cursor: where rows are read in another order by now, the source begins anew.
	Source int
	Cursor []string
	Key    []string

	// In the phase of documents it is everything below NextSeqNo. LastSeqNo is where it ends.
	NextSeqNo, LastSeqNo int64

	Rows, Documents int64 // that were looked at
	Total           int64 // of both, estimated when it began; -1: not known
	Found           int64 // differences
	Repaired        int64 // of these
	Undecided       int64 // documents that changed from look to look
}

// UnderWay reports whether there is a walk that has not come to its end.
func (w *Walk) UnderWay() bool { return w.Number > 0 && w.FinishedAt.IsZero() }

// Left is how many differences were found and not repaired.
func (w *Walk) Left() int64 { return w.Found - w.Repaired }

// Share is the part of rows and documents that was looked at, from 0 to 1; -1: it is not known.
func (w *Walk) Share() float64 {
	switch {
	case !w.FinishedAt.IsZero():
		return 1
	case w.Total < 0:
		return -1
	case w.Total == 0:
		return 0
	}
	return min(0.99, float64(w.Rows+w.Documents)/float64(w.Total))
}

// IsUnproven reports whether the index may differ by something that no walk has answered.
func (p *Proof) IsUnproven() bool { return !p.Unproven.Since.IsZero() }

// OwesWalk reports whether the index is unproven, and no walk has come to its end since.
func (p *Proof) OwesWalk() bool {
	return p.IsUnproven() && !p.Last.BeganAt.After(p.Unproven.Noted)
}

// Of returns what holds of it for the index as it is in use by st. A physical index that took the
// place of the one that was compared has not been compared; it was filled by reading all rows, so
// that a doubt of before that began is none any more.
func (p Proof) Of(st *State) Proof {
	if p.Physical == st.Live.Physical {
		return p
	}
	of := Proof{Index: p.Index, Physical: st.Live.Physical}
	if !p.Unproven.Noted.Before(st.StartedAt) {
		of.Unproven = p.Unproven
	}
	return of
}

// Proofs is the table of proofs.
type Proofs struct {
	schema *Schema
	table  string
}

// Proofs returns the proofs in a control schema.
func (s *Schema) Proofs() *Proofs {
	return &Proofs{schema: s, table: s.table("proofs")}
}

// setupProofs is step 3. What is known of indices before is nothing: their rows are made when
// there is something to note.
func setupProofs(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Exec(ctx, `CREATE TABLE proofs (
		index_name       text PRIMARY KEY,
		physical         text NOT NULL DEFAULT '',
		unproven_since   timestamptz,
		unproven_noted   timestamptz,
		unproven_why     text NOT NULL DEFAULT '',
		walk_number      bigint NOT NULL DEFAULT 0,
		walk_began_at    timestamptz,
		walk_phase       text NOT NULL DEFAULT '',
		walk_source      integer NOT NULL DEFAULT 0,
		walk_cursor      text[],
		walk_key         text[],
		walk_next_seq_no bigint NOT NULL DEFAULT 0,
		walk_last_seq_no bigint NOT NULL DEFAULT 0,
		walk_rows        bigint NOT NULL DEFAULT 0,
		walk_documents   bigint NOT NULL DEFAULT 0,
		walk_total       bigint NOT NULL DEFAULT -1,
		walk_found       bigint NOT NULL DEFAULT 0,
		walk_repaired    bigint NOT NULL DEFAULT 0,
		walk_undecided   bigint NOT NULL DEFAULT 0,
		last_number      bigint NOT NULL DEFAULT 0,
		last_began_at    timestamptz,
		last_finished_at timestamptz,
		last_rows        bigint NOT NULL DEFAULT 0,
		last_documents   bigint NOT NULL DEFAULT 0,
		last_found       bigint NOT NULL DEFAULT 0,
		last_repaired    bigint NOT NULL DEFAULT 0,
		last_undecided   bigint NOT NULL DEFAULT 0
	)`)
	return err
}

const proofColumns = `physical, unproven_since, unproven_noted, unproven_why,
	CASE WHEN walk_began_at IS NULL THEN 0 ELSE walk_number END, walk_began_at, walk_phase, walk_source, walk_cursor, walk_key, walk_next_seq_no, walk_last_seq_no,
	walk_rows, walk_documents, walk_total, walk_found, walk_repaired, walk_undecided,
	last_number, last_began_at, last_finished_at, last_rows, last_documents, last_found, last_repaired, last_undecided`

// scan reads proofColumns.
func (p *Proof) scan(row pgx.Row) error {
	w, l := &p.Walk, &p.Last
	var since, noted, began, lastBegan, finished sql.NullTime
	err := row.Scan(&p.Physical, &since, &noted, &p.Unproven.Why,
		&w.Number, &began, &w.Phase, &w.Source, &w.Cursor, &w.Key, &w.NextSeqNo, &w.LastSeqNo,
		&w.Rows, &w.Documents, &w.Total, &w.Found, &w.Repaired, &w.Undecided,
		&l.Number, &lastBegan, &finished, &l.Rows, &l.Documents, &l.Found, &l.Repaired, &l.Undecided)
	if err != nil {
		return err
	}
	p.Unproven.Since, p.Unproven.Noted, w.BeganAt, l.BeganAt, l.FinishedAt = since.Time, noted.Time, began.Time, lastBegan.Time, finished.Time
	if w.Number == 0 {
		*w = Walk{}
	}
	l.Total = l.Rows + l.Documents
	return nil
}

// Read returns what is known of an index.
func (p *Proofs) Read(ctx context.Context, index string) (Proof, error) {
	proof := Proof{Index: index}
	err := dbsync.WithConn(ctx, p.schema.db, func(conn *pgx.Conn) error {
		return proof.scan(conn.QueryRow(ctx, `SELECT `+proofColumns+` FROM `+p.table+` WHERE index_name = $1`, index))
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return proof, nil
	}
	if err != nil {
		return Proof{}, fmt.Errorf("read what is proven of index %s: %w", index, err)
	}
	return proof, nil
}

const (
	maxDoubt  = 500  // characters of one reason
	maxDoubts = 2000 // of all reasons of an index
)

// Unprove notes that an index, which is as st has it, may differ from its tables, and why. A walk
// under way is to begin anew: it may have passed what differs. What was noted of a physical index
// before is forgotten, see [Proof.Of].
func (p *Proofs) Unprove(ctx context.Context, st *State, why string) (Proof, error) {
	why = strings.ToValidUTF8(strings.ReplaceAll(why, "\x00", ""), "")
	if text := []rune(why); len(text) > maxDoubt {
		why = string(text[:maxDoubt-1]) + "…"
	}
	const first = `(p.unproven_since IS NULL OR p.physical <> $4 AND p.unproven_noted < $5)`
	return p.change(ctx, st.Name, `INSERT INTO `+p.table+` AS p (index_name, unproven_since, unproven_noted, unproven_why)
		VALUES ($1, pg_catalog.clock_timestamp(), pg_catalog.clock_timestamp(), $2)
		ON CONFLICT (index_name) DO UPDATE SET unproven_since = CASE WHEN `+first+` THEN excluded.unproven_since ELSE p.unproven_since END, unproven_noted = excluded.unproven_noted,
			unproven_why = CASE WHEN `+first+` THEN $2 WHEN pg_catalog.strpos(p.unproven_why, $2) > 0 THEN p.unproven_why
				ELSE pg_catalog.left(p.unproven_why || '; ' || $2, $3) END,
			walk_began_at = NULL
		RETURNING `+proofColumns, why, maxDoubts, st.Live.Physical, st.StartedAt)
}

// Begin notes that a walk of the index begins, of the physical index that st has in use; total is
// how many rows and documents there are, about. What is known of another physical index is
// forgotten, see [Proof.Of].
func (p *Proofs) Begin(ctx context.Context, st *State, total int64) (Proof, error) {
	const old = `p.physical <> excluded.physical`
	set := ""
	for _, column := range []string{"rows", "documents", "found", "repaired", "undecided"} {
		set += fmt.Sprintf(", walk_%s = 0, last_%s = CASE WHEN %s THEN 0 ELSE p.last_%s END", column, column, old, column)
	}
	for _, column := range []string{"began_at", "finished_at"} {
		set += fmt.Sprintf(", last_%s = CASE WHEN NOT %s THEN p.last_%s END", column, old, column)
	}
	for _, column := range []string{"since", "noted"} {
		set += fmt.Sprintf(", unproven_%s = CASE WHEN NOT %s OR p.unproven_noted >= $4 THEN p.unproven_%s END", column, old, column)
	}
	set += `, unproven_why = CASE WHEN NOT ` + old + ` OR p.unproven_noted >= $4 THEN p.unproven_why ELSE '' END`
	return p.change(ctx, st.Name, `INSERT INTO `+p.table+` AS p (index_name, physical, walk_number, walk_began_at, walk_phase, walk_total)
		VALUES ($1, $2, 1, pg_catalog.clock_timestamp(), 'rows', $3)
		ON CONFLICT (index_name) DO UPDATE SET physical = excluded.physical, walk_number = p.walk_number + 1, walk_began_at = excluded.walk_began_at,
			walk_phase = 'rows', walk_source = 0, walk_cursor = NULL, walk_key = NULL, walk_next_seq_no = 0, walk_last_seq_no = 0, walk_total = $3,
			last_number = CASE WHEN `+old+` THEN 0 ELSE p.last_number END`+set+`
		RETURNING `+proofColumns, st.Live.Physical, total, st.StartedAt)
}

// ErrWalkOver reports that a walk is not the one under way any more: it is to begin anew, or
// another process has come to its end.
var ErrWalkOver error = &dbsync.PermanentError{Err: errors.New("the walk is not under way any more")}

// Advance notes how far a walk is. Its error is ErrWalkOver when the walk is not under way.
func (p *Proofs) Advance(ctx context.Context, index string, w *Walk) error {
	_, err := p.change(ctx, index, `UPDATE `+p.table+` SET walk_phase = $3, walk_source = $4, walk_cursor = $5, walk_key = $6, walk_next_seq_no = $7, walk_last_seq_no = $8,
			walk_rows = $9, walk_documents = $10, walk_found = $11, walk_repaired = $12, walk_undecided = $13
		WHERE index_name = $1 AND walk_number = $2 AND walk_began_at IS NOT NULL RETURNING `+proofColumns,
		w.Number, string(w.Phase), w.Source, w.Cursor, w.Key, w.NextSeqNo, w.LastSeqNo, w.Rows, w.Documents, w.Found, w.Repaired, w.Undecided)
	return err
}

// Finish notes that a walk has come to its end. The index is unproven no more, but where documents
// could not be compared. Its error is ErrWalkOver when the walk is not under way; it can be
// repeated when its answer was lost, and is over then.
func (p *Proofs) Finish(ctx context.Context, index string, w *Walk) (Proof, error) {
	set := ""
	if w.Undecided == 0 {
		set = `, unproven_since = NULL, unproven_noted = NULL, unproven_why = ''` // what came later has ended the walk
	}
	return p.change(ctx, index, `UPDATE `+p.table+` SET last_number = walk_number, last_began_at = walk_began_at, last_finished_at = pg_catalog.clock_timestamp(), walk_began_at = NULL,
			last_rows = $3, last_documents = $4, last_found = $5, last_repaired = $6, last_undecided = $7`+set+`
		WHERE index_name = $1 AND walk_number = $2 AND walk_began_at IS NOT NULL RETURNING `+proofColumns,
		w.Number, w.Rows, w.Documents, w.Found, w.Repaired, w.Undecided)
}

// GiveUp notes that a walk under way is not gone on with.
func (p *Proofs) GiveUp(ctx context.Context, index string, w *Walk) (Proof, error) {
	return p.change(ctx, index, `UPDATE `+p.table+` SET walk_began_at = NULL WHERE index_name = $1 AND walk_number = $2 RETURNING `+proofColumns, w.Number)
}

// Forget drops what is known of indices.
func (p *Proofs) Forget(ctx context.Context, indices []string) error {
	if len(indices) == 0 {
		return nil
	}
	if _, err := p.schema.exec(ctx, `DELETE FROM `+p.table+` WHERE index_name = ANY ($1)`, indices); err != nil {
		return fmt.Errorf("forget what is proven of indices: %w", err)
	}
	return nil
}

// change runs a statement that returns the row of an index, and gives that; ErrWalkOver where
// there is none.
func (p *Proofs) change(ctx context.Context, index, statement string, args ...any) (Proof, error) {
	proof := Proof{Index: index}
	err := p.schema.query(ctx, proof.scan, statement, append([]any{index}, args...)...)
	if errors.Is(err, pgx.ErrNoRows) {
		return Proof{}, ErrWalkOver
	}
	if err != nil {
		return Proof{}, fmt.Errorf("note what is proven of index %s: %w", index, err)
	}
	return proof, nil
}
