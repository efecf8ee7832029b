package hint

import (
	"slices"
	"testing"
)

func TestNear(t *testing.T) {
	names := []string{"table", "routing", "fields", "id", "Album"}
	for word, want := range map[string]string{"tabel": "table", "route": "", "feilds": "fields", "is": "id", "x": "", "album": "Album", "fields": "", "": ""} {
		if got := near(word, slices.Clone(names)); got != want {
			t.Errorf("near(%q) = %q, want %q", word, got, want)
		}
	}
}
