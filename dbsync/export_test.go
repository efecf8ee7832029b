package dbsync

// SetTrackerLimit bounds the keys that are remembered.
func (s *Syncer) SetTrackerLimit(keys int) {
	s.tracker.mu.Lock()
	defer s.tracker.mu.Unlock()
	s.tracker.limit = keys
}
