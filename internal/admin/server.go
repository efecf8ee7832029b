// Package admin serves what operators and their tools ask the process: metrics for
// Prometheus, how far the indices are, and whether it is healthy and ready. There is no authentication, so it
// listens on the loopback address unless the mapping file says otherwise, only reads, and
// shows no secrets.
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

	"tidemark/indexer/retry"
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

// A Server answers at one address.
type Server struct {
	address string
	log     *slog.Logger
	http    http.Server
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

// An Option adds to what a server answers.
type Option func(*http.ServeMux)

// WithProfiles has it answer with profiles of the process, at /debug/pprof/ as
// [net/http/pprof] does. They have no values of rows, and cost while one is taken.
func WithProfiles() Option {
	return func(mux *http.ServeMux) {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
}

// New makes a server for the address listen, HOST:PORT.
func New(listen string, source Source, log *slog.Logger, options ...Option) *Server {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collector{source}, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	errorLog := slog.NewLogLogger(log.Handler(), slog.LevelWarn)
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		ErrorLog: errorLog, ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: maxScrapes}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		s := source.Status()
		answer(w, "healthy", s.unhealthy())
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		s := source.Status()
		answer(w, "ready", s.unready())
	})
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		s := source.Status()
		writeJSON(w, http.StatusOK, s.page())
	})
	for _, o := range options {
		o(mux)
	}
	mux.HandleFunc("GET /", notFound)
	return &Server{address: listen, log: log, http: http.Server{
		Handler:           mux,
		ReadHeaderTimeout: readTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          errorLog,
	}}
}

// Run serves until ctx is done, then lets the requests under way end, and returns nil. While
// another process has the address, as the instance before does until this one takes over, it
// tries again. Any error comes before ctx is done.
func (s *Server) Run(ctx context.Context) error {
	l, err := s.awaitAddress(ctx)
	if err != nil {
		return nil // ctx is done
	}
	return s.serve(ctx, l)
}

// awaitAddress listens as soon as it can. Its error is the end of ctx.
func (s *Server) awaitAddress(ctx context.Context) (net.Listener, error) {
	pause := retry.NewBackoff(minPause, maxPause)
	for said := ""; ; {
		l, err := listen(ctx, s.address)
		if err == nil || ctx.Err() != nil {
			if err == nil {
				s.log.Info("admin server listens", "address", l.Addr().String(), "paths", paths)
			}
			return l, err
		}
		if text := err.Error(); text != said {
			s.log.Warn("the admin server cannot listen, nothing else is held up; trying again", "address", s.address, "error", err,
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
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopGrace)
	defer cancel()
	if err := s.http.Shutdown(grace); err != nil {
		s.http.Close() // a request that does not end is not waited for
	}
	<-served
	return nil
}

var paths = []string{"/healthz", "/metrics", "/readyz", "/status"}

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

func notFound(w http.ResponseWriter, r *http.Request) {
	writeJSON(w, http.StatusNotFound, map[string]any{"error": "nothing is at " + r.URL.Path, "paths": paths})
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
