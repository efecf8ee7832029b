package dbsync

import (
	"context"
	"log/slog"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	ReceiveGap = receiveGap
)

// SetPatience sets how long a batch is left open while the server has more to send.
func (s *Syncer) SetPatience(d time.Duration) { s.patience = d }

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

// Settings returns the settings that every session has, and whether some servers have none of
// the name.
func Settings() (values map[string]string, some_ map[string]bool) {
	values, some_ = make(map[string]string), make(map[string]bool)
	for _, s := range settings {
		values[s.name], some_[s.name] = s.value, s.kind == some
	}
	return values, some_
}

// ConnectReplication opens a replication connection as a Syncer does.
func ConnectReplication(ctx context.Context, connStr string) (*pgconn.PgConn, error) {
	cfg, err := connectConfig(connStr)
	if err != nil {
		return nil, err
	}
	conn, err := connectReplication(ctx, cfg, 0)
	if err != nil {
		return nil, err
	}
	return conn.PgConn, nil
}

// SetSilence sets how long a connection may be silent before the server is asked for its process,
// and between the questions, until the returned function is called.
func SetSilence(silence, pause, answer time.Duration) (restore func()) {
	before := silent
	silent = patienceWith{silence: silence, pause: pause, most: pause, answer: answer}
	return func() { silent = before }
}

// DialKept connects as a replication connection does.
var DialKept = dialKept

// LoggerOf returns the logger that an option gives a Syncer.
func LoggerOf(option SyncerOpt) *slog.Logger {
	s := new(Syncer)
	if err := option(s); err != nil {
		panic(err)
	}
	return s.log
}

// Record notes a position before it is confirmed.
func (s *Syncer) Record(ctx context.Context, lsn pglogrepl.LSN) error { return s.record(ctx, lsn) }

// Undecodable returns the error of a change that Postgres makes no message of.
func Undecodable(refused *pgconn.PgError) error { return &undecodableError{refused} }
