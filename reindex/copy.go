package reindex

import (
	"context"
	"errors"
	"runtime"
	"sync"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/sourcegraph/conc/pool"
	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"

	"tidemark/dbsync"
	"tidemark/indexer"
	"tidemark/mapping"
	"tidemark/mapping/catalog"
)

// A chunk was read and handed on to be stored.
type chunk struct {
	window *dbsync.Window
	cursor [][]byte // key of its last row
}

// A span is a part of what is read of a table, from one key to another. It is one chunk, unless its
// rows are larger than was thought, or more of them came.
type span struct {
	rows   *indexer.Pager
	chunks chan *chunk // in the order of the key; closed after the last one
}

// copyRows reads rows chunk by chunk and has them written. The table is cut into spans of its key,
// each of about a chunk, and several are read at a time (see [mapping.Reindex]): while Postgres makes
// the rows of one, those of another wait for their high watermark, or become documents. note is
// called when a chunk is stored, in the order of the key, whichever was read first: everything up to
// its cursor is stored. A crash costs that what was under way after the last note is read and written
// again: two chunks for each reader at most.
func (m *Manager) copyRows(ctx context.Context, rows *indexer.Pager, note func(*chunk) error) error {
	source := rows.Plan.Source
	release, err := m.places.acquire(ctx, source.Table)
	if err != nil {
		return err
	}
	defer release()

	readers := readersOf(&source.Index.Reindex)
	if !rows.Divisible() {
		readers = 1
	}
	c := copier{m: m, rest: rows, limit: indexer.Limiter(source.Index.Reindex.MaxRowsPerSecond)}
	toRead, toNote := make(chan *span), make(chan *span, readers)
	work := pool.New().WithContext(ctx).WithCancelOnError().WithFirstError()
	work.Go(func(ctx context.Context) error {
		defer close(toRead)
		defer close(toNote)
		return c.cut(ctx, toRead, toNote, readers)
	})
	for range readers {
		work.Go(func(ctx context.Context) error {
			for s := range toRead {
				if err := c.read(ctx, s); err != nil {
					return err
				}
			}
			return nil
		})
	}
	work.Go(func(ctx context.Context) error {
		for s := range toNote {
			if err := c.note(ctx, s, note); err != nil {
				return err
			}
		}
		return nil
	})
	err = work.Wait()
	if is[*indexer.UnfitError](err) && m.o.Catalog.HasLeft(source) {
		return nil // what it had is to be removed
	}
	return err
}

// readersOf returns how many chunks of a table are read at a time.
func readersOf(o *mapping.Reindex) int {
	switch {
	case o.MaxRowsPerSecond > 0:
		return 1 // there is time enough
	case o.Readers > 0:
		return o.Readers
	}
	// Two, even where there is one core: the reading waits for Postgres, for watermarks, and for what
	// was read before to be written.
	return min(max(cores, 2), 4)
}

// cores are those that this process may use: when it has little to do it runs on one.
var cores = runtime.GOMAXPROCS(0)

// A copier has the rows of one table read and written.
type copier struct {
	m     *Manager
	limit *rate.Limiter

	mu   sync.Mutex     // for rest
	rest *indexer.Pager // the rows of which no span was made yet; how large chunks are is learnt by it
}

