// Package service keeps indices equal to their tables: it puts the parts together, runs
// them, and waits for them.
package service

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/sourcegraph/conc"

	"tidemark/dbsync"
	"tidemark/indexer"
	"tidemark/indexer/retry"
	"tidemark/indexer/search"
	"tidemark/internal/admin"
	"tidemark/internal/prepare"
	"tidemark/internal/progress"
	"tidemark/internal/systemd"
	"tidemark/internal/tracing"
	"tidemark/internal/version"
	"tidemark/mapping"
	"tidemark/mapping/catalog"
	"tidemark/reindex"
	"tidemark/reindex/control"
	"tidemark/reindex/verify"
)

// Options says how to run.
type Options struct {
	// Once has Run return when every index is complete, what was asked for is done, and the
	// indices have everything that was committed before that.
	Once bool

	// Reindex names the indices that are rebuilt although nothing else asks for it; "all"
	// stands for every one.
	Reindex []string

	// SlotTimeout bounds how long Run waits for the slot while another instance has it; its
	// error is [dbsync.ErrSlotInUse] then. 0: no bound.
	SlotTimeout time.Duration

	// Admin has the admin server run, at the address that the mapping file names.
	Admin bool

	// Events remembers what is logged, for the status page; nil: nothing is.
	Events *admin.Events
	// Manager is told that the start is over, and how the process is; nil: nobody is.
	Manager *systemd.Manager

	// Resolved, if given, is called when the patterns of the file stand for other tables than those that are
	// followed: the file is to be resolved again, and run anew. It does not wait.
	Resolved func()

	// HangAfter is for how long a part of the process may give no sign although one is due, before /healthz
	// says that it hangs; 0: 2 min.
	HangAfter time.Duration

	// Profiles has it answer with profiles of the process, too.
	Profiles bool

	Logger  *slog.Logger
	Display *progress.Display // of backfills
}

// Service is one instance of Tidemark.
type Service struct {
	o       Options
	config  *mapping.Config
	found   *prepare.Prepared
	syncer  *dbsync.Syncer
	manager *reindex.Manager
	handler *indexer.Handler
	bulk    *search.Bulk
	alarm   *retry.Alarm
	dead    *control.DeadLetters
	control *control.Schema
	capture *capture // nil: operations go to the cluster
	catalog *indexer.Catalog
	marks   *marks
	tables  *tableWatch
	pulse   *dbsync.Pulse // of what follows the slot
	counters
	observer
}

// errDone ends a run that has done what it was asked for.
var errDone = errors.New("done")

// Run keeps the indices of c equal to their tables until ctx is done or something is wrong
// that repeating cannot cure. It makes the slot and what else is missing, after it has found
// nothing to be changed in the options and the file. While another instance has the slot it
// waits for its turn.
func Run(ctx context.Context, c *mapping.Config, found *prepare.Prepared, o Options) error {
	for _, name := range o.Reindex {
		if name != "all" && !slices.ContainsFunc(c.Indices, func(ix *mapping.Index) bool { return ix.Name == name }) {
			return &UnknownIndexError{Name: name}
		}
	}
	if err := found.Refusal(); err != nil {
		return err // before anything is made
	}
	if o.Admin {
		if err := CheckAdmin(ctx, c); err != nil {
			return err
		}
	}
	tracer, err := tracing.Open(ctx, os.Getenv, version.String(), c.Postgres.Slot, o.Logger)
	if err != nil {
		return mapping.Problems{{Text: err.Error(), Hint: "docs/metrics.md says which variables there are"}}
	}
	defer func() {
		if err := tracer.Close(ctx); err != nil {
			o.Logger.Warn("the last traces were not sent", "error", err)
		}
	}()
	s := &Service{o: o, config: c, found: found, marks: newMarks(), tables: newTableWatch(), pulse: dbsync.NewPulse(), counters: counters{census: newCensus(), retries: make(chan *letterRetry, maxLetterRetries)}, observer: observer{tracer: tracer}}
	if err := s.open(ctx); err != nil {
		return err
	}
	defer s.syncer.Close()
	defer func() { s.capture.close() }()
	return s.run(ctx)
}

// CheckAdmin finds out whether the admin server can have its address, now or when the process
// that has it ends. Its error is [mapping.Problems].
func CheckAdmin(ctx context.Context, c *mapping.Config) error {
	if err := admin.CheckAddress(ctx, c.Admin.Listen); err != nil {
		return mapping.Problems{c.Problem("admin.listen", "an address of this host and a port that this process may have: "+mapping.DefaultListen, "%v", err)}
	}
	return nil
}

// An UnknownIndexError reports a name that the mapping does not have.
type UnknownIndexError struct{ Name string }

func (e *UnknownIndexError) Error() string {
	return fmt.Sprintf("there is no index %s in the mapping", e.Name)
}

