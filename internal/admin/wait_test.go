package admin

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"github.com/jackc/pglogrepl"
)

// TestWait asks when something is stored.
func TestWait(t *testing.T) {
	untilEnd := func(ctx context.Context, _ Wait) (pglogrepl.LSN, error) {
		<-ctx.Done()
		return 0, errors.New("slot shop is at 0/100")
	}
	tests := []struct {
		query  string
		await  func(ctx context.Context, w Wait) (pglogrepl.LSN, error)
		want   Wait // what the source was asked
		status int
		body   string
	}{
		{"", nil, Wait{}, 200, `{"stored":true,"searchable":false,"position":"0/100"}`},
		{"?lsn=16/B374D848&index=a&index=b,c&searchable=true", nil, Wait{LSN: 0x16_B374D848, Indices: []string{"a", "b", "c"}, Searchable: true}, 200, `{"stored":true,"searchable":true,"position":"0/100"}`},
		{"?timeout=1ms", untilEnd, Wait{}, 504, `{"error":"slot shop is at 0/100","stored":false}`},
		{"?index=x", func(context.Context, Wait) (pglogrepl.LSN, error) {
			return 0, &WaitError{http.StatusNotFound, errors.New("there is no index x")}
		}, Wait{Indices: []string{"x"}}, 404, `{"error":"there is no index x","stored":false}`},
		{"", func(context.Context, Wait) (pglogrepl.LSN, error) { return 0, errors.New("not connected") }, Wait{}, 503, `{"error":"not connected","stored":false}`},
		{"?lsn=7", nil, Wait{}, 400, "lsn: want a position"},
		{"?lsn=0/1x", nil, Wait{}, 400, "lsn: want a position"},
		{"?lsn=0/0", nil, Wait{}, 400, "lsn: want a position"},
		{"?lsn=0/1&lsn=0/2", nil, Wait{}, 400, "lsn is given 2 times"},
		{"?timeout=2m", nil, Wait{}, 400, "timeout: want a time up to 1m0s"},
		{"?timeout=-1s", nil, Wait{}, 400, "timeout: want a time"},
		{"?searchable=maybe", nil, Wait{}, 400, "searchable: want true or false"},
		{"?lns=0/1", nil, Wait{}, 400, "lns: unknown; known are lsn"},
		{"?lsn=%", nil, Wait{}, 400, "cannot be read"},
		{"?index=" + strings.Repeat("a,", maxWaitIndices), nil, Wait{}, 400, "index: want 1000 at the most"},
	}
	src := &source{status: working()}
	url := start(t, src)
	for _, test := range tests {
		var asked Wait
		src.await = func(ctx context.Context, w Wait) (pglogrepl.LSN, error) {
			asked = w
			if test.await == nil {
				return 0x100, nil
			}
			return test.await(ctx, w)
		}
		status, body := get(t, url+"/wait"+test.query)
		if status != test.status || !strings.Contains(body, test.body) || !reflect.DeepEqual(asked, test.want) {
			t.Errorf("%s: %d %s, asked %+v; want %d %s, %+v", test.query, status, body, asked, test.status, test.body, test.want)
		}
	}
}

// TestWaitsAreBounded has so many wait that there is no place for one more, and the server end: they are
// answered.
func TestWaitsAreBounded(t *testing.T) {
	waiting := make(chan struct{}, maxWaits)
	src := &source{status: working(), await: func(ctx context.Context, _ Wait) (pglogrepl.LSN, error) {
		waiting <- struct{}{}
		<-ctx.Done()
		return 0, context.Cause(ctx)
	}}
	address, output := listening()
	s := New(Options{Listen: "127.0.0.1:0", Source: src, Logger: slog.New(slog.NewJSONHandler(output, nil))})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	url := "http://" + <-address
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	answers := make(chan string, maxWaits)
	ask := func() string {
		resp, err := client.Get(url + "/wait?timeout=1m")
		if err != nil {
			return err.Error()
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		return resp.Status + " " + string(body)
	}
	for range maxWaits {
		go func() { answers <- ask() }()
	}
	for range maxWaits {
		<-waiting
	}
	if answer := ask(); !strings.Contains(answer, "503") || !strings.Contains(answer, "1000 requests wait already") {
		t.Errorf("one more: %s", answer)
	}
	cancel()
	for range maxWaits {
		if answer := <-answers; !strings.Contains(answer, "503") || !strings.Contains(answer, "the instance ends") {
			t.Fatalf("at the end: %s", answer)
		}
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}
