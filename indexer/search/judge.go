package search

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"tidemark/dbsync"
)

// A verdict is what one answer means for an operation, or for a whole request.
type verdict uint8

const (
	lostAnswer     verdict = iota // nothing is known: send again
	accepted                      // the document is as the operation wants it
	superseded                    // a newer version is there already, which is as good
	busy                          // the server cannot now: send again after a pause
	held                          // somebody has to fix the index, the cluster or the rights: pause with an alarm
	refusedForGood                // never, for this document
	tooLarge                      // the request as a whole is too large: send it in halves
	malformed                     // the server cannot read the request: look for the document that is the cause
)

// A DocError reports one document that the search server refuses for good.
type DocError struct {
	Index, ID string
	Status    int    // HTTP status of this item, not of the bulk request
	Type      string // as in "document_parsing_exception"
	Reason    string // in the server's words; may quote values of the document
	Err       error  // why no document could be made; nil: the server has refused it
}

func (e *DocError) Unwrap() error { return e.Err }

func (e *DocError) Error() string {
	return fmt.Sprintf("document %s/%s refused with status %d (%s): %s", e.Index, e.ID, e.Status, e.Type, e.Reason)
}

// WithoutValues is the error for logs: the document is named, and not quoted.
func (e *DocError) WithoutValues() string {
	said := withheld(e.Reason)
	if e.Err != nil {
		said = unmade + dbsync.WithoutValues(e.Err)
	}
	return fmt.Sprintf("document %s/%s refused with status %d (%s): %s", e.Index, e.ID, e.Status, e.Type, said)
}

// atPlace is where in a document the server stopped, before the reason.
var atPlace = regexp.MustCompile(`^\[\d+:\d+\] `)

// inBrackets finds what a reason has in brackets, and the words before, which say whether it is a name.
var inBrackets = regexp.MustCompile(`(?:(date )?(\S+) )?\[[^\]]*\]`)

// ofNames are words that a name follows; but a date field is one that could not be read.
var ofNames = []string{"field", "fields", "type", "mapper", "for", "index", "to"}

// withheld returns of a reason what does not come from a document: what it begins with, up to
// where it quotes, and of what is in brackets names of fields and types.
func withheld(reason string) string {
	reason = inBrackets.ReplaceAllStringFunc(atPlace.ReplaceAllString(reason, ""), func(found string) string {
		words, _, _ := strings.Cut(found, "[")
		if slices.Contains(ofNames, strings.TrimSpace(words)) {
			return found
		}
		return words + "[…]"
	})
	return dbsync.Beginning(reason)
}

// ReasonWithoutValues returns what may be shown to anybody of the reason of a [DocError]: nothing
// that comes from the document. Of one that cannot be made it is that alone, since the reason may be
// in the words of anybody's function.
func ReasonWithoutValues(reason string) string {
	if strings.HasPrefix(reason, unmade) {
		return strings.TrimSuffix(unmade, ": ")
	}
	return withheld(reason)
}

// An itemError is the error object of an answer, as far as we read it.
type itemError struct {
	Type     string     `json:"type"`
	Reason   string     `json:"reason"`
	CausedBy *itemError `json:"caused_by"`
}

// maxReason bounds the reason that is kept of an answer, in bytes.
const maxReason = 2000

