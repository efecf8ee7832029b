package verify

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"

	"tidemark/dbsync"
	"tidemark/indexer"
	"tidemark/indexer/search"
)

const (
	// maxLooks is how often a document is looked at that differs and changes each time.
	maxLooks = 12
	// lookBytes bounds the documents of a group's rows, which are held while the slot moves on.
	lookBytes = 16 << 20
	// So many rows are read at first, how large they are is not known, and so many at most.
	firstLookRows, maxLookRows = 32, 1000
)

// A suspect is a document that differed from its row when they were looked at first, and is to be
// looked at again.
type suspect struct {
	location
	source *source  // that the id is of; nil: of none
	key    [][]byte // of the row; nil: the id is that of no row, or is a hash, and the row was not looked for
	hashed bool     // the id is the hash of a key

	last  *look       // the last one; nil before the first
	looks int         // how many there were
	tried *Difference // what it was when it was repaired, nil if it was not
}

// A look is what a document and its row were when both were looked at.
type look struct {
	row      rowVersion
	document documentVersion

	// end, where commits may be delayed, is a transaction that began after whatever made row and
	// document what they were.
	end uint64

	// why the difference was not taken for sure although nothing had changed since the look
	// before; "" if it might change still.
	why string
}

// rowVersion is another one when the row, or a row that its document includes, is another one.
type rowVersion struct {
	there   bool
	version string            // of the row of its table: xmin and ctid
	made    [sha256.Size]byte // hash of the document
}

// documentVersion is another one when the document was written in between.
type documentVersion struct {
	there                       bool
	version, seqNo, primaryTerm int64
}

// different is a suspect that is different for sure, and how.
type different struct {
	*suspect
	Difference
}

// lookAgain looks at the suspects again until all are decided about, repairs those that are
// different if that is wanted, and reports them. No suspect is left. Its error is a
// [*dbsync.SetBackError] where the version of one is ahead of the log; what differs is not repaired then.
func (v *verifier) lookAgain(ctx context.Context) error {
	real, err := v.decide(ctx)
	if err != nil {
		return err
	}
	if v.o.Repair && len(real) > 0 && v.setBack == nil {
		if real, err = v.repair(ctx, real); err != nil {
			return err
		}
	}
	for _, d := range real {
		if err := v.report(d.Difference); err != nil {
			return err
		}
	}
	if v.setBack != nil {
		return v.setBack
	}
	if v.at.Found >= maxDifferences && !v.o.Listed {
		return &TooDifferentError{Index: v.ix.Name, At: v.at}
	}
	return nil
}

// decide looks at the suspects in rounds, at each of them once in a round, and returns those that
// are different. A suspect is equal when one look finds it so; it is different when two looks, one
// after the other, find it so and neither row nor document has changed in between. About one that
// has changed at each of maxLooks looks nothing is decided. No suspect is left.
func (v *verifier) decide(ctx context.Context) (real []different, err error) {
	for round := 1; len(v.suspects) > 0; round++ {
		if round > maxLooks {
			v.giveUp()
			break
		}
		left := slices.SortedFunc(maps.Values(v.suspects), func(a, b *suspect) int { return cmp.Compare(v.order(a), v.order(b)) })
		for len(left) > 0 {
			g, err := v.readGroup(ctx, left)
			if err != nil {
				return nil, err
			}
			left = left[len(g.suspects):]
			// After it a document that is older than the row in the snapshot is wrong.
			if err := v.slot.await(ctx, g.end); err != nil {
				return nil, err
			}
			found, err := v.compareGroup(ctx, g)
			if err != nil {
				return nil, err
			}
			real = append(real, found...)
		}
	}
	if len(real) > 0 {
		return real, v.same(ctx) // documents of an index that is dropped are missing
	}
	return nil, nil
}

// order sorts suspects by their sources: rows of one source are read together.
func (v *verifier) order(s *suspect) int { return slices.Index(v.sources, s.source) }

// giveUp takes the suspects that are left for undecided.
func (v *verifier) giveUp() {
	for _, s := range v.suspects {
		why := "it changes all the time"
		if s.last != nil && s.last.why != "" {
			why = s.last.why
		}
		v.o.Logger.Warn("a document was not compared", "index", v.ix.Name, "id", s.id, "looks", s.looks, "reason", why)
		v.result.Undecided++
		v.at.Undecided++
	}
	clear(v.suspects)
}

// A group is suspects whose rows were read in one snapshot.
type group struct {
	suspects []*suspect
	rows     []*versionedRow // of the suspects; nil: there is none
	end      pglogrepl.LSN   // what the snapshot shows is before it in the log
	snapshot dbsync.Snapshot
}

// versionedRow is a row and its version.
type versionedRow struct {
	*row
	version rowVersion
}

