package mapping

import (
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"tidemark/mapping/catalog"
)

const groupsFile = `postgres: {control_schema: state}
search:
  urls: [http://h]
  max_document_bytes: 2MiB
kafka:
  brokers: [k:1]
  topic: ops
  group: workers
  groups:
    us-1:
      search:
        urls: [http://us]
        user: me
        password: hunter2
        bulk: {requests: 3}
    eu: {search: {cloud_id: "shop:dXMtZWFzdC0xLmF3cy5mb3VuZC5pbyRhYmMkZGVm"}}
indices: {a: {name: "a-{schema}", table: "s_*.t"}}
`

// TestOfGroup has of the configuration what is for each group, and lines of the keys of the group.
func TestOfGroup(t *testing.T) {
	c, err := Parse("t.yaml", []byte(groupsFile), env())
	if err != nil {
		t.Fatal(err)
	}
	if got := c.GroupNames(); !reflect.DeepEqual(got, []string{"us-1", "eu"}) {
		t.Errorf("groups %q", got)
	}
	if c.Group != "" || c.StateSchema() != "state" || c.Kafka.Topic != "ops" {
		t.Errorf("the file's own: group %q, state in %s, topic %s", c.Group, c.StateSchema(), c.Kafka.Topic)
	}
	for _, none := range []string{"asia", "search", "us"} {
		if of, ok := c.OfGroup(none); ok || of != nil {
			t.Errorf("there is a group %s", none)
		}
	}
	if of, ok := c.OfGroup(""); of != c || !ok {
		t.Error("the group without a name is not the file's own")
	}
	us, ok := c.OfGroup("us-1")
	if !ok {
		t.Fatal("there is no us-1")
	}
	want := *c
	kafka := *c.Kafka
	kafka.Topic, kafka.Group, kafka.Groups = "ops.us-1", "workers.us-1", nil
	want.Group, want.Kafka = "us-1", &kafka
	want.Search = Search{URLs: []string{"http://us"}, User: "me", Password: NewSecret("hunter2"), Bulk: c.Search.Bulk, MaxDocumentBytes: 2 << 20}
	want.Search.Bulk.Requests = 3
	ignored := cmpopts.IgnoreUnexported(Config{}, Index{}, Source{}, Field{})
	if diff := cmp.Diff(&want, us, ignored, cmp.Comparer(func(a, b Secret) bool { return a.Reveal() == b.Reveal() })); diff != "" {
		t.Error(diff)
	}
	if us.StateSchema() != "state_us-1" || us.Postgres.ControlSchema != "state" {
		t.Errorf("state in %s, control schema %s", us.StateSchema(), us.Postgres.ControlSchema)
	}
	if again, ok := us.OfGroup("us-1"); again != us || !ok {
		t.Error("what is of the group is not of the group")
	}
	if c.Kafka.Topic != "ops" || len(c.Kafka.Groups) != 2 {
		t.Errorf("the file's own was changed: %+v", c.Kafka)
	}

	for key, want := range map[string]string{
		"search.urls":               "t.yaml:12: kafka.groups.us-1.search.urls: x",
		"search.aws.region":         "t.yaml:11: kafka.groups.us-1.search.aws.region: x",
		"search":                    "t.yaml:11: kafka.groups.us-1.search: x",
		"search.max_document_bytes": "t.yaml:4: search.max_document_bytes: x",
		"kafka.topic":               "t.yaml:7: kafka.topic: x",
	} {
		if got := us.Problem(key, "", "x").String(); got != want {
			t.Errorf("%s: %s, want %s", key, got, want)
		}
	}
	if !us.Has("search.user") || us.Has("search.aws") || !us.Has("search.max_document_bytes") || c.Has("search.user") {
		t.Error("Has does not tell the keys of the group")
	}
	eu, _ := c.OfGroup("eu")
	if us.Search.URLs[0] == eu.Search.URLs[0] || eu.Has("search.user") || !eu.Has("search.cloud_id") {
		t.Errorf("eu has the cluster %s", eu.Search.URLs)
	}
}

