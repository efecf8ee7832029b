package reindex

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"tidemark/dbsync"
	"tidemark/indexer/retry"
	"tidemark/indexer/search"
	"tidemark/reindex/control"
)

// markInterval is how often the mark of an index is renewed while changes are written: what a
// snapshot of the cluster, or of the database, may lack without that being noticed. An index that
// was restored is another one besides, and that shows whenever it was.
const markInterval = time.Minute

// setBack returns the error that says that a physical index has a mark which the control schema never
// noted: the database was set back to an earlier state, or this one is a copy of it that goes on beside it.
func (m *Manager) setBack(index, physical string) error {
	return &dbsync.SetBackError{Slot: m.o.Control.Slot(), Reason: fmt.Sprintf("%s of index %s has a mark that the control schema, which names it, never noted; or this is a copy of the database that keeps it", physical, index)}
}

// joinSides compares the marks of all indices at the start, has those built anew that were set back,
// and renews the marks of the others. Where the database was set back that is every index, if it may
// be so at all.
func (m *Manager) joinSides(ctx context.Context, all map[*index]*claimed) error {
	m.marking.Lock()
	defer m.marking.Unlock()
	var back error
	for _, x := range m.indices {
		c := all[x]
		x.setMarkings(c.claim.Markings)
		for _, v := range versions(c.noted) {
			i := c.standing.Get(v.Physical)
			if i == nil {
				continue // what NeedOf finds
			}
			k := c.claim.Markings[v.Physical]
			switch k.Drift(i) {
			case control.SchemaBack:
				back = cmp.Or(back, m.setBack(x.Name, v.Physical))
			case control.IndexBack:
				if err := m.spoil(ctx, x, v.Physical); err != nil {
					return err
				}
				v.Generation = ""
			case control.Unmarked:
				c.unproven = "its mark was taken away: somebody has replaced its _meta"
			}
		}
	}
	if back != nil {
		if !m.o.RebuildSetBack {
			return back
		}
		m.o.Logger.Warn("the database was set back, every index is filled again", "reason", back)
	}
	for _, x := range m.indices {
		c := all[x]
		if back != nil && c.noted != nil {
			if err := m.o.Control.States().Miss(ctx, x.Name); err != nil {
				return err
			}
			c.noted.Live.Generation, c.noted.Building.Generation = "", ""
		}
		if err := m.stamp(ctx, x, c); err != nil {
			return err
		}
	}
	return nil
}

// stamp renews the marks of an index's physical indices. Those of an earlier version get their first
// one, also those that it has noted nowhere.
func (m *Manager) stamp(ctx context.Context, x *index, c *claimed) error {
	noted := make(map[string]bool)
	for _, v := range versions(c.noted) {
		i := c.standing.Get(v.Physical)
		if i == nil {
			continue
		}
		noted[v.Physical] = true
		k := c.claim.Markings[v.Physical]
		if k.Physical == "" { // the row of it is gone
			added, err := m.o.Control.Markings().Add(ctx, x.Name, v.Physical)
			if err != nil {
				return err
			}
			x.setMarking(added)
		}
		fingerprint, position := m.stampOf(c.noted, v.Physical)
		if err := m.renewOrAlarm(ctx, x, i, fingerprint, position); err != nil {
			return err
		}
	}
	for _, i := range c.standing.Physical() {
		if i.Stamp == nil && c.claim.Unstamped && !noted[i.Name] {
			if err := m.o.Client.PutStamp(ctx, i.Name, search.Stamp{Owner: m.owner}); err != nil {
				return err
			}
		}
	}
	return nil
}

// stampOf returns what the stamp of a physical index of st says of its documents: what they are made
// of, and up to where it is complete, "" for the one that is being filled.
func (m *Manager) stampOf(st *control.State, physical string) (fingerprint, position string) {
	if physical != st.Live.Physical {
		return st.Building.Fingerprint, ""
	}
	return st.Live.Fingerprint, m.o.Syncer.Position().String()
}

