package search

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pglogrepl"
	"pgregory.net/rapid"

	"tidemark/dbsync"
)

func TestJudgeItem(t *testing.T) {
	index, drop := &dbsync.Operation{}, &dbsync.Operation{Kind: dbsync.Delete}
	fail := func(status int, kind, reason string) item {
		return item{Status: status, Error: &itemError{Type: kind, Reason: reason}}
	}
	for _, test := range []struct {
		name string
		op   *dbsync.Operation
		item item
		want verdict
	}{
		{"created", index, item{Status: 201}, accepted},
		{"updated", index, item{Status: 200}, accepted},
		{"deleted", drop, item{Status: 200}, accepted},
		{"deleted before", drop, item{Status: 404}, accepted},
		{"no answer found", index, item{}, lostAnswer},
		{"newer is there", index, fail(409, "version_conflict_engine_exception", ""), superseded},
		{"newer is there for a delete", drop, fail(409, "version_conflict_engine_exception", ""), superseded},
		{"queue full", index, fail(429, "es_rejected_execution_exception", ""), busy},
		{"memory short", index, fail(429, "circuit_breaking_exception", ""), busy},
		{"shard away", index, fail(503, "unavailable_shards_exception", ""), busy},
		{"no master", index, fail(503, "cluster_block_exception", "blocked by: [SERVICE_UNAVAILABLE/2/no master];"), busy},
		{"bug of the server", index, fail(500, "null_pointer_exception", ""), busy},
		{"time-out", index, fail(504, "timeout_exception", ""), busy},
		{"index gone, delete", drop, fail(404, "index_not_found_exception", ""), held},
		{"index gone, no auto-creation", index, fail(404, "index_not_found_exception", ""), held},
		{"index gone", index, fail(400, "invalid_index_name_exception", "must be lowercase"), held},
		{"closed", index, fail(400, "index_closed_exception", "closed"), held},
		{"blocked", index, fail(403, "cluster_block_exception", "FORBIDDEN/8"), held},
		{"disk full", index, fail(429, "cluster_block_exception", "TOO_MANY_REQUESTS/12"), held},
		{"no right", index, fail(403, "security_exception", ""), held},
		{"forbidden by something else", index, fail(403, "whatever", ""), held},
		{"two indices behind the alias", index, fail(400, "illegal_argument_exception", "no write index is defined for alias [p]. The"), held},
		{"no such pipeline", index, fail(400, "illegal_argument_exception", "pipeline with id [enrich] does not exist"), held},
		{"no such pipeline in a pipeline", index, fail(500, "illegal_state_exception", "Pipeline processor configured for non-existent pipeline [enrich]"), held},
		{"the shard is full", index, fail(400, "illegal_argument_exception", "Number of documents in shard [p][0] exceeds the limit of [2147483519] documents per shard"), held},
		{"a data stream", index, fail(400, "illegal_argument_exception", "only write ops with an op_type of create are allowed in data streams"), held},
		{"another state", index, fail(500, "illegal_state_exception", "x"), busy},
		{"a field that is not mapped", index, fail(400, "strict_dynamic_mapping_exception", "mapping set to strict, dynamic introduction of [x] within [_doc] is not allowed"), refusedForGood},
		{"too deep", index, fail(400, "illegal_argument_exception", "Limit of mapping depth [20] has been exceeded due to object field [a]"), refusedForGood},
		{"too many fields", index, fail(400, "illegal_argument_exception", "Limit of total fields [1000] has been exceeded"), refusedForGood},
		{"wrong value", index, fail(400, "document_parsing_exception", ""), refusedForGood},
		{"wrong value, older", index, fail(400, "mapper_parsing_exception", ""), refusedForGood},
		{"no routing", index, fail(400, "routing_missing_exception", ""), refusedForGood},
		{"not found but no delete", index, item{Status: 404}, refusedForGood},
	} {
		if got := judgeItem(test.op, &test.item); got != test.want {
			t.Errorf("%s: verdict %d, want %d", test.name, got, test.want)
		}
	}
}

