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
	// lookBytes bounds the documents of rows that are held while the slot passes.
	lookBytes = 16 << 20
	// lookRows is how many rows are read at first: how large they are is not known.
	firstLookRows, maxLookRows = 32, 1000
)

// A suspect is a document that differed when it was looked at first.
type suspect struct {
	location
	source *verified // nil: its id is that of no source
	key    [][]byte  // nil: no row has its id, or its id is the hash of the key
	hashed bool      // its id is the hash of a key

	last  *sighting // when it was looked at last
	looks int
	tried *Difference // it was repaired, and this is what it was
}

// A sighting is what a document and its row were.
type sighting struct {
	row      rowVersion
	document documentVersion
	end      uint64 // a transaction that is newer than whatever made them so
	why      string // it was not decided, where it might have been
}

// rowVersion tells versions of a row apart: that of its table, and what is included.
type rowVersion struct {
	there   bool
	version string
	made    [sha256.Size]byte
}

// documentVersion tells versions of a document apart.
type documentVersion struct {
	there                       bool
	version, seqNo, primaryTerm int64
}

// settle looks at the suspects until nothing is left to be found out about them.
func (v *verifier) settle(ctx context.Context) error {
	real, err := v.look(ctx)
	if err != nil {
		return err
	}
	if v.o.Repair && len(real) > 0 {
		if real, err = v.repair(ctx, real); err != nil {
			return err
		}
	}
	for _, d := range real {
		if err := v.report(d.Difference); err != nil {
			return err
		}
	}
	if v.total += int64(len(real)); v.total >= maxDifferences && !v.o.Listed {
		return &TooDifferentError{Index: v.ix.Name}
	}
	return nil
}

// A different document is one that is different for sure.
type different struct {
	*suspect
	Difference
}

// look looks at the suspects again and again, until each is found to be equal or different,
// or has changed too often. None is left.
func (v *verifier) look(ctx context.Context) (real []different, err error) {
	for round := 1; len(v.suspects) > 0; round++ {
		if round > maxLooks {
			v.undecided()
			break
		}
		left := slices.SortedFunc(maps.Values(v.suspects), func(a, b *suspect) int { return cmp.Compare(v.order(a), v.order(b)) })
		for len(left) > 0 {
			g, err := v.snapshot(ctx, left)
			if err != nil {
				return nil, err
			}
			left = left[len(g.suspects):]
			if err := v.slot.await(ctx, g.end); err != nil {
				return nil, err
			}
			found, err := v.judge(ctx, g)
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

func (v *verifier) order(s *suspect) int { return slices.Index(v.sources, s.source) }

// undecided gives up on the suspects that are left.
func (v *verifier) undecided() {
	for _, s := range v.suspects {
		why := "it changes all the time"
		if s.last != nil && s.last.why != "" {
			why = s.last.why
		}
		v.o.Logger.Warn("a document was not compared", "index", v.ix.Name, "id", s.id, "looks", s.looks, "reason", why)
		v.result.Undecided++
	}
	clear(v.suspects)
}

// A group is suspects whose rows were read in one snapshot.
type group struct {
	suspects []*suspect
	rows     []*seen // nil: there is none
	end      pglogrepl.LSN
	snapshot dbsync.Snapshot
}

// seen is a row with what tells its versions apart.
type seen struct {
	*row
	version rowVersion
}

// snapshot reads the rows of as many of the suspects as may be held, as one snapshot shows
// them. The end of the log is asked for afterwards: what the snapshot shows is before it.
func (v *verifier) snapshot(ctx context.Context, suspects []*suspect) (g *group, err error) {
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
		if err := v.resolve(ctx, conn, suspects); err != nil {
			return err
		}
		return v.readAgain(ctx, conn, g, suspects)
	})
	if err != nil {
		return nil, fmt.Errorf("read rows again: %w", err)
	}
	return g, nil
}

// resolve looks for the rows whose ids are hashes.
func (v *verifier) resolve(ctx context.Context, conn *pgx.Conn, suspects []*suspect) error {
	wanted := make(map[*verified]map[string]*suspect)
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

// readPiece reads rows of one source, by id. A row that no document can be made of is found
// by halves.
func (v *verifier) readPiece(ctx context.Context, conn *pgx.Conn, s *verified, piece []*suspect) (map[string]*seen, error) {
	var keys [][][]byte
	for _, d := range piece {
		if d.key != nil {
			keys = append(keys, d.key)
		}
	}
	if len(keys) == 0 {
		return nil, nil
	}
	rows, err := v.readKeys(ctx, conn, s.again, keys, true)
	if !isRefusedKey(err) {
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
	rows, err = v.readKeys(ctx, conn, s.keys.With("t.xmin", "t.ctid"), keys, false)
	if isRefusedKey(err) {
		return nil, nil // the key is none of its type
	}
	for _, r := range rows {
		r.unmade = why
	}
	return rows, err
}

// readKeys reads rows by key. An error leaves the transaction as it was.
func (v *verifier) readKeys(ctx context.Context, conn *pgx.Conn, plan *indexer.RowPlan, keys [][][]byte, whole bool) (map[string]*seen, error) {
	if _, err := conn.Exec(ctx, "SAVEPOINT piece"); err != nil {
		return nil, err
	}
	query, args := indexer.KeysQuery(plan, keys)
	rows := make(map[string]*seen, len(keys))
	result := conn.PgConn().ExecParams(ctx, query, args, nil, nil, nil)
	var failed error
	for result.NextRow() {
		values := result.Values()
		r, err := rowOf(plan, values, whole)
		if err != nil {
			failed = err
			continue
		}
		rows[r.id] = &seen{row: r, version: rowVersion{
			there: true, version: string(bytes.Join(values[len(values)-2:], []byte{'/'})), made: sha256.Sum256(r.body)}}
	}
	if _, err := result.Close(); err != nil {
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

// judge reads the documents of a group, of which everything that its snapshot shows is
// stored now. Those that are equal to their rows are suspects no more; those that are
// different, and were so when they were looked at last, are returned.
func (v *verifier) judge(ctx context.Context, g *group) (real []different, err error) {
	// A row that is routed elsewhere may have the same document all the same, if that is
	// on the same shard.
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
	if v.slot.hangs {
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
		now := &sighting{end: end, document: documentVersion{document.Found, document.Version, document.SeqNo, document.PrimaryTerm}}
		if r != nil {
			now.row = r.version
		}
		if s.last == nil || s.last.row != now.row || s.last.document != now.document {
			s.last = now
			continue
		}
		if v.slot.hangs && g.snapshot.Xmin <= s.last.end {
			// What changed the document may be a commit that nobody sees yet.
			s.last.why = "transactions that have not ended may have changed it, and a synchronous standby holds up what others see of them"
			continue
		}
		if document.Found && versionOf(document.Version) > g.end {
			d.Note = "the version of the document is ahead of the log: no change replaces it; a rebuild does"
		}
		delete(v.suspects, s.location)
		real = append(real, different{s, *d})
	}
	return real, nil
}

// equal takes a suspect off the list.
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
func (v *verifier) difference(s *suspect, r *seen, stored *search.Stored) (*Difference, error) {
	there := stored.Found && stored.Routing == s.routing
	d := &Difference{Index: v.ix.Name, ID: s.id, Routing: s.routing, Version: stored.Version}
	switch {
	case r != nil && r.unmade != nil && r.location == s.location:
		d.Kind, d.Note = Unmade, "no document can be made of the row: "+strings.Join(strings.Fields(r.unmade.Error()), " ")
		return d, nil
	case r != nil && r.holds && r.location == s.location:
		found, err := v.differs(s.location, r.body, stored)
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
