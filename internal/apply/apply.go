// Package apply is a worker: it writes to the cluster what the instance that follows the slot has produced
// to a topic of Kafka. It needs no Postgres. There may be any number of workers, in any number of places.
package apply

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/sourcegraph/conc"

	"tidemark/dbsync"
	"tidemark/indexer"
	"tidemark/indexer/retry"
	"tidemark/indexer/search"
	"tidemark/indexer/topic"
	"tidemark/internal/admin"
	"tidemark/internal/prepare"
	"tidemark/internal/systemd"
	"tidemark/internal/version"
	"tidemark/mapping"
)

// Options says how to run. Logger is required.
type Options struct {
	Manager  *systemd.Manager // is told that the start is over, and how the process is; nil: nobody is
	Profiles bool             // has the admin server answer with profiles of the process, too
	Logger   *slog.Logger

	// MaxAge is that of [topic.WorkerOptions].
	MaxAge time.Duration
}

// hangAfter is for how long the worker may give no sign although one is due, before /healthz says that it hangs.
const hangAfter = 2 * time.Minute

// A process is one worker.
type process struct {
	o       Options
	config  *mapping.Config
	kafka   topic.Options
	client  *search.Client
	bulk    *search.Bulk
	worker  *topic.Worker
	alarm   *retry.Alarm
	pulse   *dbsync.Pulse
	failure atomic.Pointer[error] // why it is about to end
}

// Run writes what is produced until ctx is done, or something is wrong that repeating cannot cure. c is what
// [mapping.ReadApply] has read.
func Run(ctx context.Context, c *mapping.Config, o Options) error {
	if err := admin.CheckAddress(ctx, c.Admin.Listen); err != nil {
		return mapping.Problems{c.Problem("admin.listen", "an address of this host and a port that this process may have: "+mapping.DefaultListen, "%v", err)}
	}
	p := &process{o: o, config: c, alarm: retry.NewAlarm(o.Logger), pulse: dbsync.NewPulse()}
	if err := p.connect(ctx); err != nil {
		return err
	}
	defer p.client.Close()
	if err := p.open(ctx); err != nil {
		return err
	}
	defer p.worker.Close()
	return p.run(ctx)
}

// connect connects to the cluster, and finds out whether Kafka can be connected to.
func (p *process) connect(ctx context.Context) error {
	var errs [2]error
	var wg conc.WaitGroup
	wg.Go(func() {
		p.client, errs[0] = prepare.ConnectCluster(ctx, p.config, p.o.Logger, prepare.StartTimeout)
	})
	wg.Go(func() {
		tried, err := prepare.ConnectKafka(ctx, p.config, p.alarm, p.o.Logger, prepare.StartTimeout)
		if err == nil {
			tried.Close() // the worker has connections of its own
			p.kafka, err = prepare.KafkaOptions(p.config, p.alarm, p.o.Logger)
		}
		errs[1] = err
	})
	wg.Wait()
	err := prepare.Join(errs[:]...)
	if err != nil && p.client != nil {
		p.client.Close()
	}
	return err
}

// open makes the parts.
func (p *process) open(ctx context.Context) error {
	log := p.o.Logger
	// Nothing is changed in the cluster by a worker whose partitions others may have.
	fenced := p.client.Fenced(func(ctx context.Context) error { return p.worker.Holds(ctx) })
	b := p.config.Search.Bulk
	var err error
	p.bulk, err = search.NewBulk(fenced, search.BulkOptions{
		Requests: b.Requests, Bytes: b.Bytes, Documents: b.Documents, PoisonAfter: b.PoisonAfter,
		OnRefused: func(ctx context.Context, refused []search.Refused) error { return p.worker.Refused(ctx, refused) },
		Newer: func(ctx context.Context, op *dbsync.Operation, version int64) error {
			return p.worker.Newer(ctx, op, version)
		},
		Unanswered: func(ops []dbsync.Operation) { p.worker.Unanswered(ops) },
		Missing:    func(ctx context.Context, index string) (bool, error) { return p.worker.Missing(ctx, index) },
		Alarm:      p.alarm, Logger: log,
	})
	if err != nil {
		return err
	}
	direct := indexer.Direct{Bulk: p.bulk, Client: fenced, Logger: log}
	p.worker, err = topic.NewWorker(ctx, topic.WorkerOptions{Options: p.kafka, Write: p.bulk.Write, Truncate: direct.TruncateWhere, MaxAge: p.o.MaxAge})
	return err
}

