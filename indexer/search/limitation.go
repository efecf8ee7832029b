package search

import (
	"fmt"
	"strconv"
	"strings"
)

// A Limitation is what a product, or a range of its releases, cannot do of what is needed here.
// docs/clusters.md has the same table.
type Limitation struct {
	Product string // in words
	Lacks   string // what it cannot do, or what is not known of it
	Hint    string // what to do about it
	Refused bool   // it cannot be used; otherwise it is said, and used

	of      string // the name of the product, as in Product.Name
	flavor  string // as in Product.Flavor; empty: any
	service string // as in AWS.Service; empty: any
	from    release
	before  release // the zero release: no bound
}

// A release is the beginning of a version: major and minor.
type release struct{ major, minor int }

func (r release) less(s release) bool {
	return r.major < s.major || r.major == s.major && r.minor < s.minor
}

// parseRelease reads a version such as 7.17.29 or 9.0.0-SNAPSHOT.
func parseRelease(version string) (r release, err error) {
	major, rest, _ := strings.Cut(version, ".")
	if r.major, err = strconv.Atoi(major); err != nil {
		return r, err
	}
	minor, _, _ := strings.Cut(rest, ".")
	if minor != "" {
		r.minor, err = strconv.Atoi(minor)
	}
	return r, err
}

const (
	nameOpenSearch    = "OpenSearch"
	nameElasticsearch = "Elasticsearch"

	// ServiceAOSS is what requests to OpenSearch Serverless are signed for, ServiceES what those to a
	// domain of Amazon OpenSearch Service are.
	ServiceAOSS = "aoss"
	ServiceES   = "es"
)

// limitations is the table. A row needs no server of its kind to be tried: what it says was read in
// the maker's manual, or seen.
var limitations = []Limitation{
	{
		Product: "Amazon OpenSearch Serverless", Refused: true, service: ServiceAOSS,
		Lacks: "it has no scroll and no `_refresh`, does not say when shards were started again (`_recovery`), and has no page at `/` with its version",
		Hint:  "use a domain of Amazon OpenSearch Service, and service: es",
	},
	{
		Product: "Elasticsearch Serverless", Refused: true, of: nameElasticsearch, flavor: "serverless",
		Lacks: "it does not say when shards were started again (`_recovery`), and takes no `index.gc_deletes`, which keeps deleted documents deleted",
		Hint:  "use Elastic Cloud Hosted, or a cluster of your own",
	},
	{
		Product: "Elasticsearch before 7.9", Refused: true, of: nameElasticsearch, before: release{7, 9},
		Lacks: "it cannot be asked what an index template gives to an index (`_index_template/_simulate_index`)",
		Hint:  "upgrade the cluster, best to the latest 7.17 or newer",
	},
	{
		Product: "Elasticsearch 7.9 to 7.16", of: nameElasticsearch, from: release{7, 9}, before: release{7, 17},
		Lacks: "it has all that is needed, and is not among the releases that are tested",
		Hint:  "upgrade the cluster to 7.17 when you can",
	},
	{
		Product: "Elasticsearch from 10 on", of: nameElasticsearch, from: release{10, 0},
		Lacks: "it is newer than the releases that are tested",
		Hint:  "look for a newer release of Tidemark",
	},
	{
		Product: "OpenSearch 1.0 to 1.2", of: nameOpenSearch, before: release{1, 3},
		Lacks: "it has all that is needed, and is not among the releases that are tested",
		Hint:  "upgrade the cluster to 1.3 when you can",
	},
	{
		Product: "OpenSearch from 4 on", of: nameOpenSearch, from: release{4, 0},
		Lacks: "it is newer than the releases that are tested",
		Hint:  "look for a newer release of Tidemark",
	},
}

// Limitations returns what is to be said of a product that can be used.
func (p Product) Limitations() (said []Limitation) {
	for _, l := range limitations {
		if !l.Refused && l.is(p) {
			said = append(said, l)
		}
	}
	return said
}

// is reports whether l is about what answered.
func (l *Limitation) is(p Product) bool {
	r, err := parseRelease(p.Version)
	return err == nil && l.service == "" && l.of == p.Name && (l.flavor == "" || l.flavor == p.Flavor) &&
		!r.less(l.from) && (l.before == release{} || r.less(l.before))
}

// An UnsupportedError reports a product that cannot be used, or a release of it.
type UnsupportedError struct {
	Product string // what answered, with its version where that is known
	Limitation
}

func (e *UnsupportedError) Error() string {
	return fmt.Sprintf("%s cannot be used: %s", e.Product, strings.ReplaceAll(e.Lacks, "`", ""))
}

// refusal returns why a product that answered cannot be used, nil if it can.
func refusal(p Product) error {
	for _, l := range limitations {
		if l.Refused && l.is(p) {
			return &UnsupportedError{p.String(), l}
		}
	}
	return nil
}

// refusalOf returns why what requests are signed for cannot be used, nil if it can. That is known
// without asking.
func refusalOf(a *AWS) error {
	for _, l := range limitations {
		if a != nil && l.Refused && l.service != "" && l.service == a.Service {
			return &UnsupportedError{l.Product, l}
		}
	}
	return nil
}