// renew gives a physical index another mark. i is what it is in the cluster now. m.marking is held.
// A crash between two steps leaves an index with a mark that is noted.
func (m *Manager) renew(ctx context.Context, x *index, i *search.IndexInfo, fingerprint, position string) error {
	was := x.markings()[i.Name]
	note := func(now control.Marking) error {
		if err := m.o.Control.Markings().Note(ctx, x.Name, was, now); err != nil {
			return err
		}
		now.At = time.Now()
		x.setMarking(now)
		was = now
		return nil
	}
	begun, mark := was.Renewed(i)
	if begun.Mark != was.Mark { // an earlier renewal came as far as the index
		ended := begun
		ended.Next = ""
		if err := note(ended); err != nil {
			return err
		}
	}
	if err := note(begun); err != nil {
		return err
	}
	if err := m.o.Client.PutStamp(ctx, i.Name, search.Stamp{Owner: m.owner, Fingerprint: fingerprint, Position: position, Mark: mark}); err != nil {
		return err
	}
	done := begun
	done.Mark, done.Next, done.Incarnation = mark, "", i.Incarnation
	return note(done)
}

// renewOrAlarm is renew where an index that the cluster does not let be changed, as it is read-only, is
// no error: it has the mark before, which is noted, and an alarm stands until it can be renewed.
func (m *Manager) renewOrAlarm(ctx context.Context, x *index, i *search.IndexInfo, fingerprint, position string) error {
	err := m.renew(ctx, x, i, fingerprint, position)
	server, refused := errors.AsType[*search.ServerError](err)
	if err != nil && !(refused && server.Permanent()) {
		return err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if err == nil {
		x.unrenewed.Release()
		x.unrenewed = nil
		return nil
	}
	x.unrenewed = m.o.Alarm.Keep(x.unrenewed, "mark of index "+x.Name, search.Held(i.Name, err).Error())
	return nil
}

// isUnrenewed reports whether a mark could not be renewed.
func (x *index) isUnrenewed() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.unrenewed != nil
}

// spoil notes that a physical index was set back, so that it misses changes.
func (m *Manager) spoil(ctx context.Context, x *index, physical string) error {
	if err := m.o.Control.States().Spoil(ctx, x.Name, physical); err != nil {
		return err
	}
	m.o.Logger.Warn("a physical index is not the one that it was: it was restored from a snapshot, or made again; another one is built", "index", x.Name, "physical", physical)
	x.spoil(physical)
	return nil
}

// guard looks again and again whether the physical indices, and what the aliases stand for, are still
// what this process has left there, and renews marks.
func (m *Manager) guard(ctx context.Context) error {
	interval := cmp.Or(m.o.Interval, lookInterval)
	changed := make(map[*index]int64)       // of documents, when the mark was renewed last
	aliases := make(map[string]*retry.Hold) // alarms, by index
	for {
		select {
		case <-time.After(interval):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		err := m.guardOnce(ctx, changed, aliases)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case is[*control.TakenOverError](err), is[*dbsync.SetBackError](err):
			return err
		case err != nil: // what holds for longer stops writing, which has an alarm of its own
			m.o.Logger.Warn("the physical indices could not be looked at, trying again", "error", err)
		}
	}
}

func (m *Manager) guardOnce(ctx context.Context, changed map[*index]int64, aliases map[string]*retry.Hold) error {
	found, err := m.lookAtMarks(ctx)
	if err != nil {
		return err
	}
	for _, x := range m.indices {
		st := x.state()
		i := found[st.Live.Physical]
		if i == nil || st.Live.Generation == "" {
			continue // writing to one that is gone raises an alarm
		}
		if err := m.guardAlias(ctx, x, i, aliases); err != nil {
			return err
		}
		if now := x.documents.Changed(); now != changed[x] && time.Since(x.markings()[i.Name].At) >= markInterval || x.isUnrenewed() {
			if err := m.renewLive(ctx, x, i); err != nil {
				return err
			}
			changed[x] = now
		}
	}
	return nil
}

// renewLive renews the mark of the index in use.
func (m *Manager) renewLive(ctx context.Context, x *index, i *search.IndexInfo) error {
	m.marking.Lock()
	defer m.marking.Unlock()
	st := x.state()
	if st.Live.Physical != i.Name {
		return nil // it was replaced meanwhile
	}
	fingerprint, position := m.stampOf(&st, i.Name)
	return m.renewOrAlarm(ctx, x, i, fingerprint, position)
}

// guardAlias puts an alias back that is gone, and has an alarm stand while it is another index's.
func (m *Manager) guardAlias(ctx context.Context, x *index, i *search.IndexInfo, alarms map[string]*retry.Hold) error {
	st := x.state()
	if st.Live.Physical != i.Name || st.Building.Physical != "" {
		return nil // the alias moves when that is complete, or it is refused then
	}
	err := m.checkAlias(ctx, &st)
	if now := x.state(); now.Live.Physical != st.Live.Physical || now.Building.Physical != "" {
		return nil
	}
	if err != nil && !isAliasElsewhere(err) {
		return err
	}
	if err != nil {
		alarms[x.Name] = m.o.Alarm.Keep(alarms[x.Name], "alias "+x.Name, err.Error())
		return nil
	}
	alarms[x.Name].Release()
	delete(alarms, x.Name)
	return nil
}

