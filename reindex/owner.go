package reindex

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"tidemark/indexer/search"
	"tidemark/mapping"
	"tidemark/reindex/control"
)

// A Claim is what makes an index in the cluster ours: it has our stamp, or the control schema knows
// it from a version that put no stamps into indices.
type Claim struct {
	Owner    search.Owner
	Markings map[string]control.Marking // of the index, by physical index

	// Unstamped has every index without a stamp be ours whose name is as of ours: an earlier version
	// followed the slot, and what it noted of indices cannot be told.
	Unstamped bool
}

// ours reports whether an index without a stamp is ours. Whoever replaces _meta takes the stamp
// away, and the index is what it was.
func (c *Claim) ours(i *search.IndexInfo) bool {
	k, noted := c.Markings[i.Name]
	return c.Unstamped || noted && (k.Mark.Number == 0 || k.Incarnation == i.Incarnation)
}

// has reports whether a physical index is ours.
func (c *Claim) has(i *search.IndexInfo) bool { return i.IsOf(c.Owner) || i.Stamp == nil && c.ours(i) }

// Check returns why the index may not be worked on by this owner: its name, or what it is in the
// cluster, is somebody else's, see [search.OwnerError] and [search.NameTakenError]; or something would
// not be kept, see [search.AliasError] and [search.TemplateError]. st is what the control schema has of
// the index, nil if nothing. With adopt what is somebody else's may be taken over.
func (c *Claim) Check(ctx context.Context, client *search.Client, standing *search.Standing, ix *mapping.Index, st *control.State) error {
	if err := standing.CheckName(client.Adopts()); err != nil {
		return err
	}
	if !client.Adopts() {
		// Where one of ours is, somebody else's beside it is what they had before the name was taken
		// over, also while the alias is gone.
		if len(standing.Behind()) > 0 || !slices.ContainsFunc(standing.Physical(), c.has) {
			if err := standing.CheckOwner(c.Owner, c.ours); err != nil {
				return err
			}
		}
		for _, v := range versions(st) {
			if i := standing.Get(v.Physical); i != nil && !c.has(i) {
				return &search.OwnerError{Indices: []string{i.Name}, Owner: i.Owner()}
			}
		}
	}
	if err := standing.CheckAliases(c.Owner); err != nil {
		return err
	}
	templates, err := client.Templates(ctx, ix.Name)
	if err != nil {
		return err
	}
	for _, t := range templates {
		if err := checkTemplate(t, ix); err != nil {
			return err
		}
	}
	return nil
}

// checkTemplate returns a [*search.TemplateError] when an index cannot be kept with what a template of
// the cluster gives to its physical indices. What the mapping says itself wins over a template.
func checkTemplate(t *search.Template, ix *mapping.Index) error {
	if err := t.Check(ix.Name); err != nil {
		return err
	}
	unrouted := slices.ContainsFunc(ix.Sources, func(s *mapping.Source) bool { return s.Routing == "" })
	switch {
	case t.Routed && unrouted && ix.Mappings["_routing"] == nil:
		return &search.TemplateError{Template: t.Name, Why: "has every document without a routing refused, and the mapping gives none"}
	case t.NoSource && ix.Mappings["_source"] == nil:
		return &search.TemplateError{Template: t.Name, Why: "has documents not kept, so that they cannot be compared with their rows"}
	}
	return nil
}

// versions are the versions of a state that there are.
func versions(st *control.State) (found []*control.Version) {
	if st == nil {
		return nil
	}
	for _, v := range []*control.Version{&st.Live, &st.Building} {
		if v.Physical != "" {
			found = append(found, v)
		}
	}
	return found
}

// A claimed is an index that is ours at the start, before anything is done for it.
type claimed struct {
	noted    *control.State // what the control schema has of it, without what is somebody else's
	standing *search.Standing
	claim    Claim
	unproven string // why it has to be compared with its tables, "" if it need not
}

