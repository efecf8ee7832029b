package dbsync

// SetTrackerLimit bounds the keys that are remembered.
func (s *Syncer) SetTrackerLimit(keys int) {
	s.tracker.mu.Lock()
	defer s.tracker.mu.Unlock()
	s.tracker.limits.keys = keys
}

// SetTracked bounds the transactions that are remembered.
func (s *Syncer) SetTracked(n int) {
	s.tracker.mu.Lock()
	defer s.tracker.mu.Unlock()
	s.tracker.limits.tracked = n
}

// Tracked returns how many transactions, and tables of them, are remembered.
func (s *Syncer) Tracked() int {
	s.tracker.mu.Lock()
	defer s.tracker.mu.Unlock()
	return s.tracker.tracked
}

// NewMarker returns a Syncer that can do nothing but mark operations.
func NewMarker() *Syncer { return &Syncer{building: NewBatch()} }

// ResetBatch empties the batch that operations are marked in.
func (s *Syncer) ResetBatch() { s.building.reset() }