// text is the reason with its causes, outermost first.
func (e *itemError) text() string {
	if e == nil {
		return ""
	}
	text := e.Reason
	for cause, depth := e.CausedBy, 0; cause != nil && depth < 5; cause, depth = cause.CausedBy, depth+1 {
		if cause.Reason != "" && !strings.Contains(text, cause.Reason) {
			text += ": " + cause.Reason
		}
	}
	return shorten(strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", ""), maxReason)
}

// An item is the answer to one operation of a bulk request. Status 0 means that no
// answer to it was found.
type item struct {
	Status int        `json:"status"`
	Error  *itemError `json:"error"`
}

func (i *item) kind() string {
	if i.Error == nil {
		return ""
	}
	return i.Error.Type
}

// currentVersion returns the version of the document, or of its deletion, that an operation found in
// place of its own; false where the answer does not name it. All servers write it alike:
// "[ID]: version conflict, current version [20] is higher than the one provided [15]".
func currentVersion(it *item) (version int64, ok bool) {
	if it.Status != http.StatusConflict || it.Error == nil {
		return 0, false
	}
	const before = "current version ["
	at := strings.LastIndex(it.Error.Reason, before) // the id, which may hold anything, comes first
	if at < 0 {
		return 0, false
	}
	number, _, _ := strings.Cut(it.Error.Reason[at+len(before):], "]")
	version, err := strconv.ParseInt(number, 10, 64)
	return version, err == nil
}

// judgeItem says what the answer to one operation means.
func judgeItem(op *dbsync.Operation, it *item) verdict {
	kind := it.kind()
	switch {
	case it.Status == 0:
		return lostAnswer
	case it.Status < 300:
		return accepted
	case it.Status == http.StatusConflict:
		// external_gte refuses only what is older than the document, or than its
		// deletion, that is there.
		return superseded
	case it.Status == http.StatusNotFound && op.Kind == dbsync.Delete && kind == "":
		return accepted
	case heldBack(it.Status, kind, it.Error):
		return held
	case it.Status == http.StatusTooManyRequests, it.Status == http.StatusRequestTimeout, it.Status >= 500:
		return busy
	default:
		return refusedForGood
	}
}

// heldBack reports whether an answer tells of the index, the cluster or the rights,
// and so would be the same for every document.
func heldBack(status int, kind string, e *itemError) bool {
	if isMissing(kind) {
		return true
	}
	switch kind {
	case "index_closed_exception",
		"security_exception", "authorization_exception", "access_control_exception":
		return true
	case "cluster_block_exception":
		// Read-only: 403, or 429 when the disk is full. With 503 the cluster has no
		// master, or has just begun, which passes.
		return status != http.StatusServiceUnavailable
	case "illegal_argument_exception":
		return e.isOf(ofTheIndex)
	case "illegal_state_exception":
		return e.isOf(missingPipeline) // which another pipeline calls; with 500
	}
	return status == http.StatusUnauthorized || status == http.StatusForbidden
}

// Parts of reasons that tell of the index, where the type of the error does not.
var (
	missingPipeline = []string{
		"pipeline with id [",    // … does not exist: index.default_pipeline or index.final_pipeline
		"non-existent pipeline", // that a pipeline calls
	}
	fullShard  = []string{"Number of documents in shard"} // … exceeds the limit: 2,147,483,519, with those that are deleted and not merged
	dataStream = []string{"only write ops with an op_type of create are allowed in data streams"}
	noOneIndex = []string{"no write index is defined for alias"} // the alias stands for several indices, none of them marked for writing
	ofTheIndex = slices.Concat(missingPipeline, fullShard, dataStream, noOneIndex)
)

// isOf reports whether the reason holds one of some texts.
func (e *itemError) isOf(reasons []string) bool {
	return slices.ContainsFunc(reasons, func(reason string) bool { return strings.Contains(e.Reason, reason) })
}

// judgeAnswer says what an answer other than 2xx means for the whole bulk request.
func judgeAnswer(e *ServerError) verdict {
	switch {
	case e.Status == http.StatusRequestEntityTooLarge:
		return tooLarge
	case heldBack(e.Status, e.Type, &itemError{Reason: e.Reason}):
		return held
	case !e.Permanent():
		return busy
	case e.Status == http.StatusBadRequest && e.Type != "":
		return malformed
	default:
		return held // 3xx, 404, 405, 415 …, or a 400 of something before the server: no document is to blame
	}
}

// The pieces of an answer in which nothing failed, with the filter of our requests.
const (
	answerItems = `"items":[`
	answerIndex = `{"index":{"status":`
	answerDrop  = `{"delete":{"status":`
)

// parseAnswer reads the answer to a bulk request of len(items) operations into items.
// The common answer, with nothing but three-digit statuses, is read without decoding
// JSON. An answer that is broken, or that has another number of items, is an error:
// positions would not match, so it counts as lost.
func parseAnswer(body []byte, items []item) error {
	if parsePlainAnswer(body, items) {
		return nil
	}
	var answer struct {
		Items []struct {
			Index  *item `json:"index"`
			Delete *item `json:"delete"`
		} `json:"items"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return fmt.Errorf("the answer to a bulk request is not the JSON that was expected: %w", err)
	}
	if len(answer.Items) != len(items) {
		return fmt.Errorf("the answer to a bulk request of %d operations has %d items", len(items), len(answer.Items))
	}
	for i, a := range answer.Items {
		switch {
		case a.Index != nil:
			items[i] = *a.Index
		case a.Delete != nil:
			items[i] = *a.Delete
		default:
			items[i] = item{}
		}
	}
	return nil
}

// parsePlainAnswer reads {"errors":…,"items":[{"index":{"status":200}},…]}, and
// reports false for anything else.
func parsePlainAnswer(body []byte, items []item) bool {
	text := string(body[:min(len(body), 64)])
	at := strings.Index(text, answerItems)
	if !strings.HasPrefix(text, `{"errors":`) || at < 0 {
		return false
	}
	rest := body[at+len(answerItems):]
	for i := range items {
		if i > 0 {
			if len(rest) == 0 || rest[0] != ',' {
				return false
			}
			rest = rest[1:]
		}
		switch {
		case hasPrefix(rest, answerIndex):
			rest = rest[len(answerIndex):]
		case hasPrefix(rest, answerDrop):
			rest = rest[len(answerDrop):]
		default:
			return false
		}
		if len(rest) < 5 || !digit(rest[0]) || !digit(rest[1]) || !digit(rest[2]) || rest[3] != '}' || rest[4] != '}' {
			return false
		}
		items[i] = item{Status: int(rest[0]-'0')*100 + int(rest[1]-'0')*10 + int(rest[2]-'0')}
		rest = rest[5:]
	}
	return string(rest) == "]}"
}

func hasPrefix(b []byte, prefix string) bool {
	return len(b) >= len(prefix) && string(b[:len(prefix)]) == prefix
}

func digit(c byte) bool { return '0' <= c && c <= '9' }

// explain names the condition that holds operations back, and its hint.
func explain(index string, status int, kind string, e *itemError) (key, text string) {
	reason := fmt.Sprintf("%d %s: %s", status, kind, e.text())
	switch kind {
	case "index_not_found_exception", "invalid_index_name_exception":
		return "index " + index + " is missing",
			fmt.Sprintf("the write alias %s is gone, and its index perhaps too (%s); hint: start Tidemark again, and the index is made anew, or restore it", index, reason)
	case "index_closed_exception":
		return "index " + index + " is closed", fmt.Sprintf("%s; hint: POST /%s/_open", reason, index)
	case "cluster_block_exception":
		return "index " + index + " is blocked",
			fmt.Sprintf("%s; hint: make room on the disks if they are full, then take the block off (index.blocks.write, read_only, read_only_allow_delete)", reason)
	case "illegal_argument_exception", "illegal_state_exception":
		switch {
		case e.isOf(missingPipeline):
			return "index " + index + " has an ingest pipeline that is missing",
				fmt.Sprintf("%s; hint: PUT /_ingest/pipeline/…, or take it off the index (index.default_pipeline, index.final_pipeline)", reason)
		case e.isOf(fullShard):
			return "index " + index + " is full", reason + "; hint: set more number_of_shards in the mapping file, and the index is made anew"
		case e.isOf(dataStream):
			return "index " + index + " is a data stream", reason + "; hint: take the data stream's template off our names, and start with --reindex"
		}
		return "index " + index + " is not one index", fmt.Sprintf("%s; hint: take the alias off all indices but ours", reason)
	}
	switch status {
	case 401:
		return "search server refuses the credentials", reason + "; hint: correct search.user and search.password, or search.api_key"
	case 403:
		return "search server forbids writing to " + index, reason + "; hint: grant the user write, create_index and manage on the index and its alias"
	}
	if e != nil { // what cannot be read may be quoted
		reason = fmt.Sprintf("%d %s: %s", status, kind, withheld(e.text()))
	}
	return fmt.Sprintf("search server answers bulk requests with %d", status),
		reason + "; hint: look for a proxy between, and whether search.urls is the REST port of the cluster"
}
