package verify

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"tidemark/indexer"
	"tidemark/indexer/search"
	"tidemark/mapping"
	"tidemark/mapping/catalog"
	"tidemark/reindex/control"
)

// letterPage is how many dead letters are retried at a time.
const letterPage = 1000

// RetryOptions says how dead letters are retried. Everything is required but SlotDB, WatermarkSchema and Rows.
type RetryOptions struct {
	DB     *sql.DB // of [dbsync.OpenDB]
	SlotDB *sql.DB // leads to the server that has the slot; nil: DB
	Schema string  // that has the state of the index: the control schema, or that of a group
	Slot   string  // which an instance follows meanwhile
	Tables catalog.Tables

	// WatermarkSchema is the control schema, which has the watermarks of the slot; "": Schema.
	WatermarkSchema string

	// Rows are those of the dead letters that are meant; nil: every one of the index.
	Rows []int64
}

// Retried is what came of retrying the dead letters of an index.
type Retried struct {
	Letters int64 // that were looked at
	Gone    int64 // of these: their documents were made anew
	Refused int64 // documents that were refused again, and have a new dead letter
	Kept    int64 // letters whose rows could not be read again
	Why     error // that is so; the first reason
}

// ErrBeingRebuilt reports that every document of an index is being made anew already.
var ErrBeingRebuilt = errors.New("it is being rebuilt, and its dead letters go with the index in use; hint: wait for that")

// RetryLetters has the documents of dead letters stored, after what they were refused for
// was fixed.
//
// No document is sent as it was: the instance that follows the slot reads its row again, so
// that it is never older than what the stream has brought since, and none comes back whose
// row is gone. A dead letter is dropped when that is done; a document that is refused again
// has a new one by then. A crash between costs that it is retried again.
func RetryLetters(ctx context.Context, ix *mapping.Index, o RetryOptions) (*Retried, error) {
	r := &retrier{o: o, ix: ix, letters: control.Open(o.DB, o.Schema, o.Slot).DeadLetters(nil)}
	if err := r.run(ctx); err != nil {
		return nil, fmt.Errorf("retry the dead letters of index %s: %w", ix.Name, err)
	}
	return &r.result, nil
}

// A retrier retries the dead letters of one index.
type retrier struct {
	o       RetryOptions
	ix      *mapping.Index
	letters *control.DeadLetters
	slot    *Slot
	result  Retried
}

func (r *retrier) run(ctx context.Context) (err error) {
	st, err := control.Open(r.o.DB, r.o.Schema, r.o.Slot).States().Read(ctx, r.ix.Name)
	switch {
	case err != nil:
		return err
	case st == nil || st.Live.Physical == "":
		return errors.New("the index is not complete yet; hint: tidemark run")
	case st.Building.Physical != "":
		return ErrBeingRebuilt
	}
	if r.slot, err = OpenSlot(ctx, SlotOptions{DB: r.o.DB, SlotDB: r.o.SlotDB, Schema: r.o.Schema, Slot: r.o.Slot, WatermarkSchema: r.o.WatermarkSchema}); err != nil {
		return err
	}
	defer r.slot.close(ctx)
	// What is refused from now on is not tried again.
	last, err := r.letters.Last(ctx)
	if err != nil || last == 0 {
		return err
	}
	filter := control.LetterFilter{Indices: []string{search.WriteAlias(st.Name, st.Live.Physical)}, Rows: r.o.Rows, UpTo: last}
	for {
		page, err := r.letters.List(ctx, filter, letterPage, false)
		if err != nil || len(page) == 0 {
			return err
		}
		filter.After = page[len(page)-1].Row
		if err := r.retry(ctx, page); err != nil {
			return err
		}
	}
}

// retry retries dead letters, no more than letterPage.
func (r *retrier) retry(ctx context.Context, letters []control.DeadLetter) error {
	r.result.Letters += int64(len(letters))
	keys := make([][][]string, len(r.ix.Sources)) // of rows, by source
	rows := make([][]int64, len(r.ix.Sources))    // of their letters
	for i := range letters {
		l := &letters[i]
		source, key := r.keyOf(l)
		if source < 0 {
			r.keep(1, fmt.Errorf("of dead letter %d no row can be read again; hint: tidemark verify %s --repair, then drop it", l.Row, r.ix.Name))
			continue
		}
		rows[source] = append(rows[source], l.Row)
		if !slices.ContainsFunc(keys[source], func(other []string) bool { return slices.Equal(other, key) }) {
			keys[source] = append(keys[source], key)
		}
	}
	for i, s := range r.ix.Sources {
		if len(rows[i]) == 0 {
			continue
		}
		why, err := r.slot.Reread(ctx, s, keys[i])
		if err != nil {
			return err
		}
		if why != nil {
			r.keep(len(rows[i]), why)
			continue
		}
		again, err := r.letters.Resolve(ctx, rows[i])
		if err != nil {
			return err
		}
		r.result.Gone += int64(len(rows[i]))
		r.result.Refused += again
	}
	return nil
}

func (r *retrier) keep(letters int, why error) {
	r.result.Kept += int64(letters)
	r.result.Why = cmp.Or(r.result.Why, why)
}

// keyOf returns the source of a dead letter by its number, and the key of its row; -1 where
// no row can be read again: the _id has only the hash of a key, or what was refused is the
// deletion of a document.
func (r *retrier) keyOf(l *control.DeadLetter) (source int, key []string) {
	if l.Delete {
		return -1, nil
	}
	for i, s := range r.ix.Sources {
		if !s.Identifies(l.ID) {
			continue
		}
		values, ok := s.KeyOf(r.o.Tables[s.Table], l.ID)
		if !ok || slices.ContainsFunc(values, func(v []byte) bool { return v == nil }) { // NULL equals nothing
			continue
		}
		return i, indexer.KeyTexts(values)
	}
	return -1, nil
}
