package reindex

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"tidemark/dbsync"
	"tidemark/indexer/retry"
	"tidemark/mapping"
	"tidemark/mapping/catalog"
)

// lookInterval is how often the catalog is looked at.
//
// The stream has what is done to rows, and describes a table before the next change of one. It has
// nothing of what a migration does besides: a column that is rewritten, a name that is given to
// another table, an enum's value that is renamed, a table that is taken out of the publication,
// partitions that are attached, detached, dropped or truncated by themselves
// (https://www.postgresql.org/docs/current/sql-createpublication.html). So the catalog is asked.
const lookInterval = 10 * time.Second

// maxLookFailures bounds how much longer than the interval is waited after an error: twice as
// long each time, some ten minutes at most.
const maxLookFailures = 6

// A watch is what is known of the looks at the catalog. It belongs to the goroutine of watch.
type watch struct {
	names  []catalog.TableName
	digest *catalog.Digest
	seen   string      // the digest when everything was found to be as noted, or taken up; "" before
	lacks  *retry.Hold // of the alarm that the publication lacks what only somebody else can put right

	// partitions says that an index may not be as the partitions of its tables are: the catalog has
	// changed, an index is another one, or was not to be looked at the last time.
	partitions bool
}

// watch looks at the catalog again and again, and has the indices be as it has changed, until ctx
// is done. It looks at once when it is woken: the stream has described a table, somebody has
// announced a change, an index is complete.
func (m *Manager) watch(ctx context.Context) error {
	w := &watch{names: append(m.tables(), watermarks(m.o.Syncer)), partitions: true}
	interval := cmp.Or(m.o.Interval, lookInterval)
	var alarm *retry.Hold
	for failures := 0; ; {
		pause, wake := interval, m.lookWake
		again, err := m.look(ctx, w)
		_, lost := errors.AsType[*dbsync.SlotLostError](err)
		_, setBack := errors.AsType[*dbsync.SetBackError](err)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case lost, setBack:
			return err // changes of all tables are missing from here on
		case err != nil:
			// What is noted is as it was, so it comes again.
			m.o.Logger.Warn("the indices are not as the catalog is yet, trying again", "error", err)
			if failures = min(failures+1, maxLookFailures); failures >= retry.Patience {
				alarm = m.o.Alarm.Keep(alarm, "look at the catalog", dbsync.WithoutValues(err))
			}
			pause, wake = interval<<failures, nil // a request of the next attempt wakes, too, and is no reason for another one
		default:
			failures = 0
			alarm.Release()
			alarm = nil
			if again {
				pause = 0 // something may have happened meanwhile
			}
		}
		select {
		case <-time.After(pause):
		case <-wake:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// watermarks is the watermark table, which may be taken out of the publication like any other.
func watermarks(s *dbsync.Syncer) catalog.TableName {
	schema, name := s.WatermarkTable()
	return catalog.TableName{Schema: schema, Name: name}
}

// look looks whether the catalog has changed, and if it has takes up what it is now. Workers are
// left word to have the indices be so. again says that something was done, so that it is time
// for another look.
func (m *Manager) look(ctx context.Context, w *watch) (again bool, err error) {
	if w.digest == nil {
		w.digest = catalog.NewDigest(w.names, m.o.Catalog.Tables(), m.o.Publication)
	}
	now, err := w.digest.Read(ctx, m.o.Syncer.DB())
	if err != nil {
		return false, err
	}
	if m.altered.Swap(false) {
		w.seen = ""
	}
	fresh, changed := now != w.seen, false
	if fresh {
		if err := m.load(ctx); err != nil {
			return false, err
		}
	}
	if fresh || w.lacks != nil || m.o.Syncer.ColumnsPending() {
		changed, err = m.publish(ctx)
		if err := m.lackOf(w, err); err != nil {
			return false, err
		}
	}
	if fresh {
		// What was loaded is as new as the digest at least. A type that came is watched from now
		// on; what happened to it meanwhile shows at the next look.
		w.seen = now
		if next := catalog.NewDigest(w.names, m.o.Catalog.Tables(), m.o.Publication); !next.Equal(w.digest) {
			w.digest, w.seen = next, ""
		}
	}
	if changed {
		w.seen = "" // whoever undoes what was just done to the publication makes the digest what it was
	}
	again = fresh || changed
	if again {
		for _, x := range m.indices {
			x.hurry()
			x.setAltered()
		}
	}
	at := time.Now()
	for _, x := range m.indices {
		if x.isDue(at) {
			x.setAltered()
		}
	}
	if again || w.partitions {
		changed, unchanged, err := m.lookAtPartitions(ctx)
		if w.partitions = err != nil || !unchanged; !w.partitions {
			m.looked.Store(true)
		}
		m.serveWake.raise()
		return again || changed, err
	}
	m.serveWake.raise()
	return false, nil
}

// publish has the publication hold the tables that there are, with the columns that documents are made
// of by the file. Those in use that are still made by the mapping before are read again where they
// need more. changed reports whether tables came into it, left it, or got other columns there;
// indices whose changes were missing for a while have another generation then.
// The error is that of [dbsync.Syncer.Publish].
func (m *Manager) publish(ctx context.Context) (changed bool, err error) {
	present := m.o.Catalog.Present()
	indices := make([]*mapping.Index, len(m.indices))
	for i, x := range m.indices {
		indices[i] = x.Index
	}
	tables := m.o.Columns.Published(indices, present)
	if len(tables) == 0 {
		return false, nil // all indices are held
	}
	if changed, err = m.o.Syncer.Publish(ctx, tables...); err != nil {
		return false, err
	}
	if changed {
		m.o.Logger.Info("tables came into the publication, left it, or have other columns in it", "publication", m.o.Publication)
		if err := m.load(ctx); err != nil { // how the publication has them is part of what tables are
			return true, err
		}
	}
	return changed, unpublishable(present)
}

// unpublishable returns a [*dbsync.SetupError] that names children of tables which are left out of
// the publication, nil if there are none: Postgres would refuse the application's updates.
func unpublishable(tables catalog.Tables) error {
	children := tables.Unpublishable()
	if len(children) == 0 {
		return nil
	}
	const most = 20
	var names, statements []string
	for i, c := range children {
		names = append(names, c.TableName.String())
		statement := fmt.Sprintf("ALTER TABLE %s REPLICA IDENTITY FULL;", c.SQL())
		if !c.Logged {
			statement = fmt.Sprintf("ALTER TABLE %s SET LOGGED;", c.SQL())
		}
		if statements = append(statements, statement); i == most-1 {
			break
		}
	}
	if n := len(children) - len(names); n > 0 {
		names, statements = append(names, fmt.Sprintf("%d more", n)), append(statements, fmt.Sprintf("and so for %d more", n))
	}
	return &dbsync.SetupError{Text: "changes of rows are not followed in tables that inherit from others, since they are not logged, or without a replica identity: " + strings.Join(names, ", "),
		Hint: strings.Join(statements, "\n")}
}

// lackOf has an alarm stand as long as the publication lacks what only somebody else can put right;
// that is no error, and looked for at each look. Any other error is returned.
func (m *Manager) lackOf(w *watch, err error) error {
	if wrong, ok := errors.AsType[*dbsync.SetupError](err); ok {
		w.lacks = m.o.Alarm.Keep(w.lacks, "publication "+m.o.Publication, wrong.Error())
		return nil
	}
	if err == nil {
		w.lacks.Release()
		w.lacks = nil
	}
	return err
}

// load reads what the tables are now, all in one snapshot, and takes it up.
func (m *Manager) load(ctx context.Context) error {
	before := m.o.Catalog.Present()
	now, err := m.o.Catalog.Load(ctx, m.o.Syncer.DB(), m.tables())
	if err != nil {
		return err
	}
	for _, x := range m.indices {
		now.Follow(x.WithChildren())
	}
	differs := false
	for name, t := range now {
		was := before[name]
		switch {
		case t == nil && was == nil:
			continue
		case t == nil || was == nil:
		default:
			if t.Same(was) {
				continue
			}
			var said []string
			for _, d := range t.Differences(was) {
				said = append(said, d.String())
			}
			if len(said) == 0 {
				said = []string{"other tables inherit from it"}
			}
			m.o.Logger.Info("a table was altered", "table", name.String(), "differences", list(said))
		}
		differs = true
	}
	if !differs && m.hasBegun() {
		return nil
	}
	m.o.Catalog.SetAll(now)
	if m.hasBegun() {
		m.stray()
	}
	if differs && m.o.Changed != nil {
		m.o.Changed(m.o.Catalog.Present())
	}
	return nil
}

// tables are the names of all tables that documents are made of, each once.
func (m *Manager) tables() (names []catalog.TableName) {
	for _, x := range m.indices {
		for _, name := range x.Tables() {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names
}

// Altered takes up that the stream has described a table that is not what it was before. All is
// looked at, and not that table alone: before an index is made anew the publication has to have
// what its tables are now, or it would be made anew again for that. It does not wait.
func (m *Manager) Altered() {
	m.stray()
	m.altered.Store(true)
	m.lookWake.raise()
}

// stray leaves word at the indices whose documents are other ones from here on, as the tables are
// now. If these are altered back before the index is made so, nothing else would tell.
func (m *Manager) stray() {
	tables := m.o.Catalog.Present()
	for _, x := range m.indices {
		st := x.state()
		newest := st.Newest()
		if newest.Physical != "" && !x.Matches(newest.Fingerprint, tables) {
			x.setStrayed(true)
		}
	}
}

// Look has the catalog looked at now: somebody has announced a change. It does not wait.
func (m *Manager) Look() { m.lookWake.raise() }

// lookAtPartitions has the indices be as the partitions of their tables are. changed says that one
// was not, unchanged that all were and are.
func (m *Manager) lookAtPartitions(ctx context.Context) (changed, unchanged bool, failed error) {
	unchanged = true
	for _, x := range m.indices {
		outcome, err := m.applyPartitions(ctx, x)
		if err != nil && ctx.Err() == nil {
			failed = fmt.Errorf("index %s: %w", x.Name, err)
		}
		changed = changed || outcome == partitionsApplied
		unchanged = unchanged && outcome == partitionsUnchanged
	}
	return changed, unchanged, failed
}
