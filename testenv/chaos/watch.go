package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"tidemark/testenv"
)

// A watch looks, all the time, for two things that must never be: a document whose version goes
// back, and a position that is confirmed before what it covers is stored.
//
// For the second it commits markers, rows of a table of its own, and notes the end of the log
// after each commit: once the slot has confirmed that, the marker's document must be there.
type watch struct {
	url     string // of the database
	search  *testenv.SearchServer
	kafka   *backbone // nil: what is confirmed is stored
	journal *journal

	mu        sync.Mutex
	next      int64
	pending   []marker // committed and, as far as is known, not confirmed
	suspended bool     // the slot or an index was taken away: what is confirmed says nothing
	epoch     int      // counts suspensions
	held      int      // no markers are committed meanwhile
	versions  map[sample]int64

	barrier       *barrier // of run alone
	checked, seen int      // markers and versions
}

type marker struct {
	id  int64
	end string // an LSN
}

// A sample is a document in one physical index.
type sample struct{ uuid, id, routing string }

// maxPending bounds the markers that are remembered.
const maxPending = 2000

// watchInterval is how often it looks.
const watchInterval = 200 * time.Millisecond

func newWatch(url string, search *testenv.SearchServer, kafka *backbone, j *journal) *watch {
	return &watch{url: url, search: search, kafka: kafka, journal: j, versions: make(map[sample]int64)}
}

// suspend forgets what it knows, and has nothing count as confirmed until resume.
func (w *watch) suspend() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.suspended, w.pending = true, nil
	w.epoch++
	clear(w.versions)
}

func (w *watch) resume() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.suspended, w.pending = false, nil
	w.epoch++
}

// hold has no markers committed until the returned function is called.
func (w *watch) hold() (release func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.held++
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.held--
	}
}

// mark commits markers until ctx is done.
func (w *watch) mark(ctx context.Context) {
	for pause(ctx, watchInterval) == nil {
		w.mu.Lock()
		idle := w.held > 0
		epoch := w.epoch
		w.mu.Unlock()
		if idle {
			continue
		}
		m, err := w.commit(ctx)
		if err != nil {
			continue // the server is away; whether it was committed then does not matter
		}
		w.mu.Lock()
		if !w.suspended && w.epoch == epoch {
			if w.pending = append(w.pending, m); len(w.pending) > maxPending {
				w.pending = w.pending[1:]
			}
		}
		w.mu.Unlock()
	}
}

