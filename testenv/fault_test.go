package testenv

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// post sends a compressed body through the proxy.
func post(ctx context.Context, p *SearchProxy, path, body string) (int, []byte, error) {
	var zipped bytes.Buffer
	w := gzip.NewWriter(&zipped)
	if _, err := io.WriteString(w, body); err != nil {
		return 0, nil, err
	}
	if err := w.Close(); err != nil {
		return 0, nil, err
	}
	r, err := http.NewRequestWithContext(ctx, "POST", p.URL+path, &zipped)
	if err != nil {
		return 0, nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Content-Encoding", "gzip")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	return resp.StatusCode, answer, err
}

func bulkOf(ids ...string) (body string) {
	for _, id := range ids {
		body += fmt.Sprintf(`{"index":{"_id":%q}}`+"\n{}\n", id)
	}
	return body
}

func TestFaults(t *testing.T) {
	eachEngine(t, func(t *testing.T, e Engine) {
		s := SharedSearch(t, e)
		p := s.NewProxy(t)
		ctx := within(t, time.Minute)
		index := "/" + s.NewPrefix(t) + "a"
		do(t, s, "PUT", index, `{}`)
		stored := func(want int) {
			t.Helper()
			if d := s.Documents(t, index[1:]); len(d) != want {
				t.Fatalf("%d documents, want %d", len(d), want)
			}
		}
		bulk := func(ids ...string) (int, []byte, error) { return post(ctx, p, index+"/_bulk", bulkOf(ids...)) }
		broken := func(ids ...string) {
			t.Helper()
			if status, _, err := bulk(ids...); err == nil {
				t.Fatalf("status %d, want a broken connection", status)
			}
		}
		whole := func(ids ...string) {
			t.Helper()
			if status, answer, err := bulk(ids...); err != nil || status != 200 {
				t.Fatalf("status %d, %s, %v", status, answer, err)
			}
		}

		seen := p.Inject(Watch(Bulk))
		whole("1")
		stored(1)

		limited := p.Inject(Answer(429, 2, Bulk))
		for range 2 {
			if status, answer, err := bulk("2"); err != nil || status != 429 {
				t.Fatalf("status %d, %s, %v", status, answer, err)
			}
		}
		stored(1)
		whole("2")
		stored(2)
		if limited.Hits() != 2 || seen.Hits() != 4 {
			t.Errorf("%d of %d requests were hit", limited.Hits(), seen.Hits())
		}

		p.Inject(Drop(1, Bulk))
		broken("3")
		stored(2)
		p.Inject(LoseAnswer(1, Bulk))
		broken("3")
		stored(3)

		p.Inject(AnswerItems(429, 1, func(i Item) bool { return i.ID == "5" }))
		_, answer, err := bulk("4", "5", "6")
		must(t, err)
		var items struct {
			Errors bool
			Items  []struct {
				Index struct {
					ID     string `json:"_id"`
					Index  string `json:"_index"`
					Status int
				}
			}
		}
		must(t, json.Unmarshal(answer, &items))
		got := fmt.Sprint(items)
		name := index[1:]
		if want := fmt.Sprintf("{true [{{4 %s 201}} {{5 %s 429}} {{6 %s 201}}]}", name, name, name); got != want {
			t.Errorf("items are %s, want %s", got, want)
		}
		stored(5)
		p.Inject(AnswerItems(503, 1, func(i Item) bool { return true }))
		whole("7")
		stored(5)

		for _, fault := range []*Fault{Hold(1, Bulk), HoldAnswer(1, Bulk)} {
			held := p.Inject(fault)
			done := make(chan error, 1)
			go func() {
				_, _, err := bulk("8")
				done <- err
			}()
			must(t, held.Await(ctx, 1))
			select {
			case err := <-done:
				t.Fatalf("answered while held: %v", err)
			default:
			}
			held.Lift()
			must(t, <-done)
			stored(6)
			do(t, s, "DELETE", index+"/_doc/8", "")
		}

		p.CutOff()
		broken("9")
		p.Restore()
		stored(5)
		whole("9")
		stored(6)

		for n, answered := range []bool{true, false} {
			before := len(s.Documents(t, index[1:]))
			late := p.Inject(Late(time.Hour, answered, 1, Bulk))
			if answered {
				if status, _, err := bulk("late1"); err != nil || status != http.StatusGatewayTimeout {
					t.Errorf("status %d, %v, want 504", status, err)
				}
			} else {
				broken("late2")
			}
			whole(fmt.Sprint("meanwhile", n))
			stored(before + 1)
			late.Lift()
			late.Passed()
			stored(before + 2)
		}
		soon := p.Inject(Late(time.Millisecond, true, 1, Bulk))
		before := len(s.Documents(t, index[1:]))
		if status, _, err := bulk("soon"); err != nil || status != http.StatusGatewayTimeout {
			t.Errorf("status %d, %v, want 504", status, err)
		}
		soon.Passed()
		stored(before + 1)

		twice := p.Inject(Twice(time.Hour, 1, Bulk))
		whole("twice")
		stored(before + 2)
		do(t, s, "DELETE", index+"/_doc/twice", "")
		stored(before + 1)
		twice.Lift()
		twice.Passed()
		stored(before + 2)

		p.Freeze()
		short, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
		if _, _, err := post(short, p, index+"/_bulk", bulkOf("10")); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a frozen connection gives %v", err)
		}
		cancel()
		p.Thaw()
		http.DefaultClient.CloseIdleConnections()
	})
}

