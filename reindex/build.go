package reindex

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"tidemark/indexer/search"
	"tidemark/mapping"
	"tidemark/mapping/catalog"
	"tidemark/reindex/control"
)

// build makes a physical index that is to be backfilled, notes it, and returns the state that it
// has noted. st is what was known before. What was being built until now is dropped.
func (m *Manager) build(ctx context.Context, x *index, st control.State, why, generation string) (control.State, error) {
	tables := m.o.Catalog.Tables()
	if err := m.claimName(ctx, x); err != nil {
		return control.State{}, err
	}
	name, err := m.newName(ctx, &st)
	if err != nil {
		return control.State{}, err
	}
	var known []string
	if m.hasBegun() {
		known = []string{st.Live.Physical, st.Building.Physical}
	}
	abandoned, err := m.findLive(ctx, &st)
	if err != nil {
		return control.State{}, err
	}
	x.plan(name)
	if st.Live.Generation != generation {
		// The one in use misses changes: whatever becomes of this one, it is incomplete.
		st.Live.Generation = ""
	}
	st.Total = mapping.EstimatedRows(x.Index, tables)
	st.Building = control.Version{Physical: name, Fingerprint: x.Fingerprint(tables), Generation: generation}
	if st.Building.Mapping, st.Building.Tables, err = encode(x.Index, tables); err != nil {
		return control.State{}, err
	}
	if st.Building.Base, err = m.o.Syncer.ReplayStart(ctx); err != nil {
		return control.State{}, err
	}
	// Rows of partitions that are attached from here on may not be in the chunks.
	now, err := readPartitions(ctx, m.o.Syncer.DB(), x.Index, tables, m.o.Publication)
	if err != nil {
		return control.State{}, err
	}
	now.Unlisted = len(now.Leaves) > 0
	if st.Building.Partitions, err = now.Encode(); err != nil {
		return control.State{}, err
	}
	// Noted before it is made: a crash in between leaves a note of an index that does not
	// exist, which the next start sees, and never an index that nobody knows of.
	// Nothing is noted by who was stopped until another process had the slot: nobody would make the
	// index, and that one would not know that it is to be filled.
	if err := m.o.Syncer.HoldsSlot(ctx); err != nil {
		return control.State{}, err
	}
	if err := m.o.Control.States().Begin(ctx, &st, known); err != nil {
		return control.State{}, err
	}
	body, err := x.Body(tables)
	if err == nil {
		body, err = backfillBody(body)
	}
	if err != nil {
		return control.State{}, err
	}
	if err := m.make(ctx, x, name, st.Building.Fingerprint, body); err != nil {
		if is[*search.OwnerError](err) { // somebody else has begun at the same time
			return control.State{}, errors.Join(err, m.o.Control.States().Abandon(ctx, &st))
		}
		if isRefusedMapping(err) { // it will never be there, and is not to be waited for
			err = errors.Join(err, m.refuse(ctx, x, &st))
		}
		return control.State{}, err
	}
	m.o.Logger.Info("made a physical index for a backfill", "index", x.Name, "physical", name, "why", why, "rows", st.Total)
	if abandoned != "" {
		m.fanOuts.giveUp(abandoned)
		if err := m.drop(ctx, x.Name, abandoned); err != nil {
			return control.State{}, err
		}
	}
	return st, nil
}

// refuse notes that the cluster has refused the index that was to be built. The one in use gets
// documents as the tables have them now, which are others than it was made for: it is not gone
// back to, also where a table becomes again what it was.
func (m *Manager) refuse(ctx context.Context, x *index, st *control.State) error {
	if err := m.o.Control.States().Abandon(ctx, st); err != nil {
		return err
	}
	st.NotBuilding()
	st.Live.Fingerprint = ""
	if st.Live.Physical != "" {
		if err := m.o.Control.States().Adopt(ctx, st); err != nil {
			return err
		}
	}
	x.set(*st)
	return nil
}

// newName returns the name of a physical index that comes after all that there are or
// were: names go by the second, and a clock may have been set back.
func (m *Manager) newName(ctx context.Context, st *control.State) (string, error) {
	standing, err := m.o.Client.Standing(ctx, st.Name)
	if err != nil {
		return "", err
	}
	known := []string{st.Live.Physical, st.Building.Physical}
	for _, i := range standing.Physical() {
		known = append(known, i.Name)
	}
	at := time.Now().Truncate(time.Second)
	for _, physical := range known {
		if made, ok := search.PhysicalTime(st.Name, physical); ok && !made.Before(at) {
			at = made.Add(time.Second)
		}
	}
	name, _ := search.PhysicalName(st.Name, at)
	return name, nil
}

