package mapping

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// parseKafka returns what a file with this under kafka comes to.
func parseKafka(t *testing.T, kafka string) *Kafka {
	t.Helper()
	c, err := Parse("testdata/t.yaml", []byte("search: {urls: [http://h]}\nindices: {a: {table: a}}\nkafka: "+kafka), env())
	if err != nil {
		t.Fatal(err)
	}
	return c.Kafka
}

func TestParseKafka(t *testing.T) {
	with := func(change func(*Kafka)) Kafka {
		k := Kafka{Brokers: []string{"k:9092"}, Topic: "tidemark", Group: "tidemark", Partitions: 12, Retention: 168 * time.Hour, Compression: CompressionSnappy, MaxLag: 1_000_000}
		change(&k)
		return k
	}
	for text, want := range map[string]Kafka{
		"{brokers: k:9092}": with(func(*Kafka) {}),
		"{brokers: ['[::1]:9092', 10.0.0.1:1, a.b:65535]}": with(func(k *Kafka) { k.Brokers = []string{"[::1]:9092", "10.0.0.1:1", "a.b:65535"} }),
		"{brokers: [k:9092], topic: Shop.ops_1-x}":         with(func(k *Kafka) { k.Topic, k.Group = "Shop.ops_1-x", "Shop.ops_1-x" }),
		"{brokers: [k:9092], topic: ops, group: eu}":       with(func(k *Kafka) { k.Topic, k.Group = "ops", "eu" }),
		"{brokers: [k:9092], partitions: 1, replication: 3, retention: 1h30m, compression: none, max_lag: 1}": with(func(k *Kafka) {
			k.Partitions, k.Replication, k.Retention, k.Compression, k.MaxLag = 1, 3, 90*time.Minute, CompressionNone, 1
		}),
		"{brokers: [k:9092], tls: false}":      with(func(*Kafka) {}),
		"{brokers: [k:9092], tls: true}":       with(func(k *Kafka) { k.TLS = true }),
		"{brokers: [k:9092], ca_file: ca.pem}": with(func(k *Kafka) { k.TLS, k.CAFile = true, "testdata/ca.pem" }),
		"{brokers: [k:9092], sasl: {mechanism: plain, user: me, password: 0123}}": with(func(k *Kafka) {
			k.SASL = &SASL{Mechanism: SASLPlain, User: "me", Password: NewSecret("0123")}
		}),
		"{brokers: [k:9092], tls: true, sasl: {mechanism: scram-sha-256, user: me, password: x}}": with(func(k *Kafka) {
			k.TLS, k.SASL = true, &SASL{Mechanism: SASLScramSHA256, User: "me", Password: NewSecret("x")}
		}),
		"{brokers: [k:9092], sasl: {mechanism: oauthbearer, token: x}}": with(func(k *Kafka) {
			k.SASL = &SASL{Mechanism: SASLOAuthBearer, Token: NewSecret("x")}
		}),
		"{brokers: [k:9092], sasl: {mechanism: oauthbearer, token_file: ca.pem}}": with(func(k *Kafka) {
			k.SASL = &SASL{Mechanism: SASLOAuthBearer, TokenFile: "testdata/ca.pem"}
		}),
		"{brokers: [k:9092], sasl: {mechanism: oauthbearer, token_url: 'https://h/t?a=b', client_id: c, client_secret: x, scopes: [a, 'b/.default']}}": with(func(k *Kafka) {
			k.SASL = &SASL{Mechanism: SASLOAuthBearer, TokenURL: "https://h/t?a=b", ClientID: "c", ClientSecret: NewSecret("x"), Scopes: []string{"a", "b/.default"}}
		}),
		"{brokers: [k:9092], sasl: {mechanism: aws-msk-iam, region: eu-west-1}}": with(func(k *Kafka) {
			k.TLS, k.SASL = true, &SASL{Mechanism: SASLAWSMSKIAM, Region: "eu-west-1"}
		}),
	} {
		if diff := cmp.Diff(&want, parseKafka(t, text)); diff != "" {
			t.Errorf("%s: %s", text, diff)
		}
	}
}

// TestSASLKeys has each key of sasl beside mechanism belong to some of them, and no key more.
func TestSASLKeys(t *testing.T) {
	r := &reader{shared: make(map[string]*schema), places: make(places)}
	known := r.describe(func() { r.sasl(someValue, "kafka.sasl") })
	for name := range known.Properties {
		if name != "mechanism" && len(saslKeys[name]) == 0 {
			t.Errorf("%s belongs to no mechanism", name)
		}
	}
	if len(known.Properties) != len(saslKeys)+1 {
		t.Errorf("there are %d keys, and %d belong to mechanisms", len(known.Properties), len(saslKeys))
	}
}

