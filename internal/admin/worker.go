package admin

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// A WorkerSource says what a worker is doing. Worker is called for each request, by several goroutines
// at once, and must answer from memory.
type WorkerSource interface{ Worker() Worker }

// A Worker is what a process of tidemark apply is doing at a moment. Nothing in it is a secret.
type Worker struct {
	Version string // of Tidemark
	Product string // what is written to: "OpenSearch 3.3.2"
	Topic   string
	Group   string

	Failure string // why the process is about to end, "" while it can go on
	Hang    *Alarm // what gives no sign of life although one is due, nil if nothing

	Joined     bool          // it is a member of the group
	Partitions int           // that it has
	Lag        int64         // records of them that are not applied
	Behind     time.Duration // since there is what it is writing; 0: it writes nothing

	// These only grow.
	Records, Bytes              int64 // that were read
	Older, Compacted, Dropped   int64 // of these, what was not written: of an older instance, of an older state of a document, of an index that is not there
	Commits, Rebalances, Reread int64
	Lost                        int64 // records that were gone

	Alarms []Alarm
	Bulk   Bulk
}

// unhealthy says why the process does not work, nil if it does.
func (w *Worker) unhealthy() []string {
	s := Status{Failure: w.Failure, Hang: w.Hang}
	return s.unhealthy()
}

// unready says why what is produced is not written, nil if it is.
func (w *Worker) unready() []string {
	reasons := w.unhealthy()
	if !w.Joined {
		reasons = append(reasons, "not a member of group "+w.Group)
	}
	for _, a := range w.Alarms {
		reasons = append(reasons, a.Key+": "+a.Text)
	}
	return reasons
}

// NewForWorker makes the server of a worker: a page, metrics, and whether it is healthy and ready. Of o it
// takes where it listens, what it is called, and whether profiles are served.
func NewForWorker(source WorkerSource, o Options) *Server {
	s := &Server{o: o, paths: []string{"/", "/healthz", "/metrics", "/readyz"}, ending: make(chan struct{})}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", metricsHandler(workerCollector{source}, o.Logger))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		now := source.Worker()
		answer(w, "healthy", now.unhealthy())
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		now := source.Worker()
		answer(w, "ready", now.unready())
	})
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		now := source.Worker()
		s.render(w, http.StatusOK, "worker.html", &workerView{Worker: now, Now: time.Now(), Root: "./", State: now.overall()})
	})
	for _, file := range []string{"style.css", "icon.svg"} {
		mux.HandleFunc("GET /"+file, serveFile(file))
	}
	s.open(mux)
	return s
}

// A workerView is what the page of a worker shows.
type workerView struct {
	Worker
	Now   time.Time
	Root  string
	State overall
}

// Alarms are those of the worker, as the page has them.
func (v *workerView) Alarms() []alarmPage {
	s := Status{Alarms: v.Worker.Alarms}
	p := s.page()
	return p.Alarms
}

// InWords says how the worker is.
func (w *Worker) InWords() string {
	o := w.overall()
	return o.Word + ": " + o.Text
}

// overall says how everything is: the worst first.
func (w *Worker) overall() overall {
	switch {
	case w.Failure != "":
		what, hint := cutHint(w.Failure)
		return overall{Mark: "bad", Word: "Failed", Text: "It is about to end, and has to be started again when this is cured: " + what, Hint: hint}
	case w.Hang != nil:
		what, hint := cutHint(w.Hang.Text)
		return overall{Mark: "bad", Word: "Hangs", Text: what, Hint: hint}
	case len(w.Alarms) > 0:
		return overall{Mark: "bad", Word: "Held back", Text: "Writing is held back: " + w.Alarms[0].Key + "."}
	case !w.Joined:
		return overall{Mark: "warn", Word: "Joining", Text: "It is not a member of group " + w.Group + " yet."}
	case w.Partitions == 0:
		return overall{Mark: "good", Word: "Spare", Text: "Other workers have all partitions; this one takes over where one ends."}
	case w.Lag > 0:
		return overall{Mark: "busy", Word: "Writing", Text: grouped(w.Lag) + " records are still to be written."}
	}
	return overall{Mark: "good", Word: "In step", Text: "Everything that is known of is written."}
}

// A workerCollector makes metrics of what a worker is doing when they are asked for.
type workerCollector struct{ source WorkerSource }

// Describe sends nothing: which metrics there are depends on the alarms.
func (c workerCollector) Describe(chan<- *prometheus.Desc) {}

func (c workerCollector) Collect(to chan<- prometheus.Metric) {
	w := c.source.Worker()
	gauge, counter := metricsTo(to)
	gauge(workerMetric, 1, w.Version, w.Product, w.Topic, w.Group)
	gauge(healthyMetric, oneIf(len(w.unhealthy()) == 0))
	gauge(readyMetric, oneIf(len(w.unready()) == 0))
	gauge(workerMemberMetric, oneIf(w.Joined))
	gauge(workerPartitionsMetric, float64(w.Partitions))
	gauge(workerLagMetric, float64(w.Lag))
	gauge(workerBehindMetric, w.Behind.Seconds())
	counter(workerRecordsMetric, w.Records)
	counter(workerBytesMetric, w.Bytes)
	counter(workerPassedMetric, w.Older, "older_instance")
	counter(workerPassedMetric, w.Compacted, "newer_record")
	counter(workerPassedMetric, w.Dropped, "index_missing")
	counter(workerCommitsMetric, w.Commits)
	counter(workerRebalancesMetric, w.Rebalances)
	counter(workerRereadMetric, w.Reread)
	counter(workerLostMetric, w.Lost)
	collectAlarms(w.Alarms, gauge)
	w.Bulk.collect(gauge, counter)
}
