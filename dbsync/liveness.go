package dbsync

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// A connection whose other end is gone without a word looks like one whose statement takes its
// time. TCP itself finds out where no machine answers any more, see dialer. A firewall, a proxy or
// a load balancer that answers in the server's stead, and a server that hangs, are found out by
// asking the server over another connection: is the process that is to answer still at work?
//
// A statement that Postgres works on, or that waits for a lock there, is left alone however long
// it takes. The replication stream, on which the server is asked for an answer every 10 s, finds out
// by itself.

// patienceWith says how long a connection may be silent.
type patienceWith struct {
	silence time.Duration // before the server is asked
	pause   time.Duration // between two questions; twice as long after each one that found it at work
	most    time.Duration // of these pauses
	answer  time.Duration // bounds a question
}

// silent is how long a connection of the pool may be silent: it ends 20 s after its process has
// gone or waits for us, and within a minute where the server gives no answer to anybody.
var silent = patienceWith{silence: 15 * time.Second, pause: 5 * time.Second, most: time.Minute, answer: 5 * time.Second}

const (
	// lostAfter is how many answers in a row end a connection that say that its process does not
	// work for it. The first may have crossed with what it sent last.
	lostAfter = 2
	// unansweredAfter is how many questions in a row that got no answer end it.
	unansweredAfter = 4
)

// A HalfOpenError reports a connection that was ended because its other end is gone, or does not
// answer any more. What the statement on it did is not known.
type HalfOpenError struct{ Reason string }

func (e *HalfOpenError) Error() string {
	return "the connection to Postgres is dead: " + e.Reason
}

// Timeout makes it a [net.Error] of a kind that pgx reads again after: an error of another kind it forgets where a
// statement has no parameters, and says of the statement that it was never sent.
func (e *HalfOpenError) Timeout() bool   { return true }
func (e *HalfOpenError) Temporary() bool { return false }

// dialWatched connects as dialer does, for watchConn.
func dialWatched(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := newDialer(network).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &watchedConn{Conn: conn, address: address}, nil
}

// dialKept connects as dialer does.
func dialKept(ctx context.Context, network, address string) (net.Conn, error) {
	return newDialer(network).DialContext(ctx, network, address)
}

// dialOnly connects as dialKept does, and where there are several addresses to one alone: another server knows
// nothing of the process that is asked for, and would have it be gone.
func dialOnly(only string, several bool) pgconn.DialFunc {
	if !several {
		return dialKept
	}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		if address != only {
			return nil, errOtherServer
		}
		return dialKept(ctx, network, address)
	}
}

// errOtherServer has the next address be tried.
var errOtherServer = errors.New("another server than the one of the connection")

// userTimeout is how long what was sent may remain without the other machine's acknowledgement.
const userTimeout = 45 * time.Second

// newDialer has a machine that has gone noticed within 45 s, whether or not something is on its way
// to it.
func newDialer(network string) *net.Dialer {
	d := &net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 6}}
	if network != "unix" {
		d.Control = setUserTimeout
	}
	return d
}

// A watchedConn is a connection of the pool. Its process is known from watchConn on.
type watchedConn struct {
	net.Conn
	asking  sync.WaitGroup
	address string // as it was dialled

	mu       sync.Mutex
	ask      func(ctx context.Context) (condition, error) // nil before watch
	patience patienceWith
	timer    *time.Timer // nil before the first read that is watched

	cancel  context.CancelFunc // of who asks; nil: nobody does
	pending bool               // one is waiting
	closed  bool
	lost    *HalfOpenError
}

// watchConn begins to watch a connection that was made by dialWatched. probe says how another one to the server is
// had.
func watchConn(conn *pgconn.PgConn, s *session, probe *pgconn.Config) {
	network := conn.Conn()
	if encrypted, ok := network.(*tls.Conn); ok {
		network = encrypted.NetConn()
	}
	w, ok := network.(*watchedConn)
	if !ok {
		return
	}
	patience := silent
	probe = probe.Copy()
	probe.DialFunc = dialOnly(w.address, len(probe.Fallbacks) > 0)
	probe.ValidateConnect = nil // whatever has become of the server, it is the one
	probe.ConnectTimeout = patience.answer
	probe.RuntimeParams["application_name"] += " probe"
	w.watch(patience, func(ctx context.Context) (condition, error) { return askFor(ctx, probe, s) })
}