// TestOfGroupInSchemas has the group of what stands for patterns, with the file as it is written behind it, too;
// and no pattern stands for tables that have state, whichever group's.
func TestOfGroupInSchemas(t *testing.T) {
	c, err := Parse("t.yaml", []byte(strings.Replace(groupsFile, "control_schema: state", "control_schema: s_state", 1)), env())
	if err != nil {
		t.Fatal(err)
	}
	eu, _ := c.OfGroup("eu")
	pattern := catalog.TableName{Schema: "s_*", Name: "t"}
	for _, of := range []*Config{c, eu} {
		for schema, want := range map[string]bool{"s_1": true, "s_state": false, "s_state_eu": false, "s_state_us-1": false, "s_state_asia": true} {
			if got := of.Matches(pattern, catalog.TableName{Schema: schema, Name: "t"}); got != want {
				t.Errorf("group %q: %s is meant: %v", of.Group, schema, got)
			}
		}
	}
	found, err := c.InSchemas([]catalog.TableName{{Schema: "s_1", Name: "t"}})
	if err != nil {
		t.Fatal(err)
	}
	of, ok := found.OfGroup("eu")
	if !ok || of.Written().Group != "eu" || of.Written().StateSchema() != "s_state_eu" || of.Indices[0].Name != "a-s_1" || of.Written().Indices[0] != c.Indices[0] {
		t.Errorf("of the group: %v, written %+v", of, of.Written())
	}
}

// TestParseApplyOfGroup reads of files of run and of files of a worker's own what is for a group, and of the file of
// run nothing that is for other clusters.
func TestParseApplyOfGroup(t *testing.T) {
	const kafka = "brokers: [k:1], topic: ops, group: workers"
	for _, test := range []struct{ text, group, want string }{
		{"search: {urls: ['${NONE}'], password: '${NONE}', max_document_bytes: '${SIZE}'}\nkafka: {" + kafka + ", groups: {eu: {search: {urls: ['http://${HOST}']}}, us: {search: {urls: ['${NONE}']}}}}\nindices: {a: {tabel: x}}", "eu", "http://h 2097152"},
		{"kafka: {" + kafka + ", groups: {eu: {search: {urls: [http://h]}}}}", "eu", "http://h 52428800"},
		{"search: {urls: [http://h], max_document_bytes: 1MiB}\nkafka: {" + kafka + "}", "eu", "http://h 1048576"},
		{"search: {urls: [http://h]}\nkafka: {" + kafka + ", groups: {eu: {search: {urls: ['${NONE}']}, zzz: 1}}}", "", "http://h 52428800"},

		{"search: {urls: [http://h]}\nkafka:\n  brokers: [k:1]\n  groups:\n    eu: {search: {urls: [http://h1]}}\n    us: {search: {urls: [http://h2]}}\n", "asia", "5: kafka.groups: there is no group asia\nhint: those that there are: eu, us"},
		{"search: {urls: [http://h]}\nkafka: {brokers: [k:1]}\nindices: {}", "eu", "2: kafka.groups: there is no group eu\nhint: groups: {eu: {search: {urls: [https://eu.example.com:9200]}}}"},
		{"search: {urls: [http://h], max_document_bytes: 1}\nkafka: {brokers: [k:1], groups: {eu: {search: {urls: ['${NONE}']}}}}", "eu", "1: search.max_document_bytes: want a size from 64KiB to 500MiB, found \"1\"\n2: the environment variable NONE is not set\nhint: set it, or read a file: ${file:/run/secrets/none}"},
		{"search: {urls: [http://h]}\nkafka: {brokers: [k:1], groups: {eu: }}", "eu", "2: kafka.groups.eu.search is missing: the cluster to write to\nhint: search: {urls: [https://eu.example.com:9200]}"},
		{"search: {urls: [http://h]}\nkafka: {brokers: [k:1], groups: 7}", "eu", "2: kafka.groups: want a mapping (key: value), found a number"},
		{"search: {urls: [http://h]}", "eu", "1: kafka is missing: where operations to write come from\nhint: kafka: {brokers: [localhost:9092]}"},
		{"kafka: {brokers: [k:1]}", "eu", "1: search is missing: the cluster to write to\nhint: search: {urls: [https://localhost:9200]}"},
		{"search: {urls: [http://h]}\nkafka: {brokers: [k:1], topic: " + strings.Repeat("t", 240) + "}", "eu", "2: kafka: its topic would be " + strings.Repeat("t", 240) + ".eu: want 241 characters at the most\nhint: a shorter name, or a shorter kafka.topic"},
	} {
		c, err := ParseApply("f.yaml", []byte(test.text), env("HOST", "h", "SIZE", "2MiB"), test.group)
		if err != nil {
			got := strings.ReplaceAll(strings.ReplaceAll(err.Error(), "f.yaml:", ""), "    hint", "hint")
			if got != test.want {
				t.Errorf("%s: got\n%s\nwant\n%s", test.text, got, test.want)
			}
			continue
		}
		behind := ""
		if test.group != "" {
			behind = "." + test.group
		}
		if got := c.Search.URLs[0] + " " + strconv.Itoa(c.Search.MaxDocumentBytes); got != test.want {
			t.Errorf("%s: the cluster is %s, want %s", test.text, got, test.want)
		}
		if c.Group != test.group || c.Kafka.Topic != "ops"+behind || c.Kafka.Group != "workers"+behind || c.Kafka.Groups != nil {
			t.Errorf("%s: group %q, %+v", test.text, c.Group, c.Kafka)
		}
	}
}

