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
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

const (
	readTimeout  = 10 * time.Second
	writeTimeout = 30 * time.Second
	idleTimeout  = 2 * time.Minute // Prometheus keeps its connection between scrapes
	maxHeader    = 16 << 10
	maxScrapes   = 4 // at a time

	// stopGrace is how long requests under way may take after the end was asked for.
	stopGrace = 2 * time.Second
)

// A Server answers at one address. Its methods are called by one goroutine.
type Server struct {
	address  string
	log      *slog.Logger
	http     http.Server
	listener net.Listener // nil before Listen
}

// A ListenError says that the address cannot be listened on.
type ListenError struct {
	Address string
	Err     error
}

func (e *ListenError) Error() string {
	return fmt.Sprintf("admin server: cannot listen on %s: %v\n    hint: set admin.listen to another address, or end the process that has this one", e.Address, e.Err)
}

func (e *ListenError) Unwrap() error { return e.Err }

// New makes a server for the address listen, HOST:PORT.
func New(listen string, source Source, log *slog.Logger) *Server {
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

// Listen takes the address, so that one in use is known before anything else is begun.
// It returns what is listened on: the port is another one where 0 was asked for. Run
// follows, and closes it. Its error is a *[ListenError].
func (s *Server) Listen(ctx context.Context) (net.Addr, error) {
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", s.address)
	if err != nil {
		if op, ok := errors.AsType[*net.OpError](err); ok {
			err = op.Err // the address is said already
		}
		return nil, &ListenError{Address: s.address, Err: err}
	}
	s.listener = l
	return l.Addr(), nil
}

// Run serves until ctx is done, then lets the requests under way end, and returns nil. It
// listens first where [Server.Listen] was not called. Any error comes before ctx is done.
func (s *Server) Run(ctx context.Context) error {
	if s.listener == nil {
		if _, err := s.Listen(ctx); err != nil {
			return err
		}
	}
	s.log.Info("admin server listens", "address", s.listener.Addr().String(), "paths", paths)
	served := make(chan error, 1)
	go func() { served <- s.http.Serve(s.listener) }()
	select {
	case err := <-served:
		s.http.Close()
		return fmt.Errorf("serve at %s: %w", s.listener.Addr(), err)
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