// watch has the server asked from the next read on. One may be under way: pgconn reads in the
// background while it writes something that takes long.
func (w *watchedConn) watch(patience patienceWith, ask func(ctx context.Context) (condition, error)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.patience, w.ask = patience, ask
}

// condition is what the server says of a connection's process.
type condition byte

const (
	working  condition = iota // it is at work, or it cannot be told
	gone                      // there is none
	awaiting                  // it waits for us
)

func (c condition) String() string {
	return [...]string{"its process is at work", "its process in the server is gone", "its process in the server waits for us, and nothing comes through"}[c]
}

// askFor asks the server for the process of a session. An error means that it does not answer.
func askFor(ctx context.Context, probe *pgconn.Config, s *session) (condition, error) {
	conn, err := pgconn.ConnectConfig(ctx, probe)
	if err != nil {
		if refused := (*pgconn.PgError)(nil); errors.As(err, &refused) {
			return working, nil // it answers, if with no more than that it has too many connections
		}
		return working, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	result := conn.ExecParams(ctx, `SELECT pg_catalog.concat(pid, ' ', backend_start), coalesce(state, ''), coalesce(wait_event_type, '')
		FROM pg_catalog.pg_stat_get_activity(`+fmt.Sprint(s.pid)+`)`, nil, nil, nil, nil).Read()
	switch {
	case result.Err != nil:
		if refused := (*pgconn.PgError)(nil); errors.As(result.Err, &refused) {
			return working, nil
		}
		return working, result.Err
	case len(result.Rows) == 0 || string(result.Rows[0][0]) != s.backend:
		return gone, nil
	}
	switch state, waits := string(result.Rows[0][1]), string(result.Rows[0][2]); {
	case state == "idle", state == "idle in transaction", state == "idle in transaction (aborted)", state == "active" && waits == "Client":
		return awaiting, nil
	}
	return working, nil
}

// Read reads, and has the server asked for the process that is to send when nothing comes.
func (w *watchedConn) Read(b []byte) (int, error) {
	w.begin()
	n, err := w.Conn.Read(b)
	return n, w.end(err)
}

func (w *watchedConn) begin() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ask == nil {
		return
	}
	w.pending = true
	if w.timer == nil {
		w.timer = time.AfterFunc(w.patience.silence, w.look)
	} else {
		w.timer.Reset(w.patience.silence)
	}
}

func (w *watchedConn) end(err error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timer == nil {
		return err
	}
	w.pending = false
	w.timer.Stop()
	if w.cancel != nil {
		w.cancel()
		w.cancel = nil
	}
	if err != nil && w.lost != nil {
		return w.lost
	}
	return err
}

// look asks the server again and again, for as long as the same read waits.
func (w *watchedConn) look() {
	w.mu.Lock()
	if !w.pending || w.closed || w.cancel != nil {
		w.mu.Unlock()
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	w.cancel = cancel
	ask, patience := w.ask, w.patience
	w.asking.Add(1)
	w.mu.Unlock()
	defer w.asking.Done()
	defer cancel()
	pause := patience.pause
	for lost, unanswered := 0, 0; ; {
		question, done := context.WithTimeout(ctx, patience.answer)
		found, err := ask(question)
		done()
		switch {
		case err != nil:
			lost = 0
			if unanswered++; unanswered >= unansweredAfter {
				w.lose(ctx, "the server has not answered for a while, not over another connection either")
				return
			}
		case found == working:
			lost, unanswered = 0, 0
			pause = min(2*pause, patience.most)
		default:
			unanswered = 0
			if lost++; lost >= lostAfter {
				w.lose(ctx, found.String())
				return
			}
			pause = patience.pause
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// lose ends the connection, unless something has come meanwhile.
func (w *watchedConn) lose(ctx context.Context, reason string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if ctx.Err() == nil {
		w.lost = &HalfOpenError{Reason: reason}
		w.Conn.Close() // the read returns
	}
}

// Close closes the connection, and waits for who asks.
func (w *watchedConn) Close() error {
	w.mu.Lock()
	w.closed = true
	if w.timer != nil {
		w.timer.Stop()
	}
	if w.cancel != nil {
		w.cancel()
		w.cancel = nil
	}
	w.mu.Unlock()
	err := w.Conn.Close()
	w.asking.Wait()
	return err
}

// CloseWrite says that nothing more comes.
func (w *watchedConn) CloseWrite() error {
	if c, ok := w.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return errors.ErrUnsupported
}
