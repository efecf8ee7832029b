package cli

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"time"

	"github.com/sourcegraph/conc"

	"tidemark/dbsync"
	"tidemark/indexer/retry"
	"tidemark/internal/prepare"
	"tidemark/internal/progress"
	"tidemark/internal/service"
	"tidemark/mapping"
	"tidemark/reindex/control"
)

// slotPatience is how long is waited for the slot by a command that was told that nobody has
// it: an instance that has died is noticed within that time, and one that was just started is
// asked then.
const slotPatience = 10 * time.Second

// An asker asks the instance that follows a slot.
type asker struct {
	config   *mapping.Config
	db       *sql.DB
	slot     string
	requests *control.Requests
	states   *control.States
	stdout   io.Writer
	log      *slog.Logger
	display  *progress.Display
	patience time.Duration // with the slot, see work
}

// openControl returns the control schema of a mapping file.
func openControl(config *mapping.Config, db *sql.DB) *control.Schema {
	return control.Open(db, config.StateSchema(), config.Postgres.Slot)
}

func newAsker(config *mapping.Config, db *sql.DB, stdout io.Writer, log *slog.Logger, display *progress.Display) *asker {
	schema := openControl(config, db)
	return &asker{
		config: config, db: db, slot: config.Postgres.Slot, stdout: stdout, log: log, display: display, patience: slotPatience,
		requests: schema.Requests(),
		states:   schema.States(),
	}
}

// isFollowed reports whether an instance follows the slot.
func (a *asker) isFollowed(ctx context.Context) (active bool, err error) {
	err = prepare.AtSlot(a.config, a.db, func(db *sql.DB) error {
		active, err = isFollowed(ctx, db, a.slot)
		return err
	})
	return active, err
}

// ask makes requests, and shows how far they are until they have ended.
func (a *asker) ask(ctx context.Context, wanted []*control.Request) error {
	if err := a.add(ctx, wanted); err != nil {
		return err
	}
	return a.watch(ctx, wanted)
}

// leave makes requests that are not waited for. then says what becomes of them.
func (a *asker) leave(ctx context.Context, wanted []*control.Request, then string) error {
	if err := a.add(ctx, wanted); err != nil {
		return err
	}
	for _, q := range wanted {
		if _, err := fmt.Fprintf(a.stdout, "%s: asked for, request %d; %s\n", q.Index, q.ID, then); err != nil {
			return fmt.Errorf("print what was asked for: %w", err)
		}
	}
	return nil
}

// leaveToNext makes requests for the next instance, where none runs now.
func (a *asker) leaveToNext(ctx context.Context, wanted []*control.Request) error {
	there, err := a.hasTables(ctx, 0)
	if err != nil {
		return err
	}
	if !there {
		return a.nothingYet()
	}
	return a.leave(ctx, wanted, "no instance runs now, the next one does it")
}

// hasTables reports whether the control schema has the tables that requests need. Its error is a
// [*control.OlderSchemaError] if they are of an earlier version. Those of an instance that is
// running are waited for, for as long as wait: one that has just begun makes or migrates them.
func (a *asker) hasTables(ctx context.Context, wait time.Duration) (there bool, err error) {
	start := time.Now()
	err = retry.Poll(ctx, func() (bool, error) {
		found, err := control.Look(ctx, a.db, a.config.StateSchema())
		if err != nil {
			return false, err
		}
		there = found.Made
		if len(found.Pending) > 0 && time.Since(start) < wait {
			return false, nil
		}
		return true, found.Current()
	})
	return there, err
}

func (a *asker) nothingYet() error {
	return fmt.Errorf("nothing was filled by slot %s yet: tidemark run fills every index", a.slot)
}

// add makes requests.
func (a *asker) add(ctx context.Context, wanted []*control.Request) error {
	there, err := a.hasTables(ctx, a.patience)
	if err != nil {
		return err
	}
	if !there {
		return a.nothingYet()
	}
	for _, q := range wanted {
		id, err := a.requests.Add(ctx, q)
		if err != nil {
			return err
		}
		q.ID = id
	}
	return nil
}

