package cli

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/dbsync"
	"tidemark/indexer/search"
	"tidemark/indexer/topic"
	"tidemark/internal/service"
	"tidemark/mapping"
	"tidemark/reindex/control"
)

// Exit codes of the command.
const (
	exitDone   = 0
	exitFailed = 1 // a server, or what happened while running
	exitConfig = 2 // the configuration or the command line has to be changed
)

// errInterrupted is the end of work that was not complete when it was asked to end.
var errInterrupted = errors.New("interrupted before it was done")

// A usageError is a command line that makes no sense.
type usageError struct {
	err  error
	help string // the command whose --help says more
}

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// exitCode returns the exit code for what a command returned. Where several things are
// wrong, one that has to be fixed in the configuration decides: trying again is of no use
// before.
func exitCode(err error) int {
	if err == nil {
		return exitDone
	}
	if is[*usageError](err) || is[mapping.Problems](err) || is[*dbsync.SetupError](err) ||
		is[*dbsync.NewerSchemaError](err) || is[*service.UnknownIndexError](err) || is[*search.NameTakenError](err) {
		return exitConfig
	}
	if e, ok := errors.AsType[*search.ConnectError](err); ok && e.Configuration() {
		return exitConfig
	}
	if e, ok := errors.AsType[*topic.ConnectError](err); ok && e.Configuration() {
		return exitConfig
	}
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch e.Code {
		case "28P01", "28000", "3D000": // password, role, database: changed since the start was prepared
			return exitConfig
		}
	}
	return exitFailed
}

func is[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

// report writes what is wrong, one paragraph for each thing, with its hint on a line of
// its own.
func report(w io.Writer, err error) {
	if isColored(w) {
		w = painter{w, paintedErrors}
	}
	paragraphs := explain(err)
	for i := range paragraphs {
		paragraphs[i] = strings.TrimRight(paragraphs[i], "\n") + "\n"
	}
	fmt.Fprint(w, strings.Join(paragraphs, "\n"))
}

func explain(err error) []string {
	if problems, ok := err.(mapping.Problems); ok {
		var paragraphs []string
		for _, p := range problems {
			paragraphs = append(paragraphs, p.String())
		}
		return paragraphs
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var paragraphs []string
		for _, e := range joined.Unwrap() {
			paragraphs = append(paragraphs, explain(e)...)
		}
		return paragraphs
	}
	text, hint := dbsync.WithoutValues(err), ""
	if e, ok := errors.AsType[*usageError](err); ok {
		text = strings.Join(strings.Fields(text), " ") // suggestions come on lines of their own
		hint = "see " + e.help + " --help"
	} else if e, ok := errors.AsType[*dbsync.SetupError](err); ok {
		text, hint = "Postgres: "+e.Text, e.Hint
		if e.Err != nil {
			text += ": " + e.Err.Error()
		}
	} else if e, ok := errors.AsType[*search.ConnectError](err); ok {
		text, hint = "search server: "+e.Err.Error(), e.Hint
		if e.URLs != "" {
			text = "search server " + e.URLs + ": " + e.Err.Error()
		}
	} else if e, ok := errors.AsType[*topic.ConnectError](err); ok {
		text, hint = fmt.Sprintf("Kafka at %s: %v", strings.Join(e.Brokers, ", "), e.Err), e.Hint
	} else if e, ok := errors.AsType[*dbsync.NewerSchemaError](err); ok {
		hint = e.Hint()
	} else if e, ok := errors.AsType[*control.OlderSchemaError](err); ok {
		hint = e.Hint()
	} else if is[*dbsync.SlotLostError](err) || is[*dbsync.ClusterChangedError](err) || is[*dbsync.SetBackError](err) || is[*control.TopicLostError](err) {
		hint = "every index has to be filled again: tidemark run --reindex all; with on_slot_lost: reindex in the file the next start does it without asking"
	}
	return []string{"tidemark: " + text + withHint(hint)}
}

// withHint returns the hint as the problems of a mapping file have it.
func withHint(hint string) string {
	if hint == "" {
		return ""
	}
	return "\n    hint: " + strings.ReplaceAll(hint, "\n", "\n          ")
}