func TestJudgeAnswer(t *testing.T) {
	for _, test := range []struct {
		status int
		body   string
		want   verdict
	}{
		{413, ``, tooLarge},
		{413, `<html><head><title>413 Request Entity Too Large</title></head></html>`, tooLarge},
		{429, `{"error":{"type":"es_rejected_execution_exception","reason":"x"},"status":429}`, busy},
		{503, ``, busy},
		{502, `<html>Bad Gateway</html>`, busy},
		{500, `{"error":{"type":"json_parse_exception","reason":"x"},"status":500}`, busy},
		{408, ``, busy},
		{400, `{"error":{"type":"json_parse_exception","reason":"x"},"status":400}`, malformed},
		{400, `<html>The plain HTTP request was sent to HTTPS port</html>`, held},
		{401, `Unauthorized`, held},
		{401, `{"error":{"type":"security_exception","reason":"x"},"status":401}`, held},
		{403, `{"error":{"type":"cluster_block_exception","reason":"x"},"status":403}`, held},
		{404, `{"error":{"type":"index_not_found_exception","reason":"x"},"status":404}`, held},
		{404, `404 page not found`, held},
		{405, `{"error":"Incorrect HTTP method for uri [/] and method [POST], allowed: [GET]","status":405}`, held},
		{302, ``, held},
	} {
		e := newServerError(test.status, http.Header{}, []byte(test.body))
		if got := judgeAnswer(e); got != test.want {
			t.Errorf("%d %s: verdict %d, want %d", test.status, test.body, got, test.want)
		}
		if e.Reason == "" || strings.ContainsAny(e.Error(), "\n") {
			t.Errorf("%d %s: error %q", test.status, test.body, e)
		}
	}
}

func TestIsUnanswered(t *testing.T) {
	ended, end := context.WithCancel(t.Context())
	end()
	for _, test := range []struct {
		name string
		ctx  context.Context
		err  error
		want bool
	}{
		{"answered", t.Context(), nil, false},
		{"refused by the server", t.Context(), &ServerError{Status: 503, Type: "cluster_block_exception"}, false},
		{"refused by a proxy", t.Context(), &ServerError{Status: 403}, false},
		{"a proxy had no answer", t.Context(), &ServerError{Status: 504}, true},
		{"the connection broke", t.Context(), fmt.Errorf("x: %w", &LostError{io.ErrUnexpectedEOF}), true},
		{"no connection", t.Context(), &LostError{&net.OpError{Op: "dial", Err: io.EOF}}, false},
		{"not sent to its end", t.Context(), &LostError{&FencedError{io.EOF}}, false},
		{"given up", ended, context.Canceled, true},
	} {
		if got := isUnanswered(test.ctx, test.err); got != test.want {
			t.Errorf("%s: got %t", test.name, got)
		}
	}
}

func TestCurrentVersion(t *testing.T) {
	for _, test := range []struct {
		status int
		reason string
		want   int64
		ok     bool
	}{
		{409, "[1]: version conflict, current version [20] is higher than the one provided [15]", 20, true},
		{409, "[current version [9] of]: version conflict, current version [4611686018427387904] is higher than the one provided [15]", 1 << 62, true},
		{409, "[1]: version conflict, required seqNo [1], primary term [1]. current document has seqNo [2] and primary term [1]", 0, false},
		{409, "current version [-1", -1, true},
		{409, "current version [99999999999999999999]", 0, false},
		{400, "current version [20]", 0, false},
	} {
		got, ok := currentVersion(&item{Status: test.status, Error: &itemError{Reason: test.reason}})
		if ok != test.ok || ok && got != test.want {
			t.Errorf("%s: got %d, %t", test.reason, got, ok)
		}
	}
	if _, ok := currentVersion(&item{Status: 409}); ok {
		t.Error("without a reason")
	}
}

