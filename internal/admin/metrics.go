package admin

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"tidemark/indexer/search"
)

// metric describes one of ours. docs/metrics.md lists them; a test holds it against this
// file.
func metric(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("tidemark_"+name, help, labels, nil)
}

var (
	infoMetric      = metric("info", "Always 1; the labels say what runs.", "version", "product", "slot")
	healthyMetric   = metric("healthy", "1 while /healthz answers 200.")
	readyMetric     = metric("ready", "1 while /readyz answers 200.")
	connectedMetric = metric("connected", "1 while changes are received from the replication slot.")

	confirmedMetric  = metric("confirmed_position_bytes", "Position in the log up to which everything is stored, as a number (LSN).")
	walEndMetric     = metric("server_position_bytes", "Position at which the server's log ended when it was last heard of (LSN).")
	lagMetric        = metric("lag_bytes", "How much of the log is not stored yet.")
	lagSecondsMetric = metric("lag_seconds", "For how long what is not stored has been in the log; grows while nothing moves.")
	walKeptMetric    = metric("slot_wal_kept_bytes", "How much of the log the server keeps for the slot.")
	walLeftMetric    = metric("slot_wal_left_bytes", "How much may still be written to the log before the server gives up the slot; absent if it never does.")
	commitMetric     = metric("newest_commit_timestamp_seconds", "When the newest transaction that is stored was committed, by the clock of Postgres.")

	queueMessagesMetric = metric("queue_messages", "Changes that were received and are not confirmed.")
	changesMetric       = metric("changes_total", "Changes of rows that the stream has brought and that are stored.")
	batchesMetric       = metric("batches_total", "Batches that these were written in.")
	queueBytesMetric    = metric("queue_bytes", "Memory that these changes take.")

	stateMetric        = metric("index_state", "1 for the state that the index is in, 0 for the others.", "index", "state")
	rowsDoneMetric     = metric("index_rows_done", "Rows that the backfill under way, or the last one, has stored.", "index")
	rowsExpectedMetric = metric("index_rows_expected", "Estimate of the rows that it will store; absent if there is none.", "index")
	rowsRateMetric     = metric("index_rows_per_second", "How fast the backfill under way was in the last half minute; absent if none is under way.", "index")
	remainingMetric    = metric("index_remaining_seconds", "How long the backfill under way still takes, about; absent if that is not known.", "index")
	deadLettersMetric  = metric("dead_letters", "Operations that the search server refused for good and that wait for somebody.", "index")

	provenMetric    = metric("index_proven_timestamp_seconds", "When the last comparison of the index with its tables began, if it left no difference and the index is not unproven; absent otherwise.", "index")
	unprovenMetric  = metric("index_unproven_since_timestamp_seconds", "Since when the index may differ from its tables by something that the stream does not show; absent if it does not.", "index")
	comparedMetric  = metric("index_compared_ratio", "Part of rows and documents that the comparison under way has looked at, by the estimate; absent if none is.", "index")
	differentMetric = metric("index_different_documents", "Differences that the last comparison has found and not repaired; absent before the first one.", "index")
	foundMetric     = metric("index_differences_found_total", "Documents that were found to differ from their rows.", "index")
	repairedMetric  = metric("index_differences_repaired_total", "Of these, those that were made anew.", "index")

	fanOutsMetric      = metric("index_fan_outs", "Related rows that changed and whose documents are not all stored again yet.", "index")
	fanOutSinceMetric  = metric("index_fan_out_since_timestamp_seconds", "When the first of these rows was found to be in too many documents for the stream to wait; absent if there is none.", "index")
	fanOutStoredMetric = metric("index_fan_out_documents", "Documents that the passes under way have stored again.", "index")

	alarmsMetric = metric("alarms", "Reasons that hold writing back at the moment.")
	alarmMetric  = metric("alarm_since_timestamp_seconds", "When the reason came up.", "reason")

	documentsMetric      = metric("bulk_documents_total", "Operations whose fate is known.", "result")
	retriesMetric        = metric("bulk_retries_total", "Operations that were sent again, by why.", "cause")
	requestsMetric       = metric("bulk_requests_total", "Bulk requests sent.")
	failedRequestsMetric = metric("bulk_failed_requests_total", "Bulk requests without a 2xx answer.")
	rejectedMetric       = metric("bulk_rejected_requests_total", "Bulk requests that the server had no room for, or not for some of their operations (429).")
	atATimeMetric        = metric("bulk_requests_at_a_time", "How many bulk requests go at a time at the moment, at most.")
	requestBytesMetric   = metric("bulk_request_max_bytes", "How large a bulk request may be at the moment, before compression.")
	bytesMetric          = metric("bulk_sent_bytes_total", "Bodies of bulk requests as sent.")
	rawBytesMetric       = metric("bulk_uncompressed_bytes_total", "Bodies of bulk requests before compression.")

	workerMetric           = metric("worker_info", "Always 1; the labels say what runs.", "version", "product", "topic", "group")
	workerMemberMetric     = metric("worker_joined", "1 while the worker is a member of the group.")
	workerPartitionsMetric = metric("worker_partitions", "Partitions that the group has given to the worker.")
	workerLagMetric        = metric("worker_lag_records", "Records of these partitions that are not applied.")
	workerBehindMetric     = metric("worker_behind_seconds", "Since when there is what the worker is writing; 0 while it writes nothing.")
	workerRecordsMetric    = metric("worker_records_total", "Records that were read, also those that were read again.")
	workerBytesMetric      = metric("worker_record_bytes_total", "Keys and values of these.")
	workerPassedMetric     = metric("worker_passed_over_total", "Of these, what was not written, by why.", "cause")
	workerCommitsMetric    = metric("worker_commits_total", "Offsets that were committed, of several partitions together.")
	workerRebalancesMetric = metric("worker_rebalances_total", "How often partitions came or went.")
	workerRereadMetric     = metric("worker_reread_total", "What was read at a time and could not be written in time, and so was read again.")
	workerLostMetric       = metric("worker_lost_records_total", "Records that were gone before they were read.")

	producedMetric      = metric("topic_operations_total", "Operations that Kafka has acknowledged.", "topic")
	producedBytesMetric = metric("topic_bytes_total", "Their keys, headers and documents, before compression.", "topic")
	topicLagMetric      = metric("topic_lag_operations", "Operations in the topic that are not applied yet.", "topic", "group")
	topicProblemsMetric = metric("topic_problems", "Reasons that hold up a cluster beside the first one, which hold up no other.", "topic", "group")
	workersMetric       = metric("topic_workers", "Workers that the group has.", "topic", "group")
)