// commit commits one marker, and returns it with the end of the log after it.
func (w *watch) commit(ctx context.Context) (m marker, err error) {
	ctx, cancel := context.WithTimeout(ctx, queryLimit)
	defer cancel()
	conn, err := pgx.Connect(ctx, w.url)
	if err != nil {
		return m, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	w.mu.Lock()
	w.next++
	m.id = w.next
	w.mu.Unlock()
	if _, err := conn.Exec(ctx, `INSERT INTO markers VALUES ($1) ON CONFLICT DO NOTHING`, m.id); err != nil {
		return m, err
	}
	err = conn.QueryRow(ctx, `SELECT pg_current_wal_insert_lsn()::text`).Scan(&m.end)
	return m, err
}

// endOfLog returns a position behind everything that is committed, unless one is known, and has an
// idle slot move: it does so every ten seconds, and at once behind a change that is published.
func (w *watch) endOfLog(ctx context.Context, known string) (end string, err error) {
	ctx, cancel := context.WithTimeout(ctx, queryLimit)
	defer cancel()
	conn, err := pgx.Connect(ctx, w.url)
	if err != nil {
		return known, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if known == "" {
		if err := conn.QueryRow(ctx, `SELECT pg_current_wal_insert_lsn()::text`).Scan(&known); err != nil {
			return "", err
		}
	}
	_, err = conn.Exec(ctx, `INSERT INTO markers VALUES (0) ON CONFLICT (id) DO UPDATE SET id = 0`)
	return known, err
}

// run looks until ctx is done or something is wrong.
func (w *watch) run(ctx context.Context) {
	for pause(ctx, watchInterval) == nil {
		// Servers are away now and then: what could not be asked is asked the next time.
		_ = w.checkConfirmed(ctx)
		_ = w.checkVersions(ctx)
	}
}

// A barrier is a position that the slot has confirmed, and what has to be stored before: markers.
type barrier struct {
	position string // an LSN
	ids      []string
	last     int64           // of the markers
	epoch    int             // of the watch
	ends     map[int32]int64 // with Kafka: they are stored once the workers' group has committed these offsets
}

// checkConfirmed looks for the documents of all markers that are confirmed. The slot is read first:
// what it has confirmed by then must have been stored before. Through Kafka that is to say produced, so it
// is looked for when everything is applied that was in the topic then.
func (w *watch) checkConfirmed(ctx context.Context) error {
	if w.barrier == nil {
		b, err := w.findBarrier(ctx)
		if err != nil || b == nil {
			return err
		}
		w.barrier = b
	}
	b := w.barrier
	w.mu.Lock()
	stale := w.epoch != b.epoch
	w.mu.Unlock()
	if stale { // the slot, or what was stored, went away meanwhile
		w.barrier = nil
		return nil
	}
	if w.kafka != nil {
		if left, err := w.kafka.left(ctx, b.ends); err != nil || left > 0 {
			return err
		}
	}
	missing, err := w.missing(ctx, b.ids)
	if err != nil {
		return err
	}
	w.barrier = nil
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.epoch != b.epoch {
		return nil
	}
	w.checked += len(b.ids)
	w.pending = slices.DeleteFunc(w.pending, func(m marker) bool { return m.id <= b.last })
	if len(missing) > 0 {
		w.journal.wrong("%s is confirmed, and %d markers that were committed before are not stored: %v", b.position, len(missing), missing[:min(len(missing), 5)])
	}
	return nil
}

// findBarrier asks how far the slot has confirmed markers, and where the topic ends afterwards; nil: it
// has confirmed none.
func (w *watch) findBarrier(ctx context.Context) (*barrier, error) {
	w.mu.Lock()
	pending, epoch := slices.Clone(w.pending), w.epoch
	w.mu.Unlock()
	if len(pending) == 0 {
		return nil, nil
	}
	limited, cancel := context.WithTimeout(ctx, queryLimit)
	defer cancel()
	conn, err := pgx.Connect(limited, w.url)
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var ends []string
	for _, m := range pending {
		ends = append(ends, m.end)
	}
	b := &barrier{epoch: epoch}
	var confirmed int // markers; they are in order
	err = conn.QueryRow(limited, `SELECT confirmed_flush_lsn::text, (SELECT count(*) FROM unnest($2::pg_lsn[]) AS e WHERE e <= confirmed_flush_lsn) FROM pg_replication_slots WHERE slot_name = $1`, slot, ends).Scan(&b.position, &confirmed)
	if err != nil || confirmed == 0 {
		return nil, err
	}
	for _, m := range pending[:confirmed] {
		b.ids, b.last = append(b.ids, strconv.FormatInt(m.id, 10)), m.id
	}
	if w.kafka != nil {
		b.ends, err = w.kafka.ends(ctx)
	}
	return b, err
}

// missing returns those of the ids of markers without a document.
func (w *watch) missing(ctx context.Context, ids []string) (missing []string, err error) {
	var answer struct {
		Docs []struct {
			ID    string          `json:"_id"`
			Found bool            `json:"found"`
			Error json.RawMessage `json:"error"`
		} `json:"docs"`
	}
	if err := w.ask(ctx, http.MethodPost, "/"+markers+"/_mget?_source=false", map[string]any{"ids": ids}, &answer); err != nil {
		return nil, err
	}
	for _, d := range answer.Docs {
		if d.Error != nil {
			return nil, fmt.Errorf("document %s: %s", d.ID, d.Error)
		}
		if !d.Found {
			missing = append(missing, d.ID)
		}
	}
	return missing, nil
}

// samples are documents of each index: those that change often, and some of the others. Those of
// items may be routed in any way.
func samples(index string) (all []sample) {
	for n := range 25 {
		id := strconv.Itoa(1 + n*40)
		if index != "items" {
			all = append(all, sample{id: id})
			continue
		}
		for routing := range 5 {
			all = append(all, sample{id: id, routing: strconv.Itoa(routing)})
		}
	}
	return all
}

// checkVersions reads the versions of the samples in every physical index, and compares them with
// the highest that were seen. A document may go and come again, but not as an older one.
func (w *watch) checkVersions(ctx context.Context) error {
	w.mu.Lock()
	epoch := w.epoch
	w.mu.Unlock()
	var settings map[string]struct {
		Settings struct {
			Index struct {
				UUID string `json:"uuid"`
			} `json:"index"`
		} `json:"settings"`
	}
	if err := w.ask(ctx, http.MethodGet, "/*/_settings/index.uuid", nil, &settings); err != nil {
		return err
	}
	type wanted struct {
		Index   string `json:"_index"`
		ID      string `json:"_id"`
		Routing string `json:"routing,omitempty"`
		Source  bool   `json:"_source"`
	}
	var docs []wanted
	var of []sample
	for physical, s := range settings {
		for _, ix := range indices {
			if ix.name == markers || !isPhysicalOf(physical, ix.name) {
				continue
			}
			for _, one := range samples(ix.name) {
				docs = append(docs, wanted{Index: physical, ID: one.id, Routing: one.routing})
				one.uuid = s.Settings.Index.UUID
				of = append(of, one)
			}
		}
	}
	if docs == nil {
		return nil
	}
	var answer struct {
		Docs []struct {
			Index   string `json:"_index"`
			Found   bool   `json:"found"`
			Version int64  `json:"_version"`
		} `json:"docs"`
	}
	if err := w.ask(ctx, http.MethodPost, "/_mget", map[string]any{"docs": docs}, &answer); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.epoch != epoch || len(answer.Docs) != len(of) {
		return nil
	}
	for n, d := range answer.Docs {
		if !d.Found {
			continue
		}
		w.seen++
		if known := w.versions[of[n]]; d.Version < known {
			w.journal.wrong("document %s routing %q of %s had version %d and has %d", of[n].id, of[n].routing, d.Index, known, d.Version)
		}
		w.versions[of[n]] = d.Version
	}
	return nil
}

// isPhysicalOf reports whether a physical index is one of an alias: NAME-20260131t120000z.
func isPhysicalOf(physical, alias string) bool {
	return len(physical) > len(alias)+1 && physical[:len(alias)+1] == alias+"-"
}

func (w *watch) ask(ctx context.Context, method, path string, body, to any) error {
	ctx, cancel := context.WithTimeout(ctx, queryLimit)
	defer cancel()
	var content []byte
	if body != nil {
		var err error
		if content, err = json.Marshal(body); err != nil {
			return err
		}
	}
	status, answer, err := w.search.Do(ctx, method, path, content)
	if err != nil {
		return err
	}
	if status != http.StatusOK {
		return fmt.Errorf("%s %s: status %d", method, path, status)
	}
	return json.Unmarshal(answer, to)
}
