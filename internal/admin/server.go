// Package admin serves what operators and their tools ask the process: the status page, metrics for
// Prometheus, how far the indices are, and whether it is healthy and ready. Reading takes no
// authentication, so it listens on the loopback address unless the mapping file says otherwise, and
// shows no secrets. Asking for something takes admin.token; where there is none, nobody may. /wait
// answers when what was committed is in the indices.
package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/sourcegraph/conc"

	"tidemark/indexer/retry"
	"tidemark/indexer/search"
	"tidemark/mapping"
)

const (
	readTimeout  = 10 * time.Second
	writeTimeout = 30 * time.Second
	idleTimeout  = 2 * time.Minute // Prometheus keeps its connection between scrapes
	maxHeader    = 16 << 10
	maxScrapes   = 4 // at a time

	// stopGrace is how long requests under way may take after the end was asked for.
	stopGrace = 2 * time.Second

	// minPause and maxPause are the pauses between attempts to listen, before chance makes
	// them up to half shorter or longer: 30 s is the longest.
	minPause = time.Second
	maxPause = 20 * time.Second
)

// Options says what is served. All but Hosts, Token, Operator and Events are required; without one of
// the last three the page only shows, or shows no events.
type Options struct {
	Listen   string         // HOST:PORT
	Hosts    []string       // names that the page is asked for by, in small letters, beside those that no site can have
	Token    mapping.Secret // what somebody has to know who asks for something; nothing: nobody may
	Source   Source
	Operator Operator
	Events   *Events
	Profiles bool // are served, too
	Logger   *slog.Logger
}

// A Server answers at one address.
type Server struct {
	o       Options
	http    http.Server
	access  *access
	history history
	paths   []string                  // that it tells who asks for another one
	watch   func(ctx context.Context) // runs beside it; nil: nothing does
	streams chan struct{}             // one for each page that is kept up to date; capacity maxStreams
	lists   chan struct{}             // one for each list of dead letters that is read; capacity maxLists
	ending  chan struct{}             // closed when Run is to end
}

// A ListenError says that an address cannot be listened on, whatever other processes do: it
// is none of this host's, or not allowed to this process.
type ListenError struct {
	Address string
	Err     error
}

func (e *ListenError) Error() string {
	return fmt.Sprintf("cannot listen on %s: %v", e.Address, e.Err)
}

func (e *ListenError) Unwrap() error { return e.Err }

// CheckAddress finds out whether address, HOST:PORT, can be listened on. One that another
// process has now can be: see [Server.Run]. Its error is a *[ListenError].
func CheckAddress(ctx context.Context, address string) error {
	l, err := listen(ctx, address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil
	}
	if err != nil {
		return &ListenError{Address: address, Err: err}
	}
	return l.Close()
}

func listen(ctx context.Context, address string) (net.Listener, error) {
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", address)
	if op, ok := errors.AsType[*net.OpError](err); ok {
		err = op.Err // the address is said already
	}
	return l, err
}

// handleProfiles has a server answer with profiles of the process, at /debug/pprof/ as
// [net/http/pprof] does. They have no values of rows, and cost while one is taken.
func handleProfiles(mux *http.ServeMux) {
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
}

// New makes a server.
func New(o Options) *Server {
	if o.Events == nil {
		o.Events = new(Events)
	}
	if o.Operator == nil {
		o.Token = mapping.Secret{}
	}
	s := &Server{o: o, access: newAccess(o.Token), paths: paths, streams: make(chan struct{}, maxStreams), lists: make(chan struct{}, maxLists), ending: make(chan struct{})}
	s.watch = s.watchIndices
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", metricsHandler(collector{o.Source}, o.Logger))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		now := o.Source.Status()
		answer(w, "healthy", now.unhealthy())
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		now := o.Source.Status()
		answer(w, "ready", now.unready())
	})
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, http.StatusOK, s.page(toAnybody)) })
	mux.HandleFunc("GET /{$}", s.show)
	mux.HandleFunc("GET /events", s.stream)
	mux.HandleFunc("GET /dead-letters", s.showLetters)
	mux.HandleFunc("GET /dead-letters.json", s.listLetters)
	mux.HandleFunc("GET /login", s.askToken)
	mux.HandleFunc("POST /login", s.signIn)
	mux.HandleFunc("POST /logout", s.signOut)
	mux.HandleFunc("GET /indices/{index}/{action}", s.ask)
	mux.HandleFunc("POST /indices/{index}/{action}", s.act)
	for _, file := range []string{"style.css", "page.js", "icon.svg", "openapi.json"} {
		mux.HandleFunc("GET /"+file, serveFile(file))
	}
	mux.HandleFunc("GET /wait", waitHandler(o.Source, s.ending))
	s.open(mux)
	return s
}

