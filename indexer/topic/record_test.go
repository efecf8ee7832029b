package topic

import (
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pglogrepl"
	"github.com/twmb/franz-go/pkg/kgo"
	"pgregory.net/rapid"

	"tidemark/dbsync"
	"tidemark/indexer/search"
)

// operations draws operations that may be sent.
func operations() *rapid.Generator[dbsync.Operation] {
	return rapid.Custom(func(t *rapid.T) dbsync.Operation {
		op := dbsync.Operation{
			Kind:    rapid.SampledFrom([]dbsync.Kind{dbsync.Store, dbsync.Delete}).Draw(t, "kind"),
			Index:   rapid.StringMatching(`[a-z]{1,9}-[0-9T]{1,9}`).Draw(t, "index"),
			ID:      rapid.StringN(1, 40, 512).Draw(t, "id"),
			Routing: rapid.StringN(0, 9, -1).Draw(t, "routing"),
			Version: pglogrepl.LSN(rapid.Uint64Range(0, 1<<50).Draw(t, "lsn")),
			Group:   rapid.Uint32Range(0, search.MaxGroup).Draw(t, "group"),
			Base:    pglogrepl.LSN(rapid.Uint64Range(0, 1<<50).Draw(t, "base")),
		}
		if op.Version < op.Base {
			op.Group = 0 // the version 0 names none
		}
		if op.Kind == dbsync.Store {
			op.Body = []byte(`{"a":1}`)
		}
		return op
	})
}

// What is read of a record is the operation that it was made of, and so is its version.
func TestRecord(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ops := rapid.SliceOfN(operations(), 1, 20).Draw(t, "ops")
		places := newPartitioner(rapid.IntRange(1, 50).Draw(t, "partitions"))
		w := writer{partitioner: places, epoch: []byte("7")}
		for range 2 { // the storage is used again
			w.reset(len(ops))
			for i := range ops {
				if _, err := w.add(&ops[i]); err != nil {
					t.Fatal(err)
				}
			}
			for i := range w.records {
				got, err := decode(&w.records[i])
				if err != nil {
					t.Fatal(err)
				}
				want := ops[i]
				if got.epoch != 7 || got.op.Kind != want.Kind || got.op.Index != want.Index || got.op.ID != want.ID || got.op.Routing != want.Routing ||
					got.op.Version != want.Version || got.op.Group != want.Group || got.op.Base != want.Base || string(got.op.Body) != string(want.Body) {
					t.Fatalf("%+v, want %+v", got, want)
				}
				if w.records[i].Partition != places.partition([]byte(want.Index+"/"+want.ID)) {
					t.Fatal("the partition does not follow from index and id alone")
				}
			}
		}
	})
}

// The partitions are those that every producer of Kafka would choose: these are of its own tests of murmur2.
func TestPartition(t *testing.T) {
	for key, hash := range map[string]int32{"21": -973932308, "foobar": -790332482, "a-little-bit-long-string": -985981536, "a-little-bit-longer-string": -1486304829,
		"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971} {
		if got, want := newPartitioner(1000).partition([]byte(key)), (hash&0x7fffffff)%1000; got != want {
			t.Errorf("%s is in partition %d, want %d", key, got, want)
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	header := func(pairs ...string) (headers []kgo.RecordHeader) {
		for i := 0; i < len(pairs); i += 2 {
			headers = append(headers, kgo.RecordHeader{Key: pairs[i], Value: []byte(pairs[i+1])})
		}
		return headers
	}
	for _, test := range []struct {
		name, key, want string
		headers         []kgo.RecordHeader
	}{
		{"somebody else's", "k", "format", nil},
		{"a later format", "i/1", "format", header("tm", "2")},
		{"no key of a document", "k", "key", header("tm", "1", "kind", "store", "version", "0", "lsn", "0/0")},
		{"an unknown kind", "i/1", "kind", header("tm", "1", "kind", "merge", "version", "0", "lsn", "0/0")},
		{"no position", "i/1", "lsn", header("tm", "1", "kind", "store", "version", "0", "lsn", "zero")},
		{"no version", "i/1", "version", header("tm", "1", "kind", "store", "lsn", "0/0")},
		{"another version", "i/1", "version", header("tm", "1", "kind", "store", "version", "99", "lsn", "0/20")},
		{"no epoch", "i/1", "epoch", header("tm", "1", "epoch", "x")},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := decode(&kgo.Record{Key: []byte(test.key), Headers: test.headers, Partition: 3, Offset: 5})
			var of *RecordError
			if !errors.As(err, &of) || of.Partition != 3 || of.Offset != 5 || !strings.Contains(of.Text, test.want) || !dbsync.IsPermanent(err) {
				t.Errorf("%v", err)
			}
		})
	}
}
