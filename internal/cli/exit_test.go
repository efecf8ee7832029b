package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/dbsync"
	"tidemark/indexer/search"
	"tidemark/indexer/topic"
	"tidemark/internal/prepare"
	"tidemark/internal/service"
	"tidemark/mapping"
	"tidemark/reindex/control"
)

func TestExitCodes(t *testing.T) {
	problems := mapping.Problems{
		{File: "t.yaml", Line: 3, Text: "indices.a.table: no table a", Hint: "name another\nor make it"},
		{File: "t.yaml", Text: "search is missing"},
	}
	unreachable := &prepare.UnreachableError{Address: "db:5432", Err: syscall.ECONNREFUSED}
	tests := []struct {
		name string
		err  error
		code int
		want string // on the standard error
	}{
		{"nothing", nil, 0, ""},
		{"command line", &usageError{errors.New("unknown flag: --x"), "tidemark run"}, 2, "tidemark: unknown flag: --x\n    hint: see tidemark run --help\n"},
		{"mapping file", problems, 2, "t.yaml:3: indices.a.table: no table a\n    hint: name another\n          or make it\n\nt.yaml: search is missing\n"},
		{"setup", fmt.Errorf("begin: %w", &dbsync.SetupError{Text: "wal_level is replica", Hint: "ALTER SYSTEM …", Err: errors.New("as it says")}), 2,
			"tidemark: Postgres: wal_level is replica: as it says\n    hint: ALTER SYSTEM …\n"},
		{"credentials", &search.ConnectError{URLs: "http://s:9200", Kind: search.BadCredentials, Hint: "correct them", Err: errors.New("status 401")}, 2,
			"tidemark: search server http://s:9200: status 401\n    hint: correct them\n"},
		{"no cluster", &search.ConnectError{URLs: "http://s:9200", Kind: search.Unreachable, Hint: "start it", Err: errors.New("refused")}, 1,
			"tidemark: search server http://s:9200: refused\n    hint: start it\n"},
		{"credentials of Kafka", &topic.ConnectError{Brokers: []string{"k:1", "l:1"}, Kind: topic.BadCredentials, Hint: "correct them", Err: errors.New("no")}, 2,
			"tidemark: Kafka at k:1, l:1: no\n    hint: correct them\n"},
		{"no Kafka", &topic.ConnectError{Brokers: []string{"k:1"}, Kind: topic.Away, Hint: "start it", Err: errors.New("refused")}, 1,
			"tidemark: Kafka at k:1: refused\n    hint: start it\n"},
		{"no database", unreachable, 1, "tidemark: Postgres at db:5432 does not answer, tried for 0s: connection refused\n    hint: start the server, or correct postgres.url\n"},
		{"no database and a problem", errors.Join(problems[1:], unreachable), 2,
			"t.yaml: search is missing\n\ntidemark: Postgres at db:5432 does not answer, tried for 0s: connection refused\n    hint: start the server, or correct postgres.url\n"},
		{"slot lost", &dbsync.SlotLostError{Slot: "s", Reason: "it is gone", Confirmed: 0x10}, 1,
			"tidemark: replication slot s: it is gone; changes after 0/10 are missing\n    hint: every index has to be filled again: tidemark run --reindex all; with on_slot_lost: reindex in the file the next start does it without asking\n"},
		{"another cluster", &dbsync.PermanentError{Err: &dbsync.ClusterChangedError{Slot: "s", OldSystem: "1", System: "2"}}, 1,
			"tidemark: slot s was made in database system 1, this is 2: log positions have started over\n    hint: every index has to be filled again: tidemark run --reindex all; with on_slot_lost: reindex in the file the next start does it without asking\n"},
		{"set back", fmt.Errorf("x: %w", &dbsync.SetBackError{Slot: "s", Reason: "a document is ahead"}), 1,
			"tidemark: x: slot s: the database was set back: a document is ahead: log positions have started over\n    hint: every index has to be filled again: tidemark run --reindex all; with on_slot_lost: reindex in the file the next start does it without asking\n"},
		{"operations lost on their way", &control.TopicLostError{Topic: "ops", Reason: "it is gone"}, 1,
			"tidemark: topic ops: it is gone: operations that were produced may not have been applied\n    hint: every index has to be filled again: tidemark run --reindex all; with on_slot_lost: reindex in the file the next start does it without asking\n"},
		{"index that is not in the file", &service.UnknownIndexError{Name: "x"}, 2, "tidemark: there is no index x in the mapping\n"},
		{"name taken", &search.NameTakenError{Name: "x"}, 2, ""},
		{"password", fmt.Errorf("connect: %w", &pgconn.PgError{Code: "28P01", Message: "no"}), 2, ""},
		{"role", &pgconn.PgError{Code: "28000"}, 2, ""},
		{"database", &pgconn.PgError{Code: "3D000"}, 2, ""},
		{"server that shuts down", &pgconn.PgError{Code: "57P01"}, 1, ""},
		{"interrupted", errInterrupted, 1, "tidemark: interrupted before it was done\n"},
		{"anything else", errors.New("disk full"), 1, "tidemark: disk full\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if code := exitCode(tt.err); code != tt.code {
				t.Errorf("exit code %d, want %d", code, tt.code)
			}
			var b bytes.Buffer
			if tt.err != nil {
				report(&b, tt.err)
			}
			if got := b.String(); got != tt.want && tt.want != "" {
				t.Errorf("got\n%swant\n%s", got, tt.want)
			}
		})
	}
}