func TestSearchProxyPassesErrorsOn(t *testing.T) {
	eachEngine(t, func(t *testing.T, e Engine) {
		s := SharedSearch(t, e)
		p := s.NewProxy(t)
		path := "/" + s.NewPrefix(t) + "missing/_search"
		want, wantBody, err := s.Do(t.Context(), "POST", path, []byte(`{}`))
		must(t, err)
		got, gotBody, err := post(t.Context(), p, path, `{}`)
		if err != nil || got != want || !bytes.Equal(gotBody, wantBody) {
			t.Errorf("status %d %s, want %d %s (%v)", got, gotBody, want, wantBody, err)
		}
		http.DefaultClient.CloseIdleConnections()
	})
}

func TestTCPProxy(t *testing.T) {
	d := NewDatabase(t)
	p := d.Postgres.NewProxy(t)
	ctx := within(t, time.Minute)
	connect := func() (*pgx.Conn, error) { return pgx.Connect(ctx, p.URL(d.URL)) }
	ask := func(c *pgx.Conn) error { return c.Ping(ctx) }

	c, err := connect()
	must(t, err)
	must(t, ask(c))
	p.Cut()
	if ask(c) == nil {
		t.Error("a cut connection answers")
	}
	c, err = connect()
	must(t, err)
	must(t, ask(c))
	p.CutOff()
	if ask(c) == nil {
		t.Error("a cut connection answers")
	}
	before := p.Attempts()
	if _, err := connect(); err == nil {
		t.Error("connected while cut off")
	}
	must(t, p.Await(ctx, func(p *TCPProxy) bool { return p.Attempts() > before }))
	p.Restore()
	c, err = connect()
	must(t, err)
	must(t, ask(c))
	// A broken connection has the driver ask for a cancel, over another.
	must(t, p.Await(ctx, func(p *TCPProxy) bool { return p.Connections() == 1 }))

	p.Freeze()
	done := make(chan error, 1)
	go func() { done <- ask(c) }()
	select {
	case err := <-done:
		t.Errorf("a frozen connection answers: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	p.Thaw()
	must(t, <-done)
	must(t, c.Close(ctx))
	must(t, p.Await(ctx, func(p *TCPProxy) bool { return p.Connections() == 0 }))
}