// rebuilt are those of the requests whose index is being rebuilt, or is asked to be: what there
// is to give up. None is an error.
func (a *asker) rebuilt(ctx context.Context, wanted []*control.Request) (found []*control.Request, err error) {
	there, err := a.hasTables(ctx, a.patience)
	if err != nil {
		return nil, err
	}
	if !there {
		return nil, errNoRebuild
	}
	open, err := a.requests.Open(ctx)
	if err != nil {
		return nil, err
	}
	for _, q := range wanted {
		st, err := a.states.Read(ctx, q.Index)
		if err != nil {
			return nil, err
		}
		asked := slices.ContainsFunc(open, func(other *control.Request) bool { return other.Index == q.Index && other.Kind == control.KindReindex })
		if asked || st != nil && st.Building.Physical != "" {
			found = append(found, q)
		}
	}
	if len(found) == 0 {
		return nil, errNoRebuild
	}
	return found, nil
}

var errNoRebuild = errors.New("no index is being rebuilt")

// work does what is wanted in this process, as no other one follows the slot. If one has taken
// the slot meanwhile, it is asked.
func (a *asker) work(ctx context.Context, wanted []*control.Request) error {
	prepared, err := prepare.Prepare(ctx, a.config, a.log)
	if err != nil {
		return err
	}
	defer prepared.Close()
	if prepared.Control.Made && wanted[0].Kind == control.KindRefresh {
		if err := prepared.Control.Current(); err != nil {
			return err
		}
		return a.refresh(ctx, prepared, wanted)
	}
	return a.rebuild(ctx, prepared, wanted) // what was never filled is now
}

// options are those of a service that does one thing and leaves.
func (a *asker) options() service.Options {
	return service.Options{Once: true, SlotTimeout: a.patience, Logger: a.log, Display: a.display}
}

// rebuild fills new physical indices beside those in use.
func (a *asker) rebuild(ctx context.Context, prepared *prepare.Prepared, wanted []*control.Request) error {
	options := a.options()
	for _, q := range wanted {
		if q.Kind == control.KindReindex {
			options.Reindex = append(options.Reindex, q.Index)
		}
	}
	err := service.Run(ctx, a.config, prepared, options)
	if errors.Is(err, dbsync.ErrSlotInUse) {
		return a.ask(ctx, wanted)
	}
	if err != nil {
		return err
	}
	if ctx.Err() != nil {
		return errInterrupted
	}
	for _, q := range wanted {
		q.Kind = control.KindReindex
		if err := a.report(ctx, q); err != nil {
			return err
		}
	}
	return nil
}

// refresh has the documents of some rows stored again.
func (a *asker) refresh(ctx context.Context, prepared *prepare.Prepared, wanted []*control.Request) error {
	if err := a.add(ctx, wanted); err != nil {
		return err
	}
	watch, end := context.WithCancel(ctx)
	defer end()
	var watcher conc.WaitGroup
	var watched error
	watcher.Go(func() { watched = a.watch(watch, wanted) })
	err := service.Run(ctx, a.config, prepared, a.options())
	if errors.Is(err, dbsync.ErrSlotInUse) {
		err = nil // the instance that has it does what is asked for
	} else if err != nil || ctx.Err() != nil {
		end()
	}
	watcher.Wait()
	if ctx.Err() != nil {
		return errInterrupted
	}
	return cmp.Or(err, watched)
}

// report says what was done.
func (a *asker) report(ctx context.Context, q *control.Request) (err error) {
	switch q.Kind {
	case control.KindCancel:
		_, err = fmt.Fprintf(a.stdout, "%s: the rebuild is given up\n", q.Index)
	case control.KindRefresh:
		_, err = fmt.Fprintf(a.stdout, "%s: %d rows read and stored again\n", q.Index, q.Rows)
	default:
		st, err := a.states.Read(ctx, q.Index)
		if err != nil {
			return err
		}
		if st == nil {
			return fmt.Errorf("index %s: the control schema does not know it any more", q.Index)
		}
		_, err = fmt.Fprintf(a.stdout, "%s: rebuilt as %s, %d rows\n", q.Index, st.Live.Physical, st.Done)
		return err
	}
	return err
}
