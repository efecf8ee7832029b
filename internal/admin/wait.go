package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/sourcegraph/conc"
)

// A Waiter tells when what was committed is in the indices.
type Waiter interface {
	// Await waits until w is fulfilled, for as long as ctx lasts, and returns up to where everything is stored then.
	// Its error is a [*WaitError] where there is more to say of it than that waiting was of no use.
	Await(ctx context.Context, w Wait) (pglogrepl.LSN, error)
}

// A Wait is what is waited for.
type Wait struct {
	LSN        pglogrepl.LSN // everything that was committed before it; 0: before now
	Indices    []string      // none: all of the mapping
	Searchable bool          // searches see it
}

// A WaitError says why a wait is not fulfilled, by a status of HTTP.
type WaitError struct {
	Status int
	Err    error
}

func (e *WaitError) Error() string { return e.Err.Error() }
func (e *WaitError) Unwrap() error { return e.Err }

const (
	defaultWait = 5 * time.Second
	maxWait     = time.Minute
	// maxWaits is how many wait at a time.
	maxWaits = 1000
	// maxWaitIndices is how many indices one may name.
	maxWaitIndices = 1000
)

// errEnding is why a wait ends with the server.
var errEnding = errors.New("the instance ends")

// waitHandler answers when a position is stored, or when ending is closed.
func waitHandler(source Waiter, ending <-chan struct{}) http.HandlerFunc {
	places := make(chan struct{}, maxWaits)
	return func(w http.ResponseWriter, r *http.Request) {
		wanted, limit, err := parseWait(r)
		if err != nil {
			refuseWait(w, http.StatusBadRequest, err)
			return
		}
		select {
		case places <- struct{}{}:
			defer func() { <-places }()
		default:
			refuseWait(w, http.StatusServiceUnavailable, fmt.Errorf("%d requests wait already", maxWaits))
			return
		}
		// Longer than what other answers may take. A connection that has no deadlines ends with the wait.
		if err := http.NewResponseController(w).SetWriteDeadline(time.Now().Add(limit + writeTimeout)); err != nil && !errors.Is(err, http.ErrNotSupported) {
			refuseWait(w, http.StatusInternalServerError, err)
			return
		}
		ctx, cancel := context.WithTimeoutCause(r.Context(), limit, fmt.Errorf("waited for %s", limit))
		defer cancel()
		ctx, end := context.WithCancelCause(ctx)
		var watcher conc.WaitGroup
		watcher.Go(func() {
			select {
			case <-ending:
				end(errEnding)
			case <-ctx.Done():
			}
		})
		at, err := source.Await(ctx, wanted)
		expired := errors.Is(ctx.Err(), context.DeadlineExceeded)
		end(nil)
		watcher.Wait()
		if err != nil {
			status := http.StatusServiceUnavailable
			if e, ok := errors.AsType[*WaitError](err); ok {
				status = e.Status
			} else if expired {
				status = http.StatusGatewayTimeout
			}
			refuseWait(w, status, err)
			return
		}
		writeJSON(w, http.StatusOK, waitPage{Stored: true, Searchable: wanted.Searchable, Position: at.String()})
	}
}

// A waitPage is what /wait answers with 200.
type waitPage struct {
	Stored     bool   `json:"stored"`
	Searchable bool   `json:"searchable"` // was asked for, and is so
	Position   string `json:"position"`   // up to where everything is stored
}

func refuseWait(w http.ResponseWriter, status int, err error) {
	if status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	writeJSON(w, status, map[string]any{"stored": false, "error": err.Error()})
}

// parseWait reads lsn, index (several, or a,b), searchable and timeout. Any other key is a mistake.
func parseWait(r *http.Request) (wanted Wait, limit time.Duration, err error) {
	limit = defaultWait
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return wanted, 0, fmt.Errorf("what follows the ? cannot be read: %w", err)
	}
	for key, values := range query {
		if key != "index" && len(values) > 1 {
			return wanted, 0, fmt.Errorf("%s is given %d times", key, len(values))
		}
		switch value := values[0]; key {
		case "lsn":
			if wanted.LSN, err = ParsePosition(value); err != nil {
				return wanted, 0, err
			}
		case "index":
			for _, list := range values {
				wanted.Indices = append(wanted.Indices, strings.Split(list, ",")...)
			}
			if len(wanted.Indices) > maxWaitIndices {
				return wanted, 0, fmt.Errorf("index: want %d at the most", maxWaitIndices)
			}
		case "searchable":
			if wanted.Searchable, err = strconv.ParseBool(value); err != nil {
				return wanted, 0, errors.New("searchable: want true or false")
			}
		case "timeout":
			if limit, err = time.ParseDuration(value); err != nil || limit <= 0 || limit > maxWait {
				return wanted, 0, fmt.Errorf("timeout: want a time up to %s, such as 5s", maxWait)
			}
		default:
			return wanted, 0, fmt.Errorf("%s: unknown; known are lsn, index, searchable, timeout", key)
		}
	}
	return wanted, limit, nil
}

var positionText = regexp.MustCompile(`^[0-9A-Fa-f]{1,8}/[0-9A-Fa-f]{1,8}$`)

// ParsePosition parses a position in the log as Postgres writes it: 16/B374D848.
func ParsePosition(text string) (pglogrepl.LSN, error) {
	at, err := pglogrepl.ParseLSN(text)
	if err != nil || !positionText.MatchString(text) || at == 0 {
		return 0, errors.New("lsn: want a position as pg_current_wal_insert_lsn() gives it, such as 16/B374D848")
	}
	return at, nil
}
