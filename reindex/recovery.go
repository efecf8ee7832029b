package reindex

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"tidemark/dbsync"
	"tidemark/indexer/retry"
	"tidemark/indexer/search"
	"tidemark/reindex/control"
)

// What a search server has answered it may lose, and it forgets which documents were deleted when it
// is started again or a shard is moved, see [control.Recovery.Doubt]. How each shard came to be where
// it is, it tells; that is looked at again and again, and noted, so that what happens while no process
// runs counts, too.

// recoveryInterval is how often the shards are looked at.
const recoveryInterval = 30 * time.Second

// blindPause is the least time between two comparisons of an index whose shards cannot be looked at,
// for each request without an answer.
const blindPause = time.Hour

// recoveries is what is known of the shards of all indices. All but unanswered belongs to Begin, and
// then to the goroutine of watchRecoveries.
type recoveries struct {
	noted   map[string]*control.Recovery // by physical index
	compare map[string]time.Time         // when an index was unproven last since its shards cannot be looked at, by name
	blind   map[string]bool              // whose shards cannot be looked at, by name

	mu         sync.Mutex
	unanswered map[string]time.Time // when a request had no answer, by write alias; not noted yet
}

func newRecoveries() *recoveries {
	return &recoveries{noted: make(map[string]*control.Recovery), compare: make(map[string]time.Time), blind: make(map[string]bool), unanswered: make(map[string]time.Time)}
}

// Unanswered takes up that it is not known what became of a request with these operations. It does
// not wait.
func (m *Manager) Unanswered(ops []dbsync.Operation) {
	m.recoveries.mu.Lock()
	defer m.recoveries.mu.Unlock()
	now := time.Now()
	for i := range ops {
		if i == 0 || ops[i].Index != ops[i-1].Index {
			m.recoveries.unanswered[ops[i].Index] = now
		}
	}
	m.recoveryWake.raise()
}

// takeUnanswered returns when a request to a write alias had no answer since it was called last, zero
// if all had one.
func (r *recoveries) takeUnanswered(alias string) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	at := r.unanswered[alias]
	delete(r.unanswered, alias)
	return at
}

