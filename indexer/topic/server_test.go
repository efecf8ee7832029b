package topic

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"

	"tidemark/dbsync"
	"tidemark/indexer/retry"
	"tidemark/testenv"
)

// connectReal connects to a real Kafka, with topics of this test's own.
func connectReal(t testing.TB) *Client {
	t.Helper()
	kafka := testenv.SharedKafka(t)
	prefix := kafka.NewPrefix(t)
	logger := slog.New(slog.NewTextHandler(t.Output(), nil))
	return connectAs(t, Options{Brokers: kafka.Brokers(), Topic: prefix + "ops", Group: prefix + "workers", Alarm: retry.NewAlarm(logger), Logger: logger})
}

// What the tests of this package have brokers in their process answer a real one does as well.
func TestRealKafka(t *testing.T) {
	c := connectReal(t)
	plan := aPlan
	plan.Replication = 5000
	var refused *TopicError
	if _, _, err := c.Look(t.Context(), plan); !errors.As(err, &refused) || refused.Key != "kafka.replication" {
		t.Errorf("too few brokers: %v", err)
	}
	plan.Replication = 0
	if state, remarks, err := c.Look(t.Context(), plan); err != nil || len(remarks) != 0 || state != (State{}) {
		t.Errorf("before: %+v, %v, %v", state, remarks, err)
	}
	made, _, err := c.Ensure(t.Context(), plan)
	if err != nil || made.Partitions != 4 {
		t.Fatal(made, err)
	}
	if state, _, err := c.Ensure(t.Context(), plan); err != nil || state != made {
		t.Errorf("again: %+v, %v", state, err)
	}
	if state, err := c.State(t.Context()); err != nil || state != made {
		t.Errorf("now: %+v, %v", state, err)
	}
	if err := c.AwaitApplied(t.Context()); err != nil {
		t.Errorf("nothing is produced: %v", err)
	}

	p := begun(t, c)
	ops := documents(1000)
	if err := p.Write(t.Context(), ops); err != nil {
		t.Fatal(err)
	}
	if err := p.Truncate(t.Context(), &dbsync.Operation{Kind: dbsync.Truncate, Index: "products-1", Version: 2000}); err != nil {
		t.Fatal(err)
	}
	largest := store("large", 1<<40)
	largest.Body = []byte(`"` + randomText(aPlan.MaxRecordBytes-recordSlack-len("products-1large")-2) + `"`)
	if err := p.Write(t.Context(), []dbsync.Operation{largest}); err != nil || len(p.refused) != 0 {
		t.Errorf("the largest: %v, %v", err, p.refused)
	}
	all := decodeAll(t, c)
	if ofKind(all, kindStore) != 1001 || ofKind(all, kindTruncate) != 4 || ofKind(all, kindEpoch) != 4 {
		t.Errorf("%d stored, %d truncations, %d epochs", ofKind(all, kindStore), ofKind(all, kindTruncate), ofKind(all, kindEpoch))
	}

	lag, err := c.Lag(t.Context())
	if err != nil || lag.Records != 1009 || lag.Members != 0 {
		t.Errorf("%+v, %v", lag, err)
	}
	ctx, end := ended(t)
	failed := make(chan error, 1)
	go func() { failed <- c.AwaitApplied(ctx) }()
	c.waits(t, 1)
	end()
	if err := <-failed; !errors.Is(err, errTest) || !strings.Contains(err.Error(), "has 0 workers, and 1009 records in 4 partitions") {
		t.Error(err)
	}
	for partition, records := range all {
		commit(t, c, int32(partition), int64(len(records)))
	}
	if err := c.AwaitApplied(t.Context()); err != nil {
		t.Error(err)
	}

	if _, err := c.Report(t.Context(), RefusedReport(refusedBy("large", 1<<20))); err != nil {
		t.Fatal(err)
	}
	if reports := readReports(t, c, 2); reports[0].Kind != ReportBegin || reports[1].Body != nil || !strings.Contains(reports[1].Reason, "more than the topic of reports takes") {
		t.Errorf("%+v", reports[1])
	}
	var gone kadm.Offsets
	gone.AddOffset(c.o.reports(), 0, 1, -1)
	if answers, err := c.admin.DeleteRecords(t.Context(), gone); err != nil || answers.Error() != nil {
		t.Fatal(err, answers.Error())
	}
	for _, from := range []int64{0, 3} {
		err := c.Reports(t.Context(), from, func(context.Context, []Reported) error { return errTest })
		var of *GoneError
		if !errors.As(err, &of) {
			t.Errorf("from %d on: %v", from, err)
		}
	}

	if err := c.Delete(t.Context()); err != nil {
		t.Fatal(err)
	}
	if state, err := c.State(t.Context()); err != nil || state != (State{}) {
		t.Errorf("removed: %+v, %v", state, err)
	}
	again, _, err := c.Ensure(t.Context(), plan)
	if err != nil || again.ID == made.ID || again.ReportsID == made.ReportsID {
		t.Errorf("made anew: %+v, %v", again, err)
	}
	if lag, err := c.Lag(t.Context()); err != nil || lag.Records != 0 {
		t.Errorf("what was committed is still there: %+v, %v", lag, err)
	}
}

// BenchmarkProduceReal writes batches to a real broker on the same machine.
func BenchmarkProduceReal(b *testing.B) {
	c := connectReal(b)
	if _, _, err := c.Ensure(b.Context(), Plan{Partitions: 12, Retention: aPlan.Retention, MaxRecordBytes: aPlan.MaxRecordBytes}); err != nil {
		b.Fatal(err)
	}
	o := newProducer(b, c).o
	for _, n := range []int{1, 100, 5000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			o.Partitions = 12
			p, err := c.NewProducer(o)
			if err != nil {
				b.Fatal(err)
			}
			defer p.Close()
			if err := p.Begin(b.Context(), "an instance"); err != nil {
				b.Fatal(err)
			}
			ops := documents(n)
			b.ReportAllocs()
			for b.Loop() {
				if err := p.Write(b.Context(), ops); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N*n)/b.Elapsed().Seconds(), "records/s")
		})
	}
}
