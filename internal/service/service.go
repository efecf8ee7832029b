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
	config  *mapping.Config // the file
	found   *prepare.Prepared
	syncer  *dbsync.Syncer
	handler *indexer.Handler
	catalog *indexer.Catalog

	*destination                                     // the first
	groups       []*destination                      // the others
	of           map[*indexer.Documents]*destination // whose documents are these
	marks        *marks
	tables       *tableWatch
	pulse        *dbsync.Pulse // of what follows the slot
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
	defer s.close()
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
	s.catalog = indexer.NewCatalog(s.found.Tables, c.Postgres.Publication)
	s.of = make(map[*indexer.Documents]*destination)
	s.destination = s.newDestination("", c, retry.NewAlarm(log))
	// Nothing is changed in the cluster by who may not have the slot any more.
	client := s.found.Client.Fenced(s.syncer.HoldsSlot)
	if s.bulk, err = s.newBulk(client); err != nil {
		return err
	}
	s.newManager(client, func(name string) bool {
		return slices.Contains(s.o.Reindex, name) || slices.Contains(s.o.Reindex, "all")
	})
	writer, err := s.openWriters(ctx, client)
	if err != nil {
		s.close()
		return err
	}
	var documents []*indexer.Documents
	for _, d := range s.all() {
		documents = append(documents, d.documents...)
	}
	s.handler = indexer.NewHandler(indexer.HandlerOptions{
		Syncer: s.syncer, Documents: documents, Catalog: s.catalog, Writer: writer, Logger: log,
		Altered: s.altered, FanOut: c.Indexer.FanOut,
		Defer: func(ctx context.Context, f *indexer.FanOut) error { return s.of[f.Documents].manager.Defer(ctx, f) },
		Missed: func(ctx context.Context, d *indexer.Documents, why *indexer.UnfitError) error {
			return s.of[d].manager.Missed(ctx, d, why)
		},
		Doubted: func(ctx context.Context, d *indexer.Documents, why string) error {
			return s.of[d].manager.Doubted(ctx, d, why)
		},
		Unplaced: s.tables.miss,
		Observe:  s.observer.reread, FannedOut: s.measures.FannedOut,
		Tied: func(ctx context.Context) error {
			for _, d := range s.all() {
				if err := d.manager.Tied(ctx); err != nil {
					return err
				}
			}
			return nil
		},
		Announced: func(xid uint32) {
			log.Debug("an event trigger announces a change of the catalog", "xid", xid)
			for _, d := range s.all() {
				d.manager.Look()
			}
			s.tables.look()
		},
	})
	s.syncer.MessageHandler, s.syncer.Batcher = s.handler, dbsync.OperationsOnly(s.handler)
	return nil
}

// openWriters makes the destinations beside the first, and returns what takes over the operations of all. client
// leads to the first cluster.
func (s *Service) openWriters(ctx context.Context, client *search.Client) (indexer.Writer, error) {
	if s.config.Kafka == nil {
		return indexer.Direct{Bulk: s.bulk, Client: client, Logger: s.o.Logger}, nil
	}
	writers := &indexer.Writers{Others: make(map[string]indexer.Writer)}
	var err error
	if s.capture, err = s.openCapture(ctx); err != nil {
		return nil, err
	}
	writers.First = s.capture.producer
	for _, g := range s.config.Kafka.Groups {
		c, _ := s.config.OfGroup(g.Name)
		d := s.newDestination(g.Name, c, retry.NewAlarm(s.o.Logger))
		s.groups = append(s.groups, d)
		d.newManager(nil, nil)
		if d.capture, err = d.openCapture(ctx); err != nil {
			return nil, err
		}
		writers.Others[g.Name] = d.capture.producer
	}
	if len(s.groups) == 0 {
		return writers.First, nil
	}
	return writers, nil
}

// all are the destinations, the first one first.
func (s *Service) all() []*destination { return append([]*destination{s.destination}, s.groups...) }

// keep has more documents made, of a destination, by a mapping that is not in the file any more.
func (s *Service) keep(of *destination, documents *indexer.Documents) {
	s.of[documents] = of
	s.handler.Add(documents)
}

// close lets go of what the destinations have open.
func (s *Service) close() {
	for _, d := range s.all() {
		d.capture.close()
	}
}

// begin is called when the slot is ours.
func (s *Service) begin(ctx context.Context) error {
	defer dbsync.AtServer(ctx)() // statements and requests, of as many indices as there are
	// Before, an instance of an earlier version may have worked by the tables as they were.
	if err := control.Migrate(ctx, s.syncer.DB(), s.config.StateSchema(), s.o.Logger); err != nil {
		return err
	}
	s.handler.Begin(ctx)
	if err := s.destination.begin(ctx, s.manager.Begin); err != nil {
		return err
	}
	for _, d := range s.groups {
		err := control.Make(ctx, s.syncer.DB(), d.config.StateSchema(), s.o.Logger)
		if err == nil {
			err = d.begin(ctx, d.manager.Resume)
		}
		if err != nil {
			return fmt.Errorf("group %s: %w", d.name, err)
		}
	}
	return nil
}

// altered takes up that the stream has described a table that is not what it was before.
func (s *Service) altered(now *catalog.Table) {
	s.o.Logger.Info("a table was altered", "table", now.TableName().String())
	s.recheck(s.catalog.Present())
	for _, d := range s.all() {
		d.manager.Altered()
	}
}

// recheck says where the mapping does not fit tables any more. What it names and is not there is
// left out of the documents. A partition without the replica identity that the mapping needs ends
// the instance when one of its rows is changed.
func (s *Service) recheck(tables catalog.Tables) {
	for _, problem := range s.config.Present(tables).Check(tables) {
		s.o.Logger.Warn("the mapping does not fit the table any more", "problem", problem.Text, "file", problem.File, "line", problem.Line, "hint", problem.Hint)
	}
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
	var parts, beside conc.WaitGroup // beside are the groups
	var followed error               // of the Syncer; read when the parts have ended
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
	for _, d := range s.groups {
		beside.Go(func() {
			if err := d.runBeside(run); err != nil {
				end(fmt.Errorf("group %s: %w", d.name, err))
			}
		})
	}
	parts.Go(func() {
		serve := s.manager.Serve
		if s.o.Once {
			serve = s.manager.ServeUntilIdle
		}
		err := serve(run)
		if err == nil { // Once is fulfilled
			beside.Wait()
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
	for _, d := range s.all() {
		if d.capture == nil {
			continue
		}
		for _, part := range []func(context.Context) error{d.takeReports, d.watchCapture} {
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
	beside.Wait()
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
	for _, d := range s.all() {
		if err := d.manager.End(ctx); err != nil {
			s.o.Logger.Warn("the end was not noted", "error", err)
		}
	}
}

// Bars shows on a Display how far work on indices is.
type Bars struct {
	*progress.Display
	Group string // whose indices these are; "": those of the first cluster
}

// Begin adds a bar, see [verify.Progress].
func (b Bars) Begin(index string, rows verify.Rows) verify.Bar {
	if b.Group != "" {
		index = b.Group + "/" + index
	}
	return b.Index(index, rows.Stored, rows.Estimated)
}