func TestUsage(t *testing.T) {
	tests := []struct {
		args       string
		code       int
		out, wrong string // contained in what is printed
	}{
		{"version", 0, "tidemark ", ""},
		{"help", 0, "Available Commands", ""},
		{"run --help", 0, "--reindex indices", ""},
		{"completion bash", 0, "bash completion", ""},
		{"__complete run --log-format ", 0, "auto\ntext\njson\n", ""},
		{"", 2, "", "no command is given\n    hint: see tidemark --help"},
		{"chek", 2, "", `unknown command "chek" for "tidemark" Did you mean this? check`},
		{"run now", 2, "", `there is no argument here, found "now"` + "\n    hint: see tidemark run --help"},
		{"run --onse", 2, "", "unknown flag: --onse\n    hint: see tidemark run --help"},
		{"run --log-level loud", 2, "", "want debug, info, warn or error"},
		{"run --log-format xml", 2, "", "want auto, text, json"},
		{"check -c", 2, "", "flag needs an argument"},
		{"check -c none.yaml", 2, "", "none.yaml: cannot be read: no such file or directory\n    hint: "},
		{"run", 2, "", "tidemark.yaml: cannot be read: no such file or directory\n    hint: "},
	}
	t.Chdir(t.TempDir())
	for _, tt := range tests {
		t.Run(tt.args, func(t *testing.T) {
			code, out, wrong := tidemark(t, strings.Split(tt.args, " ")...)
			if code != tt.code || !strings.Contains(out, tt.out) || !strings.Contains(wrong, tt.wrong) {
				t.Errorf("code %d, want %d\n%s%s", code, tt.code, out, wrong)
			}
			if code == 0 && !strings.HasPrefix(tt.args, "__") && wrong != "" || code != 0 && out != "" {
				t.Errorf("printed on the wrong stream:\n%s%s", out, wrong)
			}
		})
	}
}

// tidemark runs a command line.
func tidemark(t testing.TB, args ...string) (code int, out, wrong string) {
	t.Helper()
	return tidemarkUntil(t.Context(), args...)
}

func tidemarkUntil(ctx context.Context, args ...string) (code int, out, wrong string) {
	if len(args) == 1 && args[0] == "" {
		args = nil
	}
	var stdout, stderr bytes.Buffer
	code = Run(ctx, args, &stdout, &stderr)
	return code, stdout.String(), stderr.String()
}
