package search

import (
	"context"
	"errors"
	"time"

	"github.com/elastic/go-elasticsearch/v8/esapi"
)

// A Product is what answers at the URLs, as GET / told at start.
type Product struct {
	Name        string // "OpenSearch" or "Elasticsearch"
	Version     string
	ClusterName string
	ClusterID   string // cluster_uuid; empty: it does not say
	Flavor      string // build_flavor of Elasticsearch: default, oss, serverless; empty: it does not say
}

func (p Product) String() string { return p.Name + " " + p.Version }

var errUnknownProduct = errors.New("what answers is neither OpenSearch nor a supported Elasticsearch")

func (c *Client) readProduct(ctx context.Context, timeout time.Duration) (Product, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var root struct {
		ClusterName string `json:"cluster_name"`
		ClusterID   string `json:"cluster_uuid"`
		Tagline     string `json:"tagline"`
		Version     struct {
			Number       string `json:"number"`
			Distribution string `json:"distribution"`
			Flavor       string `json:"build_flavor"`
		} `json:"version"`
	}
	if err := c.call(ctx, "read product and version", esapi.InfoRequest{}, &root); err != nil {
		return Product{}, err
	}
	p := Product{Version: root.Version.Number, ClusterName: root.ClusterName, ClusterID: root.ClusterID, Flavor: root.Version.Flavor}
	if _, err := parseRelease(p.Version); err != nil {
		return Product{}, errUnknownProduct
	}
	switch {
	case root.Version.Distribution == "opensearch":
		p.Name = nameOpenSearch
	case root.Tagline == "You Know, for Search" && root.Version.Distribution == "":
		p.Name = nameElasticsearch
	default:
		return Product{}, errUnknownProduct
	}
	return p, refusal(p)
}
