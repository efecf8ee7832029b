package reindex

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"tidemark/mapping"
	"tidemark/mapping/catalog"
	"tidemark/reindex/control"
)

// An index of many schemas (table: "tenant_*.orders") has tables that come and go while it is in use. One that
// comes joins: it is in the publication before its rows are read, they are stored in the index in use, and then the
// control schema notes that the index has them. Until that is noted each start finds that it lacks them, so a crash
// costs that they are read again. Where one went, the index is compared, which removes the documents that no row has.

// joinOf returns which root tables of an index are to join those that the index in use has documents of, and
// whether some of those are gone. common is the index without them, was the state as if it had been filled from
// nothing else. common is nil where none came or went, where that is not all that has changed, or where it is not known what the
// index in use was made of.
func joinOf(ix *mapping.Index, st *control.State, tables catalog.Tables, generation string) (common *mapping.Index, was *control.State, joined []catalog.TableName, left bool) {
	matched := slices.ContainsFunc(ix.Sources, (*mapping.Source).IsMatched)
	if !matched || st.Building.Physical != "" || st.Live.Generation == "" || st.Live.Tables == "" {
		return nil, nil, nil, false
	}
	before, err := mapping.DecodeIndex(st.Live.Mapping)
	if err != nil {
		return nil, nil, nil, false
	}
	tablesBefore, err := catalog.DecodeTables(st.Live.Tables)
	if err != nil || !before.Matches(st.Live.Fingerprint, tablesBefore) {
		return nil, nil, nil, false
	}
	now, noted := byTable(generation), byTable(st.Live.Generation)
	// A table is followed without a gap if its part of the generation is as it was noted.
	followed := func(s *mapping.Source) bool {
		return !slices.ContainsFunc(s.Tables(), func(name catalog.TableName) bool {
			t := tables[name]
			return t == nil || now[t.OID] == "" || now[t.OID] != noted[t.OID]
		})
	}
	had := make(map[catalog.TableName]bool)
	for _, s := range before.Sources {
		had[s.Table] = true
	}
	has := make(map[catalog.TableName]bool)
	for _, s := range ix.Sources {
		switch {
		case had[s.Table] && followed(s):
			has[s.Table] = true
		case !s.IsMatched():
			return nil, nil, nil, false
		default:
			joined = append(joined, s.Table)
			left = left || had[s.Table] // it was made anew: rows of the one before are none any more
		}
	}
	for _, s := range before.Sources {
		if !has[s.Table] && !slices.Contains(joined, s.Table) {
			if !ix.StandsFor(s.Table) {
				return nil, nil, nil, false
			}
			left = true
		}
	}
	if len(has) == 0 || len(joined) == 0 && !left {
		return nil, nil, nil, false
	}
	common = ix.With(func(s *mapping.Source) bool { return has[s.Table] })
	part := before.With(func(s *mapping.Source) bool { return has[s.Table] })
	state := *st
	state.Live.Fingerprint = part.Fingerprint(tablesBefore)
	if state.Live.Mapping, state.Live.Tables, err = encode(part, tablesBefore); err != nil {
		return nil, nil, nil, false
	}
	var parts []string
	for _, name := range common.Tables() {
		parts = append(parts, now[tables[name].OID])
	}
	slices.Sort(parts)
	state.Live.Generation = strings.Join(parts, " ")
	return common, &state, joined, left
}

// byTable returns the parts of a generation by the oid of the table that each is of, see
// [dbsync.Syncer.TableGeneration]: slot/publication/table/member.
func byTable(generation string) map[uint32]string {
	parts := make(map[uint32]string)
	for part := range strings.FieldsSeq(generation) {
		of := strings.Split(part, "/")
		if len(of) < 3 {
			continue
		}
		if oid, err := strconv.ParseUint(of[len(of)-2], 10, 32); err == nil {
			parts[uint32(oid)] = part
		}
	}
	return parts
}

