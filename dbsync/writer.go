package dbsync

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sourcegraph/conc"
)

// writer writes one batch at a time, in a goroutine of its own, and forwards the slot
// when the batch is stored. finish waits for its goroutines.
type writer struct {
	syncer  *Syncer
	queue   *queue
	ctx     context.Context // outlives the run by stopGrace, and ends with the stream
	cancel  context.CancelCauseFunc
	workers conc.WaitGroup
	jobs    chan job
	results chan error
	busy    chan error // results while a batch is under way, or nil
}

// A job is a batch to be written, and the translation that it came from.
type job struct {
	batch *Batch
	t     translation
}

func newWriter(run context.Context, s *Syncer, q *queue) *writer {
	w := &writer{syncer: s, queue: q, jobs: make(chan job, 1), results: make(chan error, 1)}
	w.ctx, w.cancel = context.WithCancelCause(context.WithoutCancel(run))
	ended := s.streamEnded()
	w.workers.Go(func() {
		asked, late := run.Done(), (<-chan time.Time)(nil)
		for {
			select {
			case <-w.ctx.Done():
				return
			case <-ended:
				w.cancel(errStreamEnded)
			case <-asked:
				asked, late = nil, time.After(stopGrace)
			case <-late:
				w.cancel(fmt.Errorf("the batch under way took longer than %s after the end was asked for: %w", stopGrace, context.Cause(run)))
			}
		}
	})
	w.workers.Go(func() {
		defer close(w.results)
		for j := range w.jobs {
			w.results <- w.write(j.batch, j.t)
		}
	})
	return w
}

// errStreamEnded ends what is being written: from here on another process may follow the slot.
var errStreamEnded = errors.New("the replication stream ended")

// start begins to write what the translation gave. None may be under way.
func (w *writer) start(b *Batch, t translation) {
	w.busy = w.results
	w.jobs <- job{b, t}
}

// writing reports whether a batch is under way.
func (w *writer) writing() bool { return w.busy != nil && len(w.busy) == 0 }

// write stores a batch, however often it takes, and forwards the slot.
func (w *writer) write(b *Batch, t translation) (err error) {
	s := w.syncer
	ctx, r := w.ctx, &b.report
	if s.observer != nil {
		r.Writing, r.Position = time.Now(), w.queue.position()
		ctx = s.observer.BatchBegins(ctx, r)
		defer func() {
			if err != nil {
				s.observer.BatchEnds(ctx, r, err)
			}
		}()
	}
	if len(b.ops) > 0 && s.Batcher != nil {
		s.willSend(b)
		_, err := retry(ctx, s, "write a batch", func() (struct{}, error) { return struct{}{}, s.send(ctx, b) })
		if err != nil {
			return fmt.Errorf("write %d operations after %s: %w", len(b.ops), w.queue.position(), err)
		}
	}
	// The documents are stored. A crash here costs a second, equal write.
	r.Stored = time.Now()
	if err := w.queue.forward(t.messages); err != nil {
		return err
	}
	if s.observer != nil {
		r.Position = w.queue.position()
		s.observer.BatchEnds(ctx, r, nil)
	}
	if len(b.ops) > 0 {
		s.batches.Add(1)
	}
	s.changes.Add(int64(t.changes))
	b.reset()
	if !t.newest.IsZero() {
		s.newest.Store(t.newest.UnixMicro())
	}
	for _, window := range t.handed {
		close(window.stored)
	}
	for _, mark := range t.marks {
		mark.close()
	}
	return nil
}

// willSend notes the highest version of a batch that may be stored from now on.
func (s *Syncer) willSend(b *Batch) {
	sent := s.sent.Load() // nobody else writes it
	for i := range b.ops {
		sent = max(sent, uint64(b.ops[i].Version))
	}
	s.sent.Store(sent)
}

// wait waits for the batch under way.
func (w *writer) wait() error {
	if w.busy == nil {
		return nil
	}
	err, ok := <-w.busy
	return w.ended(err, ok)
}

// ended takes up what was received from busy: the result of a batch. Not ok: the goroutine that
// writes has panicked, and finish goes on with that.
func (w *writer) ended(result error, ok bool) error {
	w.busy = nil
	if !ok {
		return errors.New("the writing of a batch was broken off")
	}
	return result
}

// finish waits for the batch under way and ends the writer.
func (w *writer) finish() error {
	err := w.wait()
	close(w.jobs)
	w.cancel(errStopped)
	w.workers.Wait()
	return err
}

// send hands a batch to the Batcher in the way that it can take it.
func (s *Syncer) send(ctx context.Context, batch *Batch) error {
	if b, ok := s.Batcher.(OperationBatcher); ok {
		return b.BatchOperations(ctx, batch)
	}
	var types []string // in the order in which they first come
	upserts := make(map[string][]StringMap)
	deletes := make(map[string][]string)
	for i := range batch.ops {
		op := &batch.ops[i]
		if op.Kind != Store && op.Kind != Delete {
			return &PermanentError{fmt.Errorf("%s %s: the Batcher has no BatchOperations, which alone can do that", op.Kind, op.Index)}
		}
		if upserts[op.Index] == nil && deletes[op.Index] == nil {
			types = append(types, op.Index)
		}
		if op.Kind == Delete {
			deletes[op.Index] = append(deletes[op.Index], op.ID)
		} else {
			upserts[op.Index] = append(upserts[op.Index], op.Doc)
		}
	}
	for _, t := range types {
		if docs := upserts[t]; len(docs) > 0 {
			if _, err := s.Batcher.BatchUpsert(t, docs); err != nil {
				return fmt.Errorf("upsert %d documents of %s: %w", len(docs), t, err)
			}
		}
		if ids := deletes[t]; len(ids) > 0 {
			if _, err := s.Batcher.BatchDelete(t, ids); err != nil {
				return fmt.Errorf("delete %d documents of %s: %w", len(ids), t, err)
			}
		}
	}
	return nil
}
