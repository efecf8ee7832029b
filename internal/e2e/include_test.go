package e2e

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"tidemark/testenv"
)

// albums and customers have rows of all tables of the Chinook sample database in them.
const (
	albums = `,
    include: {
      artist: {table: artist, on: {artist_id: artist_id}, fields: [name]},
      track_count: {table: track, on: {album_id: album_id}, aggregate: count},
      milliseconds: {table: track, on: {album_id: album_id}, aggregate: sum, column: milliseconds},
      cheapest: {table: track, on: {album_id: album_id}, aggregate: min, column: unit_price},
      longest: {table: track, on: {album_id: album_id}, order_by: milliseconds desc, fields: [name]},
      tracks: {table: track, on: {album_id: album_id}, many: nested, order_by: name desc nulls last,
        fields: {composer: false, bytes: false, genre_id: false, media_type_id: false, length: {fields: {ms: {column: milliseconds}}}, kind: {constant: track}},
        include: {
          genre: {table: genre, on: {genre_id: genre_id}, value: name},
          media_type: {table: media_type, on: {media_type_id: media_type_id}, fields: {media_type_id: true, label: {column: name}}},
          playlists: {table: playlist, through: {table: playlist_track, on: {track_id: track_id}, to: {playlist_id: playlist_id}}, value: name}}}}`
	albumsQuery = `
		SELECT a.album_id, json_build_object('album_id', a.album_id, 'title', a.title, 'artist_id', a.artist_id,
			'artist', (SELECT json_build_object('name', r.name) FROM artist r WHERE r.artist_id = a.artist_id),
			'track_count', (SELECT count(*) FROM track t WHERE t.album_id = a.album_id),
			'milliseconds', (SELECT sum(milliseconds) FROM track t WHERE t.album_id = a.album_id),
			'cheapest', (SELECT min(unit_price) FROM track t WHERE t.album_id = a.album_id),
			'longest', (SELECT json_build_object('name', t.name) FROM track t WHERE t.album_id = a.album_id ORDER BY milliseconds DESC, track_id LIMIT 1),
			'tracks', coalesce((SELECT json_agg(json_build_object('track_id', t.track_id, 'name', t.name, 'album_id', t.album_id, 'unit_price', t.unit_price,
				'length', json_build_object('ms', t.milliseconds), 'kind', 'track',
				'genre', (SELECT g.name FROM genre g WHERE g.genre_id = t.genre_id),
				'media_type', (SELECT json_build_object('media_type_id', m.media_type_id, 'label', m.name) FROM media_type m WHERE m.media_type_id = t.media_type_id),
				'playlists', coalesce((SELECT json_agg(p.name ORDER BY p.playlist_id) FROM playlist_track pt JOIN playlist p USING (playlist_id) WHERE pt.track_id = t.track_id), '[]'))
				ORDER BY t.name DESC NULLS LAST, t.track_id) FROM track t WHERE t.album_id = a.album_id), '[]'))
		FROM album a`

	customers = `,
    fields: {address: {fields: {street: {column: address}, city: true, country: true}}, phone: false, fax: false, postal_code: false},
    include: {
      support: {table: employee, on: {support_rep_id: employee_id}, fields: [first_name, last_name],
        include: {boss: {table: employee, on: {reports_to: employee_id}, value: last_name}}},
      big_invoices: {table: invoice, on: {customer_id: customer_id}, aggregate: count, where: total > 5},
      invoices: {table: invoice, on: {customer_id: customer_id}, many: object, order_by: "invoice_date desc, invoice_id", limit: 5, where: "billing_country IS DISTINCT FROM 'Chile'",
        fields: [invoice_id, invoice_date, total],
        include: {lines: {table: invoice_line, on: {invoice_id: invoice_id}, many: object, fields: [unit_price, quantity],
          include: {track: {table: track, on: {track_id: track_id}, fields: [name], include: {album: {table: album, on: {album_id: album_id}, value: title}}}}}}}}`
	customersQuery = `
		SELECT c.customer_id, json_build_object('customer_id', c.customer_id, 'first_name', c.first_name, 'last_name', c.last_name, 'company', c.company,
			'state', c.state, 'email', c.email, 'support_rep_id', c.support_rep_id, 'address', json_build_object('street', c.address, 'city', c.city, 'country', c.country),
			'support', (SELECT json_build_object('first_name', e.first_name, 'last_name', e.last_name,
				'boss', (SELECT b.last_name FROM employee b WHERE b.employee_id = e.reports_to)) FROM employee e WHERE e.employee_id = c.support_rep_id),
			'big_invoices', (SELECT count(*) FROM invoice i WHERE i.customer_id = c.customer_id AND i.total > 5),
			'invoices', coalesce((SELECT json_agg(json_build_object('invoice_id', i.invoice_id, 'invoice_date', i.invoice_date, 'total', i.total,
				'lines', coalesce((SELECT json_agg(json_build_object('unit_price', l.unit_price, 'quantity', l.quantity,
					'track', (SELECT json_build_object('name', t.name, 'album', (SELECT a.title FROM album a WHERE a.album_id = t.album_id)) FROM track t WHERE t.track_id = l.track_id))
					ORDER BY l.invoice_line_id) FROM invoice_line l WHERE l.invoice_id = i.invoice_id), '[]'))
				ORDER BY i.invoice_date DESC, i.invoice_id)
				FROM (SELECT * FROM invoice i WHERE i.customer_id = c.customer_id AND billing_country IS DISTINCT FROM 'Chile' ORDER BY i.invoice_date DESC, i.invoice_id LIMIT 5) i), '[]'))
		FROM customer c`
)

