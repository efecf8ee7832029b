package dbsync

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"time"
)

// SyncerOpt sets one thing of a Syncer. NewSyncer returns its error.
type SyncerOpt func(*Syncer) error

// WithPGConnStr sets the connection string of the database, a URL or keywords and
// values, as libpq has them. The default is [PGConnStringFromEnv].
func WithPGConnStr(connStr string) SyncerOpt {
	return func(s *Syncer) error {
		s.connStr = connStr
		return nil
	}
}

// WithCtrlNamespace sets the schema of the Syncer's own tables.
func WithCtrlNamespace(name string) SyncerOpt {
	return nameOption("WithCtrlNamespace", name, func(s *Syncer) *string { return &s.namespace })
}

// WithWMTable sets the name of the watermark table, in the control schema.
func WithWMTable(name string) SyncerOpt {
	return nameOption("WithWMTable", name, func(s *Syncer) *string { return &s.wmTable })
}

// WithPublication sets the name of the publication. One that exists and was not made by
// a Syncer is used as it is, and refused where it lacks something: the watermark table or one of
// [ForTables], a kind of change, rows, columns. Several slots may have one publication if they
// have one control schema.
func WithPublication(name string) SyncerOpt {
	return nameOption("WithPublication", name, func(s *Syncer) *string { return &s.publication })
}

// nameOption sets the name of a database object: not empty, and within Postgres' 63 bytes.
func nameOption(option, name string, field func(*Syncer) *string) SyncerOpt {
	return func(s *Syncer) error {
		if name == "" || len(name) > 63 {
			return fmt.Errorf("%s(%q): want a name of 1 to 63 bytes", option, name)
		}
		*field(s) = name
		return nil
	}
}

var slotName = regexp.MustCompile(`^[a-z0-9_]{1,63}$`)

// WithReplicationSlot sets the name of the slot: lower-case letters, digits, underscores.
func WithReplicationSlot(name string) SyncerOpt {
	return func(s *Syncer) error {
		if !slotName.MatchString(name) {
			return fmt.Errorf("WithReplicationSlot(%q): want 1 to 63 lower-case letters, digits and underscores", name)
		}
		s.slot = name
		return nil
	}
}

// ForTables names the tables of the publication, "table" or "schema.table", with double
// quotes where a name has other than lower-case letters or a dot. The publication is
// made with them and, unless somebody else made it, kept equal to what all of its slots need:
// tables that none needs any more are taken out. Tables that inherit from one of them are
// others, to be named themselves; partitions are part of theirs. Without any, what the slot
// needed before stays.
//
// A table with columns behind its name, "docs (id, title)", is published with these alone, and with
// those of its unique indexes, from Postgres 15 on. What the other columns hold is not decoded then,
// however large it is. All columns are published where another slot needs all, and where the
// replica identity is the whole row; what was in the log before comes with other columns. Beware what
// such a list does to the table's owner: Postgres refuses to drop one of its columns, to change the
// type of one, and each UPDATE or DELETE while the replica identity has another column.
func ForTables(tableNames ...string) SyncerOpt {
	return func(s *Syncer) error {
		for _, name := range tableNames {
			needed, err := parseNeeded(name)
			if err != nil {
				return fmt.Errorf("ForTables: %w", err)
			}
			s.tables = append(s.tables, needed)
		}
		return nil
	}
}

// WithLogger sets where the Syncer says what it does. The default is silence. Errors are logged without
// the values of rows, see [WithoutValues].
func WithLogger(log *slog.Logger) SyncerOpt {
	return func(s *Syncer) error {
		s.log = slog.New(withholding{log.Handler()})
		return nil
	}
}

// OnSlot has f called whenever the slot is this process's to follow: at the start, after
// having waited for another process, and after a broken connection. No message is handled
// before f returns nil. Its error is tried again, unless [IsPermanent] says that this is of no use.
func OnSlot(f func(ctx context.Context) error) SyncerOpt {
	return func(s *Syncer) error {
		s.onSlot = f
		return nil
	}
}

// WithNewSlot allows a slot that was lost, or that belongs to another database system,
// to be dropped and made anew, where NewSyncer otherwise returns a [*SlotLostError], a
// [*ClusterChangedError] or a [*SetBackError]. [Syncer.Generation] is another one then, and everything has to
// be read again.
func WithNewSlot() SyncerOpt {
	return func(s *Syncer) error {
		s.newSlot = true
		return nil
	}
}

// WithReplicationConnStr has the slot be on another server than the one of [WithPGConnStr]: on a standby of it,
// from Postgres 16 on, which then decodes the log in its stead. Everything else goes to that of WithPGConnStr, the
// primary: publication, control schema, watermarks and the reading of rows; what is written there comes to the
// stream by way of the standby. The standby needs hot_standby_feedback; without it the primary may remove rows of
// the catalog that the slot needs, and the slot is lost. Such a slot has no failover.
func WithReplicationConnStr(connStr string) SyncerOpt {
	return func(s *Syncer) error {
		s.slotConnStr = connStr
		return nil
	}
}

// WithoutFailover has the slot be made without failover, and left as it is. Otherwise, from Postgres 17 on,
// standbys that are set up for it copy the slot, and it can be followed on when one of them is promoted; what
// the standbys of synchronized_standby_slots do not have yet is not streamed then.
func WithoutFailover() SyncerOpt {
	return func(s *Syncer) error {
		s.noFailover = true
		return nil
	}
}

// WithLoss tells of a loss that only what was stored shows: the slot, if it is one that was used
// before, is as one that is found to be lost.
func WithLoss(loss *SetBackError) SyncerOpt {
	return func(s *Syncer) error {
		s.loss = loss
		return nil
	}
}

// WithSlotTimeout bounds how long Run waits for the slot while another process has it, before
// it has had it itself: then Run returns an error that is [ErrSlotInUse]. The default is to
// wait without end. It should leave the time in which the server notices that a process has
// died.
func WithSlotTimeout(d time.Duration) SyncerOpt {
	return func(s *Syncer) error {
		if d <= 0 {
			return fmt.Errorf("WithSlotTimeout(%s): want a positive time", d)
		}
		s.slotTimeout = d
		return nil
	}
}

func envOr(name, value string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return value
}
