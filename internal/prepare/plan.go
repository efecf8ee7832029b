package prepare

import (
	"context"
	"fmt"

	"tidemark/dbsync"
	"tidemark/mapping"
	"tidemark/mapping/catalog"
	"tidemark/reindex"
	"tidemark/reindex/control"
)

// An IndexPlan says what run would do with one index.
type IndexPlan struct {
	Index  *mapping.Index
	Tables catalog.Tables // that its documents are made of, and others

	// Live is the physical index that is kept equal to the table, "" if there is none,
	// Building one that is being filled, of whose rows Done are stored.
	Live, Building string
	Done           int64

	// Alias is what the name of the index stands for in the cluster now.
	Alias []string

	// Unknown says that an earlier version made the control schema, which has to be migrated
	// before the rest of this can be said.
	Unknown bool

	// Refused is why run stops because of it, nil if it does not.
	Refused error

	// Incomplete says that Live misses changes.
	Incomplete bool

	// Need is what the index needs to be as the mapping has it.
	Need reindex.Need

	// Rows is about how many rows the tables have, -1 if that is not known. RowsPerSecond is
	// how fast the last backfill was, 0 if there was none.
	Rows          int64
	RowsPerSecond float64
}

// Plan finds out what run would do with each index. It changes nothing.
func (p *Prepared) Plan(ctx context.Context, c *mapping.Config) ([]IndexPlan, error) {
	states := control.NewStates(p.db, c.Postgres.ControlSchema)
	var plans []IndexPlan
	for _, ix := range c.Indices {
		plan := IndexPlan{Refused: p.Refused[ix.Name], Index: ix, Tables: p.Tables, Rows: mapping.EstimatedRows(ix, p.Tables)}
		if p.Control.Made && !p.Control.Readable {
			plan.Unknown = true
			plans = append(plans, plan)
			continue
		}
		var st *control.State
		if p.Control.Readable {
			var err error
			if st, err = states.Read(ctx, ix.Name); err != nil {
				return nil, err
			}
		}
		if st != nil {
			plan.Incomplete = st.Incomplete()
			plan.Live, plan.Building, plan.Done = st.Live.Physical, st.Building.Physical, st.Done
			if took := st.FinishedAt.Sub(st.StartedAt).Seconds(); took > 0 && st.Building.Physical == "" {
				plan.RowsPerSecond = float64(st.Done) / took
			}
		}
		generation, err := reindex.Generation(ix, func(name catalog.TableName) (string, error) {
			return dbsync.TableGeneration(ctx, p.db, p.Database.Generation, c.Postgres.Publication, name.Schema, name.Name)
		})
		if err != nil {
			return nil, err
		}
		plan.Rows = mapping.EstimatedRows(ix, p.Tables)
		plan.Need, err = reindex.NeedOf(ctx, p.Client, ix, st, p.Tables, generation)
		if err == nil {
			plan.Alias, err = p.Client.AliasTargets(ctx, ix.Name)
		}
		if err != nil {
			return nil, fmt.Errorf("index %s: %w", ix.Name, err)
		}
		plans = append(plans, plan)
	}
	return plans, nil
}
