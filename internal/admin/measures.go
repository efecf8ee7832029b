package admin

import (
	"github.com/prometheus/client_golang/prometheus"

	"tidemark/dbsync"
	"tidemark/indexer"
	"tidemark/indexer/search"
)

// Measures are the metrics that add up over time what is gone with the moment: how long things took, and how
// large they were. They are told of batches and requests, never of a single change, and allocate
// nothing. All methods are safe for concurrent use.
type Measures struct {
	commitToStored, batchWrite, batchOperations, batchBytes prometheus.Histogram

	bulk, bulkOperations, reread, fanOut prometheus.Histogram

	translate prometheus.Counter
	documents [2]*prometheus.CounterVec // read again: for themselves, for related rows
	deferred  *prometheus.CounterVec
	all       []prometheus.Collector
}

// Bounds of buckets: times from what one request takes to what nobody waits for, and counts by ten.
var (
	latencyBuckets  = []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200}
	durationBuckets = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}
	countBuckets    = []float64{1, 3, 10, 30, 100, 300, 1000, 3000, 10_000, 30_000, 100_000}
	byteBuckets     = []float64{256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20, 16 << 20, 64 << 20}
)

// NewMeasures returns measures with nothing in them yet. The indices are those that there are
// counters of from the beginning.
func NewMeasures(indices ...string) *Measures {
	m := &Measures{}
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "tidemark_" + name, Help: help, Buckets: buckets})
		m.all = append(m.all, h)
		return h
	}
	m.commitToStored = histogram("commit_to_stored_seconds", "From the commit of a transaction, by the clock of Postgres, until its changes were stored.", latencyBuckets)
	m.batchWrite = histogram("batch_write_seconds", "How long the writing of a batch took, with everything that was read again for it and all attempts.", durationBuckets)
	m.batchOperations = histogram("batch_operations", "Operations that a batch had when it was written.", countBuckets)
	m.batchBytes = histogram("batch_received_bytes", "Messages of the stream that a batch was made of.", byteBuckets)
	m.bulk = histogram("bulk_request_seconds", "How long a bulk request took, from the first byte sent to the last one received.", durationBuckets)
	m.bulkOperations = histogram("bulk_request_operations", "Operations that a bulk request had.", countBuckets)
	m.reread = histogram("reread_seconds", "How long a statement took by which rows were read again, with the wait until it may see them.", durationBuckets)
	m.fanOut = histogram("fan_out_documents", "Documents of one table that were stored again for the related rows that changed in a batch.", countBuckets)
	m.translate = prometheus.NewCounter(prometheus.CounterOpts{Name: "tidemark_translate_seconds_total", Help: "Time in which changes were made operations of."})
	rereads := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "tidemark_index_reread_documents_total", Help: "Documents whose rows were read again, by what had changed."}, []string{"index", "cause"})
	m.deferred = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "tidemark_index_deferred_rows_total", Help: "Related rows that changed and are in too many documents for the stream to wait."}, []string{"index"})
	m.all = append(m.all, m.translate, rereads, m.deferred)
	for i, cause := range []string{"row", "related"} {
		m.documents[i] = rereads.MustCurryWith(prometheus.Labels{"cause": cause})
	}
	for _, index := range indices {
		m.documents[0].WithLabelValues(index)
		m.documents[1].WithLabelValues(index)
		m.deferred.WithLabelValues(index)
	}
	return m
}

// Batch takes up a batch that is stored.
func (m *Measures) Batch(r *dbsync.BatchReport) {
	m.translate.Add(r.Translating.Seconds())
	for _, at := range r.Commits {
		m.commitToStored.Observe(max(0, r.Stored.Sub(at).Seconds())) // clocks differ
	}
	if r.Operations == 0 {
		return // watermarks
	}
	m.batchWrite.Observe(r.Stored.Sub(r.Writing).Seconds())
	m.batchOperations.Observe(float64(r.Operations))
	m.batchBytes.Observe(float64(r.Bytes))
}

// Bulk takes up a bulk request that has ended.
func (m *Measures) Bulk(r search.Request) {
	m.bulk.Observe(r.Duration.Seconds())
	m.bulkOperations.Observe(float64(r.Operations))
}

// Reread takes up that rows were read again.
func (m *Measures) Reread(r indexer.Reread) {
	m.reread.Observe(r.Duration.Seconds())
	cause := 0
	if r.Related {
		cause = 1
	}
	m.documents[cause].WithLabelValues(r.Index).Add(float64(r.Documents))
}

// FannedOut takes up that related rows changed which documents of an index have in them.
func (m *Measures) FannedOut(index string, documents, deferred int) {
	m.fanOut.Observe(float64(documents))
	m.deferred.WithLabelValues(index).Add(float64(deferred))
}

// collect sends what has come together, for a nil Measures nothing.
func (m *Measures) collect(to chan<- prometheus.Metric) {
	if m == nil {
		return
	}
	for _, c := range m.all {
		c.Collect(to)
	}
}