// cut makes spans of the rows, in the order of the key, and hands each to those who read and to the
// one who notes.
func (c *copier) cut(ctx context.Context, toRead, toNote chan<- *span, readers int) error {
	for more := true; more; {
		var boundary [][]byte
		if readers > 1 {
			var err error
			if boundary, err = c.boundary(ctx); err != nil {
				return err
			}
		}
		c.mu.Lock()
		s := &span{rows: c.rest.Cut(boundary), chunks: make(chan *chunk, 1)}
		c.mu.Unlock()
		for _, to := range []chan<- *span{toNote, toRead} {
			select {
			case to <- s:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		more = boundary != nil
	}
	return nil
}

// boundary returns the key up to which the next chunk goes, nil where all that is left is one. It is
// nil, too, where Postgres refuses the statement: a select of rows will tell why, and act on it.
func (c *copier) boundary(ctx context.Context) (key [][]byte, err error) {
	c.mu.Lock()
	query, args := c.rest.Boundary()
	table := c.rest.Plan.Table
	c.mu.Unlock()
	err = c.m.retry(ctx, "look where a chunk of "+table.TableName().String()+" ends", func(ctx context.Context) error {
		err := c.m.o.Syncer.ReadNow(ctx, []string{table.From()}, func(conn *pgconn.PgConn) error {
			result := conn.ExecParams(ctx, query, args, nil, nil, nil).Read()
			if result.Err == nil && len(result.Rows) > 0 {
				key = result.Rows[0]
			}
			return dbsync.AtRows(result.Err)
		})
		if indexer.IsRefusedStatement(err) {
			return nil
		}
		return err
	})
	return key, err
}

// read reads a span. The chunks that wait to be noted hold no rows. After an error the span is not
// closed: what comes behind it must not be noted.
func (c *copier) read(ctx context.Context, s *span) error {
	for more := true; more; {
		w, err := c.m.openWindow(ctx, s.rows)
		if err != nil {
			return err
		}
		if more, err = s.rows.Read(w); err != nil {
			return err
		}
		c.mu.Lock()
		c.rest.Learn(s.rows, w)
		c.mu.Unlock()
		select {
		case s.chunks <- &chunk{window: w, cursor: s.rows.Cursor}:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if err := c.limit.WaitN(ctx, w.Len()); err != nil {
			return err
		}
	}
	close(s.chunks)
	return nil
}

// note notes the chunks of a span as they are stored.
func (c *copier) note(ctx context.Context, s *span, note func(*chunk) error) error {
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case read, more := <-s.chunks:
			if !more {
				return nil
			}
			if err := c.m.o.Syncer.AwaitStored(ctx, read.window); err != nil {
				return err
			}
			if read.window.Len() == 0 {
				continue
			}
			if err := note(read); err != nil {
				return err
			}
		}
	}
}

// openWindow reads the next chunk. A table that was altered meanwhile is read as it is now; a
// row that Postgres can make no document of becomes a dead letter.
func (m *Manager) openWindow(ctx context.Context, rows *indexer.Pager) (*dbsync.Window, error) {
	if m.o.Room != nil {
		if err := m.o.Room(ctx); err != nil {
			return nil, err
		}
	}
	done, err := m.keysInUse.use(ctx, rows.Plan.Source.Table, rows.Key)
	if err != nil {
		return nil, err
	}
	defer done()
	sel, loaded, refusing := rows.Next(), false, false
	for {
		w, err := m.o.Syncer.OpenWindow(ctx, sel)
		_, gone := errors.AsType[*dbsync.NoTableError](err)
		switch {
		case !gone && !indexer.IsRefusedStatement(err):
			return w, err
		case dbsync.IsRowError(err) && rows.Measure():
			sel = rows.Next()
		case !loaded:
			loaded = true
			if rows.Plan, err = m.o.Catalog.Reload(ctx, m.o.Syncer.DB(), rows.Plan); err != nil {
				return nil, err
			}
			sel = rows.Next()
		case dbsync.IsRowError(err) && !refusing:
			if sel, refusing, err = rows.Narrow(ctx, err); err != nil { // what the condition is to blame for comes again
				return nil, err
			}
		default:
			return nil, err
		}
	}
}

// tablePlaces lets one at a time read each table, whatever index it reads for: the rows that
// change meanwhile are remembered by one key for each table.
type tablePlaces struct {
	mu      sync.Mutex
	byTable map[catalog.TableName]*semaphore.Weighted
}

// acquire waits until nobody else reads the table.
func (t *tablePlaces) acquire(ctx context.Context, table catalog.TableName) (release func(), err error) {
	t.mu.Lock()
	if t.byTable == nil {
		t.byTable = make(map[catalog.TableName]*semaphore.Weighted)
	}
	place := t.byTable[table]
	if place == nil {
		place = semaphore.NewWeighted(1)
		t.byTable[table] = place
	}
	t.mu.Unlock()
	return acquire(ctx, place)
}
