package mapping

import (
	"bytes"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestJoinID(t *testing.T) {
	tests := []struct {
		key  []string // "\x00" stands for NULL
		want string
	}{
		{[]string{"7"}, "7"},
		{[]string{"a|b~"}, "a|b~"},
		{[]string{""}, "~"},
		{[]string{"~"}, "~~"},
		{[]string{"~N"}, "~~N"},
		{[]string{"\x00"}, "~N"},
		{[]string{"1", "2"}, "1|2"},
		{[]string{"a|", "~b"}, "a~||~~b"},
		{[]string{"", ""}, "|"},
		{[]string{"\x00", ""}, "~N|"},
		{[]string{strings.Repeat("x", 512)}, strings.Repeat("x", 512)},
		{[]string{strings.Repeat("x", 513)}, "~sha256-35ade0090e64e74d6ad04204009c23a4e34b82bdf0f4f317fbcc5f26f9b10241"},
		{[]string{"\xff"}, "~sha256-a8100ae6aa1940d0b663bb31cd466142ebbdbd5187131b92d93818987832eb89"},
	}
	for _, tt := range tests {
		var values [][]byte
		for _, s := range tt.key {
			if s == "\x00" {
				values = append(values, nil)
			} else {
				values = append(values, []byte(s))
			}
		}
		if got := string(joinID(nil, values...)); got != tt.want {
			t.Errorf("%q: got %q, want %q", tt.key, got, tt.want)
		}
	}
}

// Different keys of one table give different ids, none longer than the search
// servers take.
func TestJoinIDIsInjective(t *testing.T) {
	value := rapid.OneOf(
		rapid.Just([]byte(nil)),
		rapid.Map(rapid.StringOfN(rapid.RuneFrom([]rune("~|Ns")), 0, 4, -1), func(s string) []byte { return []byte(s) }),
		rapid.SliceOfN(rapid.Byte(), 0, 3),
		rapid.Map(rapid.IntRange(509, 514), func(n int) []byte { return bytes.Repeat([]byte{'~'}, n) }),
	)
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 3).Draw(t, "columns")
		key := rapid.SliceOfN(value, n, n)
		a, b := key.Draw(t, "a"), key.Draw(t, "b")
		same := true
		for i := range a {
			same = same && (a[i] == nil) == (b[i] == nil) && bytes.Equal(a[i], b[i])
		}
		x, y := joinID(nil, a...), joinID(nil, b...)
		if bytes.Equal(x, y) != same {
			t.Fatalf("%q and %q: %q and %q", a, b, x, y)
		}
		if len(x) == 0 || len(x) > maxID {
			t.Fatalf("%q: id of %d bytes", a, len(x))
		}
	})
}