// newAlbums loads the sample database, with indices whose documents have related rows.
func newAlbums(t testing.TB, search *testenv.SearchServer) *setup {
	t.Helper()
	s := newChinook(t, search)
	clear(s.indices)
	clear(s.options)
	clear(s.tables)
	for _, table := range []string{"track", "invoice", "invoice_line"} {
		s.db.Exec(t, "ALTER TABLE "+table+" REPLICA IDENTITY FULL")
	}
	s.db.Exec(t, "CREATE INDEX ON playlist_track (track_id)", "CREATE INDEX ON customer (support_rep_id)", "CREATE INDEX ON invoice_line (track_id)", "ANALYZE")
	s.index("albums", "album", albums, testenv.WithQuery(albumsQuery))
	s.index("customers", "customer", customers, testenv.WithQuery(customersQuery))
	return s
}

// TestInclude fills indices whose documents have related rows, changes all tables at
// random, and kills the command meanwhile.
func TestInclude(t *testing.T) {
	s := newAlbums(t, shared(t))
	binary(t)
	s.once(t)
	s.checkSynced(t)

	l := newLoad(t, s.db, chinookTables...)
	l.connections, l.statements, l.pause = 2, 4, 30*time.Millisecond
	random := rand.New(rand.NewPCG(l.seed, 1<<32))
	end := l.begin(t)
	for range pick(8, 40) {
		args := []string{"run"}
		if random.IntN(3) == 0 {
			args = append(args, "--reindex", "all")
		}
		i := s.start(t, args...)
		i.mayLog(t, "following the slot", 8*time.Second)
		time.Sleep(time.Duration(random.IntN(3000)) * time.Millisecond)
		i.kill()
	}
	i := s.start(t, "run")
	time.Sleep(time.Duration(pick(5, 60)) * time.Second) // of load without a kill
	end()
	s.awaitCaughtUp(t, i)
	s.checkSynced(t)
	i.stop(t)
}

