package catalog

import (
	"fmt"
	"slices"
	"strings"
)

// A DifferenceKind says what about a table is not what it was. What each of them means for an
// index is package reindex's to say.
type DifferenceKind string

const (
	Replaced    DifferenceKind = "replaced"    // another table has its name now: dropped and made anew, or swapped by renaming
	Rewritten   DifferenceKind = "rewritten"   // its rows are in another file: VACUUM FULL, CLUSTER, TRUNCATE, ALTER … TYPE with USING
	Added       DifferenceKind = "added"       // a column is new
	Dropped     DifferenceKind = "dropped"     // a column is gone
	Renamed     DifferenceKind = "renamed"     // a column has another name
	Exchanged   DifferenceKind = "exchanged"   // a column's name belongs to another column now
	Retyped     DifferenceKind = "retyped"     // a column has another type, or its type is made of other parts
	Relabelled  DifferenceKind = "relabelled"  // a value of an enum has another name, or is gone
	Recomputed  DifferenceKind = "recomputed"  // a generated column has another expression
	Collated    DifferenceKind = "collated"    // a column is ordered otherwise
	Keyed       DifferenceKind = "keyed"       // the primary key or a unique index is another one
	Identified  DifferenceKind = "identified"  // the replica identity is another one
	Guarded     DifferenceKind = "guarded"     // policies may hide rows now
	Unguarded   DifferenceKind = "unguarded"   // they do not any more
	Unlogged    DifferenceKind = "unlogged"    // the log does not carry it any more
	Logged      DifferenceKind = "logged"      // the log carries it again
	Touched     DifferenceKind = "touched"     // what the catalog says of a column's type was written anew and is the same: altered, and altered back
	Republished DifferenceKind = "republished" // the publication was altered: changes may have been left out
	Unknown     DifferenceKind = "not noted"   // by an earlier version: what would tell
)

// DifferenceKinds are all of them.
var DifferenceKinds = []DifferenceKind{Replaced, Rewritten, Added, Dropped, Renamed, Exchanged, Retyped, Relabelled, Recomputed, Collated, Keyed,
	Identified, Guarded, Unguarded, Unlogged, Logged, Touched, Republished, Unknown}

// A Difference is one thing about a table that is not what it was.
type Difference struct {
	Kind   DifferenceKind
	Table  TableName
	Column string // its name now, or that it had where it is gone; "": it is about the table
	Before string // the name that a renamed column had
}

// String says it in words for the log: public.t: column name renamed from title.
func (d Difference) String() string {
	switch {
	case d.Column == "":
		return fmt.Sprintf("%s: %s", d.Table, d.Kind)
	case d.Before != "":
		return fmt.Sprintf("%s: column %s %s from %s", d.Table, QuoteIfNeeded(d.Column), d.Kind, QuoteIfNeeded(d.Before))
	}
	return fmt.Sprintf("%s: column %s %s", d.Table, QuoteIfNeeded(d.Column), d.Kind)
}

