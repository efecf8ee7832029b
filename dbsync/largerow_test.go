package dbsync

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgproto3"
	"pgregory.net/rapid"
)

// frame is a message of the protocol.
func frame(kind byte, body []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(body)+4)), body...)
}

// walData is a CopyData with a pgoutput message in it.
func walData(message []byte) []byte {
	return frame('d', append(append([]byte{'w'}, make([]byte, 24)...), message...))
}

// drawTuple appends a tuple to both: as the server sends it, and without values of more than
// keptValue.
func drawTuple(t *rapid.T, whole, cut []byte) ([]byte, []byte) {
	n := rapid.IntRange(0, 5).Draw(t, "columns")
	whole, cut = binary.BigEndian.AppendUint16(whole, uint16(n)), binary.BigEndian.AppendUint16(cut, uint16(n))
	for range n {
		kind := rapid.SampledFrom([]byte("tttbnu")).Draw(t, "kind")
		if kind != 't' && kind != 'b' {
			whole, cut = append(whole, kind), append(cut, kind)
			continue
		}
		size := rapid.SampledFrom([]int{0, 1, 100, keptValue - 1, keptValue, keptValue + 1, 3 * keptValue}).Draw(t, "size")
		value := bytes.Repeat([]byte{rapid.Byte().Draw(t, "byte")}, size)
		text := append(binary.BigEndian.AppendUint32([]byte{kind}, uint32(size)), value...)
		whole = append(whole, text...)
		if size > keptValue {
			text = []byte{'u'}
		}
		cut = append(cut, text...)
	}
	return whole, cut
}

// Whatever the messages are, and in whatever pieces they come, small ones are handed on as they
// are, and large ones without their large values.
func TestValueCutter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.SampledFrom([]int{walHeader, 1000, 2 * keptValue}).Draw(t, "limit")
		var sent, want []byte
		for range rapid.IntRange(0, 6).Draw(t, "messages") {
			var whole, cut []byte
			switch rapid.SampledFrom([]string{"row", "row", "emitted", "relation", "keepalive", "notice"}).Draw(t, "message") {
			case "row":
				kind := rapid.SampledFrom([]byte("IUD")).Draw(t, "change")
				whole = append(whole, kind, 0, 0, 1, 2)
				var old byte
				if kind != 'I' {
					old = rapid.SampledFrom([]byte("KON")).Draw(t, "old")
				}
				if kind == 'D' {
					old = 'K'
				}
				cut = bytes.Clone(whole)
				if old == 'K' || old == 'O' {
					whole, cut = drawTuple(t, append(whole, old), append(cut, old))
				}
				if kind != 'D' {
					whole, cut = drawTuple(t, append(whole, 'N'), append(cut, 'N'))
				}
			case "emitted":
				prefix, content := rapid.StringMatching(`[a-z]{0,9}`).Draw(t, "prefix"), rapid.SampledFrom([]int{0, 5, 3 * keptValue}).Draw(t, "content")
				whole = append(append(append(whole, 'M', 1), make([]byte, 8)...), prefix+"\x00"...)
				cut = binary.BigEndian.AppendUint32(bytes.Clone(whole), 0)
				whole = append(binary.BigEndian.AppendUint32(whole, uint32(content)), make([]byte, content)...)
			case "relation":
				whole = append([]byte{'R'}, make([]byte, 3*keptValue)...)
				cut = whole
			case "keepalive":
				keepalive := frame('d', append([]byte{'k'}, make([]byte, 17)...))
				sent, want = append(sent, keepalive...), append(want, keepalive...)
				continue
			default:
				notice := frame('N', make([]byte, rapid.SampledFrom([]int{0, 7, 3 * keptValue}).Draw(t, "notice")))
				sent, want = append(sent, notice...), append(want, notice...)
				continue
			}
			if walHeader+len(whole) <= limit {
				cut = whole
			}
			sent, want = append(sent, walData(whole)...), append(want, walData(cut)...)
		}
		var in io.Reader = bytes.NewReader(sent)
		if rapid.Bool().Draw(t, "halves") {
			in = iotest.HalfReader(in)
		}
		got, err := io.ReadAll(newValueCutter(in, limit))
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%d bytes were sent, %d came of it, want %d: %v", len(sent), len(got), len(want), err)
		}
	})
}

// What the server has sent is handed on before more is waited for.
func TestValueCutterDoesNotWait(t *testing.T) {
	client, server := io.Pipe()
	defer client.Close()
	f := pgproto3.NewFrontend(newValueCutter(client, 1000), nil)
	for _, message := range [][]byte{[]byte("B"), append([]byte{'R'}, make([]byte, 5000)...), append([]byte("I\x00\x00\x00\x01N\x00\x01t\x00\x02\x00\x00"), make([]byte, 128<<10)...), []byte("C")} {
		go server.Write(walData(message))
		got, err := f.Receive()
		if err != nil {
			t.Fatal(err)
		}
		if data := got.(*pgproto3.CopyData).Data; data[walHeader] != message[0] || message[0] == 'I' && len(data) > 1000 {
			t.Errorf("%c came as %d bytes", message[0], len(data))
		}
	}
}

// A message that is broken is an error, and no panic.
func TestValueCutterOfBrokenMessages(t *testing.T) {
	pad := strings.Repeat("x", 100)
	tests := map[string]string{
		"too few columns":    "I\x00\x00\x00\x01N\x00\x09t\x00\x00\x00\x01y" + pad,
		"length of a value":  "I\x00\x00\x00\x01N\x00\x01t\xff\xff\xff\xfe" + pad,
		"value too long":     "I\x00\x00\x00\x01N\x00\x01t\x00\x01\x00\x01" + pad,
		"bytes left over":    "I\x00\x00\x00\x01N\x00\x00" + pad,
		"prefix without end": "M\x01" + pad,
	}
	for name, message := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := io.ReadAll(newValueCutter(bytes.NewReader(walData([]byte(message))), 50))
			if err == nil || errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("got %v", err)
			}
		})
	}
	t.Run("end in the middle", func(t *testing.T) {
		whole := walData([]byte("I\x00\x00\x00\x01N\x00\x01t\x00\x02\x00\x00" + pad))
		if _, err := io.ReadAll(newValueCutter(bytes.NewReader(whole), 50)); err == nil {
			t.Error("no error")
		}
	})
}

func FuzzValueCutter(f *testing.F) {
	f.Add([]byte("I\x00\x00\x00\x01N\x00\x01t\x00\x00\x00\x05hello"))
	f.Add([]byte("U\x00\x00\x00\x01K\x00\x01t\x00\x00\x00\x05helloN\x00\x01u"))
	f.Add([]byte("M\x01\x00\x00\x00\x00\x00\x00\x00\x00a\x00\x00\x00\x00\x05hello"))
	f.Fuzz(func(t *testing.T, message []byte) {
		// What is whole for the decoder is whole, and the same, when it was cut: no value is large.
		got, err := io.ReadAll(newValueCutter(bytes.NewReader(walData(message)), walHeader))
		var d decoder
		if _, e := d.decode(message); e == nil && message[0] != 'M' && message[0] != byte(pglogrepl.MessageTypeTruncate) {
			if err != nil || !bytes.Equal(got, walData(message)) {
				t.Errorf("%q became %q: %v", message, got, err)
			}
		}
	})
}
