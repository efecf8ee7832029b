package dbsync

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
)

// standbyPatience is how long a standby that is connected may lack the same part of the log before it
// is said.
const standbyPatience = 30 * time.Second

// A StandbyWait is why nothing comes down the stream although the log grows: from Postgres 17 on the
// server sends a slot that has failover set nothing that the standbys of synchronized_standby_slots do
// not have yet (https://www.postgresql.org/docs/17/runtime-config-replication.html#GUC-SYNCHRONIZED-STANDBY-SLOTS).
type StandbyWait struct {
	Text  string    // which slots of standbys, and what to do
	Since time.Time // when it was noticed
}

// standbyWaits is the wait for standbys. It is safe for concurrent use.
type standbyWaits struct {
	mu     sync.Mutex
	wait   *StandbyWait              // nil: there is none
	behind map[string]standbyBacklog // of connected standbys, by slot
}

// A standbyBacklog is a position that a standby did not have at a time.
type standbyBacklog struct {
	end pglogrepl.LSN
	at  time.Time
}

// get returns the wait, nil if there is none.
func (w *standbyWaits) get() *StandbyWait {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.wait == nil {
		return nil
	}
	wait := *w.wait
	return &wait
}

// standbySlot is a slot of synchronized_standby_slots.
type standbySlot struct {
	name, kind, status string // kind is "" where there is no such slot
	active             bool
	restart            pglogrepl.LSN // 0: it was never used
	end                pglogrepl.LSN // of the log
}

// readStandbys returns the slots of standbys that the server waits for before it sends anything of this
// Syncer's slot.
func (s *Syncer) readStandbys(ctx context.Context, q querier) ([]standbySlot, error) {
	if s.serverVersion < 170000 {
		return nil, nil
	}
	rows, err := q.Query(ctx, `SELECT n.name, coalesce(r.slot_type, ''), coalesce(r.wal_status, ''), coalesce(r.active, false), r.restart_lsn, `+logEnd+`
		FROM pg_catalog.pg_replication_slots o, LATERAL (SELECT DISTINCT pg_catalog.btrim(name, ' "') AS name
			FROM pg_catalog.unnest(pg_catalog.string_to_array(pg_catalog.current_setting('synchronized_standby_slots'), ',')) AS name) n
		LEFT JOIN pg_catalog.pg_replication_slots r ON r.slot_name = n.name
		WHERE o.slot_name = $1 AND o.failover AND n.name <> '' ORDER BY 1`, s.slot)
	if err != nil {
		return nil, fmt.Errorf("look at synchronized_standby_slots: %w", err)
	}
	standbys, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (b standbySlot, err error) {
		var restart *pglogrepl.LSN
		err = row.Scan(&b.name, &b.kind, &b.status, &b.active, &restart, &b.end)
		if restart != nil {
			b.restart = *restart
		}
		return b, err
	})
	if err != nil {
		return nil, fmt.Errorf("look at synchronized_standby_slots: %w", err)
	}
	return standbys, nil
}

// holds returns why a standby holds the stream up, "" if it does not or may catch up by itself.
func (b *standbySlot) holds() string {
	switch {
	case b.kind == "":
		return fmt.Sprintf("there is no slot %s", b.name)
	case b.kind != "physical":
		return fmt.Sprintf("slot %s is not one of a standby", b.name)
	case b.status == "lost":
		return fmt.Sprintf("slot %s was invalidated", b.name)
	case b.active || b.restart >= b.end:
		return ""
	case b.restart == 0:
		return fmt.Sprintf("slot %s was never used by a standby", b.name)
	}
	return fmt.Sprintf("no standby is connected to slot %s, which is %d bytes behind the end of the log", b.name, b.end-b.restart)
}

// describeStandbys says that standbys hold the stream up, and what to do.
func (s *Syncer) describeStandbys(reasons []string) string {
	return fmt.Sprintf("the server sends nothing of slot %s, which has failover set, before the standbys that synchronized_standby_slots names have it: %s; "+
		"hint: start the standby, or take its slot out: ALTER SYSTEM SET synchronized_standby_slots = '…'; SELECT pg_reload_conf();", s.slot, strings.Join(reasons, ", "))
}

// lookAtStandbys finds out whether standbys hold the stream up.
func (s *Syncer) lookAtStandbys(ctx context.Context) error {
	var standbys []standbySlot
	err := WithConn(ctx, s.db, func(conn *pgx.Conn) (err error) {
		standbys, err = s.readStandbys(ctx, conn)
		return err
	})
	if err != nil {
		return err
	}
	w := &s.standbys
	w.mu.Lock()
	defer w.mu.Unlock()
	before, now := w.behind, time.Now()
	w.behind = make(map[string]standbyBacklog)
	var reasons []string
	for i := range standbys {
		b := &standbys[i]
		if why := b.holds(); why != "" {
			reasons = append(reasons, why)
			continue
		}
		backlog, known := before[b.name]
		if !known || b.restart >= backlog.end {
			backlog = standbyBacklog{b.end, now}
		}
		w.behind[b.name] = backlog
		if b.restart < backlog.end && now.Sub(backlog.at) >= standbyPatience {
			reasons = append(reasons, fmt.Sprintf("the standby of slot %s is %d bytes behind the end of the log, and has not come to where that was %s ago", b.name, b.end-b.restart, now.Sub(backlog.at).Round(time.Second)))
		}
	}
	switch {
	case len(reasons) == 0 && w.wait != nil:
		s.log.Info("no standby holds up the stream any more", "slot", s.slot)
		w.wait = nil
	case len(reasons) > 0:
		text := s.describeStandbys(reasons)
		if w.wait == nil {
			s.log.Warn("standbys hold up the stream", "slot", s.slot, "reason", text)
			w.wait = &StandbyWait{Since: now}
		}
		w.wait.Text = text
	}
	return nil
}
