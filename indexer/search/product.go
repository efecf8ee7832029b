package search

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/elastic/go-elasticsearch/v8/esapi"
)

// A Product is what answers at the URLs, as GET / told at start.
type Product struct {
	Name        string // "OpenSearch" or "Elasticsearch"
	Version     string
	ClusterName string
}

func (p Product) String() string { return p.Name + " " + p.Version }

var errUnknownProduct = errors.New("what answers is neither OpenSearch nor a supported Elasticsearch")

func (c *Client) readProduct(ctx context.Context, timeout time.Duration) (Product, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var root struct {
		ClusterName string `json:"cluster_name"`
		Tagline     string `json:"tagline"`
		Version     struct {
			Number       string `json:"number"`
			Distribution string `json:"distribution"`
		} `json:"version"`
	}
	if err := c.call(ctx, "read product and version", esapi.InfoRequest{}, &root); err != nil {
		return Product{}, err
	}
	p := Product{Version: root.Version.Number, ClusterName: root.ClusterName}
	major, _, _ := strings.Cut(p.Version, ".")
	number, err := strconv.Atoi(major)
	switch {
	case err != nil:
		return Product{}, errUnknownProduct
	case root.Version.Distribution == "opensearch":
		p.Name = "OpenSearch"
	case root.Tagline == "You Know, for Search" && root.Version.Distribution == "":
		p.Name = "Elasticsearch"
		if number < 7 {
			return Product{}, fmt.Errorf("%w: %s, want 7.17 or newer", errUnknownProduct, p)
		}
	default:
		return Product{}, errUnknownProduct
	}
	return p, nil
}
