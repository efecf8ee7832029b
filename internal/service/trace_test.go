package service_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"tidemark/internal/service"
	"tidemark/testenv"
)

// TestTraces has what is sent by OTLP decoded: each batch is a trace of its own, with the steps in
// the order in which they were done.
func TestTraces(t *testing.T) {
	var mu sync.Mutex
	var spans []*tracepb.Span
	names := make(map[string]bool) // of services
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var request collector.ExportTraceServiceRequest
		if err == nil {
			err = proto.Unmarshal(body, &request)
		}
		if err != nil || r.URL.Path != "/v1/traces" {
			t.Errorf("%s: %v", r.URL.Path, err)
		}
		mu.Lock()
		defer mu.Unlock()
		for _, rs := range request.ResourceSpans {
			for _, a := range rs.Resource.Attributes {
				if a.Key == "service.name" {
					names[a.Value.GetStringValue()] = true
				}
			}
			for _, ss := range rs.ScopeSpans {
				spans = append(spans, ss.Spans...)
			}
		}
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	defer receiver.Close()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.URL)
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "100")

	f := newFixture(t, testenv.Engines(t)[0], "", "")
	// Rows with values that are kept outside of them are read again when another column changes.
	f.db.Exec(t, "ALTER TABLE t ADD body text", "ALTER TABLE t ALTER body SET STORAGE EXTERNAL", "UPDATE t SET body = repeat('secret', 2000) WHERE id = 1")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f.run(ctx, t, service.Options{}) }()
	deadline := time.After(time.Minute)
	var trace map[string]*tracepb.Span // of one batch, by name
	for trace == nil {
		f.db.Exec(t, "UPDATE t SET n = n + 1 WHERE id = 1")
		select {
		case err := <-done:
			t.Fatalf("the service has ended: %v", err)
		case <-deadline:
			t.Fatal("no trace of a batch with everything in it has come")
		case <-time.After(100 * time.Millisecond):
		}
		mu.Lock()
		byTrace := make(map[string]map[string]*tracepb.Span)
		for _, s := range spans {
			id := string(s.TraceId)
			if byTrace[id] == nil {
				byTrace[id] = make(map[string]*tracepb.Span)
			}
			byTrace[id][s.Name] = s
		}
		for _, of := range byTrace {
			if len(of) == 6 {
				trace = of
			}
		}
		mu.Unlock()
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	batch := trace["batch"]
	if batch == nil || len(batch.ParentSpanId) > 0 {
		t.Fatalf("%v", batch)
	}
	begun := batch.StartTimeUnixNano
	for _, name := range []string{"receive", "translate", "re-read", "bulk", "confirm"} {
		s := trace[name]
		if s == nil {
			t.Fatalf("no span %s in %v", name, trace)
		}
		if string(s.ParentSpanId) != string(batch.SpanId) || s.StartTimeUnixNano < begun || s.EndTimeUnixNano < s.StartTimeUnixNano || s.EndTimeUnixNano > batch.EndTimeUnixNano {
			t.Errorf("%s is from %d to %d, not after %d and within the batch, to %d", name, s.StartTimeUnixNano, s.EndTimeUnixNano, begun, batch.EndTimeUnixNano)
		}
		begun = s.StartTimeUnixNano
	}
	mu.Lock()
	defer mu.Unlock()
	if !names["tidemark"] {
		t.Errorf("the services are %v", names)
	}
	for _, s := range spans {
		if strings.Contains(s.String(), "secret") {
			t.Errorf("a span has a value of a row: %v", s)
		}
	}

	t.Setenv("OTEL_TRACES_EXPORTER", "zipkin")
	if err := f.run(t.Context(), t, service.Options{Once: true}); err == nil || !strings.Contains(err.Error(), "OTEL_TRACES_EXPORTER") {
		t.Errorf("an exporter that there is not: %v", err)
	}
}
