package retry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/dbsync"
)

// marked says of itself whether it is permanent, and how long to stay away.
type marked struct {
	permanent bool
	after     time.Duration
}

func (e *marked) Error() string             { return fmt.Sprintf("permanent %t, after %s", e.permanent, e.after) }
func (e *marked) Permanent() bool           { return e.permanent }
func (e *marked) RetryAfter() time.Duration { return e.after }

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// What is not marked is tried again, whatever it is.
func TestDoRepeats(t *testing.T) {
	for _, test := range []struct {
		name  string
		err   error
		calls int
	}{
		{"no error", nil, 1},
		{"without a mark", errors.New("x"), 2},
		{"a deadline of f's own", context.DeadlineExceeded, 2},
		{"says that it is temporary", &marked{}, 2},
		{"says that it is permanent", &marked{permanent: true}, 1},
		{"permanent, wrapped", fmt.Errorf("x: %w", &dbsync.PermanentError{Err: errors.New("x")}), 1},
		{"permanent, beside another", errors.Join(errors.New("x"), &marked{permanent: true}), 1},
		{"Postgres ends", fmt.Errorf("x: %w", &pgconn.PgError{Code: "57P01"}), 2},
		{"Postgres refuses", fmt.Errorf("x: %w", &pgconn.PgError{Code: "42P01"}), 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			calls := 0
			err := Do(testContext(t), NewAlarm(slog.New(slog.DiscardHandler)), "note it", func(context.Context) error {
				if calls++; calls > 1 {
					return nil
				}
				return test.err
			})
			if calls != test.calls || (err != nil) != (test.err != nil && test.calls == 1) {
				t.Errorf("%d calls, %v", calls, err)
			}
			if err != nil && (!errors.Is(err, test.err) || !strings.HasPrefix(err.Error(), "note it: ")) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestDoRaisesTheAlarm(t *testing.T) {
	alarm := NewAlarm(slog.New(slog.DiscardHandler))
	for _, end := range []error{nil, &marked{permanent: true}} {
		calls := 0
		err := Do(testContext(t), alarm, "index p is not created", func(context.Context) error {
			if calls++; calls > Patience+1 {
				return end
			}
			reasons := alarm.Reasons()
			if n := len(reasons); n != calls/(Patience+1) {
				t.Errorf("call %d with %d reasons", calls, n)
			} else if n > 0 && (reasons[0].Key != "index p is not created" || reasons[0].Text != fmt.Sprint("failure ", Patience)) {
				t.Errorf("reasons %+v", reasons)
			}
			return fmt.Errorf("failure %d", calls)
		})
		if !errors.Is(err, end) || calls != Patience+2 || len(alarm.Reasons()) != 0 {
			t.Errorf("Do: %v after %d calls, reasons %v", err, calls, alarm.Reasons())
		}
	}
}

func TestDoEndsWithItsContext(t *testing.T) {
	alarm := NewAlarm(slog.New(slog.DiscardHandler))
	stopped := errors.New("told to stop")
	// Also in the middle of the longest pause, and whatever the last error was.
	for _, last := range []error{&marked{after: time.Hour}, &marked{permanent: true}} {
		ctx, cancel := context.WithCancelCause(t.Context())
		err := Do(ctx, alarm, "x", func(context.Context) error { cancel(stopped); return last })
		if !errors.Is(err, stopped) || len(alarm.Reasons()) != 0 {
			t.Errorf("Do: %v, reasons %v", err, alarm.Reasons())
		}
	}
}

func TestDoStaysAwayAsLongAsItIsAskedTo(t *testing.T) {
	const asked = 700 * time.Millisecond // the first pause is 150 ms at most
	var first, second time.Time
	err := Do(testContext(t), NewAlarm(slog.New(slog.DiscardHandler)), "x", func(context.Context) error {
		if first.IsZero() {
			first = time.Now()
			return fmt.Errorf("x: %w", &marked{after: asked})
		}
		second = time.Now()
		return nil
	})
	if pause := second.Sub(first); err != nil || pause < asked {
		t.Errorf("%v after %s", err, pause)
	}
	if got := after(&marked{after: time.Hour}); got != MaxAfter {
		t.Errorf("an hour is asked for, and %s given", got)
	}
}