// TestReadApply reads files of run, and those that have no more than a worker needs.
func TestReadApply(t *testing.T) {
	text, name := exampleDir(t)
	optionals := optional.ReplaceAllString(text, "$1")
	whole, err := Parse(name, []byte(optionals), exampleEnv)
	if err != nil {
		t.Fatal(err)
	}
	// The variables of the other sections are not set.
	applied := env("ADMIN_TOKEN", "hunter8-hunter8-hunter8")
	got, err := ParseApply(name, []byte(optionals), applied, "")
	if err != nil {
		t.Fatal(err)
	}
	want := defaults()
	kafka := *whole.Kafka
	kafka.Groups = nil // none of which it is a worker
	want.File, want.Search, want.Kafka, want.Admin = name, whole.Search, &kafka, whole.Admin
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(Config{})); diff != "" {
		t.Error(diff)
	}
	if !got.Has("kafka.brokers") || !got.Has("search.urls") || got.Has("postgres.url") {
		t.Error("its places are not those of what was read")
	}
	own := regexp.MustCompile(`(?m)^(postgres|on_error|on_slot_lost|indexer|verify|indices):.*\n((  .*)?\n)*`).ReplaceAllString(optionals, "")
	if strings.Contains(own, "table:") || strings.Contains(own, "DATABASE_URL") {
		t.Fatalf("something is left of the other sections:\n%s", own)
	}
	alone, err := ParseApply(name, []byte(own), applied, "")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, alone, cmpopts.IgnoreUnexported(Config{})); diff != "" {
		t.Errorf("a file of its own: %s", diff)
	}
	if _, err := Parse(name, []byte(optionals), applied); err == nil || !strings.Contains(err.Error(), "DATABASE_URL") {
		t.Errorf("Parse asks for the variables of every section: %v", err)
	}

	file := filepath.Join(t.TempDir(), "t.yaml")
	if err := os.WriteFile(file, []byte("search: {urls: [http://h]}\nkafka: {brokers: [k:1]}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err := ReadApply(file, ""); err != nil || !reflect.DeepEqual(c.Kafka.Brokers, []string{"k:1"}) || c.File != file {
		t.Errorf("read from a file: %+v, %v", c, err)
	}
	if _, err := ReadApply(file+".none", ""); err == nil || !strings.Contains(err.Error(), "cannot be read") {
		t.Errorf("of no file: %v", err)
	}
}

// TestReadApplyProblems has what is wrong with what a worker reads said, and nothing of the rest.
func TestReadApplyProblems(t *testing.T) {
	for _, test := range []struct{ text, want string }{
		{"kafka: {brokers: [k:1]}", "1: search is missing: the cluster to write to\nhint: search: {urls: [https://localhost:9200]}"},
		{"search: {urls: [http://h]}", "1: kafka is missing: where operations to write come from\nhint: kafka: {brokers: [localhost:9092]}"},
		{"search: {urls: [http://h]}\nkafka:", "2: kafka.brokers is missing: the Kafka to connect to\nhint: brokers: [localhost:9092]"},
		{"search: {urls: [http://h]}\nkafka: {brokers: [k:1]}\npostgress: {a: x}", "3: postgress: unknown key\nhint: did you mean postgres?"},
		{"search: {urls: [http://h]}\nkafka: {brokers: [k:1]}\nindices: {a: {tabel: x}}\nverify: {every: never}\npostgres: {url: '${NONE}'}\non_error: 7", ""},
		{"search: {urls: ['${NONE}']}\nkafka: {brokers: [k:1]}", "1: the environment variable NONE is not set\nhint: set it, or read a file: ${file:/run/secrets/none}"},
		{"indices: &i ['http://${HOST}']\nsearch: {urls: *i}\nkafka: {brokers: [k:1]}", ""},
		{"postgres: &p {urls: ['http://${NONE}']}\nsearch: {<<: *p}\nkafka: {brokers: [k:1]}", "1: the environment variable NONE is not set\nhint: set it, or read a file: ${file:/run/secrets/none}"},
		{"[a]", "1: the file: want a mapping (key: value), found a list"},
	} {
		c, err := ParseApply("f.yaml", []byte(test.text), env("HOST", "h"), "")
		got := ""
		if err != nil {
			got = strings.ReplaceAll(strings.ReplaceAll(err.Error(), "f.yaml:", ""), "    hint", "hint")
		}
		if got != test.want {
			t.Errorf("%s: got\n%s\nwant\n%s", test.text, got, test.want)
		}
		if err == nil && !reflect.DeepEqual(c.Search.URLs, []string{"http://h"}) {
			t.Errorf("%s: %q", test.text, c.Search.URLs)
		}
	}
}
