package control

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"

	"tidemark/dbsync"
	"tidemark/indexer/retry"
	"tidemark/indexer/search"
)

const (
	// One insert takes no more than this; a batch may be refused as a whole.
	deadLetterRows  = 1000
	deadLetterBytes = 8 << 20
)

// DeadLetters keeps operations that the search server refuses for good, in a table of
// the control schema. It is safe for concurrent use.
type DeadLetters struct {
	schema *Schema
	table  string
	alarm  *retry.Alarm
}

// A DeadLetter is one refused operation.
type DeadLetter struct {
	Row       int64 // the table's key, ascending in time
	Index     string
	ID        string
	Routing   string
	Delete    bool
	Version   pglogrepl.LSN
	Status    int
	Type      string
	Reason    string
	Body      []byte // nil for a delete, or where it was not asked for
	CreatedAt time.Time
	Attempts  int // how often the same version was refused
}

// DeadLetters returns the dead letters of a control schema. alarm shows when
// Postgres does not take them.
func (s *Schema) DeadLetters(alarm *retry.Alarm) *DeadLetters {
	return &DeadLetters{schema: s, table: s.table("dead_letters"), alarm: alarm}
}

// Keep stores refused operations, durably when it returns nil. The same version of a
// document is kept once, however often it comes: a batch is repeated after a crash.
// While Postgres is away Keep waits, until ctx ends. It is the OnRefused of a [search.Bulk].
func (d *DeadLetters) Keep(ctx context.Context, refused []search.Refused) error {
	for len(refused) > 0 {
		n, bytes := 0, 0
		for n < len(refused) && n < deadLetterRows && (n == 0 || bytes < deadLetterBytes) {
			bytes += len(refused[n].Operation.Body)
			n++
		}
		if err := d.keep(ctx, refused[:n]); err != nil {
			return fmt.Errorf("keep %d dead letters in %s: %w", n, d.table, err)
		}
		refused = refused[n:]
	}
	return nil
}

func (d *DeadLetters) keep(ctx context.Context, refused []search.Refused) error {
	// One statement must not meet the same key twice.
	seen := make(map[string]bool, len(refused))
	var (
		keys                                                    [][]byte
		indices, ids, routings, kinds, versions, types, reasons []string
		documents                                               []*string
		statuses                                                []int32
	)
	for i := range refused {
		op, why := &refused[i].Operation, refused[i].Err
		key := documentKey(op)
		if distinct := string(key) + op.Version.String(); seen[distinct] {
			continue
		} else {
			seen[distinct] = true
		}
		kind, document := "delete", (*string)(nil)
		if op.Kind != dbsync.Delete {
			text := storable(string(op.Body))
			kind, document = "index", &text
		}
		keys = append(keys, key)
		indices = append(indices, storable(op.Index))
		ids = append(ids, storable(op.ID))
		routings = append(routings, storable(op.Routing))
		kinds = append(kinds, kind)
		versions = append(versions, op.Version.String())
		statuses = append(statuses, int32(why.Status))
		types = append(types, storable(why.Type))
		reasons = append(reasons, storable(why.Reason))
		documents = append(documents, document)
	}
	statement := `
		INSERT INTO ` + d.table + ` AS d (document_key, index_name, doc_id, routing, operation, version, status, type, reason, document)
		SELECT k, i, n, r, o, v::pg_lsn, s, t, w, b
		FROM unnest($1::bytea[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::int[], $8::text[], $9::text[], $10::text[])
		     AS new (k, i, n, r, o, v, s, t, w, b)
		ON CONFLICT (document_key, version) DO UPDATE
		SET attempts = d.attempts + 1, operation = excluded.operation, status = excluded.status,
		    type = excluded.type, reason = excluded.reason, document = excluded.document`
	// A commit whose answer was lost is repeated, too, which costs a wrong number of attempts
	// and nothing else.
	return retry.Do(ctx, d.alarm, "Postgres does not take dead letters", func(ctx context.Context) error {
		_, err := d.schema.exec(ctx, statement, keys, indices, ids, routings, kinds, versions, statuses, types, reasons, documents)
		return err
	})
}

// documentKey is the same for two operations exactly when they are of one document.
func documentKey(op *dbsync.Operation) []byte {
	h := sha256.New()
	for _, part := range []string{op.Index, op.ID, op.Routing} {
		var length [8]byte
		binary.BigEndian.PutUint64(length[:], uint64(len(part)))
		h.Write(length[:])
		h.Write([]byte(part))
	}
	return h.Sum(nil)
}

// storable makes s fit a text column: a server may quote half a rune, or a NUL.
func storable(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "")
}

