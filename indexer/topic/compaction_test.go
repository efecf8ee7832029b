package topic

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pglogrepl"

	"tidemark/dbsync"
)

// recordsOf reads records of one index from words: a document and its commit, with ! a deletion and with / a
// routing; T and a commit are a truncation.
func recordsOf(partition int32, words string) *part {
	p := &part{claim: &claim{partition: partition}}
	for word := range strings.FieldsSeq(words) {
		name, commit, _ := strings.Cut(word, "@")
		rec := record{kind: kindStore, partition: partition, op: dbsync.Operation{Index: "i"}}
		var number int
		fmt.Sscan(commit, &number)
		rec.op.Version = pglogrepl.LSN(number * 32)
		if name, ok := strings.CutPrefix(name, "!"); ok {
			rec.kind, rec.op.Kind, rec.op.ID = kindDelete, dbsync.Delete, name
		} else if name == "T" {
			rec.kind, rec.op.Kind = kindTruncate, dbsync.Truncate
		} else {
			rec.op.ID, rec.op.Routing, _ = strings.Cut(name, "/")
		}
		p.records = append(p.records, rec)
	}
	return p
}

func (r *round) words() string {
	var words []string
	for i := range r.ops {
		op := &r.ops[i]
		word := op.ID
		if op.Kind == dbsync.Delete {
			word = "!" + word
		}
		if op.Routing != "" {
			word += "/" + op.Routing
		}
		words = append(words, fmt.Sprint(word, "@", uint64(op.Version)/32))
	}
	for _, t := range r.truncations {
		words = append(words, fmt.Sprintf("T@%d%v", uint64(t.op.Version)/32, t.partitions))
	}
	return strings.Join(words, " ")
}

func TestRounds(t *testing.T) {
	for _, test := range []struct {
		name    string
		parts   []string
		want    string // rounds, with | between
		dropped int
	}{
		{"nothing", []string{""}, "", 0},
		{"the highest version counts", []string{"a@1 b@1 a@3 a@2"}, "a@3 b@1", 2},
		{"of equal ones the later", []string{"!a@0 a@0"}, "a@0", 1},
		{"a deletion", []string{"a@1 !a@2"}, "!a@2", 1},
		{"a deletion that is older", []string{"a@3 !a@2"}, "a@3", 1},
		{"both routings stay", []string{"a/x@1 a/y@2 a/x@3"}, "a/x@3 a/y@2", 1},
		{"partitions together", []string{"a@1 b@2", "c@1"}, "a@1 b@2 c@1", 0},
		{"a truncation comes after what was before it, and before the rest", []string{"a@1 T@2 a@3"}, "a@1 T@2[0] | a@3", 0},
		{"no compaction across it", []string{"a@1 T@2 a@3 a@4"}, "a@1 T@2[0] | a@4", 1},
		{"one truncation of all partitions is done at once", []string{"a@1 T@2 a@3", "b@1 T@2"}, "a@1 b@1 T@2[0 1] | a@3", 0},
		{"two of them", []string{"T@2 T@3", "T@3"}, "T@2[0] T@3[1] | T@3[0]", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			var parts []*part
			for i, words := range test.parts {
				parts = append(parts, recordsOf(int32(i), words))
			}
			c := newCut(parts)
			var got []string
			for {
				r, ok := c.next()
				if !ok {
					break
				}
				got = append(got, r.words())
			}
			if text := strings.Join(got, " | "); text != test.want || c.dropped != test.dropped {
				t.Errorf("%s, %d dropped; want %s, %d", text, c.dropped, test.want, test.dropped)
			}
		})
	}
}

func TestRemembered(t *testing.T) {
	for metadata, want := range map[string]struct {
		epoch int64
		id    string
	}{
		mark{epoch: 12}.metadata("0af3"): {12, "0af3"}, "": {}, "kgo-7a": {}, "epoch=x topic=1": {0, "1"}, "epoch=4": {4, ""},
	} {
		if epoch, id := remembered(metadata); epoch != want.epoch || id != want.id {
			t.Errorf("%q: %d %q, want %+v", metadata, epoch, id, want)
		}
	}
}

func TestInLog(t *testing.T) {
	for _, test := range []struct {
		offset, start, end, from int64
		gone                     string
	}{
		{5, 0, 9, 5, ""}, {0, 0, 0, 0, ""}, {9, 0, 9, 9, ""}, {0, 4, 9, 4, "0-4"}, {3, 4, 9, 4, "3-4"}, {12, 4, 9, 4, "9-12"},
	} {
		from, gone := inLog(test.offset, test.start, test.end)
		text := ""
		if gone != nil {
			text = fmt.Sprint(gone.From, "-", gone.To)
		}
		if from != test.from || text != test.gone {
			t.Errorf("%+v: from %d, gone %s", test, from, text)
		}
	}
}
