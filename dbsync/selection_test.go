package dbsync

import (
	"reflect"
	"sync"
	"testing"
)

func TestInMemSelection(t *testing.T) {
	s := NewInMemSelection()
	id := s.ID()
	if id == "" || s.ID() != id || NewInMemSelection().ID() == id {
		t.Errorf("ID %q is not one of its own", id)
	}
	s.AddItem("7", "first")
	s.AddItem("7", "second")
	s.AddItem(8, nil)
	if got, exists := s.GetItem("7"); got != "second" || !exists {
		t.Errorf("item 7: got %v, %v", got, exists)
	}
	if got, exists := s.GetItem(8); got != nil || !exists {
		t.Errorf("item 8: got %v, %v", got, exists)
	}
	if got, exists := s.GetItem(7); got != nil || exists {
		t.Errorf("a key of another type: got %v, %v", got, exists)
	}

	items := s.Items()
	if want := (map[any]DBItem{"7": {"7", "second"}, 8: {8, nil}}); !reflect.DeepEqual(items, want) {
		t.Errorf("items: got %v, want %v", items, want)
	}
	delete(items, "7")
	if got := s.RemoveItem("7"); got != "second" {
		t.Errorf("removed %v, want the value", got)
	}
	if got := s.RemoveItem("7"); got != nil {
		t.Errorf("removed %v again, want nil", got)
	}
	if !s.Clear() || len(s.Items()) != 0 {
		t.Error("Clear has left something")
	}
	if s.Clear() {
		t.Error("Clear of an empty selection found something")
	}
}

func TestInMemSelectionConcurrent(t *testing.T) {
	s := NewInMemSelection()
	const goroutines, each = 8, 100
	var wg sync.WaitGroup
	removed := make([]int, goroutines)
	for g := range goroutines {
		wg.Go(func() {
			for k := range each {
				s.AddItem(g*each+k, k)
				s.GetItem(k)
				s.Items()
				if s.RemoveItem(g*each+k) == k {
					removed[g]++
				}
			}
		})
	}
	wg.Wait()
	for g, n := range removed {
		if n != each {
			t.Errorf("goroutine %d removed %d of its %d items", g, n, each)
		}
	}
	if s.Clear() {
		t.Error("something is left")
	}
}
