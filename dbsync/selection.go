package dbsync

import (
	"crypto/rand"
	"maps"
	"sync"
)

// DBItem is an item of a selection.
type DBItem struct {
	Key, Data any
}

// An InMemSelection keeps items by key, in memory: the rows that a select gave, until the
// stream has told which of them changed meanwhile. Keys must be comparable, as those of
// any Go map. It may be used by several goroutines at once.
type InMemSelection struct {
	id string

	mu    sync.Mutex
	items map[any]DBItem // guarded by mu
}

// NewInMemSelection returns an empty selection with a random ID.
func NewInMemSelection() *InMemSelection {
	return &InMemSelection{id: rand.Text()}
}

// ID returns what tells this selection from every other: 26 letters and digits, 128 bits
// of randomness.
func (i *InMemSelection) ID() string { return i.id }

// AddItem adds an item, or replaces the one with the same key.
func (i *InMemSelection) AddItem(key, value any) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.items == nil {
		i.items = make(map[any]DBItem)
	}
	i.items[key] = DBItem{Key: key, Data: value}
}

// GetItem returns the value of an item.
func (i *InMemSelection) GetItem(key any) (value any, exists bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	item, exists := i.items[key]
	return item.Data, exists
}

// RemoveItem takes an item out and returns its value, nil if there is none of that key.
func (i *InMemSelection) RemoveItem(key any) (out any) {
	i.mu.Lock()
	defer i.mu.Unlock()
	out = i.items[key].Data
	delete(i.items, key)
	return out
}

// Items returns the items that are left, by key, in a map of the caller's own.
func (i *InMemSelection) Items() map[any]DBItem {
	i.mu.Lock()
	defer i.mu.Unlock()
	items := make(map[any]DBItem, len(i.items))
	maps.Copy(items, i.items)
	return items
}

// Clear takes all items out and lets go of their storage. It tells whether there were any.
func (i *InMemSelection) Clear() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	had := len(i.items) > 0
	i.items = nil
	return had
}
