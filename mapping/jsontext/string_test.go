package jsontext

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

func FuzzString(f *testing.F) {
	for _, seed := range []string{"", "plain", "12345678\"", "1234567\\", "\x1f234567\x00", "日本\x80\"", "1234567\xc3\xa9\n", "\xed\xa0\x80", "!\"#"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		got := Append([]byte("before"), text)[len("before"):]
		if same := AppendString([]byte("before"), string(text))[len("before"):]; !bytes.Equal(same, got) {
			t.Fatalf("as a string %q, as bytes %q", same, got)
		}
		if bytes.IndexByte(got, '\n') >= 0 {
			t.Fatalf("more than one line: %q", got)
		}
		var back string
		if err := json.Unmarshal(got, &back); err != nil {
			t.Fatalf("%q: %v", got, err)
		}
		if want := repaired(text); back != want {
			t.Fatalf("got %q, want %q", back, want)
		}
	})
}

// repaired has U+FFFD for each byte that is not UTF-8, as encoding/json has it.
func repaired(text []byte) string { return string([]rune(string(text))) }

// BenchmarkAppend writes what ids, names of indices and texts look like.
func BenchmarkAppend(b *testing.B) {
	for _, test := range []struct{ name, text string }{
		{"id", "1234567"},
		{"index", "products-20260131T120000Z"},
		{"text", strings.Repeat("amber basalt cedar delta ", 10)},
		{"quotes", strings.Repeat(`amber "basalt" `, 10)},
	} {
		text, dst := []byte(test.text), make([]byte, 0, 1024)
		b.Run(test.name+"/bytes", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				dst = Append(dst[:0], text)
			}
		})
		b.Run(test.name+"/string", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				dst = AppendString(dst[:0], test.text)
			}
		})
	}
}
