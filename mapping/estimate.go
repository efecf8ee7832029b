package mapping

import (
	"tidemark/mapping/catalog"
)

// EstimatedRows returns about how many rows the tables have whose rows are documents of an
// index, -1 if nothing is known of one of them.
func EstimatedRows(ix *Index, tables catalog.Tables) int64 {
	total := int64(0)
	for _, s := range ix.Sources {
		n := tables[s.Table].EstimatedRows
		if n < 0 {
			return -1
		}
		total += n
	}
	return total
}
