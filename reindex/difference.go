package reindex

import (
	"fmt"
	"slices"
	"strings"

	"tidemark/mapping"
	"tidemark/mapping/catalog"
)

// An effect is what a difference of a table leads to for an index whose documents are made of it.
type effect int

const (
	// Documents are the same. Statements and plans are made anew for every look at the catalog.
	replan effect = iota

	// Values in the documents differ, and nothing else: the documents of all rows are stored again
	// in the index in use.
	refresh

	// What the rows are now is not known from the catalog: rows and documents are compared, and
	// the index is unproven until that is done.
	compare

	// The index is built anew beside the one in use.
	rebuild

	// No documents can be made: the index is left as it is, with an alarm, until they can.
	hold
)

// A rule says what a kind of difference leads to. docs/schema-changes.md has the same table, with
// the statements that make the differences.
type rule struct {
	read   effect // where documents are made of the column, or of the table
	unread effect // where the mapping leaves the column out
}

// rules is the one place that says what comes of what. In addition the form of the documents
// decides: where the fingerprint is another one the index gets new fields if its tables have only
// got columns that are NULL everywhere ([control.HasGrown]), and is built anew otherwise, whatever
// the rules say.
var rules = map[catalog.DifferenceKind]rule{
	catalog.Replaced:    {read: rebuild},
	catalog.Rewritten:   {read: compare},
	catalog.Added:       {read: replan, unread: replan}, // taken by the mapping, it changes the form
	catalog.Dropped:     {read: replan, unread: replan}, // as above
	catalog.Renamed:     {read: replan, unread: replan}, // as above
	catalog.Exchanged:   {read: refresh, unread: replan},
	catalog.Retyped:     {read: refresh, unread: replan},
	catalog.Relabelled:  {read: refresh, unread: replan},
	catalog.Recomputed:  {read: refresh, unread: replan},
	catalog.Collated:    {read: refresh, unread: replan}, // rows of other tables may be put in in another order
	catalog.Keyed:       {read: replan},
	catalog.Identified:  {read: replan},
	catalog.Guarded:     {read: hold},
	catalog.Unguarded:   {read: compare},
	catalog.Unlogged:    {read: hold},
	catalog.Logged:      {read: rebuild},
	catalog.Touched:     {read: compare, unread: replan},
	catalog.Republished: {read: compare},
	catalog.Unknown:     {read: compare},
}

// effects returns what the differences between the tables as they were noted and as they are lead
// to for an index: for each effect why, the differences that lead to it.
func effects(ix *mapping.Index, noted string, now catalog.Tables) (map[effect][]string, error) {
	found := make(map[effect][]string)
	if noted == "" {
		found[compare] = []string{"what the tables were was not noted by an early version"}
		return found, nil
	}
	before, err := catalog.DecodeTables(noted)
	if err != nil {
		return nil, err
	}
	reads := ix.Reads(now)
	for _, name := range ix.Tables() {
		was, is := before[name], now[name]
		if was == nil || is == nil {
			continue // NeedOf says so
		}
		for _, d := range is.Differences(was) {
			rule := rules[d.Kind]
			e := rule.read
			switch {
			case d.Column == "":
			case !reads[name][d.Column]:
				e = rule.unread
			case e == refresh && places(ix, is, d.Column):
				e = rebuild // documents would stay where no row leads any more
			}
			found[e] = append(found[e], d.String())
		}
	}
	return found, nil
}

// places reports whether values of a column of a table say where documents are: in their ids, or
// as what they are routed by.
func places(ix *mapping.Index, t *catalog.Table, column string) bool {
	return slices.ContainsFunc(ix.Sources, func(s *mapping.Source) bool {
		return s.Table == t.TableName() && (s.Routing == column || s.Only != nil && s.Only.Column == column || slices.Contains(s.KeyColumns(t), column))
	})
}

// unusable says why no documents can be made of rows of a table, and what to do; "" if they can.
func unusable(name catalog.TableName, t *catalog.Table) string {
	switch {
	case t == nil:
		return fmt.Sprintf("table %s is gone or was renamed; hint: give it its name back, or change the mapping and start again", name)
	case t.Unlogged:
		return fmt.Sprintf("table %s is unlogged: the log does not carry its changes; hint: ALTER TABLE %s SET LOGGED;", name, t.SQL())
	case t.RowSecurity:
		return fmt.Sprintf("row-level security hides rows of table %s from role %s; hint: ALTER ROLE %s BYPASSRLS;", name, t.User, catalog.QuoteIdent(t.User))
	}
	return ""
}

// list is differences in one line, bounded.
func list(differences []string) string {
	const most = 5
	if n := len(differences); n > most {
		return strings.Join(differences[:most], ", ") + fmt.Sprintf(" and %d more", n-most)
	}
	return strings.Join(differences, ", ")
}
