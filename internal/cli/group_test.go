package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"

	"tidemark/dbsync"
	"tidemark/indexer/search"
	"tidemark/mapping"
	"tidemark/reindex/control"
)

// TestGroupUsage are command lines with groups that there are not. No server is asked.
func TestGroupUsage(t *testing.T) {
	with := newFile(t, "postgres://127.0.0.1:1/d", "http://127.0.0.1:1", "s", "  a: {table: a}\nkafka: {brokers: ['127.0.0.1:1'], groups: {eu: {search: {urls: ['http://127.0.0.1:2']}}, us: {search: {urls: ['http://127.0.0.1:3']}}}}\n")
	without := newFile(t, "postgres://127.0.0.1:1/d", "http://127.0.0.1:1", "s", "  a: {table: a}\nkafka: {brokers: ['127.0.0.1:1']}\n")
	own := filepath.Join(t.TempDir(), "eu.yaml")
	if err := os.WriteFile(own, []byte("kafka: {brokers: ['127.0.0.1:1'], groups: {us: {search: {urls: ['http://127.0.0.1:2']}}}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for command, named := range map[string]string{"reindex": "all", "verify": "all", "wait": "", "status": "", "dead-letters list": "", "dead-letters retry": "all", "dead-letters drop": "all"} {
		test := strings.Fields(command + " " + named)
		says(t, exitConfig, append(test, "-c", with.path, "--group", "asia"), "--group asia: there is no such group in kafka.groups of the mapping; those that there are: eu, us\n    hint: see tidemark "+command+" --help\n")
		says(t, exitConfig, append(test, "-c", without.path, "--group", "asia"), "--group asia: kafka.groups of the mapping has no groups\n    hint: see tidemark "+command+" --help\n")
	}
	says(t, exitConfig, []string{"apply", "-c", with.path, "--group", "Asia"}, "--group Asia: want a lower-case letter, and then lower-case letters, digits, _ and - only")
	says(t, exitConfig, []string{"apply", "-c", with.path, "--group", "asia"}, "t.yaml:9: kafka.groups: there is no group asia\n    hint: those that there are: eu, us\n")
	says(t, exitConfig, []string{"apply", "-c", without.path, "--group", "asia"}, "t.yaml:9: kafka.groups: there is no group asia\n    hint: groups: {asia: {search: ")
	says(t, exitConfig, []string{"apply", "-c", own, "--group", "asia"}, "eu.yaml:1: kafka.groups: there is no group asia\n    hint: those that there are: us\n")
}

// TestGroup has commands read and write what is of the group, and of nothing else.
func TestGroup(t *testing.T) {
	t.Parallel()
	d, engine, f, name := newItems(t, 3)
	kafka, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	defer kafka.Close()
	// The cluster of search is one that nobody answers at.
	f.write(t, d.URL, "http://127.0.0.1:1", fmt.Sprintf("  %s: {table: items}\nkafka: {brokers: [%q], groups: {eu: {search: {urls: [%q]}}}}\n", name, kafka.ListenAddrs()[0], engine.URL))
	config, err := mapping.Read(f.path)
	if err != nil {
		t.Fatal(err)
	}
	of, _ := config.OfGroup("eu")
	for _, schema := range []string{config.StateSchema(), of.StateSchema()} {
		d.Exec(t, "create schema "+schema)
		if err := control.Migrate(t.Context(), d.DB, schema, slog.New(slog.DiscardHandler)); err != nil {
			t.Fatal(err)
		}
	}
	letter := search.Refused{Err: &search.DocError{Status: 400, Type: "strict", Reason: "refused in europe"}}
	letter.Operation.Index, letter.Operation.ID, letter.Operation.Kind = search.WriteAlias(name, name+"-20260131t120000z"), "7", dbsync.Delete
	if err := control.Open(d.DB, "dbsync_ctrl_eu", f.slot).DeadLetters(nil).Keep(t.Context(), []search.Refused{letter}); err != nil {
		t.Fatal(err)
	}
	command := func(args ...string) []string { return append(args, "-c", f.path) }
	says(t, exitDone, command("dead-letters", "list"), "there are no dead letters")
	says(t, exitDone, command("dead-letters", "drop", "all"), "0 dead letters dropped")
	says(t, exitDone, command("dead-letters", "list", "--group", "eu"), "refused in europe")

	says(t, exitFailed, command("reindex", name, "--group", "eu"), "no instance follows slot "+f.slot+", and this command cannot do it for group eu alone; hint: tidemark run, or --no-wait, which leaves it to the next one")
	says(t, exitDone, command("reindex", name, "--group", "eu", "--no-wait"), "asked for, request 1")
	says(t, exitFailed, command("wait", "--group", "eu", "--timeout", "30s"), "there is no replication slot")

	var status struct {
		Group   string
		Indices []struct {
			DeadLetters int64 `json:"dead_letters"`
		}
		Requests []struct{ Index string }
		Notes    []string
	}
	read := func(args ...string) {
		t.Helper()
		status.Group, status.Indices, status.Requests, status.Notes = "", nil, nil, nil
		code, out, wrong := tidemark(t, append(command("status", "--json"), args...)...)
		if err := json.Unmarshal([]byte(out), &status); err != nil {
			t.Fatalf("exit code %d, %v: %s%s", code, err, out, wrong)
		}
	}
	read("--group", "eu")
	if status.Group != "eu" || len(status.Requests) != 1 || len(status.Notes) != 0 {
		t.Errorf("of the group: %+v", status)
	}
	read()
	if status.Group != "" || len(status.Requests) != 0 || len(status.Notes) != 1 || !strings.Contains(status.Notes[0], "documents are not counted") {
		t.Errorf("of the file's own cluster: %+v", status)
	}
	_, out, _ := tidemark(t, command("status", "--group", "eu")...)
	if !strings.Contains(out, "group eu, slot "+f.slot+": does not exist") {
		t.Errorf("as a table:\n%s", out)
	}

	// It needs an instance that is running, since this process cannot produce for one group alone.
	s := &followedSlot{config: of, slotDB: d.DB}
	_, err = s.follow(t.Context(), nil)
	if _, ok := errors.AsType[*groupNotFedError](err); !ok {
		t.Errorf("following the slot for a group: %v", err)
	}
}
