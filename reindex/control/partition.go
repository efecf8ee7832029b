package control

import (
	"encoding/json"
	"fmt"

	"tidemark/mapping/catalog"
)

// partitionsVersion is the version of the JSON of Partitions.
const partitionsVersion = 1

// Partitions are those of an index's tables whose rows the index has.
type Partitions struct {
	// Leaves are the partitions that have rows themselves, by table and oid. The text is another
	// one when a leaf is not what it was: it is made of its file, which TRUNCATE and whatever
	// rewrites the leaf replace, and of the transactions that attached it and what it is below.
	Leaves map[string]map[uint32]string

	// Unlisted says that the documents were not listed yet since the index was filled. The stream
	// may have been behind when the filling began, and have brought rows then whose partition was
	// gone before.
	Unlisted bool
}

// storedPartitions is the JSON of Partitions. Version is 0 in what was written before there was
// one; the rest was as in version 1.
type storedPartitions struct {
	Version  int                          `json:"version"`
	Leaves   map[string]map[uint32]string `json:"leaves,omitempty"`
	Unlisted bool                         `json:"unlisted,omitempty"`
}

// Encode returns the JSON that the control schema has; the same for the same partitions.
func (p Partitions) Encode() (string, error) {
	text, err := json.Marshal(storedPartitions{partitionsVersion, p.Leaves, p.Unlisted}) // in the order of the keys
	if err != nil {
		return "", fmt.Errorf("encode partitions: %w", err)
	}
	return string(text), nil
}

// DecodePartitions reads what Encode has returned, in this or an earlier version. "" is of a
// version that noted no partitions: every leaf counts as new then, and the documents are listed.
func DecodePartitions(text string) (Partitions, error) {
	if text == "" {
		return Partitions{Unlisted: true}, nil
	}
	if _, err := catalog.StoredVersion(text, partitionsVersion); err != nil {
		return Partitions{}, fmt.Errorf("read partitions: %w", err)
	}
	var p storedPartitions
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		return Partitions{}, fmt.Errorf("read partitions %.100q: %w", text, err)
	}
	return Partitions{Leaves: p.Leaves, Unlisted: p.Unlisted}, nil
}