// A collector makes metrics of a status when they are asked for, so that nothing is
// counted twice.
type collector struct{ source Source }

// Describe sends nothing: which metrics there are depends on the status.
func (c collector) Describe(chan<- *prometheus.Desc) {}

func (c collector) Collect(to chan<- prometheus.Metric) {
	s := c.source.Status()
	gauge, counter := metricsTo(to)

	gauge(infoMetric, 1, s.Version, s.Product, s.Slot)
	gauge(healthyMetric, oneIf(len(s.unhealthy()) == 0))
	gauge(readyMetric, oneIf(len(s.unready()) == 0))
	gauge(connectedMetric, oneIf(s.Connected))

	gauge(confirmedMetric, float64(s.Confirmed))
	if s.WALEnd > 0 {
		gauge(walEndMetric, float64(s.WALEnd))
	}
	if lag, known := s.Lag(); known {
		gauge(lagMetric, float64(lag))
	}
	if s.Behind >= 0 {
		gauge(lagSecondsMetric, s.Behind.Seconds())
	}
	if !s.WAL.At.IsZero() && s.Connected {
		gauge(walKeptMetric, float64(s.WAL.Kept))
		if s.WAL.Left >= 0 {
			gauge(walLeftMetric, float64(s.WAL.Left))
		}
	}
	if !s.NewestCommit.IsZero() {
		gauge(commitMetric, seconds(s.NewestCommit))
	}
	counter(changesMetric, s.Changes)
	counter(batchesMetric, s.Batches)
	gauge(queueMessagesMetric, float64(s.QueueMessages))
	gauge(queueBytesMetric, float64(s.QueueBytes))

	for _, ix := range s.Indices {
		for _, state := range states {
			gauge(stateMetric, oneIf(ix.State == state), ix.Name, string(state))
		}
		gauge(rowsDoneMetric, float64(ix.RowsDone), ix.Name)
		if ix.RowsExpected >= 0 {
			gauge(rowsExpectedMetric, float64(ix.RowsExpected), ix.Name)
		}
		if ix.Building != "" {
			gauge(rowsRateMetric, ix.RowsPerSecond, ix.Name)
		}
		if left := ix.page().RemainingSeconds; left != nil {
			gauge(remainingMetric, float64(*left), ix.Name)
		}
		gauge(deadLettersMetric, float64(ix.DeadLetters), ix.Name)
		gauge(fanOutsMetric, float64(ix.FanOut.Related), ix.Name)
		gauge(fanOutStoredMetric, float64(ix.FanOut.Stored), ix.Name)
		if !ix.FanOut.Since.IsZero() {
			gauge(fanOutSinceMetric, seconds(ix.FanOut.Since), ix.Name)
		}
		ix.Proof.collect(ix.Name, gauge, counter)
	}
	collectAlarms(s.Alarms, gauge)
	s.Bulk.collect(gauge, counter)
	for _, t := range s.Topics {
		counter(producedMetric, t.Produced, t.Name)
		counter(producedBytesMetric, t.Bytes, t.Name)
		if t.Lag >= 0 {
			gauge(topicLagMetric, float64(t.Lag), t.Name, t.Group)
			gauge(workersMetric, float64(t.Workers), t.Name, t.Group)
		}
		gauge(topicProblemsMetric, float64(len(t.Problems)), t.Name, t.Group)
	}
	s.Measures.collect(to)
}