// readGroup reads the rows of as many of the suspects as may be held, as one snapshot shows
// them. The end of the log is asked for after the snapshot was taken.
func (v *verifier) readGroup(ctx context.Context, suspects []*suspect) (g *group, err error) {
	err = dbsync.WithConn(ctx, v.o.DB, func(conn *pgx.Conn) error {
		tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
		if err != nil {
			return err
		}
		defer tx.Rollback(context.WithoutCancel(ctx)) // it has written nothing
		g = new(group)
		var snapshot, end string
		if err := tx.QueryRow(ctx, `SELECT pg_catalog.txid_current_snapshot()::text, pg_catalog.pg_current_wal_insert_lsn()::text`).Scan(&snapshot, &end); err != nil {
			return err
		}
		if g.snapshot, err = dbsync.ParseSnapshot(snapshot); err != nil {
			return err
		}
		if g.end, err = pglogrepl.ParseLSN(end); err != nil {
			return err
		}
		if err := v.findKeys(ctx, conn, suspects); err != nil {
			return err
		}
		return v.readAgain(ctx, conn, g, suspects)
	})
	if err != nil {
		return nil, fmt.Errorf("read rows again: %w", err)
	}
	return g, nil
}

// findKeys finds the keys of the suspects whose ids are hashes.
func (v *verifier) findKeys(ctx context.Context, conn *pgx.Conn, suspects []*suspect) error {
	wanted := make(map[*source]map[string]*suspect)
	for _, s := range suspects {
		if s.hashed && s.key == nil {
			if wanted[s.source] == nil {
				wanted[s.source] = make(map[string]*suspect)
			}
			wanted[s.source][s.id] = s
		}
	}
	for source, ids := range wanted {
		if err := v.findHashed(ctx, conn, source, ids); err != nil {
			return err
		}
	}
	return nil
}

// readAgain reads rows piece by piece, until all are read or lookBytes are.
func (v *verifier) readAgain(ctx context.Context, conn *pgx.Conn, g *group, suspects []*suspect) error {
	bytes, n := 0, firstLookRows
	for len(suspects) > 0 && bytes < lookBytes {
		piece := suspects[:min(n, len(suspects))]
		source := piece[0].source
		if i := slices.IndexFunc(piece, func(s *suspect) bool { return s.source != source }); i > 0 {
			piece = piece[:i]
		}
		rows, err := v.readPiece(ctx, conn, source, piece)
		if err != nil {
			return err
		}
		size := 0
		for _, s := range piece {
			r := rows[s.id]
			if r != nil {
				size += len(r.body)
			}
			g.suspects, g.rows = append(g.suspects, s), append(g.rows, r)
		}
		suspects = suspects[len(piece):]
		bytes += size
		n = max(1, min(maxLookRows, 2*n, comparedBytes*len(piece)/max(size, 1)))
	}
	return nil
}

// readPiece reads the rows of suspects of one source, and returns them by id. Where Postgres can
// make no document of one of them, that one is found by trying halves, and read by its key alone.
func (v *verifier) readPiece(ctx context.Context, conn *pgx.Conn, s *source, piece []*suspect) (map[string]*versionedRow, error) {
	var keys [][][]byte
	for _, d := range piece {
		if d.key != nil {
			keys = append(keys, d.key)
		}
	}
	if len(keys) == 0 {
		return nil, nil
	}
	rows, err := v.readKeys(ctx, conn, s.rowsAgain, keys)
	if !indexer.IsRefusedValue(err) && !dbsync.IsRowError(err) {
		return rows, err
	}
	if len(piece) > 1 {
		half := len(piece) / 2
		rows, err := v.readPiece(ctx, conn, s, piece[:half])
		if err != nil {
			return nil, err
		}
		more, err := v.readPiece(ctx, conn, s, piece[half:])
		if rows == nil {
			rows = more
		}
		maps.Copy(rows, more)
		return rows, err
	}
	why := err
	rows, err = v.readKeys(ctx, conn, s.keysAgain, keys)
	if indexer.IsRefusedValue(err) {
		return nil, nil // the key is none of its type
	}
	for _, r := range rows {
		r.unmade = why
	}
	return rows, err
}

// readKeys reads rows by key. An error leaves the transaction as it was.
func (v *verifier) readKeys(ctx context.Context, conn *pgx.Conn, plan rowPlan, keys [][][]byte) (map[string]*versionedRow, error) {
	if _, err := conn.Exec(ctx, "SAVEPOINT piece"); err != nil {
		return nil, err
	}
	query, args := indexer.KeysQuery(plan.RowPlan, keys)
	rows := make(map[string]*versionedRow, len(keys))
	result := conn.PgConn().ExecParams(ctx, query, args, nil, nil, nil)
	var failed error
	for result.NextRow() {
		values := result.Values()
		r, err := rowOf(plan, values)
		if err != nil {
			failed = err
			continue
		}
		rows[r.id] = &versionedRow{row: r, version: rowVersion{
			there: true, version: string(bytes.Join(values[len(values)-2:], []byte{'/'})), made: sha256.Sum256(r.body)}}
	}
	if _, err := result.Close(); err != nil {
		err = dbsync.AtRows(err)
		if _, e := conn.Exec(ctx, "ROLLBACK TO SAVEPOINT piece"); e != nil {
			return nil, errors.Join(err, e)
		}
		return nil, err
	}
	if failed != nil {
		return nil, failed
	}
	_, err := conn.Exec(ctx, "RELEASE SAVEPOINT piece")
	return rows, err
}

