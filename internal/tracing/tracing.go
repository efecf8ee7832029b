// Package tracing sends OpenTelemetry traces of batches: one trace for each, from when its first
// change was taken from what was received until its position may be confirmed. It is off unless the
// environment says where traces go to, by the variables that OpenTelemetry has for that
// (https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/,
// https://opentelemetry.io/docs/specs/otel/protocol/exporter/). Spans are made when what they are of is
// over, from reports that metrics are made of as well: the way of a change through the process is
// the same with and without them. No span has a value of a row, or an id.
package tracing

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/sdk/trace"
	api "go.opentelemetry.io/otel/trace"

	"tidemark/dbsync"
	"tidemark/indexer"
	"tidemark/indexer/search"
)

// closeTimeout bounds how long the end waits for the last spans to be sent.
const closeTimeout = 3 * time.Second

// A Tracer makes the traces. The methods of a nil one do nothing. It is safe for concurrent use.
type Tracer struct {
	provider *trace.TracerProvider
	tracer   api.Tracer
	slot     attribute.KeyValue
}

// An UnknownExporterError says that the environment asks for something else than OTLP by HTTP.
type UnknownExporterError struct{ Variable, Value, Want string }

func (e *UnknownExporterError) Error() string {
	return fmt.Sprintf("%s is %q; want %s", e.Variable, e.Value, e.Want)
}

// Open returns a Tracer as the environment wants it, nil if it wants none: it is asked for by
// OTEL_TRACES_EXPORTER=otlp, or by an address in OTEL_EXPORTER_OTLP_TRACES_ENDPOINT or
// OTEL_EXPORTER_OTLP_ENDPOINT, unless OTEL_SDK_DISABLED is true. Whether somebody is at the address is not looked at: what cannot be sent
// is dropped, and log says so. Its errors are of what the environment has.
func Open(ctx context.Context, environment func(string) string, version, slot string, log *slog.Logger) (*Tracer, error) {
	wanted, err := isWanted(environment)
	if err != nil || !wanted {
		return nil, err
	}
	exporter, err := otlptracehttp.New(ctx) // reads the variables itself
	if err != nil {
		return nil, fmt.Errorf("open the exporter of traces: %w", err)
	}
	of, err := resource.New(ctx,
		resource.WithAttributes(attribute.String("service.name", "tidemark"), attribute.String("service.version", version)),
		resource.WithFromEnv(), // OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES
		resource.WithTelemetrySDK())
	if err != nil {
		return nil, fmt.Errorf("read OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		log.Warn("traces are not sent", "error", err, "hint", "is the collector at OTEL_EXPORTER_OTLP_ENDPOINT reachable? nothing else is held up")
	}))
	provider := trace.NewTracerProvider(trace.WithBatcher(exporter), trace.WithResource(of)) // sampled by OTEL_TRACES_SAMPLER
	return &Tracer{provider: provider, tracer: provider.Tracer("tidemark"), slot: attribute.String("tidemark.slot", slot)}, nil
}

// isWanted reports whether the environment asks for traces.
func isWanted(environment func(string) string) (bool, error) {
	if strings.EqualFold(environment("OTEL_SDK_DISABLED"), "true") {
		return false, nil
	}
	switch exporter := environment("OTEL_TRACES_EXPORTER"); exporter {
	case "none":
		return false, nil
	case "":
		if environment("OTEL_EXPORTER_OTLP_ENDPOINT") == "" && environment("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") == "" {
			return false, nil
		}
	case "otlp":
	default:
		return false, &UnknownExporterError{"OTEL_TRACES_EXPORTER", exporter, "otlp or none"}
	}
	for _, variable := range []string{"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"} {
		switch protocol := environment(variable); protocol {
		case "":
			continue
		case "http/protobuf":
		default:
			return false, &UnknownExporterError{variable, protocol, "http/protobuf"}
		}
		break
	}
	return true, nil
}

// Close sends what is not sent yet, and waits for that, for 3 s at most.
func (t *Tracer) Close(ctx context.Context) error {
	if t == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	if err := t.provider.Shutdown(ctx); err != nil {
		return fmt.Errorf("send the last traces: %w", err)
	}
	return nil
}

// BatchBegins opens the trace of a batch, with what was done to it before it is written. What it
// returns is ctx with the trace in it.
func (t *Tracer) BatchBegins(ctx context.Context, r *dbsync.BatchReport) context.Context {
	if t == nil || r.Operations == 0 {
		return ctx
	}
	ctx, batch := t.tracer.Start(ctx, "batch", api.WithTimestamp(r.Began), api.WithNewRoot())
	if !batch.IsRecording() {
		return ctx
	}
	batch.SetAttributes(t.slot, attribute.Int("tidemark.messages", r.Messages), attribute.Int("tidemark.changes", r.Changes),
		attribute.Int("tidemark.operations", r.Operations), attribute.Int("tidemark.bytes", r.Bytes), attribute.Int("tidemark.transactions", len(r.Commits)))
	// What was received was translated piece by piece: the time that it took stands at the end.
	translated := r.Translated.Add(-r.Translating)
	if translated.UnixNano() < r.Began.UnixNano() { // the clock on the wall is not the one that measures
		translated = r.Began
	}
	t.span(ctx, "receive", r.Began, translated)
	t.span(ctx, "translate", translated, r.Translated)
	return ctx
}

// BatchEnds closes it.
func (t *Tracer) BatchEnds(ctx context.Context, r *dbsync.BatchReport, err error) {
	if t == nil {
		return
	}
	batch := api.SpanFromContext(ctx)
	if !batch.IsRecording() {
		return
	}
	now := time.Now()
	if err != nil {
		batch.SetStatus(codes.Error, dbsync.WithoutValues(err))
	} else {
		t.span(ctx, "confirm", r.Stored, now, attribute.String("tidemark.position", r.Position.String()))
	}
	batch.End(api.WithTimestamp(now))
}

// Bulk adds a bulk request to the trace of ctx.
func (t *Tracer) Bulk(ctx context.Context, r search.Request) {
	if t == nil || !api.SpanFromContext(ctx).IsRecording() {
		return
	}
	span := t.start(ctx, "bulk", r.Began, attribute.Int("tidemark.operations", r.Operations), attribute.Int("tidemark.bytes", r.Bytes))
	if r.Status > 0 {
		span.SetAttributes(attribute.Int("http.response.status_code", r.Status))
	}
	if r.Status < 200 || r.Status > 299 {
		span.SetStatus(codes.Error, "")
	}
	span.End(api.WithTimestamp(r.Began.Add(r.Duration)))
}

// Reread adds a reading of rows to the trace of ctx.
func (t *Tracer) Reread(ctx context.Context, r indexer.Reread) {
	if t == nil || !api.SpanFromContext(ctx).IsRecording() {
		return
	}
	span := t.start(ctx, "re-read", r.Began, attribute.String("tidemark.index", r.Index), attribute.Int("tidemark.documents", r.Documents), attribute.Bool("tidemark.related", r.Related))
	if r.Err != nil {
		span.SetStatus(codes.Error, dbsync.WithoutValues(r.Err))
	}
	span.End(api.WithTimestamp(r.Began.Add(r.Duration)))
}

func (t *Tracer) start(ctx context.Context, name string, began time.Time, of ...attribute.KeyValue) api.Span {
	_, span := t.tracer.Start(ctx, name, api.WithTimestamp(began), api.WithAttributes(of...))
	return span
}

func (t *Tracer) span(ctx context.Context, name string, began, ended time.Time, of ...attribute.KeyValue) {
	t.start(ctx, name, began, of...).End(api.WithTimestamp(ended))
}
