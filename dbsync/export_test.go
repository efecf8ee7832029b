package dbsync

import (
	"context"

	"github.com/jackc/pglogrepl"
)

// SetTrackerLimit bounds the keys that are remembered.
func (s *Syncer) SetTrackerLimit(keys int) {
	s.tracker.mu.Lock()
	defer s.tracker.mu.Unlock()
	s.tracker.limit = keys
}

// NewMarker returns a Syncer that can do nothing but mark operations.
func NewMarker() *Syncer { return &Syncer{building: NewBatch()} }

// ResetBatch empties the batch that operations are marked in.
func (s *Syncer) ResetBatch() { s.building.reset() }

// Record notes a position before it is confirmed.
func (s *Syncer) Record(ctx context.Context, lsn pglogrepl.LSN) error { return s.record(ctx, lsn) }
