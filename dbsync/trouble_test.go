package dbsync

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/jackc/pglogrepl"
)

// A trouble is what fails five times in a row. It lasts between the attempts, and ends when it
// goes on: by itself, or when the position is a later one.
func TestTroubles(t *testing.T) {
	list := newTroubles()
	names := func(position pglogrepl.LSN) (names []string) {
		for _, tr := range list.list(position) {
			names = append(names, fmt.Sprint(tr.What, " ", tr.Times, " ", tr.Err))
		}
		return names
	}
	want := func(position pglogrepl.LSN, want ...string) {
		t.Helper()
		if got := names(position); !slices.Equal(got, want) {
			t.Errorf("troubles %q, want %q", got, want)
		}
	}
	write, read, other := list.watch("write"), list.watch("read"), list.watch("write")
	for i := range 4 {
		write.again(fmt.Errorf("e%d", i))
	}
	want(0)
	write.again(errors.New("e4"))
	want(7, "write 5 e4")
	for range 6 {
		other.again(errors.New("the other"))
	}
	want(7, "write 5 e4")
	write.over()
	want(7, "write 6 the other")
	other.over()
	want(7)

	for range 4 {
		read.againAt(7, errors.New("r"))
	}
	read.againAt(8, errors.New("r")) // further
	want(8)
	for range 4 {
		read.againAt(8, errors.New("r"))
	}
	want(8, "read 5 r")
	want(9)
	read.over()
	want(8)
}