// run runs the parts until ctx is done or one of them fails.
func (p *process) run(ctx context.Context) error {
	run, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	end := func(err error) {
		if run.Err() == nil {
			p.failure.Store(&err) // shows on /healthz while the parts come to their end
		}
		cancel(err)
	}
	var parts conc.WaitGroup
	var worked error // read when the parts have ended
	parts.Go(func() {
		watched := dbsync.WithPulse(run, p.pulse)
		dbsync.Beat(watched) // what came before was the start
		worked = p.worker.Run(watched)
		end(worked)
	})
	parts.Go(func() {
		o := admin.Options{Listen: p.config.Admin.Listen, Hosts: p.config.Admin.Hosts, Profiles: p.o.Profiles, Logger: p.o.Logger}
		if err := admin.NewForWorker(p, o).Run(run); err != nil {
			end(fmt.Errorf("admin server: %w", err))
		}
	})
	parts.Go(func() { p.tellManager(run) })
	parts.Wait()
	switch cause := context.Cause(run); {
	case worked != nil:
		return worked
	case ctx.Err() != nil, errors.Is(cause, context.Canceled):
		return nil
	default:
		return cause
	}
}

// statusInterval is how often the service manager is told in a few words how it is.
const statusInterval = 30 * time.Second

// tellManager tells the service manager that the start is over, and then how the process is, until ctx is done.
func (p *process) tellManager(ctx context.Context) {
	m := p.o.Manager
	if m == nil {
		return
	}
	said := func(err error) {
		if err != nil {
			p.o.Logger.Warn("the service manager cannot be told how the process is, and may end it", "error", err)
		}
	}
	said(m.Ready())
	watched := make(chan error, 1)
	go func() { watched <- m.Watch(ctx, p.pulse.Silent) }()
	ticker := time.NewTicker(statusInterval)
	defer ticker.Stop()
	for ctx.Err() == nil {
		w := p.Worker()
		said(m.Status(w.InWords()))
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
	}
	said(m.Stopping())
	said(<-watched)
}

// Worker returns the admin server what the worker is doing. It answers from memory.
func (p *process) Worker() admin.Worker {
	at, counts := p.worker.Position(), p.worker.Stats()
	w := admin.Worker{
		Version: version.String(), Product: p.client.Product().String(), Topic: p.kafka.Topic, Group: p.kafka.Group,
		Joined: at.Joined, Partitions: at.Partitions, Lag: at.Lag, Behind: at.Behind,
		Records: counts.Records.Load(), Bytes: counts.Bytes.Load(),
		Older: counts.Older.Load(), Compacted: counts.Compacted.Load(), Dropped: p.bulk.Stats().Dropped.Load(),
		Commits: counts.Commits.Load(), Rebalances: counts.Rebalances.Load(), Reread: counts.Reread.Load(), Lost: counts.Lost.Load(),
		Bulk: admin.NewBulk(p.bulk.Stats(), p.bulk.Pace()),
	}
	if failure := p.failure.Load(); failure != nil && *failure != nil {
		w.Failure = dbsync.WithoutValues(*failure)
	}
	if silent := p.pulse.Silent(); silent >= hangAfter {
		w.Hang = &admin.Alarm{Key: "the process hangs", Since: time.Now().Add(-silent), Text: fmt.Sprintf("the worker has given no sign for %s although one was due, and writes nothing meanwhile; "+
			"hint: end it by SIGQUIT, which has it write what each goroutine does to stderr, and start it again: what is not stored comes again", silent.Round(time.Second))}
	}
	for _, r := range p.alarm.Reasons() {
		w.Alarms = append(w.Alarms, admin.Alarm{Key: r.Key, Text: r.Text, Since: r.Since})
	}
	return w
}