// open makes the parts, and in the database what the stream needs. The tables of this program are
// made when the slot is ours.
func (s *Service) open(ctx context.Context) (err error) {
	log, c := s.o.Logger, s.config
	var names []string
	for _, ix := range c.Indices {
		names = append(names, ix.Name)
	}
	s.measures = admin.NewMeasures(names...)
	s.alarm = retry.NewAlarm(log)
	options := append(prepare.SyncerOptions(c, s.found.Tables, log), dbsync.OnSlot(s.begin), dbsync.WithObserver(&s.observer))
	if s.o.SlotTimeout > 0 {
		options = append(options, dbsync.WithSlotTimeout(s.o.SlotTimeout))
	}
	if setBack, ok := errors.AsType[*dbsync.SetBackError](s.found.Database.Lost); ok {
		options = append(options, dbsync.WithLoss(setBack)) // what only the indices show
	}
	if slices.Contains(s.o.Reindex, "all") {
		options = append(options, dbsync.WithNewSlot()) // a slot that was lost is no loss then
	}
	if s.syncer, err = dbsync.NewSyncerContext(ctx, options...); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			s.syncer.Close()
		}
	}()
	// Nothing is changed in the cluster by who may not have the slot any more.
	client := s.found.Client.Fenced(s.syncer.HoldsSlot)
	s.bulk, err = search.NewBulk(client, search.BulkOptions{
		Requests: c.Search.Bulk.Requests, Bytes: c.Search.Bulk.Bytes, Documents: c.Search.Bulk.Documents, PoisonAfter: c.Search.Bulk.PoisonAfter,
		Newer: func(ctx context.Context, op *dbsync.Operation, version int64) error {
			return s.manager.Newer(ctx, op, version)
		},
		Unanswered: func(ops []dbsync.Operation) { s.manager.Unanswered(ops) },
		OnRefused:  s.refused, Observe: s.observer.bulkRequest, Alarm: s.alarm, Logger: log,
	})
	if err != nil {
		return err
	}
	s.control = control.Open(s.syncer.DB(), c.StateSchema(), c.Postgres.Slot)
	s.dead = s.control.DeadLetters(s.alarm)
	var documents []*indexer.Documents
	for _, ix := range c.Indices {
		documents = append(documents, &indexer.Documents{Index: ix})
	}
	s.catalog = indexer.NewCatalog(s.found.Tables, c.Postgres.Publication)
	var writer indexer.Writer = indexer.Direct{Bulk: s.bulk, Client: client, Logger: log}
	if c.Kafka != nil {
		if s.capture, err = s.openCapture(ctx); err != nil {
			return err
		}
		writer = s.capture.producer
	}
	s.handler = indexer.NewHandler(indexer.HandlerOptions{
		Syncer: s.syncer, Documents: documents, Catalog: s.catalog, Writer: writer, Logger: log,
		Altered: s.altered, FanOut: c.Indexer.FanOut,
		Defer: func(ctx context.Context, f *indexer.FanOut) error { return s.manager.Defer(ctx, f) },
		Missed: func(ctx context.Context, d *indexer.Documents, why *indexer.UnfitError) error {
			return s.manager.Missed(ctx, d, why)
		},
		Doubted: func(ctx context.Context, d *indexer.Documents, why string) error {
			return s.manager.Doubted(ctx, d, why)
		},
		Unplaced: s.tables.miss,
		Observe:  s.observer.reread, FannedOut: s.measures.FannedOut,
		Tied: func(ctx context.Context) error { return s.manager.Tied(ctx) },
		Announced: func(xid uint32) {
			log.Debug("an event trigger announces a change of the catalog", "xid", xid)
			s.manager.Look()
			s.tables.look()
		},
	})
	s.manager = reindex.New(reindex.Options{
		Syncer: s.syncer, Client: client, Bulk: s.bulk, DeadLetters: s.dead, Alarm: s.alarm, Control: s.control, Verify: c.Verify, Keep: s.handler.Add, Publication: c.Postgres.Publication, Columns: c.Postgres.PublishColumns, Changed: s.recheck,
		Documents: documents, Catalog: s.catalog, Logger: log,
		Rebuild: func(name string) bool {
			return slices.Contains(s.o.Reindex, name) || slices.Contains(s.o.Reindex, "all")
		},
		Progress:       Bars{s.o.Display},
		Applied:        s.applied,
		Room:           s.room,
		RebuildSetBack: s.rebuildsLost(),
		Unstamped:      s.found.Control.Unnoted,
	})
	s.syncer.MessageHandler, s.syncer.Batcher = s.handler, dbsync.OperationsOnly(s.handler)
	return nil
}

