package prepare

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pglogrepl"

	"tidemark/dbsync"
	"tidemark/indexer/search"
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

	// Kept are the aliases of Live that are kept over a rebuild, by name, with the index's own if there
	// is something special about it; Templates are those of the cluster that give something to its
	// physical indices.
	Kept      map[string]search.Alias
	Templates []*search.Template

	// Refused is why run stops because of it, nil if it does not.
	Refused error

	// Incomplete says that Live misses changes.
	Incomplete bool

	// Need is what the index needs to be as the mapping has it.
	Need reindex.Need

	// Async is the physical index in use, or the one that is to be made, where its translog.durability
	// is async; "" where it is not. Made says that it is there.
	Async string
	Made  bool

	// Blind is why it will not be seen that shards of the index were started again; nil if it will.
	Blind error

	// Rows is about how many rows the tables have, -1 if that is not known. RowsPerSecond is
	// how fast the last backfill was, 0 if there was none.
	Rows          int64
	RowsPerSecond float64
}

// Plan finds out what run would do with each index. It changes nothing.
func (p *Prepared) Plan(ctx context.Context, c *mapping.Config) ([]IndexPlan, error) {
	states := control.Open(p.db, c.StateSchema(), c.Postgres.Slot).States()
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
		generation, err := p.generation(ctx, c, ix)
		if err != nil {
			return nil, err
		}
		plan.Rows = mapping.EstimatedRows(ix, p.Tables)
		plan.Need, err = reindex.NeedOf(ctx, p.Client, ix, st, p.Tables, generation)
		if err == nil {
			plan.Alias, err = p.Client.AliasTargets(ctx, ix.Name)
		}
		if err == nil {
			err = p.surroundings(ctx, &plan)
		}
		if err == nil {
			err = p.durability(ctx, &plan)
		}
		if err != nil {
			return nil, fmt.Errorf("index %s: %w", ix.Name, err)
		}
		plans = append(plans, plan)
	}
	return plans, nil
}

// surroundings reads what others have set around an index in the cluster.
func (p *Prepared) surroundings(ctx context.Context, plan *IndexPlan) (err error) {
	if plan.Templates, err = p.Client.Templates(ctx, plan.Index.Name); err != nil {
		return err
	}
	standing, err := p.Client.Standing(ctx, plan.Index.Name)
	if err != nil {
		return err
	}
	plan.Kept = standing.Others(plan.Live)
	if i := standing.Get(plan.Live); i != nil {
		if own, ok := i.Aliases[plan.Index.Name]; ok && own.String() != "" {
			plan.Kept[plan.Index.Name] = own
		}
	}
	return nil
}

// durability finds out whether what the search server answers of an index may be gone after a restart,
// and whether a restart will be seen. A cluster that does not let this user ask for the former is
// taken for one that has the default.
func (p *Prepared) durability(ctx context.Context, plan *IndexPlan) error {
	physical := cmp.Or(plan.Live, plan.Building)
	var durability search.Durability
	var err error
	if plan.Made = physical != "" && plan.Need.Backfill == ""; plan.Made {
		if durability, err = p.Client.Durability(ctx, physical); err == nil {
			_, plan.Blind = p.Client.Recoveries(ctx, physical)
		}
	} else if plan.Need.Hold == "" {
		var body []byte
		if body, err = plan.Index.Body(p.Tables); err != nil {
			return err
		}
		physical, _ = search.PhysicalName(plan.Index.Name, time.Now())
		durability, err = p.Client.DurabilityOfNew(ctx, physical, body)
	}
	if durability == search.DurableAsync {
		plan.Async = physical
	}
	for _, err := range []error{err, plan.Blind} {
		if err != nil && !dbsync.IsPermanent(err) {
			return err
		}
	}
	return nil
}

// generation returns that of the tables of an index.
func (p *Prepared) generation(ctx context.Context, c *mapping.Config, ix *mapping.Index) (string, error) {
	return reindex.Generation(ix.Present(p.Tables), func(name catalog.TableName) (string, error) {
		return dbsync.TableGeneration(ctx, p.db, p.Database.Generation, c.Postgres.Publication, name.Schema, name.Name)
	})
}

// checkNewest finds out whether documents are ahead of the log: the database was set back then, which
// is a loss that the database itself does not show.
func (p *Prepared) checkNewest(ctx context.Context, c *mapping.Config) error {
	if !p.Control.Readable || p.Database.Lost != nil {
		return nil
	}
	states := control.Open(p.db, c.StateSchema(), c.Postgres.Slot).States()
	for _, ix := range c.Indices {
		st, err := states.Read(ctx, ix.Name)
		if err != nil {
			return err
		}
		generation, err := p.generation(ctx, c, ix)
		if err != nil {
			return err
		}
		err = reindex.CheckNewest(ctx, p.Client, st, generation, func(ctx context.Context, version pglogrepl.LSN, what string) error {
			if promotion := p.Database.Promotion; promotion != nil {
				return promotion.Check(c.Postgres.Slot, version, what)
			}
			return dbsync.CheckSetBack(ctx, p.db, c.Postgres.Slot, version, what)
		})
		if setBack, ok := errors.AsType[*dbsync.SetBackError](err); ok {
			p.Database.Lost = setBack
			return nil
		}
		if err != nil && dbsync.IsPermanent(err) {
			return fmt.Errorf("index %s: %w", ix.Name, err)
		}
		// What does not answer now is asked again when the slot is ours.
	}
	return nil
}