// findLive corrects which index a state has in use, by what the search server has, before a new
// one is built. abandoned is the one that was being built and is not gone on with, "" if none.
func (m *Manager) findLive(ctx context.Context, st *control.State) (abandoned string, err error) {
	abandoned = st.Building.Physical
	if abandoned != "" {
		// A process that ended after it had moved the alias and before it noted that has left
		// the index in use as one that is being built.
		of, err := m.o.Client.AliasTargets(ctx, st.Name)
		if err != nil {
			return "", err
		}
		if slices.Contains(of, abandoned) {
			st.Live, abandoned = st.Building, ""
		}
	}
	if st.Live.Physical != "" {
		there, err := m.o.Client.IndexExists(ctx, st.Live.Physical, search.WriteAlias(st.Name, st.Live.Physical))
		if err != nil {
			return "", err
		}
		if !there {
			st.Live = control.Version{}
		}
	}
	return abandoned, nil
}

// buildBeside makes the physical index for a rebuild, and has changes written to it from now on.
func (m *Manager) buildBeside(ctx context.Context, x *index, why string) error {
	missed := x.hasMissed()
	x.setMissed(false) // what is passed over from here on is noted again
	err := m.retry(ctx, "make a physical index for "+x.Name, func(ctx context.Context) error {
		generation, err := m.generation(ctx, x)
		if err != nil {
			return err
		}
		st := x.state()
		if missed {
			st.Live.Generation = ""
		}
		if st, err = m.build(ctx, x, st, why, generation); err != nil {
			return err
		}
		// If it was held, documents were written nowhere until here. Rows that changed before are read
		// after this.
		m.release(x)
		return m.enter(x, st)
	})
	if err != nil && missed {
		x.setMissed(true)
	}
	return err
}

func (m *Manager) generation(ctx context.Context, x *index) (string, error) {
	return m.generationOf(ctx, x.Present(m.o.Catalog.Present()))
}

func (m *Manager) generationOf(ctx context.Context, ix *mapping.Index) (string, error) {
	return Generation(ix, func(name catalog.TableName) (string, error) {
		return m.o.Syncer.TableGeneration(ctx, name.Schema, name.Name)
	})
}

// Generation names the time for which the slot has had every change of all the tables that
// documents of an index are made of. of returns that of one table, see
// [dbsync.Syncer.TableGeneration].
func Generation(ix *mapping.Index, of func(catalog.TableName) (string, error)) (string, error) {
	var all []string
	for _, name := range ix.Tables() {
		generation, err := of(name)
		if err != nil {
			return "", err
		}
		all = append(all, generation)
	}
	slices.Sort(all)
	return strings.Join(all, " "), nil
}

// encode returns the mapping of an index and what its tables are, for the control schema.
func encode(ix *mapping.Index, tables catalog.Tables) (mappingText, tablesText string, err error) {
	if mappingText, err = ix.Encode(); err != nil {
		return "", "", err
	}
	of := make(catalog.Tables)
	for _, name := range ix.Tables() {
		of[name] = tables[name]
	}
	if tablesText, err = of.Encode(); err != nil {
		return "", "", fmt.Errorf("index %s: %w", ix.Name, err)
	}
	return mappingText, tablesText, nil
}

// drop removes a physical index that is not written to any more, and before it the dead
// letters of its documents: after a crash in between the index is found again.
func (m *Manager) drop(ctx context.Context, index, physical string) error {
	if _, err := m.o.DeadLetters.Drop(ctx, control.LetterFilter{Indices: []string{search.WriteAlias(index, physical)}}); err != nil {
		return err
	}
	if err := m.o.Client.DropIndex(ctx, physical, m.owner); err != nil {
		return err
	}
	if err := m.o.Control.Markings().Forget(ctx, physical); err != nil {
		return err
	}
	if x := m.byName[index]; x != nil {
		x.forgetMarking(physical)
	}
	m.o.Logger.Info("dropped a physical index", "physical", physical)
	return nil
}