// The short way and the long way of reading an answer say the same.
func TestParseAnswer(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := make([]item, rapid.IntRange(0, 50).Draw(t, "n"))
		var text []string
		errors := false
		for i := range want {
			action := rapid.SampledFrom([]string{"index", "delete"}).Draw(t, "action")
			want[i].Status = rapid.SampledFrom([]int{200, 201, 404, 409, 429}).Draw(t, "status")
			inner := fmt.Sprintf(`"status":%d`, want[i].Status)
			if want[i].Status > 404 && rapid.Bool().Draw(t, "error") {
				errors = true
				want[i].Error = &itemError{Type: "x", Reason: `]}"}}`}
				inner += `,"error":{"type":"x","reason":"]}\"}}","shard":"0"}`
			}
			text = append(text, `{"`+action+`":{`+inner+`}}`)
		}
		body := fmt.Appendf(nil, `{"errors":%t,"items":[%s]}`, errors, strings.Join(text, ","))
		got := make([]item, len(want))
		if err := parseAnswer(body, got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatal(diff)
		}
		if plain := parsePlainAnswer(body, got); plain == errors && len(want) > 0 {
			t.Errorf("plain is %t with errors %t", plain, errors)
		}
		// Any other number of items, and any answer that was cut off, counts as lost.
		if err := parseAnswer(body, make([]item, len(want)+1)); err == nil {
			t.Error("an item too few is no error")
		}
		if len(want) > 0 {
			if err := parseAnswer(body, make([]item, len(want)-1)); err == nil {
				t.Error("an item too many is no error")
			}
		}
		if err := parseAnswer(body[:rapid.IntRange(0, len(body)-1).Draw(t, "cut")], got); err == nil {
			t.Error("half an answer is no error")
		}
	})
}

func FuzzParseAnswer(f *testing.F) {
	f.Add([]byte(`{"errors":false,"items":[{"index":{"status":200}},{"delete":{"status":404}}]}`))
	f.Add([]byte(`{"errors":true,"items":[{"index":{"status":400,"error":{"type":"a","reason":null,"caused_by":{}}}},{}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		items := make([]item, 2)
		if parseAnswer(body, items) != nil {
			return
		}
		for i := range items {
			_ = items[i].Error.text()
			_ = judgeItem(&dbsync.Operation{}, &items[i])
		}
	})
}

// A line of action is JSON that says the same as the operation.
func TestAppendAction(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		op := dbsync.Operation{
			Index:   rapid.String().Draw(t, "index"),
			ID:      rapid.String().Draw(t, "id"),
			Routing: rapid.String().Draw(t, "routing"),
			Version: pglogrepl.LSN(rapid.Uint64Max(MaxSpan-1).Draw(t, "version")),
			Group:   rapid.Uint32().Draw(t, "group"),
			Kind:    rapid.SampledFrom([]dbsync.Kind{dbsync.Store, dbsync.Delete}).Draw(t, "kind"),
		}
		withIndex := rapid.Bool().Draw(t, "with index")
		line := appendAction(nil, &op, withIndex)
		if strings.Count(string(line), "\n") != 1 || line[len(line)-1] != '\n' {
			t.Fatalf("%q is not one line", line)
		}
		type action struct {
			Index       string      `json:"_index"`
			ID          string      `json:"_id"`
			Routing     string      `json:"routing"`
			Version     json.Number `json:"version"`
			VersionType string      `json:"version_type"`
		}
		var got map[string]action
		if err := json.Unmarshal(line, &got); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		v, err := Version(&op)
		if err != nil {
			t.Fatal(err)
		}
		want := action{ID: op.ID, Routing: op.Routing, Version: json.Number(fmt.Sprint(v)), VersionType: "external_gte"}
		if withIndex {
			want.Index = op.Index
		}
		name := "index"
		if op.Kind == dbsync.Delete {
			name = "delete"
		}
		if diff := cmp.Diff(map[string]action{name: want}, got); diff != "" {
			t.Fatal(diff)
		}
	})
}

func TestItemErrorText(t *testing.T) {
	e := &itemError{Reason: "failed to parse", CausedBy: &itemError{Reason: "For input string: \"a\x00b\"", CausedBy: &itemError{Reason: "failed"}}}
	if got, want := e.text(), `failed to parse: For input string: "ab"`; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := (&itemError{Reason: strings.Repeat("ä", 5000)}).text(); len(got) > maxReason+3 {
		t.Errorf("%d bytes", len(got))
	}
}