// Differences returns what is different about the table since it was as before, in the order of
// the constants and, of one kind, of the columns. Tables are the same by their oid, and columns by
// their number: names are given to others. Of a table that was replaced nothing else is said.
//
// What was noted by an earlier version lacks the numbers; columns are the same by their names
// then, and Unknown is among the differences.
func (t *Table) Differences(before *Table) []Difference {
	var found []Difference
	add := func(kind DifferenceKind, column string) {
		found = append(found, Difference{Kind: kind, Table: t.TableName(), Column: column})
	}
	if t.OID != before.OID {
		add(Replaced, "")
		return found
	}
	unknown := slices.ContainsFunc(before.Columns, func(c Column) bool { return c.Number == 0 })
	was := func(c *Column) *Column {
		if unknown {
			return before.Column(c.Name)
		}
		return before.ColumnAt(c.Number)
	}
	for i := range t.Columns {
		c := &t.Columns[i]
		b := was(c)
		if b == nil {
			if before.Column(c.Name) != nil {
				add(Exchanged, c.Name)
			} else {
				add(Added, c.Name)
			}
			continue
		}
		if c.Name != b.Name {
			if before.Column(c.Name) != nil {
				add(Exchanged, c.Name)
			}
			found = append(found, Difference{Kind: Renamed, Table: t.TableName(), Column: c.Name, Before: b.Name})
		}
		if !c.Type.Equal(b.Type) || c.Generated != b.Generated {
			add(Retyped, c.Name)
		}
		if unknown {
			continue
		}
		if !c.Type.hasLabelsOf(b.Type) {
			add(Relabelled, c.Name)
		}
		if c.Expression != b.Expression && c.Generated && b.Generated {
			add(Recomputed, c.Name)
		}
		if c.Collation != b.Collation {
			add(Collated, c.Name)
		}
		if c.Type.touched(b.Type) {
			add(Touched, c.Name)
		}
	}
	for i := range before.Columns {
		b := &before.Columns[i]
		if there := t.ColumnAt(b.Number); !unknown && there == nil && t.Column(b.Name) == nil || unknown && t.Column(b.Name) == nil {
			add(Dropped, b.Name)
		}
	}
	if !slices.Equal(t.PrimaryKey, before.PrimaryKey) || !unknown && t.KeyDeferrable != before.KeyDeferrable || !slices.EqualFunc(t.Unique, before.Unique, slices.Equal) {
		add(Keyed, "")
	}
	if !t.Identity.equal(before.Identity) {
		add(Identified, "")
	}
	if t.RowSecurity != before.RowSecurity {
		add(oneOf(t.RowSecurity, Guarded, Unguarded), "")
	}
	if t.Unlogged != before.Unlogged {
		add(oneOf(t.Unlogged, Unlogged, Logged), "")
	}
	if t.Published != "" && before.Published != "" && !samePublication(t.Published, before.Published) {
		add(Republished, "")
	}
	switch {
	case unknown:
		add(Unknown, "")
	case t.File != before.File && !strings.HasPrefix(t.File, before.File+"+"): // a TOAST table that came is empty
		add(Rewritten, "")
	}
	slices.SortStableFunc(found, func(a, b Difference) int {
		return slices.Index(DifferenceKinds, a.Kind) - slices.Index(DifferenceKinds, b.Kind)
	})
	return found
}

// samePublication reports whether a publication is as before, as [Table.Published] has it. Earlier
// versions noted more behind blanks, also how it had the table; of that the publication's own row counts.
func samePublication(now, before string) bool {
	if !strings.Contains(before, ".") {
		fields := append(strings.Fields(before), "", "")
		now, _, _ = strings.Cut(now, " ")
		return now == fields[0]+"."+fields[1]
	}
	return now == before
}

// Same reports whether nothing is different about the table since it was as before, nor about its
// children where their rows count.
func (t *Table) Same(before *Table) bool {
	return len(t.Differences(before)) == 0 && (!t.WithChildren || t.SameChildren(before))
}

func oneOf(is bool, yes, no DifferenceKind) DifferenceKind {
	if is {
		return yes
	}
	return no
}

// hasLabelsOf reports whether every value that an enum had before, in the type or in what it is
// made of, is still there under its name. Values that were added are in no row yet.
func (t *Type) hasLabelsOf(before *Type) bool {
	if t == nil || before == nil || t.OID != before.OID {
		return true // it is Retyped
	}
	now := t.Labels // both are in the order of their oids
	for _, l := range before.Labels {
		for len(now) > 0 && now[0].OID < l.OID {
			now = now[1:]
		}
		if len(now) == 0 || now[0].OID != l.OID || now[0].Text != l.Text {
			return false
		}
	}
	if !t.Elem.hasLabelsOf(before.Elem) || !t.Base.hasLabelsOf(before.Base) {
		return false
	}
	for i := range min(len(t.Attributes), len(before.Attributes)) {
		if !t.Attributes[i].Type.hasLabelsOf(before.Attributes[i].Type) {
			return false
		}
	}
	return true
}

// touched reports whether a label or an attribute that a type is made of was written anew since, and
// is the same. Of a type that is another one it is Retyped.
func (t *Type) touched(before *Type) bool {
	if t == nil || before == nil || t.OID != before.OID {
		return false
	}
	if len(t.Labels) == len(before.Labels) {
		for i, l := range t.Labels {
			if l.touched(before.Labels[i].Mark) {
				return true
			}
		}
	}
	if len(t.Attributes) == len(before.Attributes) {
		for i, a := range t.Attributes {
			if a.touched(before.Attributes[i].Mark) || a.Type.touched(before.Attributes[i].Type) {
				return true
			}
		}
	}
	return t.Elem.touched(before.Elem) || t.Base.touched(before.Base)
}
