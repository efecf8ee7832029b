package indexer

import (
	"slices"

	"github.com/jackc/pglogrepl"

	"tidemark/mapping"
)

// Where indices are named by the values of a column, a row is a document of one of them, whichever has its value. A change
// is handed to that one alone, and to the one of the value that the row had before, where that was another: what it
// costs does not grow with how many there are. In which indices of which rows documents are is known by the values of the old row, so
// the column is in the replica identity, as what routes is.

// placed are the plans for the rows of a relation, by the values that the rows have.
type placed struct {
	always  []*streamPlan // of indices that are named by no value
	choices []*choice
	now     []*streamPlan // storage for plansFor
	left    []*streamPlan
}

// A choice is the plans of the indices that one name of the file stands for: of each row at most one index has it.
type choice struct {
	of    *streamPlan // one of them: the column is at the same place in all
	all   []*streamPlan
	by    map[string][]*streamPlan // by the text of the value
	known map[string]bool          // values that Unplaced was called for
}

// maxUnplaced bounds how many values without an index are remembered; beyond that they may be told of again.
const maxUnplaced = 1000

// placePlans sorts plans by the values of their rows; nil where values make no difference.
func placePlans(plans []*streamPlan) *placed {
	p := new(placed)
	for _, plan := range plans {
		only := plan.source.Only
		if only == nil {
			p.always = append(p.always, plan)
			continue
		}
		key := plan.documents.Index.Key // "": by mappings that are not in the file any more
		i := slices.IndexFunc(p.choices, func(c *choice) bool {
			return c.of.documents.Index.Key == key && c.of.source.Only.Column == only.Column && c.of.table == plan.table
		})
		if i < 0 {
			i = len(p.choices)
			p.choices = append(p.choices, &choice{of: plan, by: make(map[string][]*streamPlan), known: make(map[string]bool)})
		}
		c := p.choices[i]
		c.all = append(c.all, plan)
		for _, value := range only.Values {
			c.by[value] = append(c.by[value], plan)
		}
	}
	if len(p.choices) == 0 {
		return nil
	}
	return p
}

// plansFor returns the plans of the indices that a row is in now, and of those that it has left; row is nil for one that is
// gone, old where its replica identity did not change. They are good until the next call.
func (h *Handler) plansFor(relation uint32, row, old *pglogrepl.TupleData) (now, left []*streamPlan) {
	p := h.placed[relation]
	if p == nil {
		if row == nil {
			return nil, h.plans[relation]
		}
		return h.plans[relation], nil
	}
	p.now, p.left = p.now[:0], p.left[:0]
	if row == nil {
		p.left = append(p.left, p.always...)
	} else {
		p.now = append(p.now, p.always...)
	}
	for _, c := range p.choices {
		begin := len(p.now)
		if row != nil {
			plans, value := c.plansOf(row)
			p.now = append(p.now, plans...)
			if len(plans) == 0 && value != nil {
				h.unplaced(c, value)
			}
		}
		if old != nil {
			plans, _ := c.plansOf(old)
			for _, plan := range plans {
				if !slices.Contains(p.now[begin:], plan) {
					p.left = append(p.left, plan)
				}
			}
		}
	}
	return p.now, p.left
}

// plansOf returns the plans of the indices that have a row, and its value, nil for NULL. Where the stream does not carry the
// value, which is so for one that is kept outside of the row and did not change, it may be any of them: each looks
// at the row itself then.
func (c *choice) plansOf(row *pglogrepl.TupleData) (plans []*streamPlan, value []byte) {
	text, ok := c.of.plan.Value(row)
	if !ok {
		return c.all, nil
	}
	if text == nil {
		return nil, nil
	}
	return c.by[string(text)], text
}

// unplaced takes up that a row has a value of which there is no index.
func (h *Handler) unplaced(c *choice, value []byte) {
	if h.o.Unplaced == nil || c.known[string(value)] || !c.of.source.Names(value) {
		return
	}
	if len(c.known) >= maxUnplaced {
		clear(c.known)
	}
	c.known[string(value)] = true
	h.o.Unplaced(mapping.ValueColumn{Table: c.of.source.Table, Column: c.of.source.Only.Column})
}
