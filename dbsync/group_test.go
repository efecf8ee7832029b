package dbsync

import (
	"testing"

	"github.com/jackc/pglogrepl"
	"pgregory.net/rapid"
)

func groupsOf(max bounds, msgs []message) (groups []uint32, last []bool) {
	g := grouper{max: max}
	for i := range msgs {
		m := msgs[i]
		g.add(&m)
		groups, last = append(groups, m.group), append(last, m.last)
	}
	return groups, last
}

func TestGroups(t *testing.T) {
	kinds := func(text string) (msgs []message) {
		for _, k := range text {
			size := 1
			if k == 'X' { // a large one
				k, size = 'I', 100
			}
			msgs = append(msgs, message{kind: pglogrepl.MessageType(k), xid: 1, data: make([]byte, size)})
		}
		return msgs
	}
	for _, test := range []struct {
		name, msgs, groups, ends string
	}{
		{"small", "BIC", "000", "..|"},
		{"as many as fit", "BIUDC", "00000", "...||"},
		{"one more", "BIUDIC", "000011", "...|.|"},
		{"two groups", "BIUDIUDC", "00001111", "...|..||"},
		{"what describes tables does not count", "BRIRURDRIC", "0000000111", "......|..|"},
		{"nor what sessions write", "BMIMUMDC", "00000000", "......||"},
		{"truncation", "BTTTIC", "000011", "...|.|"},
		{"a large change ends the group", "BXIIIC", "001111", ".|..||"},
		{"of several", "BIXIXXC", "0001122", "..|.|||"},
		{"the next transaction begins anew", "BIUDICBIC", "000011000", "...|.|..|"},
		{"one that is broken off", "BIUDIBIC", "00001000", "...|...|"},
	} {
		groups, last := groupsOf(bounds{3, 50}, kinds(test.msgs))
		var gotGroups, gotEnds []byte
		for i := range groups {
			gotGroups = append(gotGroups, '0'+byte(groups[i]))
			if last[i] {
				gotEnds = append(gotEnds, '|')
			} else {
				gotEnds = append(gotEnds, '.')
			}
		}
		if string(gotGroups) != test.groups || string(gotEnds) != test.ends {
			t.Errorf("%s: %s is %s, %s; want %s, %s", test.name, test.msgs, gotGroups, gotEnds, test.groups, test.ends)
		}
	}
}

// However messages are received, peeked at and forwarded, a transaction has the same groups, and
// who asks for whole groups gets nothing else in the end, whatever the queue has room for.
func TestWholeGroups(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		max := bounds{rapid.IntRange(1, 5).Draw(t, "messages"), rapid.IntRange(1, 60).Draw(t, "bytes")}
		var all []message
		g := grouper{max: max}
		for xid := range uint32(rapid.IntRange(1, 4).Draw(t, "transactions")) {
			add := func(kind pglogrepl.MessageType, size int) {
				m := message{kind: kind, xid: xid + 1, data: make([]byte, size)}
				g.add(&m)
				all = append(all, m)
			}
			add(pglogrepl.MessageTypeBegin, 21)
			for range rapid.IntRange(0, 20).Draw(t, "changes") {
				add(rapid.SampledFrom([]pglogrepl.MessageType{'I', 'U', 'D', 'T', 'R', 'M'}).Draw(t, "kind"), rapid.IntRange(1, 40).Draw(t, "size"))
			}
			add(pglogrepl.MessageTypeCommit, 26)
		}
		q := newQueue(bounds{queueBatches * max.messages, queueBatches * max.bytes}, 0)
		pushed, taken := 0, 0
		for taken < len(all) {
			var g gathered
			cursor := q.head()
			for len(g.msgs) == 0 {
				if err := q.peekGroups(cursor, max, &g); err != nil {
					t.Fatal(err)
				}
				if len(g.msgs) > 0 {
					break
				}
				if pushed == len(all) || !q.fits(len(all[pushed].data)) {
					t.Fatalf("no group is whole, %d messages are in the queue, and no more is taken", q.length())
				}
				if err := q.push(t.Context(), all[pushed]); err != nil {
					t.Fatal(err)
				}
				pushed++
			}
			// More may join it later.
			for range rapid.IntRange(0, 10).Draw(t, "later") {
				if pushed < len(all) && q.fits(len(all[pushed].data)) {
					if err := q.push(t.Context(), all[pushed]); err != nil {
						t.Fatal(err)
					}
					pushed++
				}
			}
			if err := q.peekGroups(cursor, max, &g); err != nil {
				t.Fatal(err)
			}
			batch, bytes := g.msgs, 0
			for i := range batch {
				bytes += len(batch[i].data)
			}
			if bytes != g.bytes || !batch[len(batch)-1].endsGroup() {
				t.Fatalf("%d messages of %d bytes were gathered, and %d counted; the last one is %+v", len(batch), bytes, g.bytes, batch[len(batch)-1])
			}
			for i := range batch {
				if want := &all[taken+i]; batch[i].group != want.group || batch[i].kind != want.kind {
					t.Fatalf("message %d is of group %d, want %d", taken+i, batch[i].group, want.group)
				}
			}
			// Before the last group there was room.
			before, size := 0, 0
			for i, n := 0, 0; i < len(batch)-1; i++ {
				n += len(batch[i].data)
				if batch[i].endsGroup() {
					before, size = i+1, n
				}
			}
			if before > 0 && (before >= max.messages || size >= max.bytes) {
				t.Fatalf("%d messages of %d bytes fill a batch, and another group joined them", before, size)
			}
			if err := q.forward(len(batch)); err != nil {
				t.Fatal(err)
			}
			taken += len(batch)
		}
	})
}
