package service

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sourcegraph/conc"

	"tidemark/dbsync"
	"tidemark/indexer"
	"tidemark/indexer/retry"
	"tidemark/indexer/search"
	"tidemark/internal/prepare"
	"tidemark/mapping"
	"tidemark/reindex"
	"tidemark/reindex/control"
)

// A destination is one cluster that is kept equal to the tables, and what the instance has for it alone. The
// first one is that of the section search of the file. Others are groups of the section kafka: each has its own
// topic, its own indices and rebuilds, and its own control schema.
type destination struct {
	s      *Service
	name   string          // of the group; "": the first
	config *mapping.Config // as it is for this cluster, see [mapping.Config.OfGroup]

	alarm     *retry.Alarm
	bulk      *search.Bulk // nil while a group's cluster has not answered yet
	control   *control.Schema
	dead      *control.DeadLetters
	documents []*indexer.Documents
	manager   *reindex.Manager
	capture   *capture // nil: operations go to the cluster
}

// newDestination makes what asks nothing of a server.
func (s *Service) newDestination(name string, c *mapping.Config, alarm *retry.Alarm) *destination {
	d := &destination{s: s, name: name, config: c, alarm: alarm}
	d.control = control.Open(s.syncer.DB(), c.StateSchema(), c.Postgres.Slot)
	d.dead = d.control.DeadLetters(alarm)
	for _, ix := range c.Indices {
		documents := &indexer.Documents{Index: ix}
		d.documents = append(d.documents, documents)
		s.of[documents] = d
	}
	return d
}

// newBulk makes what writes to the cluster.
func (d *destination) newBulk(client *search.Client) (*search.Bulk, error) {
	b := d.config.Search.Bulk
	return search.NewBulk(client, search.BulkOptions{
		Requests: b.Requests, Bytes: b.Bytes, Documents: b.Documents, PoisonAfter: b.PoisonAfter,
		Newer: func(ctx context.Context, op *dbsync.Operation, version int64) error {
			return d.manager.Newer(ctx, op, version)
		},
		Unanswered: func(ops []dbsync.Operation) { d.manager.Unanswered(ops) },
		OnRefused:  d.refused, Observe: d.s.observer.bulkRequest, Alarm: d.alarm, Logger: d.s.o.Logger,
	})
}

// newManager makes what keeps the indices complete. client is nil for a cluster that is connected to later.
func (d *destination) newManager(client *search.Client, rebuild func(index string) bool) {
	s, c := d.s, d.config
	o := reindex.Options{
		Cluster: d.name, Syncer: s.syncer, Client: client, Bulk: d.bulk, DeadLetters: d.dead, Alarm: d.alarm, Control: d.control,
		Verify: c.Verify, Keep: func(documents *indexer.Documents) { s.keep(d, documents) }, Publication: c.Postgres.Publication, Columns: c.Postgres.PublishColumns, Changed: s.recheck,
		Documents: d.documents, Catalog: s.catalog, Logger: s.o.Logger, Rebuild: rebuild,
		Progress: Bars{s.o.Display, d.name}, Applied: d.applied, Room: d.room, RebuildSetBack: s.rebuildsLost(),
	}
	if d.name == "" {
		o.Unstamped = s.found.Control.Unnoted
	} else {
		o.Logger = s.o.Logger.With("cluster", d.name)
		o.Connect = d.connect
	}
	d.manager = reindex.New(o)
}

// connect connects to the cluster of a group, for as long as it takes.
func (d *destination) connect(ctx context.Context) (*search.Client, *search.Bulk, error) {
	client, err := prepare.ConnectCluster(ctx, d.config, d.s.o.Logger, prepare.StartTimeout)
	if err != nil {
		return nil, nil, err
	}
	client = client.Fenced(d.s.syncer.HoldsSlot)
	if d.bulk, err = d.newBulk(client); err != nil {
		client.Close()
		return nil, nil, err
	}
	return client, d.bulk, nil
}

// refused takes what is refused for good, by the cluster or before.
func (d *destination) refused(ctx context.Context, refused []search.Refused) error {
	if d.config.OnError == mapping.OnErrorStop {
		return &dbsync.PermanentError{Err: fmt.Errorf("on_error is stop: %w", refused[0].Err)}
	}
	for _, r := range refused {
		d.s.o.Logger.Warn("the search server refuses a document, it is kept as a dead letter",
			"index", r.Operation.Index, "id", r.Operation.ID, "version", r.Operation.Version.String(), "reason", r.Err)
	}
	err := d.dead.Keep(ctx, refused)
	d.s.census.again()
	return err
}

// begin is called when the slot is ours, before the first message; first has the manager begin. Of a group that
// is [reindex.Manager.Resume]: its cluster is not asked anything, since it may be away.
func (d *destination) begin(ctx context.Context, first func(context.Context) error) error {
	if err := d.control.BeginEpoch(ctx); err != nil {
		return err
	}
	changed, note, err := d.beginCapture(ctx)
	if err != nil {
		return err
	}
	if err := first(ctx); err != nil {
		return err
	}
	if changed != "" {
		if err := d.manager.Unprove(ctx, changed); err != nil {
			return err
		}
		if err := note(ctx); err != nil {
			return err
		}
	}
	if d.capture != nil {
		d.capture.once.Do(func() { close(d.capture.began) })
	}
	return nil
}

// besidePause is after which time is tried again to keep the cluster of a group, after an error that
// repeating does not cure by itself: somebody may have put it right.
const besidePause = 30 * time.Second

// runBeside keeps the cluster of a group until ctx is done, or, with Once, its indices have everything. What is wrong
// there is an alarm of the group and holds nobody else up; but for an error of the control schema, after which another process has
// the slot.
func (d *destination) runBeside(ctx context.Context) error {
	select {
	case <-d.capture.began:
	case <-ctx.Done():
		return nil
	}
	what := "cluster of group " + d.name
	var hold *retry.Hold
	defer func() { hold.Release() }()
	for {
		err := retry.Do(ctx, d.alarm, "begin with the "+what, d.manager.BeginBeside)
		if err == nil {
			hold.Release()
			hold = nil
			break
		}
		if ctx.Err() != nil {
			return nil
		}
		if _, taken := errors.AsType[*control.TakenOverError](err); taken {
			return err
		}
		hold = d.alarm.Keep(hold, what, dbsync.WithoutValues(err))
		if retry.Sleep(ctx, besidePause) != nil {
			return nil
		}
	}
	err := d.serveBeside(ctx)
	if ctx.Err() != nil || err == nil {
		return nil
	}
	if _, taken := errors.AsType[*control.TakenOverError](err); taken {
		return err
	}
	d.s.o.Logger.Error("a cluster is not kept any more, the others are", "group", d.name, "error", err)
	hold = d.alarm.Keep(hold, what, dbsync.WithoutValues(err)+"; operations are produced for it, and nothing else is done there; hint: put it right, and start the instance again")
	<-ctx.Done()
	return nil
}

// serveBeside is what Run and Serve of its manager come to.
func (d *destination) serveBeside(ctx context.Context) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	serve := d.manager.Serve
	if d.s.o.Once {
		serve = d.manager.ServeUntilIdle
	}
	var parts conc.WaitGroup
	parts.Go(func() {
		if err := d.manager.Run(ctx); err != nil {
			stop(err)
		}
	})
	served := serve(ctx)
	if served != nil {
		stop(served)
	}
	parts.Wait()
	if served == nil {
		return nil
	}
	return context.Cause(ctx)
}
