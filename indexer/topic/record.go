package topic

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pglogrepl"
	"github.com/twmb/franz-go/pkg/kgo"

	"tidemark/dbsync"
	"tidemark/indexer/search"
)

// format is the version of what records and reports look like. A reader that does not know it must
// not guess.
const format = "1"

// Names of headers.
const (
	headerFormat  = "tm"      // see format
	headerKind    = "kind"    // see kind
	headerVersion = "version" // that the search server compares, decimal
	headerLSN     = "lsn"     // where the transaction was committed that caused it, as Postgres prints it
	headerBase    = "base"    // where the index begins to count versions; left out where that is 0
	headerRouting = "routing" // left out where there is none
	headerEpoch   = "epoch"   // of the instance that has written it, see [Producer]
)

// A kind says what a record is.
type kind string

const (
	kindStore    kind = "store"    // the value is the document
	kindDelete   kind = "delete"   // the document is to be removed; there is no value
	kindTruncate kind = "truncate" // see [Producer.Truncate]
	kindEpoch    kind = "epoch"    // what comes after it with a lower epoch does not count
)

// A record is one that was read. It refers to the storage of the one of franz-go.
type record struct {
	kind      kind
	op        dbsync.Operation // of a store, a delete or a truncate
	epoch     int64
	partition int32
	offset    int64
	leader    int32 // the epoch of the partition's leader, which is committed with the offset
	bytes     int
}

// A RecordError reports a record that is none of ours, or of a version that is not known here.
type RecordError struct {
	Partition int32
	Offset    int64
	Text      string
}

func (e *RecordError) Error() string {
	return fmt.Sprintf("record %d of partition %d: %s; hint: nobody else may write to the topic, and workers are to be updated before the instance that follows the slot", e.Offset, e.Partition, e.Text)
}

// Permanent marks it for dbsync.IsPermanent.
func (e *RecordError) Permanent() bool { return true }

// decode reads a record. Its error is a [*RecordError].
func decode(r *kgo.Record) (record, error) {
	rec := record{partition: r.Partition, offset: r.Offset, leader: r.LeaderEpoch, bytes: len(r.Key) + len(r.Value)}
	wrong := func(format string, args ...any) (record, error) {
		return rec, &RecordError{Partition: r.Partition, Offset: r.Offset, Text: fmt.Sprintf(format, args...)}
	}
	var known, version string
	var err error
	op := &rec.op
	for i := range r.Headers {
		h := &r.Headers[i]
		switch h.Key {
		case headerFormat:
			known = string(h.Value)
		case headerKind:
			rec.kind = kind(h.Value)
		case headerVersion:
			version = string(h.Value)
		case headerLSN:
			op.Version, err = pglogrepl.ParseLSN(string(h.Value))
		case headerBase:
			op.Base, err = pglogrepl.ParseLSN(string(h.Value))
		case headerRouting:
			op.Routing = string(h.Value)
		case headerEpoch:
			rec.epoch, err = strconv.ParseInt(string(h.Value), 10, 64)
		}
		if err != nil {
			return wrong("header %s: %v", h.Key, err)
		}
	}
	if known != format {
		return wrong("its format is %q, and %s is the one that is known", known, format)
	}
	if rec.kind == kindEpoch {
		return rec, nil
	}
	index, id, ok := strings.Cut(string(r.Key), "/")
	if !ok {
		return wrong("its key is not that of a document")
	}
	op.Index, op.ID, op.Body = index, id, r.Value
	switch rec.kind {
	case kindStore:
	case kindDelete:
		op.Kind = dbsync.Delete
	case kindTruncate:
		op.Kind = dbsync.Truncate
	default:
		return wrong("its kind %q is not known", rec.kind)
	}
	number, err := strconv.ParseInt(version, 10, 64)
	if err != nil {
		return wrong("header %s: %v", headerVersion, err)
	}
	op.Group = search.GroupOf(number)
	if of, err := search.Version(op); err != nil || of != number {
		return wrong("its version is %d, and that of %s with base %s is %d", number, op.Version, op.Base, of)
	}
	return rec, nil
}

// A partitioner says in which partition a key is, as the producers of Kafka do: murmur2 of the key,
// without the sign, modulo the number of partitions.
type partitioner struct {
	of         kgo.TopicPartitioner
	partitions int
}