// putUnanswered gives back what takeUnanswered took.
func (r *recoveries) putUnanswered(alias string, at time.Time) {
	if at.IsZero() {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if at.After(r.unanswered[alias]) {
		r.unanswered[alias] = at
	}
}

// watchRecoveries looks at the shards again and again until ctx is done.
func (m *Manager) watchRecoveries(ctx context.Context) error {
	var alarm *retry.Hold
	defer func() { alarm.Release() }()
	interval := cmp.Or(m.o.Interval, recoveryInterval)
	for failures := 0; ; {
		wake := m.recoveryWake
		if failures > 0 {
			wake = nil // what is unanswered now is looked at with the rest
		}
		select {
		case <-time.After(interval << min(failures, maxLookFailures)):
		case <-wake:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		err := m.lookAtRecoveries(ctx)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			m.o.Logger.Warn("it is not known whether a shard was recovered, trying again", "error", err)
			if failures++; failures >= retry.Patience {
				alarm = m.o.Alarm.Keep(alarm, "look at the shards of indices", dbsync.WithoutValues(err))
			}
		default:
			failures = 0
			alarm.Release()
			alarm = nil
		}
	}
}

// lookAtRecoveries looks at the shards of all physical indices once.
func (m *Manager) lookAtRecoveries(ctx context.Context) error {
	var failed error
	for _, x := range m.indices {
		st := x.state()
		current := []string{} // NULL would keep all
		for _, physical := range []string{st.Live.Physical, st.Building.Physical} {
			if physical == "" {
				continue
			}
			current = append(current, physical)
			failed = errors.Join(failed, m.lookAtShards(ctx, x, physical))
		}
		isOld := func(physical string, r *control.Recovery) bool {
			return r.Index == x.Name && !slices.Contains(current, physical)
		}
		old := !m.hasBegun()
		for physical, r := range m.recoveries.noted {
			old = old || isOld(physical, r)
		}
		if !old {
			continue
		}
		if err := m.o.Control.Recoveries().Keep(ctx, x.Name, current); err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		maps.DeleteFunc(m.recoveries.noted, isOld)
	}
	return failed
}

// lookAtShards looks at the shards of a physical index. An index that may have lost something is
// unproven before what was seen is noted: a crash in between costs that it is so twice.
func (m *Manager) lookAtShards(ctx context.Context, x *index, physical string) (err error) {
	alias := search.WriteAlias(x.Name, physical)
	unanswered := m.recoveries.takeUnanswered(alias)
	defer func() {
		if err != nil {
			m.recoveries.putUnanswered(alias, unanswered)
		}
	}()
	noted, changed := m.recoveries.noted[physical], false
	if noted == nil {
		if noted, err = m.o.Control.Recoveries().Read(ctx, x.Name, physical); err != nil {
			return err
		}
		if noted.Open { // the process before may have left a request without an answer when it was killed
			noted.UnansweredAt = time.Now()
		}
		noted.Open, changed = true, true
	}
	next := *noted
	next.Shards = maps.Clone(noted.Shards)
	if unanswered.After(next.UnansweredAt) {
		next.UnansweredAt, changed = unanswered, true
	}
	why, altered, err := m.judgeShards(ctx, x, &next)
	if err != nil {
		return err
	}
	if why != "" {
		if err := m.unprove(ctx, x, why); err != nil {
			return err
		}
		next.UnansweredAt = time.Time{} // the comparison answers it
	}
	next.NotedAt = time.Now()
	if changed || altered || why != "" {
		if err := m.o.Control.Recoveries().Note(ctx, &next); err != nil {
			return err
		}
	}
	m.recoveries.noted[physical] = &next
	return nil
}

// judgeShards asks the cluster for the shards of a physical index, takes up how they are, and returns
// why the index may differ from its tables; "" if nothing speaks for it.
func (m *Manager) judgeShards(ctx context.Context, x *index, r *control.Recovery) (why string, changed bool, err error) {
	durability, err := m.o.Client.Durability(ctx, r.Physical)
	blind := isForbidden(err)
	switch {
	case isGone(err):
		return "", false, nil // others see to that
	case err != nil && !blind:
		return "", false, err
	}
	async := blind || durability == search.DurableAsync
	now, err := m.o.Client.Recoveries(ctx, r.Physical)
	switch {
	case isGone(err):
		return "", false, nil
	case isForbidden(err):
		return m.judgeBlindly(x, r, async), r.Take(nil, async), nil
	case err != nil:
		return "", false, err
	}
	if async && !r.Async {
		m.o.Logger.Warn("an index has translog.durability async: what the search server has answered may be gone when it is started again, and the index is compared with its tables then", "index", x.Name, "physical", r.Physical)
	}
	why = r.Doubt(now, async)
	return why, r.Take(now, async), nil
}

// judgeBlindly is judgeShards where the cluster does not say how shards were recovered: they may have
// been at any time. So an index with durability async is compared at each start, and any after a
// request that had no answer, but not more often than blindPause.
func (m *Manager) judgeBlindly(x *index, r *control.Recovery, async bool) (why string) {
	if !m.recoveries.blind[x.Name] {
		m.recoveries.blind[x.Name] = true
		m.o.Logger.Warn("the cluster does not say when shards were recovered, so the index is compared with its tables more often", "index", x.Name)
	}
	last := m.recoveries.compare[x.Name]
	switch {
	case last.IsZero() && async:
		why = "it has translog.durability async, and the cluster does not say whether a shard was started again"
	case !r.UnansweredAt.IsZero() && time.Since(last) >= blindPause:
		why = "a bulk request had no answer, and the cluster does not say whether a shard was started again since"
	default:
		return ""
	}
	m.recoveries.compare[x.Name] = time.Now()
	return why
}

// isForbidden reports whether the cluster does not let this user ask, or knows no such question.
func isForbidden(err error) bool {
	server, ok := errors.AsType[*search.ServerError](err)
	return ok && server.Permanent() && !isGone(err)
}

// isGone reports whether there is no such index.
func isGone(err error) bool {
	server, ok := errors.AsType[*search.ServerError](err)
	return ok && server.Status == http.StatusNotFound && server.Type == "index_not_found_exception"
}

// End notes that this process has ended in order: no request of it is left that has no answer and is
// not noted. Whoever sends requests has ended.
func (m *Manager) End(ctx context.Context) error {
	if !m.hasBegun() {
		return nil
	}
	for _, r := range m.recoveries.noted {
		if at := m.recoveries.takeUnanswered(search.WriteAlias(r.Index, r.Physical)); at.After(r.UnansweredAt) {
			r.UnansweredAt = at
		}
		r.Open = false
		if err := m.o.Control.Recoveries().Note(ctx, r); err != nil {
			return err
		}
	}
	return nil
}