// join has the index in use have the documents of tables that came, see joinOf.
func (m *Manager) join(ctx context.Context, x *index, st control.State) error {
	tables := m.o.Catalog.Present()
	now := x.Present(tables)
	generation, err := m.generationOf(ctx, now)
	if err != nil {
		return err
	}
	common, was, joined, left := joinOf(now, &st, tables, generation)
	if common == nil {
		x.setAltered() // it is something else by now
		return nil
	}
	m.o.Logger.Info("tables of a pattern came or went", "index", x.Name, "joining", listNames(joined), "gone", left)
	if err := m.joinFields(ctx, x, st.Live.Physical, now, common, tables); err != nil {
		return err
	}
	rows := int64(0)
	for _, s := range now.Sources {
		if !slices.Contains(joined, s.Table) {
			continue
		}
		n, err := m.refreshSource(ctx, x, s)
		rows += n
		if err != nil {
			if gone, failed := m.isGoneByNow(ctx, s.Table); failed == nil && gone {
				x.setAltered()
				return nil
			}
			return err
		}
	}
	if left { // before it is noted which tables the index has
		if err := m.unprove(ctx, x, "tables of a pattern are gone: their documents are removed"); err != nil {
			return err
		}
	}
	// Of the tables that it had, what they were is noted as it was: what came of them since is found by that.
	noted, err := catalog.DecodeTables(was.Live.Tables)
	if err != nil {
		return err
	}
	for _, name := range now.Tables() {
		if noted[name] == nil || !slices.Contains(common.Tables(), name) {
			noted[name] = tables[name]
		}
	}
	st = x.state()
	st.Live.Generation, st.Live.Fingerprint = generation, now.Fingerprint(noted)
	if st.Live.Mapping, st.Live.Tables, err = encode(now, noted); err != nil {
		return err
	}
	if err := m.retry(ctx, "note that tables have joined "+x.Name, func(ctx context.Context) error { return m.o.Control.States().Join(ctx, &st) }); err != nil {
		return err
	}
	x.set(st)
	x.setJoining(false)
	m.o.Logger.Info("the index has the documents of the tables that came", "index", x.Name, "tables", listNames(joined), "rows", rows)
	x.setAltered() // something else may be needed
	return m.route(x, &st)
}

// isGoneByNow reports whether a table is gone since the catalog was looked at, and takes that up.
func (m *Manager) isGoneByNow(ctx context.Context, name catalog.TableName) (bool, error) {
	now, err := m.o.Catalog.Load(ctx, m.o.Syncer.DB(), []catalog.TableName{name})
	if err != nil || now[name] != nil {
		return false, err
	}
	m.o.Catalog.SetAll(now)
	return true, nil
}

// joinFields puts fields into the index in use that only tables that are to join have.
func (m *Manager) joinFields(ctx context.Context, x *index, physical string, now, common *mapping.Index, tables catalog.Tables) error {
	has, err := fieldsOf(common, tables)
	if err != nil {
		return err
	}
	fields, err := fieldsOf(now, tables)
	if err != nil || bytes.Equal(has, fields) {
		return err
	}
	return m.retry(ctx, "add fields to "+physical, func(ctx context.Context) error { return m.o.Client.PutMapping(ctx, physical, fields) })
}

// listNames is the names of tables in one line, bounded.
func listNames(names []catalog.TableName) string {
	var texts []string
	for _, name := range names {
		texts = append(texts, name.String())
	}
	return list(texts)
}

// Joins reports whether tables of a pattern came or went.
func (n *Need) Joins() bool { return len(n.Join) > 0 || n.Leave }

// JoinText says what is done where tables of a pattern came or went, "" where none did.
func (n *Need) JoinText() string {
	switch {
	case len(n.Join) > 0 && n.Leave:
		return fmt.Sprintf("stores the rows of %s beside the others, and removes the documents of tables that are gone", listNames(n.Join))
	case len(n.Join) > 0:
		return fmt.Sprintf("stores the rows of %s beside the others", listNames(n.Join))
	case n.Leave:
		return "removes the documents of tables that are gone"
	}
	return ""
}
