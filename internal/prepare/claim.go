package prepare

import (
	"context"
	"fmt"
	"time"

	"tidemark/mapping"
	"tidemark/reindex"
	"tidemark/reindex/control"
)

// claim finds out which indices are somebody else's in the cluster. It changes nothing; when the slot
// is ours it is done again, as others may have come meanwhile.
func (p *Prepared) claim(ctx context.Context, c *mapping.Config, patience time.Duration) error {
	owner, err := control.ReadOwner(ctx, p.db, p.Database.System, c.StateSchema(), c.Postgres.Slot)
	if err != nil {
		return err
	}
	schema := control.Open(p.db, c.StateSchema(), c.Postgres.Slot)
	states, markings := schema.States(), schema.Markings()
	p.Refused = make(map[string]error)
	for _, ix := range c.Indices {
		// An earlier version has put no stamps into indices: what has none counts as its.
		claim := reindex.Claim{Owner: owner, Unstamped: p.Control.Made && !p.Control.Marks}
		var st *control.State
		if p.Control.Readable {
			if st, err = states.Read(ctx, ix.Name); err != nil {
				return err
			}
		}
		if p.Control.Marks {
			if claim.Markings, err = markings.Read(ctx, ix.Name); err != nil {
				return err
			}
		}
		err := again(ctx, patience, func() error {
			standing, err := p.Client.Standing(ctx, ix.Name)
			if err != nil {
				return err
			}
			return claim.Check(ctx, p.Client, standing, ix, st)
		})
		switch {
		case reindex.IsRefusal(err):
			p.Refused[ix.Name] = err
		case err != nil:
			return fmt.Errorf("index %s: %w", ix.Name, err)
		}
	}
	return nil
}
