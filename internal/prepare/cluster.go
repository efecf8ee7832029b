package prepare

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"github.com/cenkalti/backoff/v5"

	"tidemark/dbsync"
	"tidemark/indexer/search"
	"tidemark/mapping"
	"tidemark/mapping/catalog"
	"tidemark/reindex/control"
)

// SearchOptions says how to connect to the cluster of a mapping file.
func SearchOptions(c *mapping.Config, log *slog.Logger) search.Options {
	s := c.Search
	o := search.Options{
		URLs: s.URLs, User: s.User, Password: s.Password.Reveal(), APIKey: s.APIKey.Reveal(), Token: s.Token.Reveal(),
		CAFile: s.CAFile, CertFile: s.CertFile, KeyFile: s.KeyFile,
		ProxyURL: s.ProxyURL.Reveal(), Headers: make(map[string]string, len(s.Headers)),
		Logger: log,
	}
	if s.AWS != nil {
		o.AWS = &search.AWS{Region: s.AWS.Region, Service: string(s.AWS.Service), Role: s.AWS.Role}
	}
	for _, h := range s.Headers {
		o.Headers[h.Name] = h.Value.Reveal()
	}
	return o
}

// ConnectCluster connects to the cluster of c, for as long as patience lasts. Its error is mapping.Problems where
// somebody has to fix something, a [*search.ConnectError] otherwise, or the end of ctx.
func ConnectCluster(ctx context.Context, c *mapping.Config, log *slog.Logger, patience time.Duration) (*search.Client, error) {
	o := SearchOptions(c, log)
	o.StartTimeout = patience
	return connectCluster(ctx, c, o)
}

func connectCluster(ctx context.Context, c *mapping.Config, o search.Options) (*search.Client, error) {
	client, err := search.Connect(ctx, o)
	if failure, ok := errors.AsType[*search.ConnectError](err); ok && failure.Configuration() {
		return nil, mapping.Problems{connectClusterProblem(c, failure)}
	}
	return client, err
}

// cluster connects to the cluster and looks whether the names of the indices are free.
func (p *Prepared) cluster(ctx context.Context, c *mapping.Config, log *slog.Logger, patience time.Duration) error {
	o := SearchOptions(c, log)
	o.StartTimeout, o.Adopt = patience, p.adopt
	client, err := connectCluster(ctx, c, o)
	if err != nil {
		return err
	}
	p.Client = client
	var problems mapping.Problems
	for _, ix := range c.Indices {
		var standing *search.Standing
		err := again(ctx, patience, func() (err error) { standing, err = client.Standing(ctx, ix.Name); return err })
		if err == nil {
			err = standing.CheckName(p.adopt)
		}
		if taken, ok := errors.AsType[*search.NameTakenError](err); ok {
			problems = append(problems, c.Problem(ix.Path(), taken.Hint(), "%s", taken.Text()))
		} else if server, ok := errors.AsType[*search.ServerError](err); ok && server.Status == http.StatusForbidden {
			problems = append(problems, c.Problem(ix.Path(), "grant the user of search.user the rights to create, write and manage "+ix.Name+" and "+ix.Name+"-*",
				"the cluster does not let the user look at the index: %v", server))
		} else if err != nil {
			return err
		}
	}
	if len(problems) > 0 {
		return problems
	}
	return nil
}

// again asks until the answer is not that of a cluster that has too much to do, has not yet
// begun, or is away, for as long as it is waited for at the start.
func again(ctx context.Context, patience time.Duration, ask func() error) error {
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		err := ask()
		if err != nil && dbsync.IsPermanent(err) {
			err = backoff.Permanent(err)
		}
		return struct{}{}, err
	}, backoff.WithMaxElapsedTime(patience))
	return err
}

// connectClusterProblem points at the key of the search section that has to be fixed.
func connectClusterProblem(c *mapping.Config, failure *search.ConnectError) mapping.Problem {
	candidates := map[search.ConnectKind][]string{ // the first that the file has
		search.BadCredentials: {"search.password", "search.api_key", "search.token", "search.aws", "search"},
		search.BadCertificate: {"search.ca_file"},
		search.BadProxy:       {"search.proxy_url", "search"},
		search.BadOptions:     {"search"},
	}[failure.Kind]
	switch _, unsupported := errors.AsType[*search.UnsupportedError](failure.Err); {
	case unsupported && c.Has("search.aws.service"):
		candidates = []string{"search.aws.service"}
	case failure.AboutClient:
		candidates = []string{"search.cert_file"}
	}
	key := "search.urls"
	if c.Has("search.cloud_id") {
		key = "search.cloud_id"
	}
	for _, given := range candidates {
		if c.Has(given) {
			key = given
			break
		}
	}
	where := "search server"
	if failure.URLs != "" {
		where += " " + failure.URLs
	}
	return c.Problem(key, failure.Hint, "%s: %v", where, failure.Err)
}

// definitions asks the cluster whether it takes the settings and mappings of each index
// whose tables are known. One that it took until its tables were altered holds up no other: run
// keeps the index in use, with an alarm.
func (p *Prepared) definitions(ctx context.Context, c *mapping.Config, log *slog.Logger, patience time.Duration) error {
	var problems mapping.Problems
	for _, ix := range c.Indices {
		if slices.ContainsFunc(ix.Tables(), func(name catalog.TableName) bool { return p.Tables[name] == nil }) {
			continue
		}
		key := ix.Path()
		body, err := ix.Body(p.Tables)
		if err != nil {
			problems = append(problems, c.Problem(key, "correct settings, mappings and fields", "%v", err))
			continue
		}
		physical, _ := search.PhysicalName(ix.Name, time.Now())
		err = again(ctx, patience, func() error { return p.Client.CheckDefinition(ctx, physical, body) })
		if refused, ok := errors.AsType[*search.DefinitionError](err); ok {
			taken, err := p.taken(ctx, c, ix)
			if err != nil {
				return err
			}
			if taken {
				log.Error("the cluster refuses what the index is after its tables were altered: it cannot be rebuilt", "index", ix.Name, "error", refused)
				continue
			}
			problems = append(problems, c.Problem(key, "correct settings, mappings and the parameters of fields, as the cluster takes them", "%v", refused))
		} else if err != nil {
			return err
		}
	}
	if len(problems) > 0 {
		return problems
	}
	return nil
}

// taken reports whether an index is in use that was made by the same mapping.
func (p *Prepared) taken(ctx context.Context, c *mapping.Config, ix *mapping.Index) (bool, error) {
	if !p.Control.Readable {
		return false, nil
	}
	st, err := control.Open(p.db, c.StateSchema(), c.Postgres.Slot).States().Read(ctx, ix.Name)
	if err != nil || st == nil {
		return false, err
	}
	return st.Live.Physical != "" && ix.EncodedAs(st.Live.Mapping), nil
}
