package dbsync

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/sourcegraph/conc"
)

// The slot may be on a standby, see WithReplicationConnStr. Then there are two servers: the primary, which has
// everything but the slot, and the standby, which has that, and gets all the rest from the primary a little later.

// standbySlotVersion is the first version of Postgres in which a standby decodes its log.
const standbySlotVersion = 160000

// onStandby reports whether the slot is on another server than the rest.
func (s *Syncer) onStandby() bool { return s.slotConnStr != "" }

// atSlot calls f with a connection to the server that has the slot: conn, where that is the primary.
func (s *Syncer) atSlot(ctx context.Context, conn *pgx.Conn, f func(conn *pgx.Conn) error) error {
	if !s.onStandby() {
		return f(conn)
	}
	return WithConn(ctx, s.slotDB, f)
}

// readSlotServer returns why a slot on another server than the primary cannot be followed there.
func (s *Syncer) readSlotServer(ctx context.Context) (wrong []*SetupError, err error) {
	if !s.onStandby() {
		return nil, nil
	}
	var version int
	var level, feedback string
	var standby bool
	err = s.slotDB.QueryRowContext(ctx, `SELECT pg_catalog.current_setting('server_version_num')::int, pg_catalog.current_setting('wal_level'),
		pg_catalog.current_setting('hot_standby_feedback'), pg_catalog.pg_is_in_recovery()`).Scan(&version, &level, &feedback, &standby)
	if problem := SessionProblem(err); problem != nil {
		return append(wrong, problem), nil
	}
	if err != nil {
		return nil, fmt.Errorf("connect to the server of the slot: %w", err)
	}
	if !standby { // promoted, or the primary itself
		return nil, nil
	}
	if version < standbySlotVersion {
		return append(wrong, &SetupError{Text: fmt.Sprintf("the server of the slot is a standby of Postgres %d, and 16 is the first that decodes the log on a standby", version/10000),
			Hint: "upgrade, or have the slot on the primary"}), nil
	}
	if level != "logical" {
		wrong = append(wrong, &SetupError{Text: fmt.Sprintf("wal_level is %s on the standby that has the slot, logical replication needs logical on both", level),
			Hint: "on the standby: ALTER SYSTEM SET wal_level = logical; then restart it"})
	}
	if feedback != "on" {
		wrong = append(wrong, &SetupError{Text: "hot_standby_feedback is off on the standby that has the slot: the primary removes rows of the catalog that the slot needs, and the slot is lost",
			Hint: "on the standby: ALTER SYSTEM SET hot_standby_feedback = on; SELECT pg_reload_conf();"})
	}
	return wrong, nil
}

// identifyPrimary asks the primary who it is, over a replication connection.
func (s *Syncer) identifyPrimary(ctx context.Context) (system pglogrepl.IdentifySystemResult, err error) {
	conn, err := connectReplication(ctx, s.config, s.maxRow)
	if err != nil {
		return system, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if system, err = pglogrepl.IdentifySystem(ctx, conn.PgConn); err != nil {
		return system, fmt.Errorf("identify the primary: %w", err)
	}
	return system, nil
}

// checkSameSystem makes sure that the server of the slot has the log of the primary.
func (s *Syncer) checkSameSystem(ctx context.Context) error {
	if !s.onStandby() {
		return nil
	}
	primary, err := s.identifyPrimary(ctx)
	if err != nil {
		return err
	}
	if primary.SystemID != s.system {
		return &SetupError{Text: fmt.Sprintf("the server of the slot is of database system %s, the primary is %s", s.system, primary.SystemID),
			Hint: "name a standby of the primary"}
	}
	return s.sameTimeline(s.timeline, primary.Timeline)
}

// sameTimeline returns an error while the server of the slot is not where the primary is. It follows soon, or it is
// not a standby of this primary any more.
func (s *Syncer) sameTimeline(slot, primary int32) error {
	if slot == primary {
		return nil
	}
	return fmt.Errorf("the server of slot %s is on timeline %d, the primary is on %d: it has not followed a promotion yet, or is no standby of this primary", s.slot, slot, primary)
}

// judgeServer is judgeIdentity for the server that has the slot, which conn leads to.
func (s *Syncer) judgeServer(ctx context.Context, conn *replicationConn, system pglogrepl.IdentifySystemResult) error {
	if s.onStandby() && system.SystemID == s.system && system.Timeline != s.timeline {
		primary, err := s.identifyPrimary(ctx)
		if err != nil {
			return err
		}
		if err := s.sameTimeline(system.Timeline, primary.Timeline); err != nil {
			return err
		}
	}
	return s.judgeIdentity(ctx, conn, system)
}

// replayPause is the time between two questions how far a standby is.
const replayPause = 20 * time.Millisecond

// awaitReplay waits until the server of the slot has everything that the primary has now: the publication, say. conn
// leads to the primary.
func (s *Syncer) awaitReplay(ctx context.Context, conn *pgx.Conn) error {
	if !s.onStandby() {
		return nil
	}
	var end, at pglogrepl.LSN
	if err := conn.QueryRow(ctx, "SELECT "+logEnd).Scan(&end); err != nil {
		return fmt.Errorf("read where the log ends: %w", err)
	}
	for told, begun := false, time.Now(); ; {
		if err := s.slotDB.QueryRowContext(ctx, "SELECT "+logEnd).Scan(&at); err != nil {
			return fmt.Errorf("ask the standby how far it is: %w", err)
		}
		if at >= end {
			return nil
		}
		if !told && time.Since(begun) > 5*time.Second {
			told = true
			s.log.Warn("the slot is made when the standby has what the primary has", "slot", s.slot, "standby", at.String(), "primary", end.String())
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait until the standby has what the primary has: %w", context.Cause(ctx))
		case <-time.After(replayPause):
		}
	}
}

// announceInterval is how often the primary is asked to say which transactions are open. Later ones are needed where
// one of them has to end first.
const announceInterval = time.Second

// announceTransactions has the primary write into the log which transactions are open, again and again until stop is
// called: a slot on a standby cannot be made without, and an idle primary writes it never. Where the role may not ask
// for that, it is left to the primary, which does it by itself within 15 s while something is written.
func (s *Syncer) announceTransactions(ctx context.Context) (stop func()) {
	if !s.onStandby() {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	var asking conc.WaitGroup
	asking.Go(func() {
		for {
			_, err := s.db.ExecContext(ctx, "SELECT pg_catalog.pg_log_standby_snapshot()")
			if sqlState(err) == "42501" {
				s.log.Warn("the role may not have the primary say which transactions are open, so that the making of the slot takes longer, and without end where nothing is written",
					"slot", s.slot, "hint", fmt.Sprintf("GRANT EXECUTE ON FUNCTION pg_log_standby_snapshot() TO %s;", quoteIdent(s.config.User)))
				return
			}
			if err != nil && !errors.Is(err, context.Canceled) && ctx.Err() == nil {
				s.log.Warn("the primary was not asked which transactions are open, trying again", "slot", s.slot, "error", err)
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(announceInterval):
			}
		}
	})
	return func() {
		cancel()
		asking.Wait()
	}
}
