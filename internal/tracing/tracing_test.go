package tracing

import (
	"errors"
	"log/slog"
	"testing"
	"time"

	"tidemark/dbsync"
	"tidemark/indexer"
	"tidemark/indexer/search"
)

func TestIsWanted(t *testing.T) {
	const endpoint, traces, exporter, protocol = "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_PROTOCOL"
	for _, tt := range []struct {
		name string
		env  map[string]string
		want bool
		err  string
	}{
		{"nothing", nil, false, ""},
		{"an address", map[string]string{endpoint: "http://c:4318"}, true, ""},
		{"an address of traces", map[string]string{traces: "http://c:4318/v1/traces"}, true, ""},
		{"an exporter", map[string]string{exporter: "otlp"}, true, ""},
		{"no exporter", map[string]string{exporter: "none", endpoint: "http://c:4318"}, false, ""},
		{"disabled", map[string]string{"OTEL_SDK_DISABLED": "TRUE", endpoint: "http://c:4318"}, false, ""},
		{"another exporter", map[string]string{exporter: "zipkin"}, false, `OTEL_TRACES_EXPORTER is "zipkin"; want otlp or none`},
		{"the protocol that there is", map[string]string{exporter: "otlp", protocol: "http/protobuf"}, true, ""},
		{"another protocol", map[string]string{exporter: "otlp", protocol: "grpc"}, false, `OTEL_EXPORTER_OTLP_PROTOCOL is "grpc"; want http/protobuf`},
		{"another protocol, but not of traces", map[string]string{exporter: "otlp", protocol: "grpc", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf"}, true, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := isWanted(func(name string) string { return tt.env[name] })
			if got != tt.want || (err != nil) != (tt.err != "") || err != nil && err.Error() != tt.err {
				t.Errorf("%t, %v", got, err)
			}
			var unknown *UnknownExporterError
			if err != nil && !errors.As(err, &unknown) {
				t.Errorf("%T", err)
			}
		})
	}
}

// Where traces are not asked for, nothing is made of a batch.
func TestOffCostsNothing(t *testing.T) {
	tracer, err := Open(t.Context(), func(string) string { return "" }, "1", "shop", slog.New(slog.DiscardHandler))
	if err != nil || tracer != nil {
		t.Fatalf("%v, %v", tracer, err)
	}
	if n := testing.AllocsPerRun(100, func() { off(t, tracer) }); n != 0 {
		t.Errorf("%g allocations", n)
	}
}

var report = &dbsync.BatchReport{Operations: 20, Began: time.Now()}

// off is what is called for a batch of one request.
func off(t testing.TB, tracer *Tracer) {
	ctx := tracer.BatchBegins(t.Context(), report)
	tracer.Reread(ctx, indexer.Reread{})
	tracer.Bulk(ctx, search.Request{})
	tracer.BatchEnds(ctx, report, nil)
}

func BenchmarkOff(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		off(b, nil)
	}
}
