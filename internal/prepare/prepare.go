// Package prepare finds out whether a mapping file fits the database and the cluster that
// it names, before anything is made or written there.
//
// [Prepare] is the one way to a start: run goes through it, and check prints what it
// found. Everything that somebody has to fix comes in one go, as [mapping.Problems], each
// with the line of the file, and the SQL or the setting that fixes it. A server that does
// not answer is tried again for half a minute; then it is an [*UnreachableError], an
// [*search.ConnectError] or a [*topic.ConnectError], beside the problems if there are any.
package prepare

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/sourcegraph/conc"

	"tidemark/dbsync"
	"tidemark/indexer/search"
	"tidemark/mapping"
	"tidemark/mapping/catalog"
	"tidemark/mapping/limit"
	"tidemark/reindex/control"
)

// Prepared is what Prepare found: a mapping that fits, and the way to the cluster.
type Prepared struct {
	Tables   catalog.Tables // of all indices
	Client   *search.Client
	Database *dbsync.Inspection // what following the slot begins with; Wrong is empty
	Control  control.Condition  // of the control schema
	Kafka    *Kafka             // nil: operations go to the cluster directly

	// Refused are the indices that may not be worked on, by name, and why: what has their name in the
	// cluster is somebody else's, or would not be kept over a rebuild.
	Refused map[string]error

	db    *sql.DB
	adopt bool
}

// Close lets go of the cluster, of the database and of Kafka.
func (p *Prepared) Close() {
	if p.Kafka != nil {
		p.Kafka.Client.Close()
	}
	if p.Client != nil {
		p.Client.Close()
	}
	if p.db != nil {
		p.db.Close()
	}
}

// StartTimeout is how long a server may not answer at the start: both are often started
// together with Tidemark.
const StartTimeout = 30 * time.Second

// An Option changes what Prepare takes exception to.
type Option func(*Prepared)

// Adopt lets indices and aliases that somebody else made be replaced, see
// [search.Options].
func Adopt() Option { return func(p *Prepared) { p.adopt = true } }

// Prepare connects to the database, to the cluster and, if it names one, to the Kafka of c, and holds c against them.
func Prepare(ctx context.Context, c *mapping.Config, log *slog.Logger, options ...Option) (*Prepared, error) {
	return prepare(ctx, c, log, StartTimeout, options...)
}

func prepare(ctx context.Context, c *mapping.Config, log *slog.Logger, patience time.Duration, options ...Option) (*Prepared, error) {
	p := &Prepared{}
	for _, option := range options {
		option(p)
	}
	var databaseErr, clusterErr, kafkaErr error
	var wg conc.WaitGroup
	wg.Go(func() { databaseErr = p.database(ctx, c, log, patience) })
	wg.Go(func() { clusterErr = p.cluster(ctx, c, log, patience) })
	wg.Go(func() { kafkaErr = p.kafka(ctx, c, log, patience) })
	wg.Wait()
	if p.Client != nil && p.Tables != nil {
		clusterErr = Join(clusterErr, p.definitions(ctx, c, log, patience))
	}
	err := Join(databaseErr, clusterErr, kafkaErr)
	if err == nil {
		err = p.checkNewest(ctx, c)
	}
	if err == nil {
		err = p.claim(ctx, c, patience)
	}
	if err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

// Refusal returns why nothing may be begun: one error for each of Refused, nil if there are none.
func (p *Prepared) Refusal() error {
	var all []error
	for _, name := range slices.Sorted(maps.Keys(p.Refused)) {
		all = append(all, fmt.Errorf("index %s: %w", name, p.Refused[name]))
	}
	return errors.Join(all...)
}

// Join puts the problems of all errors together, in the order of the file, before what
// else went wrong.
func Join(errs ...error) error {
	var problems mapping.Problems
	var others []error
	for _, err := range errs {
		if ps, ok := errors.AsType[mapping.Problems](err); ok {
			problems = append(problems, ps...)
		} else if err != nil {
			others = append(others, err)
		}
	}
	problems.Sort()
	switch {
	case len(problems) == 0:
		return errors.Join(others...)
	case len(others) == 0:
		return problems
	}
	return errors.Join(append([]error{problems}, others...)...)
}

// SyncerOptions are the options by which c follows its slot. tables are those that exist
// of the tables that c names.
func SyncerOptions(c *mapping.Config, tables catalog.Tables, log *slog.Logger) []dbsync.SyncerOpt {
	options := []dbsync.SyncerOpt{
		dbsync.WithPGConnStr(c.Postgres.ConnString()),
		dbsync.WithReplicationSlot(c.Postgres.Slot),
		dbsync.WithPublication(c.Postgres.Publication),
		dbsync.WithCtrlNamespace(c.Postgres.ControlSchema),
		dbsync.ForTables(c.Postgres.PublishColumns.Published(c.Indices, tables)...),
		dbsync.WithMaxRowBytes(limit.RowBytes(c.Search.MaxDocumentBytes)),
		dbsync.WithLogger(log),
	}
	if c.Postgres.EventTriggers {
		options = append(options, dbsync.WithEventTriggers())
	}
	if !c.Postgres.ReplicationURL.IsZero() {
		options = append(options, dbsync.WithReplicationConnStr(c.Postgres.SlotConnString()))
	}
	if !c.Postgres.Failover {
		options = append(options, dbsync.WithoutFailover())
	}
	if c.OnSlotLost == mapping.OnSlotLostReindex {
		options = append(options, dbsync.WithNewSlot())
	}
	return options
}
