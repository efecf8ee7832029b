package mapping

import (
	"slices"

	"tidemark/mapping/catalog"
)

// Published returns what the publication has to have so that the stream brings what documents of
// indices are made of: tables as [dbsync.ForTables] takes them, in order. tables are those that
// there are; others of the indices do not count.
//
// [dbsync.ForTables]: https://pkg.go.dev/tidemark/dbsync#ForTables
func (p PublishColumns) Published(indices []*Index, tables catalog.Tables) []string {
	only := make(map[catalog.TableName][]string)
	if p != PublishColumnsAll {
		for name, used := range usedColumns(indices, tables) {
			t := tables[name]
			unused := func(c catalog.Column) bool { return !slices.Contains(used, c.Name) }
			if p == PublishColumnsUsed || slices.ContainsFunc(t.Columns, func(c catalog.Column) bool { return unused(c) && c.Type.HoldsBytes() }) {
				only[name] = used
			}
		}
	}
	return tables.Published(only)
}

// usedColumns returns the columns of each table that documents of any index are made of, or placed
// or found by, in the order of the table. Of an index that no documents can be made for as its
// tables are it is not known what it needs once they can: its tables are not among them.
func usedColumns(indices []*Index, tables catalog.Tables) map[catalog.TableName][]string {
	used := make(map[catalog.TableName][]string)
	var whole []catalog.TableName
	for _, ix := range indices {
		if ix.Unfit(tables) != "" {
			whole = append(whole, ix.Tables()...)
			continue
		}
		for name, reads := range ix.Reads(tables) {
			var columns []string
			for _, c := range tables[name].Columns {
				if reads[c.Name] || slices.Contains(used[name], c.Name) {
					columns = append(columns, c.Name)
				}
			}
			used[name] = columns
		}
	}
	for _, name := range whole {
		delete(used, name)
	}
	return used
}
