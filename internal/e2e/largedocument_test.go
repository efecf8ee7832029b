package e2e

import (
	"fmt"
	"slices"
	"testing"

	"tidemark/testenv"
)

// TestLargeDocument has one row whose document is far larger than what is taken: it becomes a dead
// letter, whether it comes from the table or by the stream, and takes no memory. It runs the
// command without the race detector, which needs a multiple.
func TestLargeDocument(t *testing.T) {
	megabytes := pick(100, 300)
	const table = `CREATE TABLE items (id bigint PRIMARY KEY, title text, body text)`
	const rows = `INSERT INTO items SELECT i, 'item ' || i, 'small' FROM generate_series(1, 1000) i`
	grow := fmt.Sprintf(`UPDATE items SET body = (SELECT string_agg(repeat(md5(i::text), 1024), '') FROM generate_series(1, %d) i) WHERE id = 500`, megabytes<<20/(32*1024))
	check := func(t *testing.T, s *setup, i *instance) {
		t.Helper()
		peak := i.peak(t)
		t.Logf("peak of memory with a document of %d MB: %d MB", megabytes, peak>>20)
		if peak > 80<<20 {
			t.Errorf("peak of memory is %d MB, want less than 80", peak>>20)
		}
		if kept := s.deadLetters(t); len(kept) != 1 || kept[0] != "500 index 400" {
			t.Errorf("dead letters: %v", kept)
		}
		i.stop(t)
	}
	t.Run("fill", func(t *testing.T) {
		s := newSetup(t, shared(t))
		s.db.Exec(t, table, rows, grow)
		s.index("items", "items", "")
		i := s.startBinary(t, plainBinary(t), "run")
		s.awaitComplete(t, i)
		check(t, s, i)
	})
	t.Run("stream", func(t *testing.T) {
		s := newSetup(t, shared(t))
		s.db.Exec(t, table, rows)
		s.index("items", "items", "")
		i := s.startBinary(t, plainBinary(t), "run")
		s.awaitComplete(t, i)
		s.db.Exec(t, grow)
		s.awaitCaughtUp(t, i)
		check(t, s, i)
	})
}

// TestTooLargeDocument has documents become too large, and small again, in every way in which rows
// come.
func TestTooLargeDocument(t *testing.T) {
	t.Parallel()
	s := newSetup(t, shared(t))
	s.cluster = ", max_document_bytes: 64KiB"
	const long = `(SELECT string_agg(md5(i::text), '') FROM generate_series(1, 2500) i)`      // 80 kB
	const longest = `(SELECT string_agg(md5(i::text), '') FROM generate_series(1, 160000) i)` // 5 MB, which no message of the stream is read with
	const bomb = `(SELECT jsonb_agg('1e130000'::numeric) FROM generate_series(1, 12))`        // 1.5 MB of text, 200 bytes where it is stored
	s.db.Exec(t, `CREATE TABLE items (id bigint PRIMARY KEY, kind text, body text, secret text, data jsonb)`,
		`CREATE TABLE parts (id bigint PRIMARY KEY, item_id bigint, body text)`, `ALTER TABLE parts REPLICA IDENTITY FULL`,
		`INSERT INTO items SELECT i, 'open', 'small', '', NULL FROM generate_series(1, 500) i`,
		`UPDATE items SET body = `+long+` WHERE id = 7`, `UPDATE items SET data = `+bomb+` WHERE id = 11`,
		`UPDATE items SET body = `+long+`, kind = 'closed' WHERE id = 8`,
		`UPDATE items SET secret = `+longest+` WHERE id = 9`,
		`INSERT INTO parts SELECT i, 10, (SELECT string_agg(md5(j::text), '') FROM generate_series(1, 300) j) FROM generate_series(1, 10) i`)
	refused := func(flat, full []string) {
		s.index("flat", "items", ", fields: {secret: false}", testenv.WithFields("secret"), testenv.WithRefused(flat...))
		s.index("full", "items", `, where: 'kind == "open"', fields: [id, body], include: {parts: {table: parts, on: {id: item_id}, value: body}}`, testenv.WithRefused(full...),
			testenv.WithQuery(`SELECT i.id::text, json_build_object('id', i.id, 'body', i.body, 'parts', ARRAY(SELECT body FROM parts p WHERE p.item_id = i.id ORDER BY p.id)) FROM items i WHERE kind = 'open'`))
	}
	letters := func(want ...string) {
		t.Helper()
		got := s.deadLetters(t)
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("dead letters: %v, want %v", got, want)
		}
	}
	refused([]string{"7", "8", "11"}, []string{"7", "10"})
	i := s.start(t, "run")
	s.awaitCaughtUp(t, i)
	s.checkSynced(t)
	letters("7 index 400", "7 index 400", "8 index 400", "10 index 400", "11 index 400")

	// What the stream brings: the message has the row; a value of it is left out; a related row
	// changes; what is large is no part of the document, or of no document.
	s.db.Exec(t, `UPDATE items SET body = `+long+` WHERE id = 20`, `UPDATE items SET body = `+longest+` WHERE id = 21`,
		`INSERT INTO parts SELECT 100, 22, `+long, `UPDATE items SET secret = `+longest+`, body = 'new' WHERE id = 23`,
		`UPDATE items SET kind = 'closed', body = `+longest+` WHERE id = 24`,
		`INSERT INTO items VALUES (600, 'open', `+longest+`, '', NULL)`, `DELETE FROM items WHERE id = 8`,
		`UPDATE items SET data = `+bomb+` WHERE id = 25`)
	refused([]string{"7", "11", "20", "21", "24", "25", "600"}, []string{"7", "10", "20", "21", "22", "600"})
	s.awaitCaughtUp(t, i)
	s.checkSynced(t)
	letters("7 index 400", "7 index 400", "8 index 400", "10 index 400", "11 index 400", "25 index 400",
		"20 index 400", "20 index 400", "21 index 400", "21 index 400", "22 index 400", "24 index 400", "600 index 400", "600 index 400")
	s.start(t, "verify", s.alias("flat")).fail(t, 1, "7 documents differ from the tables")

	// Small again.
	s.db.Exec(t, `UPDATE items SET data = NULL WHERE id IN (11, 25)`, `UPDATE items SET body = 'small again' WHERE id IN (7, 20, 21, 24, 600)`, `DELETE FROM parts WHERE item_id IN (10, 22)`)
	refused(nil, nil)
	s.awaitCaughtUp(t, i)
	s.checkSynced(t)
	s.start(t, "verify", "all").succeed(t)
	i.stop(t)
}
