package dbsync

import (
	"context"
	"time"

	"github.com/jackc/pglogrepl"
)

// An Observer is told what becomes of the batches of a Syncer, for metrics and traces, see
// [WithObserver]. It is called twice for each batch, never for a single change, by one goroutine,
// which waits for it. Reports are not to be kept or changed.
type Observer interface {
	// BatchBegins is called before a batch is written. What it returns is ctx, perhaps with something
	// in it, and is what the batch is written with.
	BatchBegins(ctx context.Context, r *BatchReport) context.Context

	// BatchEnds is called with that when everything in the batch is stored and the position has moved;
	// err says why it is not, and then the batch comes again.
	BatchEnds(ctx context.Context, r *BatchReport, err error)
}

// A BatchReport says what a batch is made of, and when what was done. All times are of this
// host's clock but those of Commits.
type BatchReport struct {
	Messages   int // of the stream
	Bytes      int // of these, as they were received
	Changes    int // of rows, among them
	Operations int // that they have come to: to store a document, delete it, read rows again

	Began       time.Time     // the first of them was taken from what was received
	Translated  time.Time     // the last of them was translated
	Translating time.Duration // of the time in between; the rest was waited for more of them
	Writing     time.Time     // the batch before was done
	Stored      time.Time     // everything is stored; zero before that

	// Position is up to where everything is stored then, or in BatchBegins is before.
	Position pglogrepl.LSN

	// Commits are when the transactions were committed that end in the batch and have changes, by the
	// clock of Postgres.
	Commits []time.Time
}

// reset makes a report of another batch of it.
func (r *BatchReport) reset() { *r = BatchReport{Commits: r.Commits[:0]} }

// WithObserver has o told what becomes of each batch.
func WithObserver(o Observer) SyncerOpt {
	return func(s *Syncer) error {
		s.observer = o
		return nil
	}
}

// Progress returns a number that grows as long as Run goes on: with each look for changes, of which
// there is one every MaxDelayBetweenEmptyPeeks at the least while nothing is written, and with each
// attempt at whatever has failed. While a batch is written, or a handler has a message, it stands
// still: what they do then is theirs to say.
//
// A [Pulse] in the context of Run tells that, too, and what whoever works with that context says.
func (s *Syncer) Progress() uint64 { return s.rounds.Load() }

// turn counts one more round of what Run does.
func (s *Syncer) turn(ctx context.Context) {
	s.rounds.Add(1)
	Beat(ctx)
}

// IsReading reports whether somebody is within [Syncer.ReadVisible], and so waits for the server.
func (s *Syncer) IsReading() bool { return s.reading.Load() > 0 }
