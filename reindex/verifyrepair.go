package reindex

import (
	"context"
	"errors"
	"fmt"
	"time"

	"tidemark/dbsync"
	"tidemark/indexer"
)

// maxRequestKeys is how many rows one request asks for.
const maxRequestKeys = 1000

// repair mends what can be mended, and looks at it again.
func (v *verifier) repair(ctx context.Context, real []different) ([]different, error) {
	failed := make(map[*verified]error)
	rows := make(map[*verified][][]string)
	var extra []dbsync.Operation
	for i := range real {
		d := &real[i]
		switch {
		case d.Kind == Extra:
			extra = append(extra, dbsync.Operation{Index: indexer.WriteAlias(v.ix.Name, v.physical), ID: d.ID, Routing: d.Routing, Version: versionOf(d.Version), Delete: true})
		case d.Kind != Unmade:
			key := make([]string, len(d.key))
			for i, value := range d.key {
				key[i] = string(value)
			}
			rows[d.source] = append(rows[d.source], key)
		}
	}
	refused, err := v.remove(ctx, extra)
	if err != nil {
		return nil, err
	}
	for s, keys := range rows {
		if failed[s], err = v.refresh(ctx, s, keys); err != nil {
			return nil, err
		}
	}
	for i := range real {
		d := &real[i]
		if d.Kind != Unmade {
			v.suspects[d.location] = &suspect{location: d.location, source: d.source, key: d.key, hashed: d.hashed, tried: &d.Difference}
		}
	}
	still, err := v.look(ctx)
	if err != nil {
		return nil, err
	}
	for _, d := range still {
		if d.tried == nil { // moved here
			continue
		}
		if d.tried.Note == "" {
			d.tried.Note = "it was repaired, and differs all the same: is there a dead letter of it?"
		}
		if why := refused[d.location]; why != nil {
			d.tried.Note = why.Error()
		} else if why := failed[d.source]; why != nil && d.Kind != Extra {
			d.tried.Note = why.Error()
		}
	}
	return real, nil
}

// remove removes documents that have no row, if they are as they were seen: the document of
// a row that has come meanwhile is newer, and stays.
func (v *verifier) remove(ctx context.Context, ops []dbsync.Operation) (refused map[location]error, err error) {
	refused = make(map[location]error)
	if len(ops) == 0 {
		return refused, nil
	}
	bulk, err := indexer.NewBulk(v.o.Client, indexer.BulkOptions{Alarm: v.alarm, Logger: v.o.Logger,
		OnRefused: func(_ context.Context, ops []indexer.Refused) error {
			for _, r := range ops {
				refused[location{r.Operation.ID, r.Operation.Routing}] = r.Err
			}
			return nil
		}})
	if err != nil {
		return nil, err
	}
	return refused, bulk.Write(ctx, ops)
}

// refresh asks the instance to store the documents of rows again, and waits for that. why is
// what it says of rows that it could not.
func (v *verifier) refresh(ctx context.Context, s *verified, keys [][]string) (why, err error) {
	requests := NewRequests(v.o.DB, v.o.Schema, v.o.Slot)
	for len(keys) > 0 {
		n := min(len(keys), maxRequestKeys)
		id, err := requests.Add(ctx, &Request{Kind: KindRefresh, Index: v.ix.Name, Source: s.source.Table.String(), Keys: keys[:n]})
		if err != nil {
			return nil, err
		}
		ended, err := v.awaitRequest(ctx, requests, id)
		if err != nil {
			return nil, err
		}
		if ended.Phase != PhaseDone {
			why = errors.Join(why, fmt.Errorf("to read %d rows again has %s: %s", n, ended.Phase, ended.Message))
		}
		keys = keys[n:]
	}
	return why, nil
}

// awaitRequest waits until a request has ended.
func (v *verifier) awaitRequest(ctx context.Context, requests *Requests, id int64) (q *Request, err error) {
	followed, moved, rows := time.Now(), time.Now(), int64(-1)
	err = v.slot.poll(ctx, func() (bool, error) {
		if q, err = requests.Get(ctx, id); err != nil || q == nil || q.Ended() {
			if err == nil && q == nil {
				err = fmt.Errorf("request %d is gone", id)
			}
			return true, err
		}
		_, active, err := v.slot.position(ctx)
		now := time.Now()
		if active {
			followed = now
		}
		if q.Rows != rows {
			rows, moved = q.Rows, now
		}
		switch {
		case err != nil:
		case now.Sub(followed) > idlePatience:
			err = fmt.Errorf("nobody follows slot %s any more", v.o.Slot)
		case now.Sub(moved) > slotPatience:
			err = fmt.Errorf("request %d does not come to an end", id)
		}
		return false, err
	})
	return q, err
}
