package dbsync

import (
	"context"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
)

// An Inspection is what [NewSyncer] would find in the database, and do there.
type Inspection struct {
	ServerVersion  int // as in server_version_num: 170005
	Database, Role string
	System         string // the database system's identifier; "" if the role may not ask
	Timeline       int32
	Generation     string        // of the slot, see [Syncer.Generation]; "" if it has to be made
	WALEnd         pglogrepl.LSN // where the log ended

	Slot SlotInspection

	// Promotion is that of a standby since the slot was followed last, nil if there was none. Lost is nil
	// where the slot can be gone on with.
	Promotion *Promotion

	// Failover is what is missing on the primary and its standbys so that the slot outlives the promotion of
	// one, each with a hint; none where nothing is, and where no standby is to be seen.
	Failover []string

	// Wrong is everything that keeps a Syncer from working until somebody fixes it.
	Wrong []*SetupError

	// Lost is a [*SlotLostError], a [*ClusterChangedError] or a [*SetBackError] where changes are missing,
	// so that only [WithNewSlot] can begin again.
	Lost error

	// Standbys is why nothing comes down the stream of the slot, "" if standbys hold up nothing, see
	// [StandbyWait].
	Standbys string

	// Steps is what would be made or changed, in order; none when all is there. One may have
	// several lines: statements.
	Steps []string
}

// A SlotInspection is what the server says of the slot.
type SlotInspection struct {
	Exists    bool
	Active    bool          // a process follows it at the moment
	Confirmed pglogrepl.LSN // up to where everything is stored
	Retained  int64         // bytes of the log that the server keeps for it
}

// Inspect takes the options of [NewSyncer], looks at the database and changes nothing in
// it. Tables of [ForTables] have to exist. Its error says why the database cannot be asked;
// what it found wrong is in the Inspection, all of it.
func Inspect(ctx context.Context, opts ...SyncerOpt) (*Inspection, error) {
	ctx, cancel := context.WithTimeout(ctx, setupTimeout)
	defer cancel()
	s, err := openSyncer(opts)
	if err != nil {
		return nil, err
	}
	defer s.closeSessions()
	wrong, err := s.readServer(ctx)
	if err != nil {
		return nil, err
	}
	var p *plan
	var standbys, failover []string
	err = WithConn(ctx, s.db, func(conn *pgx.Conn) error {
		if p, err = s.makePlan(ctx, conn); err != nil {
			return err
		}
		all, err := s.readStandbys(ctx, conn)
		for i := range all {
			if why := all[i].holds(); why != "" {
				standbys = append(standbys, why)
			}
		}
		if err != nil {
			return err
		}
		failover, err = s.lookAtFailover(ctx, conn)
		return err
	})
	if err != nil {
		return nil, err
	}
	i := &Inspection{ServerVersion: s.serverVersion, Database: s.dbName, Role: s.config.User, System: s.system, Timeline: s.timeline,
		Generation: p.generation, WALEnd: p.walEnd, Slot: p.found, Wrong: wrong, Lost: p.lost, Promotion: p.promotion, Failover: failover}
	if len(standbys) > 0 {
		i.Standbys = s.describeStandbys(standbys)
	}
	for _, part := range []part{p.control, p.publication, p.slot, p.eventTriggers} {
		for _, f := range part.wrong {
			i.Wrong = append(i.Wrong, f.SetupError)
		}
		for _, step := range part.steps {
			if step.says != "" {
				i.Steps = append(i.Steps, step.says)
			}
		}
	}
	return i, nil
}
