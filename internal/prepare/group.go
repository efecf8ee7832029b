package prepare

import (
	"context"
	"log/slog"
	"time"

	"github.com/sourcegraph/conc"

	"tidemark/indexer/search"
	"tidemark/mapping"
)

// A Group is what was found of one cluster beside the first.
type Group struct {
	Config *mapping.Config // as it is for the group
	Kafka  *Kafka
	Client *search.Client // nil: the cluster does not answer
	Away   error          // why; run begins without it
}

// Groups looks at the clusters of kafka.groups and at their topics, for as long as patience lasts where one does not
// answer. Nothing is made. What somebody has to fix is [mapping.Problems]. The caller closes what it returns.
func Groups(ctx context.Context, c *mapping.Config, log *slog.Logger, patience time.Duration) ([]*Group, error) {
	groups := make([]*Group, len(c.GroupNames()))
	errs := make([]error, 2*len(groups))
	var wg conc.WaitGroup
	for i, name := range c.GroupNames() {
		of, _ := c.OfGroup(name) // it is one of its names
		g := &Group{Config: of}
		groups[i] = g
		wg.Go(func() {
			p := &Prepared{}
			errs[2*i] = p.kafka(ctx, of, log, patience)
			g.Kafka = p.Kafka
		})
		wg.Go(func() {
			client, err := ConnectCluster(ctx, of, log, patience)
			if _, wrong := err.(mapping.Problems); wrong || ctx.Err() != nil {
				errs[2*i+1] = err
				return
			}
			g.Client, g.Away = client, err
		})
	}
	wg.Wait()
	if err := Join(errs...); err != nil {
		CloseGroups(groups)
		return nil, err
	}
	return groups, nil
}

// CloseGroups lets go of what Groups has opened.
func CloseGroups(groups []*Group) {
	for _, g := range groups {
		if g.Kafka != nil {
			g.Kafka.Client.Close()
		}
		if g.Client != nil {
			g.Client.Close()
		}
	}
}
