package browser

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"
)

// TestAwaitsStyle has somebody come to a page whose style is late: it is waited for, and is that of the dark.
func TestAwaitsStyle(t *testing.T) {
	parsed, came := make(chan struct{}), new(atomic.Bool)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `<!doctype html><link rel="icon" href="data:,"><a href="next">next</a>`)
	})
	mux.HandleFunc("GET /next", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `<!doctype html><link rel="icon" href="data:,"><link rel="stylesheet" href="late.css"><p>here</p>`)
	})
	mux.HandleFunc("GET /late.css", func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-parsed:
		case <-r.Context().Done():
			return
		}
		came.Store(true)
		w.Header().Set("Content-Type", "text/css")
		fmt.Fprint(w, `@media (prefers-color-scheme: dark) { p { color: rgb(1, 2, 3); } }`)
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close) // behind the browser, which may still wait for the style
	p := Open(t, server.URL, Screen{Dark: true})
	p.Click("a")
	for deadline := time.Now().Add(patience); !Value[bool](p, "!!document.querySelector('p')"); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the page does not come")
		}
	}
	// Who does not wait for the style is back by then.
	timer := time.AfterFunc(300*time.Millisecond, func() { close(parsed) })
	defer timer.Stop()
	p.Await("document.querySelector('p')")
	if color := Value[string](p, "getComputedStyle(document.querySelector('p')).color"); !came.Load() || color != "rgb(1, 2, 3)" {
		t.Errorf("its text is %s; its style has come: %t", color, came.Load())
	}
}
