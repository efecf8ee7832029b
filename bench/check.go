package main

import (
	"context"
	"fmt"
	"hash/maphash"
	"strings"
)

// check compares an index with a table, document by document, byte by byte.
func check(ctx context.Context, s *search, t *table, index string) error {
	seed := maphash.MakeSeed()
	want := make(map[string]uint64)
	err := t.all(ctx, func(doc document) error {
		want[doc.id] = maphash.Bytes(seed, doc.body)
		return nil
	})
	if err != nil {
		return err
	}
	rows := len(want)
	var extra, different []string
	err = s.each(ctx, index, func(id string, source []byte) error {
		sum, ok := want[id]
		switch {
		case !ok: // or the second of its id
			extra = append(extra, id)
		case sum != maphash.Bytes(seed, source):
			different = append(different, id)
		}
		delete(want, id)
		return nil
	})
	if err != nil {
		return err
	}
	if len(want)+len(extra)+len(different) == 0 {
		return nil
	}
	var missing []string
	for id := range want {
		missing = append(missing, id)
	}
	return fmt.Errorf("index %s is not equal to its %d rows: missing %s; left over %s; different %s",
		index, rows, some(missing), some(extra), some(different))
}

func some(ids []string) string {
	return strings.TrimSpace(fmt.Sprintf("%d %s", len(ids), strings.Join(ids[:min(5, len(ids))], " ")))
}