// newHangingNotes has an index of rows with two related rows each, on a server on which
// commits can be made to hang.
func newHangingNotes(t *testing.T, rows int, more string) *setup {
	t.Helper()
	s := newHangingSetup(t)
	s.db.Exec(t, `CREATE TABLE a (id int PRIMARY KEY, v text)`, fmt.Sprintf(`INSERT INTO a SELECT i, 'old' FROM generate_series(1, %d) i`, rows),
		`CREATE TABLE b (id int PRIMARY KEY, a_id int, note text)`, `ALTER TABLE b REPLICA IDENTITY FULL`, `CREATE INDEX ON b (a_id)`,
		fmt.Sprintf(`INSERT INTO b SELECT i, (i + 1) / 2, 'old' FROM generate_series(1, %d) i`, 2*rows))
	s.index("a", "a", `, include: {notes: {table: b, on: {id: a_id}, value: note}}`+more, testenv.WithQuery(
		`SELECT id, json_build_object('id', id, 'v', v, 'notes', coalesce((SELECT json_agg(note ORDER BY b.id) FROM b WHERE a_id = a.id), '[]')) FROM a`))
	return s
}

// TestRelatedWhileACommitHangs changes rows that are in a document, in transactions that
// become visible in another order than they were committed in. What is read for the sake
// of the later one must show the earlier one, too.
func TestRelatedWhileACommitHangs(t *testing.T) {
	t.Parallel()
	const related = `UPDATE b SET note = 'hung' WHERE id = 1`
	tests := []struct {
		name    string
		hangs   string // a change whose commit hangs
		commits string // one after it that is visible before it
		running bool   // both are streamed one by one; else in one batch
	}{
		{name: "in one batch", hangs: related, commits: `UPDATE b SET note = 'committed' WHERE id = 2`},
		{name: "one by one", hangs: related, commits: `UPDATE b SET note = 'committed' WHERE id = 2`, running: true},
		{name: "root row deleted", hangs: `DELETE FROM a WHERE id = 1`, commits: `UPDATE b SET note = 'committed' WHERE id = 2`, running: true},
		{name: "root row changed", hangs: `UPDATE a SET v = 'hung' WHERE id = 1`, commits: `UPDATE b SET note = 'committed' WHERE id = 2`},
		{name: "linked to another row", hangs: `UPDATE b SET a_id = 2 WHERE id = 1`, commits: `UPDATE b SET note = 'committed' WHERE id = 2`},
	}
	for _, test := range tests {
		t.Run(strings.ReplaceAll(test.name, " ", "-"), func(t *testing.T) {
			s := newHangingNotes(t, 100, "")
			s.once(t)
			var i *instance
			if test.running {
				i = s.start(t, "run")
				s.primed(t, i)
			}
			// What a table is like is learned with its first change, and that waits until the
			// change is visible.
			s.db.Exec(t, `UPDATE b SET note = 'first' WHERE id = 50`, `UPDATE a SET v = 'first' WHERE id = 50`)
			if test.running {
				s.awaitCaughtUp(t, i)
			}
			h := s.hang(t, test.hangs)
			s.db.Exec(t, `SET synchronous_commit = local`, test.commits)
			if !test.running {
				i = s.start(t, "run")
				i.awaitLog(t, "following the slot")
			}
			time.Sleep(time.Second) // what does not wait is written by now
			h.hangs(t)
			h.release(t)
			s.awaitCaughtUp(t, i)
			s.checkSynced(t)
			i.stop(t)
		})
	}
}

// TestRelatedCommitHangsWhileFilling has related rows of all documents changed while an
// index is filled, by a commit that hangs: a chunk that does not show it is read again.
func TestRelatedCommitHangsWhileFilling(t *testing.T) {
	t.Parallel()
	s := newHangingNotes(t, 20_000, ", reindex: {chunk: 200}")
	i := s.start(t, "run")
	i.awaitLog(t, "following the slot")
	s.db.Exec(t, `UPDATE b SET note = 'first' WHERE id = 50`)
	i.awaitLog(t, "stored a chunk")
	h := s.hang(t, `UPDATE b SET note = 'hung'`)
	if complete, err := s.complete(t.Context()); err != nil || complete {
		t.Skipf("the backfill was faster than the commit: %v", err)
	}
	time.Sleep(time.Second) // a chunk that is not read again is handed on by now
	h.hangs(t)
	h.release(t)
	s.awaitCaughtUp(t, i)
	s.checkSynced(t)
	i.stop(t)
}
