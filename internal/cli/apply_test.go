package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"tidemark/indexer/retry"
	"tidemark/indexer/search/searchtest"
	"tidemark/indexer/topic"
	"tidemark/testenv"
)

// TestApply joins the group that it is told, and ends in order.
func TestApply(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	log := searchtest.Logger(t)
	client, err := topic.Connect(t.Context(), topic.Options{Brokers: cluster.ListenAddrs(), Topic: "ops.eu", Group: "ops.eu", Alarm: retry.NewAlarm(log), Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, _, err := client.Ensure(t.Context(), topic.Plan{Partitions: 2, Replication: 1, Retention: time.Hour, MaxRecordBytes: 1 << 20}); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "worker.yaml")
	text := fmt.Sprintf("kafka: {brokers: [%q], topic: ops}\nsearch: {urls: [%q]}\nadmin: {listen: \"127.0.0.1:0\"}\n", cluster.ListenAddrs()[0], testenv.SharedSearch(t, testenv.Engines(t)[0]).URL)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(t.Context())
	defer end()
	ended := make(chan string, 1)
	go func() {
		code, out, wrong := tidemarkUntil(ctx, "apply", "-c", file, "--group", "eu")
		ended <- fmt.Sprintf("%d %s\n%s", code, out, wrong)
	}()
	members := func() int {
		lag, err := client.Lag(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return lag.Members
	}
	for deadline := time.Now().Add(time.Minute); members() == 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			end()
			t.Fatalf("nobody has joined group eu: %s", <-ended)
		}
	}
	end()
	if got := <-ended; !strings.HasPrefix(got, "0 \n") || !strings.Contains(got, "tidemark ends") {
		t.Errorf("it ended with %s", got)
	}
	if n := members(); n != 0 {
		t.Errorf("%d members are left", n)
	}
}

// What is wrong with the line or the file is said before anything is asked for.
func TestApplyRefuses(t *testing.T) {
	without := filepath.Join(t.TempDir(), "without.yaml")
	if err := os.WriteFile(without, []byte("search: {urls: [\"http://127.0.0.1:1\"]}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	with := filepath.Join(t.TempDir(), "with.yaml")
	if err := os.WriteFile(with, []byte("kafka: {brokers: [\"127.0.0.1:1\"]}\nsearch: {urls: [\"http://127.0.0.1:1\"]}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"-c", without}, "without.yaml:1: kafka is missing"},
		{[]string{"-c", with + ".none"}, "cannot be read"},
		{[]string{"-c", with, "--group", "a/b"}, "--group a/b: want a lower-case letter"},
		{[]string{"-c", with, "now"}, `there is no argument here, found "now"`},
	} {
		code, out, wrong := tidemark(t, append([]string{"apply"}, test.args...)...)
		if code != exitConfig || out != "" || !strings.Contains(wrong, test.want) || !strings.Contains(wrong, "hint:") {
			t.Errorf("%v: %d %s%s, want %q", test.args, code, out, wrong, test.want)
		}
	}
}
