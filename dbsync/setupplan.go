package dbsync

import (
	"context"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
)

// A plan is what one look at the database found, and what has to be done there before the
// slot can be followed. [Inspect] prints it, and setup executes it, under a lock that keeps
// it true meanwhile.
//
// The control schema comes first. What is noted there says what the rest of the plan is, so
// that is planned again when the control schema is made.
type plan struct {
	s *Syncer

	control       part
	forget        []step // of a slot that was lost and is made anew; before the publication
	publication   part
	slot          part
	eventTriggers part

	state controlState

	// lost is a *SlotLostError, a *ClusterChangedError or a *SetBackError where changes are missing. With
	// WithNewSlot the plan makes the slot anew.
	lost       error
	generation string     // of the slot; "" if it has to be made
	promotion  *Promotion // since the slot was followed last, nil if there was none
	walEnd     pglogrepl.LSN
	found      SlotInspection
}

// A part of a plan is about one kind of object.
type part struct {
	wrong []finding
	steps []step
}

// A finding is something that somebody has to fix.
type finding struct {
	*SetupError
	stops bool // the plan is not executed; otherwise only Inspect says it
}

// A step makes or changes something.
type step struct {
	says string // as [Inspection] lists it; "" for what belongs to another step, or only takes a note
	do   func(ctx context.Context, conn *pgx.Conn) error
}

// refuse takes up what stops the plan from being executed.
func (p *part) refuse(wrong *SetupError) { p.wrong = append(p.wrong, finding{wrong, true}) }

// warn takes up what [Inspect] alone says: that a role seems to lack what a step needs, which
// is for Postgres to decide when it is tried, or what may be meant as it is.
func (p *part) warn(wrong *SetupError) { p.wrong = append(p.wrong, finding{wrong, false}) }

// doNothing is the step of what is done elsewhere, and said here.
func doNothing(context.Context, *pgx.Conn) error { return nil }

// step plans something to do.
func (p *part) step(says string, do func(ctx context.Context, conn *pgx.Conn) error) {
	p.steps = append(p.steps, step{says, do})
}

// makePlan looks at the database and changes nothing in it.
func (s *Syncer) makePlan(ctx context.Context, conn *pgx.Conn) (*plan, error) {
	p := &plan{s: s}
	if err := p.planControl(ctx, conn); err != nil {
		return nil, err
	}
	younger, err := p.planPublication(ctx, conn)
	if err != nil {
		return nil, err
	}
	if err := p.planSlot(ctx, conn, younger); err != nil {
		return nil, err
	}
	if err := p.planEventTriggers(ctx, conn); err != nil {
		return nil, err
	}
	return p, nil
}

// refusal returns why the plan cannot be executed, nil if it can. What the slot has lost is
// said before what is wrong with the publication: with a new slot that may be another one.
func (p *plan) refusal() error {
	for _, found := range [][]finding{p.control.wrong, p.slot.wrong} {
		if err := stopping(found); err != nil {
			return err
		}
	}
	if p.lost != nil && !p.s.newSlot {
		return p.lost
	}
	if err := stopping(p.publication.wrong); err != nil {
		return err
	}
	return stopping(p.eventTriggers.wrong)
}

// stopping returns the first finding that stops the setup.
func stopping(found []finding) error {
	for _, f := range found {
		if f.stops {
			return f.SetupError
		}
	}
	return nil
}

// execute does steps in order.
func execute(ctx context.Context, conn *pgx.Conn, lists ...[]step) error {
	for _, steps := range lists {
		for _, step := range steps {
			if err := step.do(ctx, conn); err != nil {
				return err
			}
		}
	}
	return nil
}
