package indexer

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/dbsync"
	"tidemark/mapping"
	"tidemark/mapping/limit"
)

// A FanOut is documents of one source that are to be stored again, since related rows have changed
// that are in them, and that are too many for the stream to wait for.
type FanOut struct {
	Documents *Documents
	Source    *mapping.Source
	Targets   []Target         // that the documents are in
	Lookups   []mapping.Lookup // the rows, by the paths that lead to the documents; none: every document
}

// maxHalvings bounds how often what concerns too many documents is halved, to find which rows do.
const maxHalvings = 16

// rereadRelated writes the documents again that related rows are in which changed, but for those in
// direct, which are as new. It does so for FanOut documents of the source, or as many as there are
// rows; the rest is deferred: of rows that are in more, those alone, as far as maxHalvings
// statements find them. To see that there are more takes one key more.
func (h *Handler) rereadRelated(ctx context.Context, r *rowReader, w *rereads, direct map[string]bool) error {
	lookups, targets := w.lookupsByPath()
	// Where each row is in one document there is nothing to be gained: so many changes of root rows
	// would be waited for as well.
	most := max(cmp.Or(h.o.FanOut, limit.DefaultFanOut), rowsOf(lookups))
	left := most
	var deferred []mapping.Lookup
	every, halvings := false, 0
	for searches := []relatedSearch{{lookups: lookups}}; len(searches) > 0; {
		last := len(searches) - 1
		s := searches[last]
		keys, err := r.Some(ctx, s.lookups, left+1)
		if dbsync.IsRowError(err) {
			searches, err = narrow(ctx, searches, err, func(ctx context.Context, why string) error {
				if h.o.Doubted == nil {
					return err
				}
				return h.o.Doubted(ctx, r.Plan.Documents, why)
			})
			if err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		searches = searches[:last]
		if len(keys) > left {
			if first, second := halves(s.lookups); second != nil && halvings < maxHalvings {
				halvings++
				searches = append(searches, relatedSearch{lookups: second}, relatedSearch{lookups: first})
				continue
			}
			deferred, every = append(deferred, s.lookups...), every || len(s.lookups) == 0
			continue
		}
		left -= len(keys)
		if err := r.write(ctx, relatedOperations(r.Plan, keys, w.latest, targets, direct), aRelatedRow); err != nil {
			return err
		}
	}
	if h.o.FannedOut != nil {
		h.o.FannedOut(r.Plan.Documents.Index.Name, most-left, max(rowsOf(deferred), oneIf(every)))
	}
	if len(deferred) == 0 && !every {
		return nil
	}
	if h.o.Defer == nil {
		return &dbsync.PermanentError{Err: fmt.Errorf("index %s: changes of related rows concern more than %d documents", r.Plan.Source.Name(), most)}
	}
	if every {
		deferred = nil
	}
	// A crash before the note, or between it and the confirmation of the batch, has the batch come
	// again, and with it the note.
	return h.o.Defer(ctx, &FanOut{Documents: w.root.documents, Source: w.root.source, Targets: targets, Lookups: deferred})
}

// oneIf counts a table that was truncated as one row.
func oneIf(is bool) int {
	if is {
		return 1
	}
	return 0
}

// rowsOf returns how many related rows lookups are for.
func rowsOf(lookups []mapping.Lookup) (n int) {
	for _, l := range lookups {
		n += len(l.Keys[0])
	}
	return n
}

// relatedOperations are the rereads of the rows with these keys, each once, however often it was found.
func relatedOperations(plan *RowPlan, keys [][][]byte, latest *dbsync.Operation, targets []Target, direct map[string]bool) (ops []dbsync.Operation) {
	seen := make(map[string]bool, len(keys))
	for _, key := range keys {
		id := plan.Plan.IDOf(key)
		if direct[id] || seen[id] {
			continue
		}
		seen[id] = true
		for _, target := range targets {
			ops = append(ops, dbsync.Operation{Kind: dbsync.Reread, Index: target.Alias, ID: id, Version: latest.Version, Group: latest.Group, Base: target.Base, Key: key})
		}
	}
	return ops
}

// A relatedSearch is for the keys of documents that rows of related tables are in.
type relatedSearch struct {
	lookups []mapping.Lookup
	after   [][]byte // the last key that was found and dealt with; nil: none was
	failed  repeated
}

// narrow takes up that the last one of some searches failed at rows. It is done in halves, each
// from where it was. Where it is for one row alone, and fails again and again, what documents that
// row leads to is not known: it is left out when doubt has noted that.
func narrow(ctx context.Context, searches []relatedSearch, err error, doubt func(ctx context.Context, why string) error) ([]relatedSearch, error) {
	last := len(searches) - 1
	s := &searches[last]
	if first, second := halves(s.lookups); second != nil {
		return append(searches[:last], relatedSearch{lookups: second, after: s.after}, relatedSearch{lookups: first, after: s.after}), nil
	}
	if enough, ended := s.failed.again(ctx, err); ended != nil || !enough {
		return searches, ended
	}
	of := "a table that was truncated"
	if len(s.lookups) > 0 {
		of = "a row of " + s.lookups[0].Path.Table().String() + " that changed"
	}
	if err := doubt(ctx, fmt.Sprintf("the documents of %s were not found: %s", of, dbsync.WithoutValues(err))); err != nil {
		return nil, err
	}
	return searches[:last], nil
}

// halves returns lookups in two parts; second is nil where they are for one row, or for all.
func halves(lookups []mapping.Lookup) (first, second []mapping.Lookup) {
	if n := len(lookups); n > 1 {
		return lookups[:n/2], lookups[n/2:]
	}
	if len(lookups) == 0 || len(lookups[0].Keys) == 0 || len(lookups[0].Keys[0]) < 2 {
		return lookups, nil
	}
	a, b := lookups[0], lookups[0]
	a.Keys, b.Keys = make([][][]byte, len(a.Keys)), make([][][]byte, len(b.Keys))
	for i, values := range lookups[0].Keys {
		a.Keys[i], b.Keys[i] = values[:len(values)/2], values[len(values)/2:]
	}
	return []mapping.Lookup{a}, []mapping.Lookup{b}
}

// A Finder finds the keys of documents that rows of related tables are in.
type Finder struct {
	Syncer  *dbsync.Syncer
	Catalog *Catalog
	Plan    *RowPlan // for the tables as they were last seen

	// Read calls f in a snapshot that shows what has to be seen, see [dbsync.Syncer.ReadVisible].
	Read func(ctx context.Context, tables []string, f func(*pgconn.PgConn) error) error
}

// Some returns the keys of at most n rows whose documents lookups ask for, whichever are found first,
// in the order of the key; no lookups ask for every row. A key may be there several times. What it costs does not depend on how many
// lookups there are, but on n, and on how many rows of the tables in between there are.
func (f *Finder) Some(ctx context.Context, lookups []mapping.Lookup, n int) (keys [][][]byte, err error) {
	return f.find(ctx, lookups, func() (string, [][]byte, error) {
		return f.Plan.Source.FindSome(f.Catalog.Tables(), lookups, n)
	})
}

// Pages are the keys of all rows whose documents some lookups ask for, in the order of the key.
type Pages struct {
	finder   *Finder
	searches []relatedSearch
	doubt    func(ctx context.Context, why string) error

	// InOrder reports whether all that is left comes after what Next has returned last. It is so but
	// where rows were looked for in halves.
	InOrder bool
}

// Pages returns the keys of all rows whose documents lookups ask for, of those after a key; nil: from
// the beginning. Where that cannot be found out for a row, doubt is told why; its error ends Next.
func (f *Finder) Pages(lookups []mapping.Lookup, after [][]byte, doubt func(ctx context.Context, why string) error) *Pages {
	return &Pages{finder: f, searches: []relatedSearch{{lookups: lookups, after: after}}, doubt: doubt, InOrder: true}
}

// Next returns the keys of the next rows, n at most; none after the last one. Each call searches anew.
func (p *Pages) Next(ctx context.Context, n int) (keys [][][]byte, err error) {
	for len(keys) == 0 && len(p.searches) > 0 {
		last := len(p.searches) - 1
		s := &p.searches[last]
		keys, err = p.finder.find(ctx, s.lookups, func() (string, [][]byte, error) {
			return p.finder.Plan.Source.Find(p.finder.Catalog.Tables(), s.lookups, s.after, n)
		})
		if dbsync.IsRowError(err) {
			p.searches, err = narrow(ctx, p.searches, err, p.doubt)
			p.InOrder = p.InOrder && len(p.searches) < 2
		} else if err == nil {
			s.failed = repeated{}
			if len(keys) == n {
				s.after = keys[n-1]
			} else {
				p.searches = p.searches[:last]
			}
		}
		if err != nil {
			return nil, err
		}
	}
	return keys, nil
}

func (f *Finder) find(ctx context.Context, lookups []mapping.Lookup, statement func() (string, [][]byte, error)) (keys [][][]byte, err error) {
	search := func() error {
		query, args, err := statement()
		if err != nil {
			return &dbsync.PermanentError{Err: err}
		}
		keys = nil
		return f.Read(ctx, f.Plan.Selection.Locks, func(conn *pgconn.PgConn) error {
			result := conn.ExecParams(ctx, query, args, nil, nil, nil)
			for result.NextRow() {
				values := make([][]byte, len(result.Values()))
				for i, v := range result.Values() {
					values[i] = slices.Clone(v)
				}
				keys = append(keys, values)
			}
			_, err := result.Close()
			return dbsync.AtRows(err)
		})
	}
	for {
		err := f.withPlan(ctx, IsRefusedStatement, search)
		if err == nil {
			return keys, nil
		}
		dropped := false
		if IsRefusedValue(err) {
			var failed error
			if dropped, failed = f.dropRefused(ctx, lookups); failed != nil {
				err = failed
			}
		}
		if !dropped {
			return nil, fmt.Errorf("find the documents of %s whose related rows changed: %w", f.Plan.Source.Name(), err)
		}
	}
}

// dropRefused takes rows out of lookups that have a value which the type of its column does not
// take: nothing is equal to it. It reports whether there was one.
func (f *Finder) dropRefused(ctx context.Context, lookups []mapping.Lookup) (dropped bool, err error) {
	tables := f.Catalog.Tables()
	for i := range lookups {
		l := &lookups[i]
		refused, err := refusedKeys(ctx, f.Syncer.DB(), tables[l.Path.Table()], l.Path.Columns(), l.Keys)
		if err != nil {
			return false, err
		}
		if len(refused) == 0 {
			continue
		}
		dropped = true
		kept := make([][][]byte, len(l.Keys))
		for j, values := range l.Keys {
			for k, v := range values {
				if !refused[k] {
					kept[j] = append(kept[j], v)
				}
			}
		}
		l.Keys = kept
	}
	return dropped, nil
}

// withPlan calls use, which uses the plan. After an error that stale reports, tables may have been
// altered since the stream described them: they are looked up, and use is called once more, with
// the plan for what they are now.
func (f *Finder) withPlan(ctx context.Context, stale func(error) bool, use func() error) error {
	err := use()
	if !stale(err) {
		return err
	}
	plan, err := f.Catalog.Reload(ctx, f.Syncer.DB(), f.Plan)
	if err != nil {
		return err
	}
	f.Plan = plan
	return use()
}

// A RelatedRows names rows of a related table for what outlives the process: by the text of a path,
// see [mapping.Path.String], and the text of the values of its columns, one list for each row.
type RelatedRows struct {
	Path string // "" with no rows: every document
	Rows [][]string
}

// Related returns the rows that f is about, in parts of one path each.
func (f *FanOut) Related() (parts []RelatedRows) {
	if len(f.Lookups) == 0 {
		return []RelatedRows{{}}
	}
	for _, l := range f.Lookups {
		part := RelatedRows{Path: l.Path.String()}
		for i := range l.Keys[0] {
			row := make([]string, len(l.Keys))
			for j := range l.Keys {
				row[j] = string(l.Keys[j][i])
			}
			part.Rows = append(part.Rows, row)
		}
		parts = append(parts, part)
	}
	return parts
}

// Lookups returns what Related made texts of, for a source as it is by now; false where no path of
// it is that one. No lookups, and true, are every document.
func (r *RelatedRows) Lookups(s *mapping.Source) ([]mapping.Lookup, bool) {
	if r.Path == "" {
		return nil, true
	}
	paths := s.Paths()
	i := slices.IndexFunc(paths, func(p *mapping.Path) bool { return p.String() == r.Path })
	if i < 0 {
		return nil, false
	}
	l := mapping.Lookup{Path: paths[i], Keys: make([][][]byte, len(paths[i].Columns()))}
	for _, row := range r.Rows {
		for j := range l.Keys {
			l.Keys[j] = append(l.Keys[j], []byte(row[j]))
		}
	}
	return []mapping.Lookup{l}, true
}