// TestWorkerOfGroupNamesKeys has what turns out about the cluster of a worker named by the key that its file has.
func TestWorkerOfGroupNamesKeys(t *testing.T) {
	for text, want := range map[string]string{
		"search: {urls: [http://h]}\nkafka:\n  brokers: [k:1]\n  groups:\n    eu: {search: {urls: [http://h1]}}\n": "f.yaml:5: kafka.groups.eu.search.urls: x",
		"search: {urls: [http://h]}\nkafka: {brokers: [k:1]}":                                                      "f.yaml:1: search.urls: x",
	} {
		c, err := ParseApply("f.yaml", []byte(text), env(), "eu")
		if err != nil {
			t.Fatal(err)
		}
		if got := c.Problem("search.urls", "", "x").String(); got != want || !c.Has("search.urls") {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestCheckGroup(t *testing.T) {
	for name, want := range map[string]string{
		"eu": "", "e": "", "eu_west-1": "", strings.Repeat("e", 30): "",
		"": "want a lower-case letter", "1": "want a lower-case letter", "-eu": "want a lower-case letter", "EU": "want a lower-case letter", "e.u": "want a lower-case letter", "eu\n": "want a lower-case letter",
		strings.Repeat("e", 31): "30 characters", "reports": "topic",
	} {
		switch err := CheckGroup(name); {
		case want == "" && err != nil:
			t.Errorf("%q: %v", name, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%q: %v, want %s", name, err, want)
		}
	}
}

// TestGroupsOfGateway takes clusters of one URL that are told apart by a header.
func TestGroupsOfGateway(t *testing.T) {
	k := parseKafka(t, "{brokers: [k:1], groups: {eu: {search: {urls: [http://h], headers: {X-Cluster: eu}}}}}")
	if len(k.Groups) != 1 || len(k.Groups[0].Search.Headers) != 1 {
		t.Errorf("%+v", k.Groups)
	}
	if k := parseKafka(t, "{brokers: [k:1], groups: }"); k.Groups != nil {
		t.Errorf("nothing is %+v", k.Groups)
	}
}
