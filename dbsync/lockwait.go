package dbsync

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// lockPatience is how long a lock is waited for before Status says so.
const lockPatience = 5 * time.Second

// A LockWait is a lock that rows cannot be read without, and that somebody else holds: a migration
// that has ACCESS EXCLUSIVE on a table. The stream, or the window, waits for it without end.
type LockWait struct {
	Text  string    // on which tables, and who holds it
	Since time.Time // when the waiting began
}

// lockWaits are the locks that are waited for at the moment. It is safe for concurrent use.
type lockWaits struct {
	mu  sync.Mutex
	all map[*lockWait]struct{}
}

type lockWait struct{ LockWait }

func (l *lockWaits) begin() *lockWait {
	l.mu.Lock()
	defer l.mu.Unlock()
	w := &lockWait{LockWait{Since: time.Now().Add(-lockPatience)}}
	if l.all == nil {
		l.all = make(map[*lockWait]struct{})
	}
	l.all[w] = struct{}{}
	return w
}

func (l *lockWaits) say(w *lockWait, text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	w.Text = text
}

// end says that a lock is not waited for any more; nil is none.
func (l *lockWaits) end(w *lockWait) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.all, w)
}

// oldest returns the one that is waited for longest, nil if none is.
func (l *lockWaits) oldest() *LockWait {
	l.mu.Lock()
	defer l.mu.Unlock()
	var oldest *LockWait
	for w := range l.all {
		if oldest == nil || w.Since.Before(oldest.Since) {
			wait := w.LockWait
			oldest = &wait
		}
	}
	return oldest
}

// describeLock says who holds the lock on tables, whose quoted names are in list. What cannot be
// found out is left out: it is for people alone. Of a statement it has the first words: more may
// be values.
func describeLock(ctx context.Context, conn *pgconn.PgConn, list string) string {
	text := "rows of " + list + " cannot be read: another session has a lock on a table"
	result := conn.ExecParams(ctx, `SELECT DISTINCT l.pid, c.oid::pg_catalog.regclass::text, coalesce(pg_catalog.substring(a.query, '^\s*[A-Za-z]+(?:\s+[A-Za-z]+)?'), '')
		FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_class c ON c.oid = l.relation LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
		WHERE l.granted AND l.mode = 'AccessExclusiveLock' AND c.relkind IN ('r', 'p') AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
		ORDER BY 1 LIMIT 3`, nil, nil, nil, nil).Read()
	if result.Err != nil {
		return text
	}
	for _, row := range result.Rows {
		text += fmt.Sprintf("; process %s has ACCESS EXCLUSIVE on %s: %s", row[0], row[1], row[2])
	}
	return text
}