// Counts returns the number of dead letters that match the filter, by write alias. An alias
// without any is not in it.
func (d *DeadLetters) Counts(ctx context.Context, f LetterFilter) (map[string]int64, error) {
	where, args := f.where()
	rows, err := d.schema.db.QueryContext(ctx, `SELECT index_name, count(*) FROM `+d.table+` WHERE `+where+` GROUP BY index_name`, args...)
	if err != nil {
		return nil, fmt.Errorf("count dead letters: %w", err)
	}
	defer rows.Close()
	counts := make(map[string]int64)
	for rows.Next() {
		var index string
		var n int64
		if err := rows.Scan(&index, &n); err != nil {
			return nil, fmt.Errorf("count dead letters: %w", err)
		}
		counts[index] = n
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("count dead letters: %w", err)
	}
	return counts, nil
}

// A LetterFilter chooses dead letters: those that match all of its fields. A field that is zero
// matches every letter.
type LetterFilter struct {
	Indices     []string // write aliases; empty but not nil matches no letter
	Rows        []int64  // the table's keys; empty but not nil matches no letter
	After, UpTo int64    // rows above After, and up to UpTo
}

// where returns the filter as an SQL condition, with its parameters $1 to $4.
func (f *LetterFilter) where() (condition string, args []any) {
	return `id > $1 AND ($2 = 0 OR id <= $2) AND ($3::text[] IS NULL OR index_name = ANY ($3)) AND ($4::bigint[] IS NULL OR id = ANY ($4))`,
		[]any{f.After, f.UpTo, f.Indices, f.Rows}
}

// List returns the first dead letters, in order of time, limit at the most; with their documents
// if bodies is true.
func (d *DeadLetters) List(ctx context.Context, f LetterFilter, limit int, bodies bool) ([]DeadLetter, error) {
	document := `NULL`
	if bodies {
		document = `document`
	}
	where, args := f.where()
	rows, err := d.schema.db.QueryContext(ctx, `
		SELECT id, index_name, doc_id, routing, operation = 'delete', version::text, status, type, reason, `+document+`, created_at, attempts
		FROM `+d.table+` WHERE `+where+` ORDER BY id LIMIT $5`, append(args, limit)...)
	if err != nil {
		return nil, fmt.Errorf("list dead letters: %w", err)
	}
	defer rows.Close()
	var list []DeadLetter
	for rows.Next() {
		var (
			l       DeadLetter
			body    sql.NullString
			version string
		)
		err := rows.Scan(&l.Row, &l.Index, &l.ID, &l.Routing, &l.Delete, &version, &l.Status, &l.Type, &l.Reason, &body, &l.CreatedAt, &l.Attempts)
		if err != nil {
			return nil, fmt.Errorf("list dead letters: %w", err)
		}
		if l.Version, err = pglogrepl.ParseLSN(version); err != nil {
			return nil, fmt.Errorf("list dead letters: version of row %d: %w", l.Row, err)
		}
		if body.Valid {
			l.Body = []byte(body.String)
		}
		list = append(list, l)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("list dead letters: %w", err)
	}
	return list, nil
}

// Last returns the row of the newest dead letter, 0 if there is none.
func (d *DeadLetters) Last(ctx context.Context) (row int64, err error) {
	if err := d.schema.db.QueryRowContext(ctx, `SELECT coalesce(max(id), 0) FROM `+d.table).Scan(&row); err != nil {
		return 0, fmt.Errorf("look for the newest dead letter: %w", err)
	}
	return row, nil
}

// Drop deletes the dead letters that match the filter, and returns how many there were.
func (d *DeadLetters) Drop(ctx context.Context, f LetterFilter) (n int64, err error) {
	where, args := f.where()
	if n, err = d.schema.exec(ctx, `DELETE FROM `+d.table+` WHERE `+where, args...); err != nil {
		return 0, fmt.Errorf("drop dead letters: %w", err)
	}
	return n, nil
}

// Resolve deletes the dead letters in these rows, whose documents were written again. It returns
// how many of the documents were refused again: those have a newer dead letter.
func (d *DeadLetters) Resolve(ctx context.Context, rows []int64) (again int64, err error) {
	// Both parts see the table as it was before.
	err = d.schema.query(ctx, func(row pgx.Row) error { return row.Scan(&again) }, `
		WITH resolved AS (DELETE FROM `+d.table+` WHERE id = ANY ($1) RETURNING document_key)
		SELECT count(DISTINCT d.document_key) FROM `+d.table+` d JOIN resolved USING (document_key) WHERE d.id <> ALL ($1)`, rows)
	if err != nil {
		return 0, fmt.Errorf("drop dead letters whose documents were written again: %w", err)
	}
	return again, nil
}
