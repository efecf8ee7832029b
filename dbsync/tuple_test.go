package dbsync

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jackc/pglogrepl"

	"tidemark/testenv"
)

// agree decodes data with ours and with pglogrepl, and reports where they differ. Ours may
// refuse what pglogrepl takes, but a message of a real server must be taken by both.
func agree(t *testing.T, d *decoder, data []byte, real bool) {
	t.Helper()
	input := bytes.Clone(data)
	got, err := d.decode(data)
	if !bytes.Equal(data, input) {
		t.Fatalf("the message was changed: %q, was %q", data, input)
	}
	if err != nil {
		if real {
			t.Errorf("%q: %v", data, err)
		}
		return
	}
	if got == nil {
		if !bytes.ContainsAny(data[:1], "YO") {
			t.Errorf("%q is passed over", data)
		}
		return
	}
	want, err := parse(data)
	if err != nil {
		if m, ok := got.(*pglogrepl.InsertMessage); ok && m.Tuple.ColumnNum == 0 {
			return // of a table without columns, which pglogrepl does not know
		}
		t.Errorf("%q: we give %v, pglogrepl %v", data, got, err)
		return
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(pglogrepl.InsertMessage{}, pglogrepl.UpdateMessage{}, pglogrepl.DeleteMessage{},
		pglogrepl.BeginMessage{}, pglogrepl.CommitMessage{}, pglogrepl.RelationMessage{}, pglogrepl.TruncateMessage{}, pglogrepl.LogicalDecodingMessage{}, pglogrepl.TupleData{}), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("%q: pglogrepl gives -, we give +:\n%s", data, diff)
	}
	if got.Type() != want.Type() {
		t.Errorf("%q: type is %s, want %s", data, got.Type(), want.Type())
	}
}