// open has the server answer by mux, once it runs.
func (s *Server) open(mux *http.ServeMux) {
	if s.o.Profiles {
		handleProfiles(mux)
	}
	mux.HandleFunc("GET /", s.notFound)
	s.http = http.Server{
		// What another site has a browser send is refused, be it under a name of its own that leads here.
		Handler:           newHosts(s.o.Listen, s.o.Hosts).guard(http.NewCrossOriginProtection().Handler(mux)),
		ReadHeaderTimeout: readTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(s.o.Logger.Handler(), slog.LevelWarn),
	}
}

// metricsHandler answers with what c collects, and with how the process is.
func metricsHandler(c prometheus.Collector, log *slog.Logger) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(c, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn), ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: maxScrapes})
}

// An audience is who is shown something.
type audience int

const (
	toAnybody audience = iota // what a search server quotes of a row is left out, as in the log
	toHolder                  // of the token
)

// page returns what the process is doing as JSON, with what the server knows beside the source.
func (s *Server) page(to audience) page {
	now := s.o.Source.Status()
	p := now.page()
	for i := range p.DeadLetters {
		if l := &p.DeadLetters[i]; to == toAnybody {
			l.Reason = search.ReasonWithoutValues(l.Reason)
		}
	}
	p.Events = s.o.Events.newest(shownEvents)
	for i := range p.Indices {
		p.Indices[i].Rate, p.Indices[i].LastError = s.history.of(p.Indices[i].Index), s.o.Events.lastError(p.Indices[i].Index)
	}
	return p
}

// Run serves until ctx is done, then lets the requests under way end, and returns nil. While
// another process has the address, as the instance before does until this one takes over, it
// tries again. Any error comes before ctx is done.
func (s *Server) Run(ctx context.Context) error {
	l, err := s.awaitAddress(ctx)
	if err != nil {
		return nil // ctx is done
	}
	var watcher conc.WaitGroup
	defer watcher.Wait()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	if s.watch != nil {
		watcher.Go(func() { s.watch(ctx) })
	}
	return s.serve(ctx, l)
}

// watchIndices remembers how much is written until ctx is done.
func (s *Server) watchIndices(ctx context.Context) {
	ticker := time.NewTicker(historyInterval)
	defer ticker.Stop()
	for {
		s.history.note(time.Now(), s.o.Source.Status().Indices)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// awaitAddress listens as soon as it can. Its error is the end of ctx.
func (s *Server) awaitAddress(ctx context.Context) (net.Listener, error) {
	pause := retry.NewBackoff(minPause, maxPause)
	for said := ""; ; {
		l, err := listen(ctx, s.o.Listen)
		if err == nil || ctx.Err() != nil {
			if err == nil {
				s.o.Logger.Info("admin server listens", "address", l.Addr().String(), "paths", s.paths)
			}
			return l, err
		}
		if text := err.Error(); text != said {
			s.o.Logger.Warn("the admin server cannot listen, nothing else is held up; trying again", "address", s.o.Listen, "error", err,
				"hint", "an instance that waits for the slot has the address when the one before ends; otherwise set admin.listen to another one, or end the process that has it")
			said = text
		}
		if err := retry.Sleep(ctx, pause.NextBackOff()); err != nil {
			return nil, err
		}
	}
}

// serve answers on l until ctx is done.
func (s *Server) serve(ctx context.Context, l net.Listener) error {
	served := make(chan error, 1)
	go func() { served <- s.http.Serve(l) }()
	select {
	case err := <-served:
		s.http.Close()
		return fmt.Errorf("serve at %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	close(s.ending)
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopGrace)
	defer cancel()
	if err := s.http.Shutdown(grace); err != nil {
		s.http.Close() // a request that does not end is not waited for
	}
	<-served
	return nil
}

var paths = []string{"/", "/dead-letters", "/dead-letters.json", "/healthz", "/metrics", "/openapi.json", "/readyz", "/status", "/wait"}

// answer reports whether there are reasons against it: 200 if not, else 503.
func answer(w http.ResponseWriter, what string, reasons []string) {
	status := http.StatusOK
	if len(reasons) > 0 {
		status = http.StatusServiceUnavailable
	} else {
		reasons = []string{}
	}
	writeJSON(w, status, map[string]any{what: len(reasons) == 0, "reasons": reasons})
}

func (s *Server) notFound(w http.ResponseWriter, r *http.Request) {
	writeJSON(w, http.StatusNotFound, map[string]any{"error": "nothing is at " + r.URL.Path, "paths": s.paths})
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	text, err := json.Marshal(body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	w.Write(append(text, '\n')) // a client that went away is no business of ours
}
