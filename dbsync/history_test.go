package dbsync

import (
	"maps"
	"net"
	"testing"

	"github.com/jackc/pglogrepl"
)

func TestTimelineHistory(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		text string
		want timelineHistory
		ok   bool
	}{
		"none":           {"", timelineHistory{}, true},
		"one":            {"1\t0/3000148\tno recovery target specified\n", timelineHistory{1: 0x3000148}, true},
		"two, a comment": {"1\t0/3000148\tbefore 2026-01-31 12:00:00+00\n\n# by hand\n2\t1/10\tno recovery target specified\n", timelineHistory{1: 0x3000148, 2: 0x100000010}, true},
		"no position":    {"1\n", nil, false},
		"no number":      {"one\t0/3000148\n", nil, false},
		"wrong position": {"1\t3000148\n", nil, false},
	} {
		got, err := parseHistory([]byte(test.text))
		if (err == nil) != test.ok || test.ok && !maps.Equal(got, test.want) {
			t.Errorf("%s: got %v, %v, want %v", name, got, err, test.want)
		}
	}
}

func TestPromotionOfTimelines(t *testing.T) {
	t.Parallel()
	history := timelineHistory{1: 100, 3: 200} // of timeline 4; 2 was another branch
	for _, test := range []struct {
		from, to int32
		want     pglogrepl.LSN // 0: none
	}{{1, 4, 100}, {3, 4, 200}, {2, 4, 0}, {4, 4, 0}, {5, 4, 0}} {
		got := history.promotion(test.from, test.to)
		if (got == nil) != (test.want == 0) || got != nil && *got != (Promotion{test.from, test.to, test.want}) {
			t.Errorf("from %d to %d: got %v, want the end at %s", test.from, test.to, got, test.want)
		}
	}
}

// A question after a process goes to the server that it belongs to, whatever others the connection string has.
func TestQuestionsGoToOneServer(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, test := range []struct {
		only    string
		several bool
		refused bool
	}{{l.Addr().String(), true, false}, {"127.0.0.1:1", true, true}, {"127.0.0.1:1", false, false}} {
		conn, err := dialOnly(test.only, test.several)(t.Context(), "tcp", l.Addr().String())
		if (err != nil) != test.refused {
			t.Errorf("%+v: %v", test, err)
		}
		if err == nil {
			conn.Close()
		}
	}
}