func newPartitioner(partitions int) partitioner {
	return partitioner{of: kgo.StickyKeyPartitioner(nil).ForTopic(""), partitions: partitions}
}

// partition returns that of a key. It is safe for concurrent use: only what has no key has state.
func (p partitioner) partition(key []byte) int32 {
	r := kgo.Record{Key: key}
	return p.at(&r)
}

func (p partitioner) at(r *kgo.Record) int32 { return int32(p.of.Partition(r, p.partitions)) }

// A writer makes records. What it has made is valid until it is reset.
type writer struct {
	partitioner
	epoch   []byte // the value of the header
	records []kgo.Record
	headers []kgo.RecordHeader
	text    []byte // keys, and values of headers
}

// forget lets go of documents.
func (w *writer) forget() { clear(w.records) }

// reset has it begin anew, with room for n records: they are pointed to while others are added.
func (w *writer) reset(n int) {
	w.forget()
	w.records = slices.Grow(w.records[:0], n)
	w.headers = slices.Grow(w.headers[:0], n*mostHeaders)
	w.text = w.text[:0]
}

// mostHeaders is how many headers a record has at most.
const mostHeaders = 7

var (
	formatValue                                        = []byte(format)
	storeValue, deleteValue, truncateValue, epochValue = []byte(kindStore), []byte(kindDelete), []byte(kindTruncate), []byte(kindEpoch)
)

// add makes the record of an operation that may be sent, see [search.Unsendable].
func (w *writer) add(op *dbsync.Operation) (*kgo.Record, error) {
	k := storeValue
	switch op.Kind {
	case dbsync.Delete:
		k = deleteValue
	case dbsync.Truncate:
		k = truncateValue
	}
	version, err := search.Version(op)
	if err != nil {
		return nil, err
	}
	// The storage may move while it grows: what was made before keeps the one that it has.
	from := len(w.headers)
	w.headers = append(w.headers, kgo.RecordHeader{Key: headerFormat, Value: formatValue}, kgo.RecordHeader{Key: headerKind, Value: k},
		kgo.RecordHeader{Key: headerVersion, Value: w.put(func(b []byte) []byte { return strconv.AppendInt(b, version, 10) })},
		kgo.RecordHeader{Key: headerLSN, Value: w.put(func(b []byte) []byte { return appendLSN(b, op.Version) })},
		kgo.RecordHeader{Key: headerEpoch, Value: w.epoch})
	if op.Base != 0 {
		w.headers = append(w.headers, kgo.RecordHeader{Key: headerBase, Value: w.put(func(b []byte) []byte { return appendLSN(b, op.Base) })})
	}
	if op.Routing != "" {
		w.headers = append(w.headers, kgo.RecordHeader{Key: headerRouting, Value: w.put(func(b []byte) []byte { return append(b, op.Routing...) })})
	}
	w.records = append(w.records, kgo.Record{
		Key:     w.put(func(b []byte) []byte { return appendKey(b, op.Index, op.ID) }),
		Headers: w.headers[from:len(w.headers):len(w.headers)],
	})
	r := &w.records[len(w.records)-1]
	if op.Kind == dbsync.Store {
		r.Value = op.Body
	}
	r.Partition = w.at(r)
	return r, nil
}

// put appends to the storage of texts, and returns what was appended.
func (w *writer) put(f func([]byte) []byte) []byte {
	from := len(w.text)
	w.text = f(w.text)
	return w.text[from:len(w.text):len(w.text)]
}

// appendKey appends the key of a document: a name of an index has no slash.
func appendKey(b []byte, index, id string) []byte {
	return append(append(append(b, index...), '/'), id...)
}

// appendLSN appends a position as Postgres prints it.
func appendLSN(b []byte, lsn pglogrepl.LSN) []byte {
	from := len(b)
	b = strconv.AppendUint(b, uint64(lsn)>>32, 16)
	b = append(b, '/')
	b = strconv.AppendUint(b, uint64(lsn)&0xffffffff, 16)
	for i := from; i < len(b); i++ {
		if b[i] >= 'a' {
			b[i] -= 'a' - 'A'
		}
	}
	return b
}