// compareGroup is the second half of a look: it reads the documents of a group, after what its
// snapshot shows has been stored, and compares them with the rows. It returns those that are
// different; they, and those that are equal, are suspects no more. See decide.
func (v *verifier) compareGroup(ctx context.Context, g *group) (real []different, err error) {
	// A document may be found by another routing than its own, on the same shard. So where the
	// row's routing is another one, it is read by that, too.
	locations := make([]location, 0, len(g.suspects))
	for _, s := range g.suspects {
		locations = append(locations, s.location)
	}
	elsewhere := make(map[location]int)
	for i, s := range g.suspects {
		if r := g.rows[i]; r != nil && r.location != s.location {
			elsewhere[s.location] = len(locations)
			locations = append(locations, r.location)
		}
	}
	stored, err := v.get(ctx, locations)
	if err != nil {
		return nil, err
	}
	var end uint64
	if v.slot.delayed {
		if end, err = v.slot.mark(ctx); err != nil {
			return nil, err
		}
	}
	for i, s := range g.suspects {
		v.result.Looks++
		s.looks++
		r, document := g.rows[i], &stored[i]
		if at, ok := elsewhere[s.location]; ok && document.Found && stored[at].Found && stored[at].Routing == document.Routing {
			v.move(s, r.location)
			continue
		}
		d, err := v.difference(s, r, document)
		if err != nil {
			return nil, err
		}
		if d == nil {
			v.equal(s)
			continue
		}
		now := &look{end: end, document: documentVersion{document.Found, document.Version, document.SeqNo, document.PrimaryTerm}}
		if r != nil {
			now.row = r.version
		}
		if s.last == nil || s.last.row != now.row || s.last.document != now.document {
			s.last = now
			continue
		}
		if v.slot.delayed && g.snapshot.Xmin <= s.last.end {
			// A transaction of before the last look may have changed the document, and its commit
			// may be one that no snapshot shows yet.
			s.last.why = "transactions that have not ended may have changed it, and a synchronous standby holds up what others see of them"
			continue
		}
		if document.Found && search.Position(document.Version, v.base) > g.end {
			d.Note = "the version of the document is ahead of the log: no change replaces it; a rebuild does"
			v.setBack = &dbsync.SetBackError{Slot: v.o.Slot, Reason: fmt.Sprintf("a document of %s is of position %s, and the log ends at %s", v.physical, search.Position(document.Version, v.base), g.end)}
		}
		delete(v.suspects, s.location)
		real = append(real, different{s, *d})
	}
	return real, nil
}

// equal notes that a suspect is equal to its row, and one no more.
func (v *verifier) equal(s *suspect) {
	delete(v.suspects, s.location)
	if s.tried != nil {
		s.tried.Repaired = true
	}
}

// move has a document be looked at where its row says that it is.
func (v *verifier) move(s *suspect, to location) {
	delete(v.suspects, s.location)
	if v.suspects[to] == nil {
		v.suspects[to] = &suspect{location: to, source: s.source, key: s.key, hashed: s.hashed, tried: s.tried}
	} else if s.tried != nil {
		s.tried.Repaired = true // counted there
	}
}

// difference returns how a document differs from its row, nil if it does not.
func (v *verifier) difference(s *suspect, r *versionedRow, stored *search.Stored) (*Difference, error) {
	there := stored.Found && stored.Routing == s.routing
	d := &Difference{Index: v.ix.Name, ID: s.id, Routing: s.routing, Version: stored.Version}
	switch {
	case r != nil && r.unmade != nil && r.location == s.location:
		d.Kind, d.Note = Unmade, "no document can be made of the row: "+strings.Join(strings.Fields(r.unmade.Error()), " ")
		return d, nil
	case r != nil && r.holds && r.location == s.location:
		found, err := v.compareStored(s.location, r.body, stored)
		if err != nil {
			return nil, fmt.Errorf("document %q: %w", s.id, err)
		}
		return found, nil
	case !there:
		return nil, nil
	}
	d.Kind = Extra
	switch {
	case r == nil:
	case !r.holds:
		d.Note = "the row is no document, by the mapping's where"
	default:
		d.Note = fmt.Sprintf("the row's routing is %q", r.routing)
	}
	return d, nil
}