// lookAtMarks compares the physical indices with what this process has noted of them. It returns
// what the cluster has of them, by name.
func (m *Manager) lookAtMarks(ctx context.Context) (map[string]*search.IndexInfo, error) {
	m.marking.Lock()
	defer m.marking.Unlock()
	of := make(map[string]*index)
	var names []string
	for _, x := range m.indices {
		st := x.state()
		for _, v := range versions(&st) {
			if _, marked := x.markings()[v.Physical]; marked && !x.isSpoiled(v.Physical) { // not while it is being made
				names, of[v.Physical] = append(names, v.Physical), x
			}
		}
	}
	if len(names) == 0 {
		return nil, nil
	}
	found, err := m.o.Client.GetIndices(ctx, names...)
	if err != nil {
		return nil, err
	}
	for physical, i := range found {
		if err := m.judgeMark(ctx, of[physical], i); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// judgeMark does what follows from the mark of one index. m.marking is held.
func (m *Manager) judgeMark(ctx context.Context, x *index, i *search.IndexInfo) error {
	k := x.markings()[i.Name]
	switch k.Drift(i) {
	case control.Together:
		return nil
	case control.Unmarked:
		st := x.state()
		fingerprint, position := m.stampOf(&st, i.Name)
		if err := m.renewOrAlarm(ctx, x, i, fingerprint, position); err != nil {
			return err
		}
		if st.Live.Physical != i.Name {
			return nil
		}
		return m.unprove(ctx, x, "its mark was taken away: somebody has replaced its _meta")
	}
	noted, err := m.o.Control.Markings().Read(ctx, x.Name)
	if err != nil {
		return err
	}
	if n, ok := noted[i.Name]; !ok || n.Mark != k.Mark || n.Next != k.Next {
		return &control.TakenOverError{Index: x.Name, Building: i.Name}
	}
	if k.Drift(i) == control.SchemaBack && !m.o.RebuildSetBack {
		return m.setBack(x.Name, i.Name)
	}
	if err := m.spoil(ctx, x, i.Name); err != nil {
		return err
	}
	x.setAltered()
	m.serveWake.raise()
	return nil
}

// rejoin makes sure, when the slot is ours again, that both sides are as this process has left
// them, and renews the marks.
func (m *Manager) rejoin(ctx context.Context) error {
	for _, x := range m.indices {
		noted, err := m.o.Control.Markings().Read(ctx, x.Name)
		if err != nil {
			return err
		}
		st := x.state()
		for physical, k := range x.markings() {
			n := noted[physical]
			if physical != st.Live.Physical && physical != st.Building.Physical || n.Mark == k.Mark && n.Next == k.Next {
				continue
			}
			if n.Mark.Number >= k.Mark.Number {
				return &control.TakenOverError{Index: x.Name, Building: physical}
			}
			return m.setBack(x.Name, physical) // the next start begins with what there is
		}
	}
	found, err := m.lookAtMarks(ctx)
	if err != nil {
		return err
	}
	for _, x := range m.indices {
		if i := found[x.state().Live.Physical]; i != nil && !x.isSpoiled(i.Name) {
			if err := m.renewLive(ctx, x, i); err != nil {
				return err
			}
		}
	}
	return nil
}

// What is below keeps the marks of an index in memory.

func (x *index) markings() map[string]control.Marking {
	x.mu.Lock()
	defer x.mu.Unlock()
	return maps.Clone(x.marks)
}

func (x *index) setMarkings(all map[string]control.Marking) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.marks = maps.Clone(all)
}

func (x *index) setMarking(k control.Marking) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.marks == nil {
		x.marks = make(map[string]control.Marking)
	}
	x.marks[k.Physical] = k
}

func (x *index) forgetMarking(physical string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.marks, physical)
	delete(x.spoiled, physical)
}

// spoil has a physical index be one that misses changes, whatever a worker has in hand of it.
func (x *index) spoil(physical string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.spoiled == nil {
		x.spoiled = make(map[string]bool)
	}
	x.spoiled[physical] = true
}

func (x *index) isSpoiled(physical string) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.spoiled[physical]
}