// A gaugeFunc and a counterFunc make a metric each.
type (
	gaugeFunc   func(d *prometheus.Desc, value float64, labels ...string)
	counterFunc func(d *prometheus.Desc, value int64, labels ...string)
)

// metricsTo returns what makes metrics of a status.
func metricsTo(to chan<- prometheus.Metric) (gaugeFunc, counterFunc) {
	return func(d *prometheus.Desc, value float64, labels ...string) {
			to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
		}, func(d *prometheus.Desc, value int64, labels ...string) {
			to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(value), labels...)
		}
}

func collectAlarms(alarms []Alarm, gauge gaugeFunc) {
	gauge(alarmsMetric, float64(len(alarms)))
	for _, a := range alarms {
		gauge(alarmMetric, seconds(a.Since), a.Key)
	}
}

func (b *Bulk) collect(gauge gaugeFunc, counter counterFunc) {
	counter(documentsMetric, b.Stored, "stored")
	counter(documentsMetric, b.Deleted, "deleted")
	counter(documentsMetric, b.Superseded, "superseded")
	counter(documentsMetric, b.Refused, "refused")
	for _, cause := range search.Causes() {
		counter(retriesMetric, b.Retried[cause], cause.String())
	}
	counter(requestsMetric, b.Requests)
	counter(failedRequestsMetric, b.FailedRequests)
	counter(rejectedMetric, b.Rejected)
	gauge(atATimeMetric, float64(b.RequestsAtATime))
	gauge(requestBytesMetric, float64(b.RequestBytes))
	counter(bytesMetric, b.Bytes)
	counter(rawBytesMetric, b.RawBytes)
}

// collect makes the metrics of the index with this name.
func (p *Proof) collect(index string, gauge gaugeFunc, counter counterFunc) {
	if p.isEqual() {
		gauge(provenMetric, seconds(p.Last.BeganAt), index)
	}
	if p.IsUnproven() {
		gauge(unprovenMetric, seconds(p.Unproven.Since), index)
	}
	if share := p.Walk.Share(); p.Walk.UnderWay() && share >= 0 {
		gauge(comparedMetric, share, index)
	}
	if p.Last.Number > 0 {
		gauge(differentMetric, float64(p.Last.Left()), index)
	}
	counter(foundMetric, p.Found, index)
	counter(repairedMetric, p.Repaired, index)
}

func oneIf(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }
