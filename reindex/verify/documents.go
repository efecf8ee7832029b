package verify

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"tidemark/dbsync"
	"tidemark/indexer"
	"tidemark/indexer/search"
	"tidemark/reindex/control"
)

// listDocuments lists all documents of the index, or a sample, and looks for their rows. A document
// that is written meanwhile is left out: whoever wrote it has looked at its row.
func (v *verifier) listDocuments(ctx context.Context) error {
	list := &search.DocumentList{Index: v.physical, Next: v.at.NextSeqNo, Last: v.at.LastSeqNo}
	if v.at.Phase != control.WalkDocuments {
		err := v.retry(ctx, "list the documents of "+v.physical, func(ctx context.Context) (err error) {
			// A document that is there and not in the list yet would not be found to have no row.
			if err := v.o.Client.Refresh(ctx, v.physical); err != nil {
				return err
			}
			list, err = v.o.Client.NewDocumentList(ctx, v.physical)
			return err
		})
		if err != nil {
			return err
		}
		v.at.Phase, v.at.Source, v.at.Cursor, v.at.Key = control.WalkDocuments, 0, nil, nil
		v.at.NextSeqNo, v.at.LastSeqNo = list.Next, list.Last
		if err := v.note(ctx); err != nil {
			return err
		}
	}
	pace := newPace(v.walkRate())
	for !list.Done() {
		var page []search.Listed
		err := v.retry(ctx, "list the documents of "+v.physical, func(ctx context.Context) (err error) {
			page, err = list.Page(ctx, v.o.Client)
			return err
		})
		if err != nil {
			return err
		}
		if err := v.lookUpPage(ctx, page); err != nil {
			return err
		}
		if v.at.NextSeqNo = list.Next; v.isNoteDue() {
			if err := v.note(ctx); err != nil {
				return err
			}
		}
		if err := pace.wait(ctx, len(page)); err != nil {
			return err
		}
	}
	return nil
}

// lookUpPage looks for the rows of listed documents.
func (v *verifier) lookUpPage(ctx context.Context, page []search.Listed) error {
	listed := make(map[*source][]*suspect)
	for _, d := range page {
		v.bar.Add(1)
		v.at.Documents++
		if !v.isSampled() {
			continue
		}
		v.result.Documents++
		at := v.place(location{d.ID, d.Routing})
		switch {
		case at.source != nil && at.key != nil:
			listed[at.source] = append(listed[at.source], at)
		case at.source != nil && at.source.hashed[at.location]:
		default:
			if err := v.suspect(ctx, at); err != nil {
				return err
			}
		}
	}
	for s, documents := range listed {
		if err := v.lookUp(ctx, s, documents); err != nil {
			return fmt.Errorf("look for rows of %s: %w", s.Table, err)
		}
	}
	return nil
}

// place finds out which row a document is of, by its id.
func (v *verifier) place(at location) *suspect {
	d := &suspect{location: at}
	for _, s := range v.sources {
		if !s.Identifies(at.id) {
			continue
		}
		if key, ok := s.KeyOf(s.rows.Table, at.id); ok {
			d.source, d.key = s, key
			break
		}
		if s.IsHashed(at.id) {
			d.source, d.hashed = s, true
			break
		}
	}
	return d
}

// lookUp looks for the rows of documents of one source. Those that have none there, or one
// that is no document, or is routed elsewhere, are suspects.
func (v *verifier) lookUp(ctx context.Context, s *source, documents []*suspect) error {
	found := make(map[location]bool, len(documents))
	err := v.findRows(ctx, s, documents, found)
	if err != nil {
		return err
	}
	for _, d := range documents {
		if found[d.location] {
			continue
		}
		if err := v.suspect(ctx, d); err != nil {
			return err
		}
	}
	return nil
}

// findRows notes in found which of the documents have rows. Where the type of a key refuses the
// value of one of them, that one is found by trying halves: it has no row, and its key is of no
// use and taken away.
func (v *verifier) findRows(ctx context.Context, s *source, documents []*suspect, found map[location]bool) error {
	keys := make([][][]byte, len(documents))
	for i, d := range documents {
		keys[i] = d.key
	}
	query, args := indexer.KeysQuery(s.keys.RowPlan, keys)
	err := dbsync.WithConn(ctx, v.o.DB, func(conn *pgx.Conn) error {
		rows := conn.PgConn().ExecParams(ctx, query, args, nil, nil, nil)
		var failed error
		for rows.NextRow() {
			r, err := rowOf(s.keys, rows.Values())
			if err != nil {
				failed = err
			} else if r.holds || r.unmade != nil {
				found[r.location] = true
			}
		}
		if _, err := rows.Close(); err != nil {
			return dbsync.AtRows(err)
		}
		return failed
	})
	if !indexer.IsRefusedValue(err) && !dbsync.IsRowError(err) {
		return err
	}
	if len(documents) == 1 {
		if !indexer.IsRefusedValue(err) {
			return nil // whether there is a row is looked at again
		}
		documents[0].key = nil
		return nil
	}
	half := len(documents) / 2
	if err := v.findRows(ctx, s, documents[:half], found); err != nil {
		return err
	}
	return v.findRows(ctx, s, documents[half:], found)
}

// findHashed looks for the rows of documents whose ids are hashes, by reading the keys of
// all rows of a source.
func (v *verifier) findHashed(ctx context.Context, conn *pgx.Conn, s *source, wanted map[string]*suspect) error {
	rows := conn.PgConn().ExecParams(ctx, fmt.Sprintf("SELECT %s FROM %s t", s.keys.Selection.List, s.rows.Table.From()), nil, nil, nil, nil)
	for rows.NextRow() {
		tuple := indexer.RowOf(rows.Values())
		if id, ok := s.keys.Plan.ID(tuple); ok && wanted[id] != nil {
			wanted[id].key = s.keys.Plan.KeyValues(tuple)
		}
	}
	_, err := rows.Close()
	return err
}