// Every message that a server sends reads as pglogrepl reads it, and what is broken
// anywhere in it gives an error or another message, never a panic.
func TestDecoderOnPostgres(t *testing.T) {
	t.Parallel()
	db := testenv.NewDatabase(t)
	db.Exec(t, `CREATE TYPE mood AS ENUM ('sad', 'glad');
		CREATE TABLE keyed (id int PRIMARY KEY, big text, m mood, n numeric);
		CREATE TABLE whole (a int, b text); ALTER TABLE whole REPLICA IDENTITY FULL;
		CREATE TABLE empty (); ALTER TABLE empty REPLICA IDENTITY FULL;
		ALTER TABLE keyed ALTER big SET STORAGE EXTERNAL`)
	s, err := NewSyncer(WithPGConnStr(db.URL), WithReplicationSlot(db.Unique("slot")), ForTables("keyed", "whole", "empty"), WithEventTriggers())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	db.Exec(t, `INSERT INTO keyed SELECT i, repeat('x', 3000 * (i % 2)), (ARRAY['sad', 'glad', NULL])[i]::mood, i / 7.0 FROM generate_series(1, 3) i`,
		"UPDATE keyed SET n = n + 1", "UPDATE keyed SET id = id + 10 WHERE id = 1", "DELETE FROM keyed WHERE id = 2",
		"INSERT INTO whole VALUES (1, NULL), (2, '')", "UPDATE whole SET a = 3 WHERE a = 1", "DELETE FROM whole",
		"INSERT INTO empty DEFAULT VALUES", "DELETE FROM empty",
		"ALTER TABLE keyed ADD COLUMN more bigint", "INSERT INTO keyed (id, more) VALUES (20, 1)",
		"TRUNCATE keyed, whole", "SELECT pg_logical_emit_message(true, 'x', 'y')")
	msgs, err := s.GetMessages(1000, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	var d decoder
	kinds := make(map[byte]int)
	for _, m := range msgs {
		kinds[m.Data[0]]++
		agree(t, &d, m.Data, true)
	}
	for _, kind := range "BCRIUDTYM" {
		if kinds[byte(kind)] == 0 {
			t.Errorf("no message of kind %c has come, only %v", kind, kinds)
		}
	}
	for _, m := range msgs {
		data := m.Data[:min(len(m.Data), 100)]
		for i := range data {
			agree(t, &d, data[:i:i], false)
			for _, b := range []byte{0, 1, 0x7f, 0xff, data[i] ^ 0x80} {
				broken := bytes.Clone(data)
				broken[i] = b
				agree(t, &d, broken, false)
			}
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte("I\x00\x00\x00\x01N\x00\x03t\x00\x00\x00\x02abnu"))
	f.Add([]byte("U\x00\x00\x00\x01K\x00\x01t\x00\x00\x00\x01aN\x00\x01b\x00\x00\x00\x00"))
	f.Add([]byte("U\x00\x00\x00\x01O\x00\x00N\x00\x00"))
	f.Add([]byte("D\x00\x00\x00\x01K\x00\x01n"))
	f.Add([]byte("T\xff\xff\xff\xff\x00"))
	f.Add([]byte("T\x00\x00\x00\x01\x03\x00\x00\x40\x00"))
	f.Add([]byte("R\x00\x00\x00\x01public\x00t\x00d\x00\x01\x01id\x00\x00\x00\x00\x17\xff\xff\xff\xff"))
	f.Add(append([]byte{'B'}, make([]byte, 20)...))
	f.Add(append([]byte{'C'}, make([]byte, 25)...))
	f.Add([]byte("M\x01\x00\x00\x00\x00\x00\x00\x00\x01prefix\x00\x00\x00\x00\x02ab"))
	f.Add([]byte("M\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\xff\xff\xff\xff"))
	f.Add([]byte("Y\x00"))
	f.Add([]byte("?"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		var d decoder
		agree(t, &d, data, false)
		_, _ = newMessage(0, 0, data)
	})
}

// The storage of a message is used again, also after one that was broken off.
func TestDecoderUsesStorageAgain(t *testing.T) {
	var d decoder
	wide := insertOf(make([]string, 50)...)
	for i, data := range [][]byte{wide, insertOf("a"), wide[:60], insertOf("b", "c"), wide} {
		_, err := d.decode(data)
		if (err != nil) != (i == 2) {
			t.Errorf("message %d: %v", i, err)
		}
		if err == nil {
			agree(t, &d, data, true)
		}
	}
	allocs := testing.AllocsPerRun(100, func() {
		if _, err := d.decode(wide); err != nil {
			t.Fatal(err)
		}
	})
	if allocs > 0 {
		t.Errorf("%v allocations for a message", allocs)
	}
}

func insertOf(values ...string) []byte {
	data := []byte("I\x00\x00\x00\x01N")
	data = binary.BigEndian.AppendUint16(data, uint16(len(values)))
	for _, v := range values {
		data = append(data, 't')
		data = binary.BigEndian.AppendUint32(data, uint32(len(v)))
		data = append(data, v...)
	}
	return data
}

// Rows of windows are kept in the form of messages.
func TestAppendTuple(t *testing.T) {
	var tup tuple
	for _, values := range [][][]byte{nil, {nil}, {[]byte("a"), nil, {}}, {[]byte(strings.Repeat("x", 70_000))}} {
		data := appendTuple(nil, values)
		if len(data) != tupleSize(values) {
			t.Errorf("%d bytes, said were %d", len(data), tupleSize(values))
		}
		r := reader{data: data}
		row := tup.read(&r)
		if r.err != nil || len(r.data) > 0 || len(row.Columns) != len(values) {
			t.Errorf("read back: %v, %d bytes are left", r.err, len(r.data))
		}
		for i, c := range row.Columns {
			if (values[i] == nil) != (c.DataType == pglogrepl.TupleDataTypeNull) || !bytes.Equal(c.Data, values[i]) {
				t.Errorf("column %d is %c %q, was %q", i, c.DataType, c.Data, values[i])
			}
		}
	}
}

func TestSplitTable(t *testing.T) {
	for name, want := range map[string]string{
		"a": "a", "a.b": "a b", `"a.b"`: "a.b", `"a"."b"`: "a b", `a."b"`: "a b", `"a""b".c`: `a"b c`, "Ünï": "Ünï", `" "`: " ", `a b`: "a b",
	} {
		got, err := splitTable(name)
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("%s: got %q, %v, want %q", name, got, err, want)
		}
	}
	for _, name := range []string{"", ".", "a.", ".a", "a..b", "a.b.c", `"a`, `"a"b`, `""`, `"a".`, `"`, `"a""`} {
		if got, err := splitTable(name); err == nil {
			t.Errorf("%s: got %q, want an error", name, got)
		}
	}
	if got, err := quoteTable(`a."b""c"`); err != nil || got != `"a"."b""c"` {
		t.Errorf("quoted: %s, %v", got, err)
	}
}

func TestQuotePublication(t *testing.T) {
	for name, want := range map[string]string{"a": `"a"`, `a"b`: `"a""b"`, "a'b": `"a''b"`, `a,b`: `"a,b"`} {
		if got := quotePublication(name); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
}
