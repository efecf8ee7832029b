package cli

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"tidemark/testenv"
)

// TestCheckKafka has check say what would be made in Kafka, and what is wrong with it.
func TestCheckKafka(t *testing.T) {
	d := testenv.NewDatabase(t)
	search := testenv.SharedSearch(t, testenv.Engines(t)[0])
	d.Exec(t, "create table a (id int primary key)")
	kafka, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	defer kafka.Close()
	broker := kafka.ListenAddrs()[0]
	index := search.NewPrefix(t) + "a"
	f := newFile(t, d.URL, search.URL, d.Unique("slot"), fmt.Sprintf("  %s: {table: a}\nkafka:\n  brokers: [%q]\n  topic: ops\n  group: eu\n  partitions: 3\n", index, broker))

	code, out, wrong := tidemark(t, "check", "-c", f.path)
	for _, want := range []string{"Kafka at " + broker + ", topic ops, group eu\n", "  run will make what is missing of topic ops, with 3 partitions, and topic ops.reports\n"} {
		if code != exitDone || !strings.Contains(out, want) {
			t.Errorf("exit code %d, it lacks %s:\n%s%s", code, want, out, wrong)
		}
	}
	code, out, wrong = tidemark(t, "check", "--json", "-c", f.path)
	var r checkReport
	if err := json.Unmarshal([]byte(out), &r); err != nil || code != exitDone {
		t.Fatalf("exit code %d, %v: %s%s", code, err, out, wrong)
	}
	if k := r.Kafka; k == nil || k.Topic != "ops" || k.Group != "eu" || k.Partitions != 0 || len(k.Steps) != 1 || k.Remarks == nil {
		t.Errorf("as JSON: %+v", k)
	}

	// A cluster beside the first may be away, and run begins without it.
	g := newFile(t, d.URL, search.URL, d.Unique("slot"), fmt.Sprintf("  %s: {table: a}\nkafka:\n  brokers: [%q]\n  topic: ops\n  groups: {away: {search: {urls: [http://127.0.0.1:1]}}, there: {search: {urls: [%q], headers: {X-Cluster: other}}}}\n", index, broker, search.URL))
	code, out, wrong = tidemark(t, "check", "-c", g.path)
	for _, want := range []string{"group away: its cluster does not answer, run begins without it", "topic ops.away, group ops.away\n", ", cluster tidemark-", "make what is missing of topic ops.there"} {
		if code != exitDone || !strings.Contains(out, want) {
			t.Errorf("exit code %d, it lacks %s:\n%s%s", code, want, out, wrong)
		}
	}
	code, out, wrong = tidemark(t, "check", "--json", "-c", g.path)
	var report checkReport
	if err := json.Unmarshal([]byte(out), &report); err != nil || code != exitDone {
		t.Fatalf("exit code %d, %v: %s%s", code, err, out, wrong)
	}
	if gs := report.Groups; len(gs) != 2 || gs[0].Away == "" || gs[0].Search != nil || gs[1].Search == nil || gs[1].Kafka.Topic != "ops.there" {
		t.Errorf("groups as JSON: %+v", gs)
	}

	// Topics that somebody made: without what operations need, and with it.
	made := func(size string) string {
		settings := map[string]*string{"max.message.bytes": &size}
		client, err := kgo.NewClient(kgo.SeedBrokers(broker))
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		name := "ops" + size
		for name, partitions := range map[string]int32{name: 3, name + ".reports": 1} {
			if _, err := kadm.NewClient(client).CreateTopic(t.Context(), partitions, 1, settings, name); err != nil {
				t.Fatal(err)
			}
		}
		return name
	}
	text := "  %s: {table: a}\nkafka:\n  brokers: [%q]\n  topic: %s\n  partitions: 3\n"
	f.write(t, d.URL, search.URL, fmt.Sprintf(text, index, broker, made("1048576")))
	refused(t, f, `t.yaml:11: kafka.topic: topic ops1048576: it takes records of 1048576 bytes (max.message.bytes), and with the documents that search.max_document_bytes allows they have up to 53477376
    hint: kafka-configs.sh --alter --entity-type topics --entity-name ops1048576 --add-config max.message.bytes=53477376, or lower search.max_document_bytes
`)
	f.write(t, d.URL, search.URL, fmt.Sprintf(text, index, broker, made("99999999")))
	if code, out, wrong = tidemark(t, "check", "-c", f.path); code != exitDone || !strings.Contains(out, "\n  3 partitions: as many workers can share it\n") || strings.Contains(out, "make what is missing of topic") {
		t.Errorf("exit code %d:\n%s%s", code, out, wrong)
	}
}

// TestStatusTopics has status ask Kafka how far workers are: where there are no topics yet, where operations wait
// and nobody writes them, and where Kafka does not answer.
func TestStatusTopics(t *testing.T) {
	d, engine, f, name := newItems(t, 1)
	kafka, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	defer kafka.Close()
	broker := kafka.ListenAddrs()[0]
	f.write(t, d.URL, engine.URL, fmt.Sprintf("  %s: {table: items}\nkafka: {brokers: [%q], topic: ops, groups: {eu: {search: {urls: ['http://127.0.0.1:1']}}}}\n", name, broker))
	status := func() (r statusReport) {
		t.Helper()
		_, out, wrong := tidemark(t, "status", "--json", "-c", f.path)
		if err := json.Unmarshal([]byte(out), &r); err != nil {
			t.Fatalf("%v: %s%s", err, out, wrong)
		}
		return r
	}
	if r := status(); len(r.Topics) != 2 || r.Topics[0].Lag != nil || len(r.Notes) != 0 {
		t.Errorf("without topics: %+v, notes %q", r.Topics, r.Notes)
	}

	client, err := kgo.NewClient(kgo.SeedBrokers(broker))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	for name, partitions := range map[string]int32{"ops": 3, "ops.reports": 1, "ops.eu": 3, "ops.eu.reports": 1} {
		if _, err := admin.CreateTopic(t.Context(), partitions, 1, nil, name); err != nil {
			t.Fatal(err)
		}
	}
	if err := client.ProduceSync(t.Context(), &kgo.Record{Topic: "ops.eu", Value: []byte("1")}, &kgo.Record{Topic: "ops.eu", Value: []byte("2")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	r := status()
	if len(r.Topics) != 2 || r.Topics[0].Lag == nil || *r.Topics[0].Lag != 0 || r.Topics[1].Lag == nil || *r.Topics[1].Lag != 2 || r.Topics[1].Cluster != "eu" || r.Topics[1].Name != "ops.eu" || *r.Topics[1].Workers != 0 {
		t.Fatalf("with topics: %+v, notes %q", r.Topics, r.Notes)
	}
	if len(r.Problems) != 1 || r.Problems[0] != "2 operations in topic ops.eu wait, and group ops.eu has no worker; hint: tidemark apply" {
		t.Errorf("problems: %q", r.Problems)
	}
	if table := string(r.table()); !strings.Contains(table, "\ntopic   group   not applied  workers\nops     ops     0            0\nops.eu  ops.eu  2            0\n") {
		t.Errorf("as a table:\n%s", table)
	}

	kafka.Close()
	r = status()
	if len(r.Topics) != 2 || r.Topics[1].Lag != nil || len(r.Notes) != 2 || !strings.Contains(r.Notes[1], "Kafka does not answer how much of topic ops.eu is not applied: ") {
		t.Errorf("without Kafka: %+v, notes %q", r.Topics, r.Notes)
	}
}
