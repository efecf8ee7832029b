package topic

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/jackc/pglogrepl"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"tidemark/dbsync"
	"tidemark/indexer/search"
)

// A ReportKind says what a [Report] is about.
type ReportKind string

const (
	// ReportBegin is that an instance has begun to produce, Instance. Its offset is
	// the epoch of what that one writes, see [Producer].
	ReportBegin ReportKind = "begin"

	// ReportRefused is that the search server refuses an operation for good: Index to Reason.
	ReportRefused ReportKind = "refused"

	// ReportNewer is that the document Index, ID has the version Found, which is newer than that of the
	// operation.
	ReportNewer ReportKind = "newer"

	// ReportUnanswered is that there was no answer to a request with operations on Indices.
	ReportUnanswered ReportKind = "unanswered"

	// ReportMissing is that there is no index Index, and that operations on it were passed over.
	ReportMissing ReportKind = "missing"

	// ReportLost is that records From to To of Partition were gone before the group had applied them.
	ReportLost ReportKind = "lost"
)

// A Report is what the instance that follows the slot has to know of the workers. Which of the fields
// there are its kind says.
type Report struct {
	Kind     ReportKind `json:"kind"`
	Instance string     `json:"instance,omitempty"` // which slot it follows, of which database system

	Index   string          `json:"index,omitempty"` // as the record of the operation names it: a write alias
	ID      string          `json:"id,omitempty"`
	Routing string          `json:"routing,omitempty"`
	Delete  bool            `json:"delete,omitempty"`
	LSN     string          `json:"lsn,omitempty"` // of the operation's commit
	Group   uint32          `json:"group,omitempty"`
	Base    string          `json:"base,omitempty"` // of the index
	Status  int             `json:"status,omitempty"`
	Type    string          `json:"type,omitempty"`
	Reason  string          `json:"reason,omitempty"`
	Body    json.RawMessage `json:"document,omitempty"`
	Found   int64           `json:"found,omitempty"`
	Indices []string        `json:"indices,omitempty"`

	Partition int32 `json:"partition,omitempty"`
	From      int64 `json:"from,omitempty"`
	To        int64 `json:"to,omitempty"`
}

// RefusedReport reports an operation that the search server refuses for good.
func RefusedReport(r search.Refused) Report {
	op := &r.Operation
	report := about(ReportRefused, op)
	report.Routing, report.Delete = op.Routing, op.Kind == dbsync.Delete
	report.Status, report.Type, report.Reason = r.Err.Status, r.Err.Type, r.Err.Reason
	if json.Valid(op.Body) {
		report.Body = op.Body
	}
	return report
}

// NewerReport reports that a document has this version, which is newer than that of op.
func NewerReport(op *dbsync.Operation, found int64) Report {
	report := about(ReportNewer, op)
	report.Routing, report.Found = op.Routing, found
	return report
}

func about(kind ReportKind, op *dbsync.Operation) Report {
	return Report{Kind: kind, Index: op.Index, ID: op.ID, LSN: op.Version.String(), Group: op.Group, Base: op.Base.String()}
}

// Operation returns the operation that a report of the kinds refused and newer is about.
func (r *Report) Operation() (dbsync.Operation, error) {
	op := dbsync.Operation{Index: r.Index, ID: r.ID, Routing: r.Routing, Group: r.Group, Body: r.Body}
	if r.Delete {
		op.Kind = dbsync.Delete
	}
	var errs [2]error
	op.Version, errs[0] = pglogrepl.ParseLSN(r.LSN)
	op.Base, errs[1] = pglogrepl.ParseLSN(r.Base)
	return op, errors.Join(errs[:]...)
}

// Refused returns what a report of the kind refused says.
func (r *Report) Refused() (search.Refused, error) {
	op, err := r.Operation()
	return search.Refused{Operation: op, Err: &search.DocError{Index: r.Index, ID: r.ID, Status: r.Status, Type: r.Type, Reason: r.Reason}}, err
}

// Report appends reports to their topic. It returns the offset of the last one when Kafka has
// acknowledged all of them. A document that the topic does not take is left out of its report, with a
// word of it in the reason.
func (c *Client) Report(ctx context.Context, reports ...Report) (offset int64, err error) {
	offset, err = c.report(ctx, reports...)
	if errors.Is(err, kerr.MessageTooLarge) {
		// They may be too large together only. What was appended comes once more, which does no harm.
		for i := range reports {
			if offset, err = c.report(ctx, reports[i]); errors.Is(err, kerr.MessageTooLarge) {
				offset, err = c.report(ctx, reports[i].withoutDocument())
			}
			if err != nil {
				break
			}
		}
	}
	if err != nil {
		return 0, fmt.Errorf("report to the instance by topic %s: %w", c.o.reports(), err)
	}
	return offset, nil
}

