package near

import (
	"slices"
	"testing"
)

func TestNear(t *testing.T) {
	names := []string{"table", "routing", "fields", "id", "Album"}
	for word, want := range map[string]string{"tabel": "table", "route": "", "feilds": "fields", "is": "id", "x": "", "album": "Album", "fields": "", "": ""} {
		if got := nearest(word, slices.Clone(names)); got != want {
			t.Errorf("nearest(%q) = %q, want %q", word, got, want)
		}
	}
}