// claim makes sure that all indices are ours, before anything is made for one of them, and that the
// control schema and the cluster are as they were left. What is somebody else's is an error that
// names it, or with --adopt is not gone on with.
func (m *Manager) claim(ctx context.Context) (map[*index]*claimed, error) {
	system, _ := m.o.Syncer.System()
	owner, err := control.ReadOwner(ctx, m.o.Syncer.DB(), system, m.o.Control.Name(), m.o.Control.Slot())
	if err != nil {
		return nil, err
	}
	m.owner = owner
	all := make(map[*index]*claimed)
	var refused []error
	for _, x := range m.indices {
		c := &claimed{claim: Claim{Owner: owner, Unstamped: m.o.Unstamped}}
		if c.noted, err = m.o.Control.States().Read(ctx, x.Name); err != nil {
			return nil, err
		}
		if c.claim.Markings, err = m.o.Control.Markings().Read(ctx, x.Name); err != nil {
			return nil, err
		}
		if c.standing, err = m.o.Client.Standing(ctx, x.Name); err != nil {
			return nil, err
		}
		switch err := c.claim.Check(ctx, m.o.Client, c.standing, x.Index, c.noted); {
		case IsRefusal(err):
			refused = append(refused, fmt.Errorf("index %s: %w", x.Name, err))
		case err != nil:
			return nil, err
		}
		all[x] = c
	}
	if len(refused) > 0 {
		return nil, errors.Join(refused...)
	}
	for x, c := range all {
		m.leaveToOthers(x, c)
	}
	return all, m.joinSides(ctx, all)
}

// IsRefusal reports whether an error says that an index may not be worked on.
func IsRefusal(err error) bool {
	return is[*search.OwnerError](err) || is[*search.NameTakenError](err) || is[*search.AliasError](err) || is[*search.TemplateError](err)
}

func is[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

// leaveToOthers takes what is somebody else's out of what is noted of an index: a copy of
// another database has brought it along. Nothing is written there, and the index is filled anew.
func (m *Manager) leaveToOthers(x *index, c *claimed) {
	for _, v := range versions(c.noted) {
		if i := c.standing.Get(v.Physical); i != nil && !c.claim.has(i) {
			m.o.Logger.Warn("a physical index that the control schema names is somebody else's and is left alone", "index", x.Name, "physical", v.Physical)
			*v = control.Version{}
		}
	}
}

// claimName is claim for an index that is about to be built while running.
func (m *Manager) claimName(ctx context.Context, x *index) error {
	standing, err := m.o.Client.Standing(ctx, x.Name)
	if err != nil {
		return err
	}
	claim := Claim{Owner: m.owner, Markings: x.markings(), Unstamped: m.o.Unstamped}
	return claim.Check(ctx, m.o.Client, standing, x.Index, nil)
}

// make makes a physical index with our stamp in it. Where somebody else has begun to build an index
// of the name at the same time, both see that, and what was made is removed.
func (m *Manager) make(ctx context.Context, x *index, physical, fingerprint string, body []byte) error {
	k, err := m.o.Control.Markings().Add(ctx, x.Name, physical)
	if err != nil {
		return err
	}
	body, err = search.Stamped(body, search.Stamp{Owner: m.owner, Fingerprint: fingerprint, Mark: k.Mark})
	if err != nil {
		return err
	}
	if err := m.o.Client.CreateIndex(ctx, physical, search.WriteAlias(x.Name, physical), body); err != nil {
		return err
	}
	standing, err := m.o.Client.Standing(ctx, x.Name)
	if err != nil {
		return err
	}
	made := standing.Get(physical)
	if made == nil {
		return fmt.Errorf("index %s: %s was made and is gone again", x.Name, physical)
	}
	if !m.o.Client.Adopts() {
		claim := Claim{Owner: m.owner, Markings: x.markings(), Unstamped: m.o.Unstamped}
		if err := standing.CheckOwner(m.owner, claim.ours); err != nil {
			return errors.Join(err, m.o.Client.DropIndex(ctx, physical, m.owner), m.o.Control.Markings().Forget(ctx, physical))
		}
	}
	now := k
	now.Incarnation = made.Incarnation
	if err := m.o.Control.Markings().Note(ctx, x.Name, k, now); err != nil {
		return err
	}
	x.setMarking(now)
	return nil
}
