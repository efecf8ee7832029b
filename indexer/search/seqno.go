package search

import (
	"bytes"
	"context"
	"fmt"
	"net/url"

	"github.com/elastic/go-elasticsearch/v8/esapi"
)

const (
	// seqNoPage is how many documents a page of a list has at most. It is more than an index may
	// have shards, see DocumentList.
	seqNoPage = 2000
	// maxSeqNoWindow bounds how many sequence numbers one search spans.
	maxSeqNoWindow = 1 << 40
)

// A DocumentList lists the documents of an index in the order of their sequence numbers, which
// each shard counts its writes by. It is resumed by these: who goes on with Next later, or in
// another process, gets the documents that have not been listed, but for those that were written
// meanwhile and have a number above Last then.
type DocumentList struct {
	Index string
	Next  int64 // number of the first document that is not listed yet
	Last  int64 // that are listed have no number above this

	// window is how many numbers a search spans: enough for a page, where documents lie as close as
	// they did before. A search sorts what it finds, which must not be the whole index for each page.
	window int64
}

// NewDocumentList returns the list of all documents that searchers see now.
func (c *Client) NewDocumentList(ctx context.Context, index string) (*DocumentList, error) {
	body := []byte(`{"size":1,"sort":[{"_seq_no":"desc"}],"_source":false,"track_total_hits":false}`)
	found, err := c.searchSeqNo(ctx, index, body)
	if err != nil {
		return nil, err
	}
	l := &DocumentList{Index: index, Last: -1}
	if len(found) > 0 {
		l.Last = found[0].seqNo
	}
	return l, nil
}

// Done reports whether everything was listed.
func (l *DocumentList) Done() bool { return l.Next > l.Last }

// Page returns the next documents, and has Next stand after them. There may be none in it although
// the list is not done.
//
// Documents of different shards may have the same number. So those with the highest number of a
// full page, of which some may be missing, are left to the next one.
func (l *DocumentList) Page(ctx context.Context, c *Client) ([]Listed, error) {
	if l.window == 0 {
		l.window = seqNoPage
	}
	end := min(l.Next+l.window, l.Last+1) // the first that is not asked for
	body := fmt.Appendf(nil, `{"size":%d,"query":{"range":{"_seq_no":{"gte":%d,"lt":%d}}},"sort":[{"_seq_no":"asc"}],"_source":false,"track_total_hits":false}`, seqNoPage, l.Next, end)
	found, err := c.searchSeqNo(ctx, l.Index, body)
	if err != nil {
		return nil, err
	}
	switch full := len(found) == seqNoPage; {
	case full:
		end = found[len(found)-1].seqNo
		if end == l.Next {
			return nil, fmt.Errorf("list the documents of %s: %d have the sequence number %d", l.Index, len(found), end)
		}
		for found[len(found)-1].seqNo == end {
			found = found[:len(found)-1]
		}
		l.window = max(1, l.window/2)
	case len(found) < seqNoPage/2:
		l.window = min(2*l.window, maxSeqNoWindow)
	}
	l.Next = end
	listed := make([]Listed, len(found))
	for i := range found {
		listed[i] = found[i].Listed
	}
	return listed, nil
}

// numbered is a document in the answer to a search that sorts by sequence numbers.
type numbered struct {
	Listed
	seqNo int64
}

func (c *Client) searchSeqNo(ctx context.Context, index string, body []byte) ([]numbered, error) {
	what := "list the documents of " + index
	var answer struct {
		TimedOut bool `json:"timed_out"`
		Shards   struct {
			Failed int `json:"failed"`
		} `json:"_shards"`
		Hits struct {
			Hits []struct {
				Listed
				Sort []int64 `json:"sort"`
			} `json:"hits"`
		} `json:"hits"`
	}
	if err := c.call(ctx, what, esapi.SearchRequest{Index: []string{url.PathEscape(index)}, Body: bytes.NewReader(body)}, &answer); err != nil {
		return nil, err
	}
	if answer.TimedOut || answer.Shards.Failed > 0 {
		return nil, fmt.Errorf("%s: %d shards did not answer", what, answer.Shards.Failed)
	}
	found := make([]numbered, len(answer.Hits.Hits))
	for i, h := range answer.Hits.Hits {
		if len(h.Sort) != 1 {
			return nil, fmt.Errorf("%s: the answer has no sequence number of %s", what, h.ID)
		}
		found[i] = numbered{h.Listed, h.Sort[0]}
	}
	return found, nil
}