// begin is called when the slot is ours.
func (s *Service) begin(ctx context.Context) error {
	defer dbsync.AtServer(ctx)() // statements and requests, of as many indices as there are
	// Before, an instance of an earlier version may have worked by the tables as they were.
	if err := control.Migrate(ctx, s.syncer.DB(), s.config.StateSchema(), s.o.Logger); err != nil {
		return err
	}
	s.handler.Begin(ctx)
	if err := s.control.BeginEpoch(ctx); err != nil {
		return err
	}
	changed, note, err := s.beginCapture(ctx)
	if err != nil {
		return err
	}
	if err := s.manager.Begin(ctx); err != nil {
		return err
	}
	if changed != "" {
		err = s.manager.Unprove(ctx, changed)
		if err == nil {
			err = note(ctx)
		}
	}
	if err == nil && s.capture != nil {
		s.capture.once.Do(func() { close(s.capture.began) })
	}
	return err
}

// altered takes up that the stream has described a table that is not what it was before.
func (s *Service) altered(now *catalog.Table) {
	s.o.Logger.Info("a table was altered", "table", now.TableName().String())
	s.recheck(s.catalog.Present())
	s.manager.Altered()
}

// recheck says where the mapping does not fit tables any more. What it names and is not there is
// left out of the documents. A partition without the replica identity that the mapping needs ends
// the instance when one of its rows is changed.
func (s *Service) recheck(tables catalog.Tables) {
	for _, problem := range s.config.Present(tables).Check(tables) {
		s.o.Logger.Warn("the mapping does not fit the table any more", "problem", problem.Text, "file", problem.File, "line", problem.Line, "hint", problem.Hint)
	}
}

// refused takes what the search server refuses for good.
func (s *Service) refused(ctx context.Context, refused []search.Refused) error {
	if s.config.OnError == mapping.OnErrorStop {
		return &dbsync.PermanentError{Err: fmt.Errorf("on_error is stop: %w", refused[0].Err)}
	}
	for _, r := range refused {
		s.o.Logger.Warn("the search server refuses a document, it is kept as a dead letter",
			"index", r.Operation.Index, "id", r.Operation.ID, "version", r.Operation.Version.String(), "reason", r.Err)
	}
	err := s.dead.Keep(ctx, refused)
	s.census.again()
	return err
}

// run runs the parts until ctx is done, one of them fails, or Once is fulfilled.
func (s *Service) run(ctx context.Context) error {
	run, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	end := func(err error) {
		if run.Err() == nil && !errors.Is(err, errDone) && !errors.Is(err, context.Canceled) {
			s.failure.Store(&err) // shows on /healthz while the parts come to their end
		}
		cancel(err)
	}
	var parts conc.WaitGroup
	var followed error // of the Syncer; read when the parts have ended
	parts.Go(func() {
		dbsync.Beat(dbsync.WithPulse(run, s.pulse)) // what came before was the start
		followed = s.syncer.Run(dbsync.WithPulse(run, s.pulse))
		end(cmp.Or(followed, context.Canceled))
	})
	parts.Go(func() {
		if err := s.manager.Run(run); err != nil {
			end(err)
		}
	})
	parts.Go(func() {
		serve := s.manager.Serve
		if s.o.Once {
			serve = s.manager.ServeUntilIdle
		}
		err := serve(run)
		if err == nil { // Once is fulfilled
			err = errDone
		}
		end(err)
	})
	if s.o.Admin {
		parts.Go(func() {
			o := admin.Options{Listen: s.config.Admin.Listen, Hosts: s.config.Admin.Hosts, Token: s.config.Admin.Token, Source: s, Operator: s, Events: s.o.Events, Profiles: s.o.Profiles, Logger: s.o.Logger}
			if err := admin.New(o).Run(run); err != nil {
				end(fmt.Errorf("admin server: %w", err))
			}
		})
	}
	parts.Go(func() { s.take(run) })
	if s.capture != nil {
		for _, part := range []func(context.Context) error{s.takeReports, s.watchCapture} {
			parts.Go(func() {
				if err := part(run); err != nil {
					end(err)
				}
			})
		}
	}
	parts.Go(func() { s.retryLetters(run) })
	parts.Go(func() { s.watchTables(run) })
	parts.Go(func() { s.marks.run(run, s.syncer.Barrier) })
	parts.Go(func() { limitProcessors(run) })
	parts.Go(func() { s.tellManager(run) })
	parts.Wait()
	s.end(ctx)
	// The first that ended has given the reason. Who waited for the Syncer may have ended
	// before it, because of it.
	switch cause := context.Cause(run); {
	case ctx.Err() != nil, errors.Is(cause, errDone), errors.Is(cause, context.Canceled):
		return nil
	case followed != nil:
		return followed
	default:
		return cause
	}
}

// endTimeout bounds what is noted at the end.
const endTimeout = time.Second

// end notes that nothing is under way any more. Where that fails, the next start takes it for a crash.
func (s *Service) end(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
	defer cancel()
	if err := s.manager.End(ctx); err != nil {
		s.o.Logger.Warn("the end was not noted", "error", err)
	}
}

// Bars shows on a Display how far work on indices is.
type Bars struct{ *progress.Display }

// Begin adds a bar, see [verify.Progress].
func (b Bars) Begin(index string, rows verify.Rows) verify.Bar {
	return b.Index(index, rows.Stored, rows.Estimated)
}
