package main

import (
	"context"
	"net/http"
)

// written is what a search server has got in bulk requests.
type written struct {
	requests   int64
	operations int64
}

func (w written) since(before written) written {
	return written{w.requests - before.requests, w.operations - before.operations}
}

// written is what was written to an index until now.
//
// Elasticsearch counts the requests of each shard, and the indices here have one. OpenSearch counts
// the tasks of its write threads only, whatever the index: one for each request, and another one for a
// request that brings a field which the index does not know.
func (s *servers) written(ctx context.Context, index string) (written, error) {
	if s.sink != nil {
		return written{requests: s.sink.calls.Load(), operations: s.sink.stored.Load()}, nil
	}
	var stats struct {
		All struct {
			Primaries struct {
				Bulk *struct {
					Requests int64 `json:"total_operations"`
				}
				Indexing struct {
					Indexed int64 `json:"index_total"`
					Deleted int64 `json:"delete_total"`
				}
			}
		} `json:"_all"`
	}
	// A pattern, since there may be no index yet.
	if err := s.search.call(ctx, http.MethodGet, "/"+index+"-*/_stats?filter_path=_all.primaries", nil, &stats); err != nil {
		return written{}, err
	}
	p := stats.All.Primaries
	w := written{operations: p.Indexing.Indexed + p.Indexing.Deleted}
	if !s.search.countsTasks {
		if p.Bulk != nil {
			w.requests = p.Bulk.Requests
		}
		return w, nil
	}
	var nodes struct {
		Nodes map[string]struct {
			Pools struct {
				Write struct{ Completed int64 }
			} `json:"thread_pool"`
		}
	}
	err := s.search.call(ctx, http.MethodGet, "/_nodes/stats/thread_pool?filter_path=nodes.*.thread_pool.write.completed", nil, &nodes)
	for _, node := range nodes.Nodes {
		w.requests += node.Pools.Write.Completed
	}
	return w, err
}