func (r Report) withoutDocument() Report {
	r.Reason += fmt.Sprintf(" (the document has %d bytes, more than the topic of reports takes: max.message.bytes)", len(r.Body))
	r.Body = nil
	return r
}

func (c *Client) report(ctx context.Context, reports ...Report) (offset int64, err error) {
	records := make([]*kgo.Record, 0, len(reports))
	for i := range reports {
		var value bytes.Buffer
		encoder := json.NewEncoder(&value)
		encoder.SetEscapeHTML(false) // a document of markup would have six times its bytes
		if err := encoder.Encode(&reports[i]); err != nil {
			return 0, err
		}
		records = append(records, &kgo.Record{Topic: c.o.reports(), Value: value.Bytes(), Headers: []kgo.RecordHeader{{Key: headerFormat, Value: formatValue}}})
	}
	if err := c.produce(ctx, records...); err != nil {
		if errors.Is(err, kerr.UnknownTopicID) {
			// The topic was made anew. franz-go would ask for the old one for ever.
			c.kafka.PurgeTopicsFromProducing(c.o.reports())
		}
		return 0, err
	}
	for _, r := range records {
		offset = max(offset, r.Offset)
	}
	return offset, nil
}

// A Reported is a report that was read.
type Reported struct {
	Offset int64
	Report
}

// Reports calls f with the reports from an offset on, in their order, those that are there together
// at a time, until ctx ends, f has an error, or reports are gone that were not read: a [*GoneError].
func (c *Client) Reports(ctx context.Context, from int64, f func(ctx context.Context, reports []Reported) error) error {
	reader, err := open(c.o, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{c.o.reports(): {0: kgo.NewOffset().At(from)}}),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()), kgo.FetchMaxBytes(8<<20))
	if err != nil {
		return err
	}
	defer reader.Close()
	for {
		fetches := reader.kafka.PollRecords(ctx, reportsAtATime)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := fetchError(fetches); err != nil {
			return fmt.Errorf("read topic %s from %d on: %w", c.o.reports(), from, err)
		}
		var reports []Reported
		for i := fetches.RecordIter(); !i.Done(); {
			record := i.Next()
			report, err := decodeReport(record)
			if err != nil {
				return err
			}
			reports = append(reports, Reported{record.Offset, *report})
		}
		if len(reports) > 0 {
			if err := f(ctx, reports); err != nil {
				return err
			}
		}
	}
}

// LastBegin returns which instance has begun last to produce to the topic, "" if none is known.
func (c *Client) LastBegin(ctx context.Context) (instance string, err error) {
	ends, err := c.ends(ctx, c.o.reports())
	if err != nil {
		return "", fmt.Errorf("end of topic %s: %w", c.o.reports(), err)
	}
	starts, err := c.starts(ctx, c.o.reports())
	if err != nil || starts[0] == ends[0] {
		return "", err
	}
	err = c.Reports(ctx, starts[0], func(_ context.Context, reports []Reported) error {
		for i := range reports {
			if reports[i].Kind == ReportBegin {
				instance = reports[i].Instance
			}
		}
		if reports[len(reports)-1].Offset+1 >= ends[0] {
			return errRead
		}
		return nil
	})
	if errors.Is(err, errRead) {
		err = nil
	}
	return instance, err
}

// errRead ends Reports when enough was read.
var errRead = errors.New("read")

// reportsAtATime bounds how many reports are taken up together: each may have a document.
const reportsAtATime = 500

func decodeReport(record *kgo.Record) (*Report, error) {
	known := ""
	for _, h := range record.Headers {
		if h.Key == headerFormat {
			known = string(h.Value)
		}
	}
	report := new(Report)
	if err := json.Unmarshal(record.Value, report); err != nil || known != format {
		return nil, &RecordError{Partition: record.Partition, Offset: record.Offset, Text: fmt.Sprintf("it is no report of format %s in topic %s (%v)", format, record.Topic, err)}
	}
	return report, nil
}
