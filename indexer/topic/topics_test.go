package topic

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"tidemark/dbsync"
)

// settingsOf returns what a topic was made with.
func settingsOf(cluster *kfake.Cluster, topic string) map[string]string {
	settings := make(map[string]string)
	if info := cluster.TopicInfo(topic); info != nil {
		for key, value := range info.Configs {
			settings[key] = *value
		}
	}
	return settings
}

func TestEnsure(t *testing.T) {
	cluster := startFake(t)
	c := connect(t, cluster)
	if state, remarks, err := c.Look(t.Context(), aPlan); err != nil || len(remarks) != 0 || state != (State{}) {
		t.Errorf("before: %+v, %v, %v", state, remarks, err)
	}
	state, remarks, err := c.Ensure(t.Context(), aPlan)
	if err != nil || len(remarks) != 0 || state.Partitions != 4 || len(state.ID) != 32 || len(state.ReportsID) != 32 || state.ID == state.ReportsID {
		t.Errorf("made: %+v, %v, %v", state, remarks, err)
	}
	want := map[string]string{"cleanup.policy": "delete", "retention.ms": "604800000", "retention.bytes": "-1", "max.message.bytes": "1048576", "min.insync.replicas": "2"}
	for _, topic := range []string{"ops", "ops.reports"} {
		if got := settingsOf(cluster, topic); !maps.Equal(got, want) {
			t.Errorf("%s was made with %v, want %v", topic, got, want)
		}
	}
	if n := len(cluster.PartitionInfos("ops.reports")); n != 1 {
		t.Errorf("the topic of reports has %d partitions", n)
	}

	// The number in the file does not count for a topic that is there.
	other := aPlan
	other.Partitions = 6
	for _, ask := range []func() (State, []Remark, error){
		func() (State, []Remark, error) { return c.Ensure(t.Context(), other) },
		func() (State, []Remark, error) { return c.Look(t.Context(), other) },
	} {
		again, remarks, err := ask()
		if err != nil || again != state || len(remarks) != 1 || remarks[0].Key != "kafka.partitions" || !strings.Contains(remarks[0].Text, "4 partitions, and the file says 6") {
			t.Errorf("again: %+v, %v, %v", again, remarks, err)
		}
	}
}

// How many replicas a topic has is known before it is made, so that it is made with what they need.
func TestEnsureReplicationOfBrokers(t *testing.T) {
	cluster := startFake(t)
	plan := aPlan
	plan.Replication = 0
	if _, remarks, err := connect(t, cluster).Ensure(t.Context(), plan); err != nil || len(remarks) != 0 {
		t.Error(remarks, err)
	}
	if got := settingsOf(cluster, "ops")["min.insync.replicas"]; got != "2" {
		t.Errorf("min.insync.replicas is %q", got)
	}
}

func TestEnsureTooFewBrokers(t *testing.T) {
	cluster := startFake(t, kfake.NumBrokers(2))
	c := connect(t, cluster)
	_, _, looked := c.Look(t.Context(), aPlan)
	_, _, ensured := c.Ensure(t.Context(), aPlan)
	for _, err := range []error{looked, ensured} {
		var refused *TopicError
		if !errors.As(err, &refused) || refused.Key != "kafka.replication" || !strings.Contains(err.Error(), "cannot have 3 replicas") || refused.Hint == "" || !dbsync.IsPermanent(err) {
			t.Error(err)
		}
	}
	if cluster.TopicInfo("ops") != nil || cluster.TopicInfo("ops.reports") != nil {
		t.Error("a topic was made")
	}
}

// Several processes begin at a time, and one topic comes of it.
func TestEnsureAtOnce(t *testing.T) {
	cluster := startFake(t)
	states := make([]State, 5)
	var all sync.WaitGroup
	for i := range states {
		c := connect(t, cluster)
		all.Go(func() {
			var err error
			if states[i], _, err = c.Ensure(t.Context(), aPlan); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if slices.ContainsFunc(states, func(s State) bool { return s != states[0] || s.Partitions != 4 }) {
		t.Error(states)
	}
}

// Another process makes the topic between our look and our own making.
func TestEnsureSomebodyElse(t *testing.T) {
	cluster := startFake(t)
	cluster.ControlKey(kmsg.CreateTopics.Int16(), func(r kmsg.Request) (kmsg.Response, error, bool) {
		if request := r.(*kmsg.CreateTopicsRequest); !request.ValidateOnly && request.Topics[0].Topic == "ops" {
			cluster.DropControl()
			if err := cluster.CreateTopic("ops", 7, map[string]string{"min.insync.replicas": "2"}); err != nil {
				t.Error(err)
			}
		}
		return nil, nil, false
	})
	state, remarks, err := connect(t, cluster).Ensure(t.Context(), aPlan)
	if err != nil || state.Partitions != 7 || len(remarks) != 1 || remarks[0].Key != "kafka.partitions" {
		t.Error(state, remarks, err)
	}
}

// Ensure returns when what it has made can be written to.
func TestEnsureAwaitsLeaders(t *testing.T) {
	cluster := startFake(t)
	unknown := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Metadata}, Topic: "ops", Err: kerr.UnknownTopicOrPartition, Count: 3})
	leaderless := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Metadata}, Topic: "ops", Err: kerr.LeaderNotAvailable, Count: 3})
	state, _, err := connect(t, cluster).Ensure(t.Context(), aPlan)
	if err != nil || state.Partitions != 4 || unknown.Hits() != 3 || leaderless.Hits() != 3 {
		t.Error(state, err, unknown.Hits(), leaderless.Hits())
	}
}

// What a partition says of its leader is looked at, not only that it is there.
func TestLeaderless(t *testing.T) {
	c := &Client{o: Options{Topic: "ops"}}
	reports := kadm.TopicDetail{Partitions: kadm.PartitionDetails{0: {Leader: 1}}}
	for _, test := range []struct {
		name, want string
		found      found
	}{
		{"both can be written to", "", found{topics: kadm.TopicDetails{"ops": {Partitions: kadm.PartitionDetails{0: {Leader: 0}, 1: {Leader: 2}}}, "ops.reports": reports}}},
		{"one is not there", "topic ops was made", found{topics: kadm.TopicDetails{"ops.reports": reports}}},
		{"no leader", "partition 1 has no leader", found{topics: kadm.TopicDetails{"ops": {Partitions: kadm.PartitionDetails{0: {Leader: 0}, 1: {Partition: 1, Leader: -1}}}, "ops.reports": reports}}},
		{"an error", "partition 0 has no leader", found{topics: kadm.TopicDetails{"ops": {Partitions: kadm.PartitionDetails{0: {Err: kerr.LeaderNotAvailable}}}, "ops.reports": reports}}},
	} {
		if got := test.found.leaderless(c); test.want == "" && got != "" || !strings.Contains(got, test.want) {
			t.Errorf("%s: %q", test.name, got)
		}
	}
}

// allow is an ACL of the user of tests.
func allow(kind kmsg.ACLResourceType, name string, operations ...kmsg.ACLOperation) (acls []kfake.ACL) {
	for _, operation := range operations {
		acls = append(acls, kfake.ACL{Resource: kind, Name: name, Pattern: kmsg.ACLResourcePatternTypeLiteral, Operation: operation, Allow: true})
	}
	return acls
}

// What an instance may not do is said before it begins, with the rights that it needs.
func TestRights(t *testing.T) {
	const (
		onTopic = kmsg.ACLResourceTypeTopic
		onGroup = kmsg.ACLResourceTypeGroup

		read, write, create       = kmsg.ACLOperationRead, kmsg.ACLOperationWrite, kmsg.ACLOperationCreate
		describe, describeConfigs = kmsg.ACLOperationDescribe, kmsg.ACLOperationDescribeConfigs
	)
	operations := allow(onTopic, "ops", describe, describeConfigs, write)
	reports := allow(onTopic, "ops.reports", describe, describeConfigs, read, write)
	group := allow(onGroup, "workers", describe)
	creates := slices.Concat(allow(onTopic, "ops", create), allow(onTopic, "ops.reports", create))
	for _, test := range []struct {
		name      string
		acls      []kfake.ACL
		made      bool // by somebody else
		key, want string
		remarks   int
	}{
		{"nothing at all", nil, false, "kafka.topic", "TOPIC_AUTHORIZATION_FAILED", 0},
		{"no group", slices.Concat(operations, reports, creates), false, "kafka.group", "GROUP_AUTHORIZATION_FAILED", 0},
		{"nothing of reports", slices.Concat(operations, group), true, "kafka.topic", "TOPIC_AUTHORIZATION_FAILED", 0},
		{"none may be made", slices.Concat(operations, reports, group), false, "kafka.topic", "topic ops.reports: make it", 0},
		{"no writing", slices.Concat(allow(onTopic, "ops", describe), reports, group), true, "kafka.topic", "topic ops: the user may not write", 0},
		{"no reading of reports", slices.Concat(operations, allow(onTopic, "ops.reports", describe, describeConfigs, write), group), true, "kafka.topic", "topic ops.reports: the user may not read", 0},
		{"settings cannot be seen", slices.Concat(allow(onTopic, "ops", describe, write), allow(onTopic, "ops.reports", describe, read, write), group), true, "", "", 2},
		{"enough, they are there", slices.Concat(operations, reports, group), true, "", "", 0},
		{"enough to make them", slices.Concat(operations, reports, group, creates), false, "", "", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			cluster := startFake(t, kfake.EnableSASL(), kfake.EnableACLs(), kfake.Superuser("PLAIN", "admin", "admin"), kfake.User("PLAIN", "me", "secret", test.acls...))
			if test.made {
				o := options(t, cluster)
				o.SASL = &SASL{Mechanism: "plain", User: "admin", Password: "admin"}
				ensure(t, connectAs(t, o))
			}
			o := options(t, cluster)
			o.SASL = &SASL{Mechanism: "plain", User: "me", Password: "secret"}
			_, remarks, err := connectAs(t, o).Ensure(t.Context(), aPlan)
			if test.key == "" {
				if err != nil || len(remarks) != test.remarks {
					t.Error(remarks, err)
				}
				return
			}
			var refused *TopicError
			if !errors.As(err, &refused) || refused.Key != test.key || !strings.Contains(err.Error(), test.want) || !strings.Contains(refused.Hint, "Describe and Read on topic ops,") {
				t.Error(err)
			}
		})
	}
}

func TestCheck(t *testing.T) {
	good := map[string]string{"cleanup.policy": "delete", "retention.ms": "604800000", "retention.bytes": "-1", "max.message.bytes": "1048576", "min.insync.replicas": "2", "unclean.leader.election.enable": "false"}
	for _, test := range []struct {
		name      string
		change    map[string]string
		replicas  int // 0: 3
		brokers   int // 0: 3
		reports   bool
		key, want string // of the remark, or the error; "": neither
		fails     bool
	}{
		{name: "as it is made"},
		{name: "compacted", change: map[string]string{"cleanup.policy": "compact"}, key: "kafka.topic", want: "compact", fails: true},
		{name: "compacted as well", change: map[string]string{"cleanup.policy": "delete, compact"}, key: "kafka.topic", want: "compact", fails: true},
		{name: "small records", change: map[string]string{"max.message.bytes": "1048575"}, key: "kafka.topic", want: "1048575", fails: true},
		{name: "small reports", change: map[string]string{"max.message.bytes": "1048575"}, reports: true, key: "kafka.topic", want: "without the document"},
		{name: "large records", change: map[string]string{"max.message.bytes": "104857600"}},
		{name: "one broker is enough", change: map[string]string{"min.insync.replicas": "1"}, key: "kafka.replication", want: "min.insync.replicas is 1"},
		{name: "one replica of several brokers", change: map[string]string{"min.insync.replicas": "1"}, replicas: 1, key: "kafka.replication", want: "one of the 3 brokers alone"},
		{name: "one broker", change: map[string]string{"min.insync.replicas": "1"}, replicas: 1, brokers: 1},
		{name: "more are needed than there are", replicas: 1, key: "kafka.replication", want: "none is ever taken", fails: true},
		{name: "unclean", change: map[string]string{"unclean.leader.election.enable": "true"}, key: "kafka.topic", want: "unclean"},
		{name: "kept for an hour", change: map[string]string{"retention.ms": "3600000"}, key: "kafka.retention", want: "1h0m0s"},
		{name: "kept for less than the file says", change: map[string]string{"retention.ms": "172800000"}, key: "kafka.retention", want: "48h0m0s, and the file says 168h0m0s"},
		{name: "kept for ever", change: map[string]string{"retention.ms": "-1"}},
		{name: "kept for longer than time goes", change: map[string]string{"retention.ms": "9223372036854775807"}},
		{name: "kept by bytes", change: map[string]string{"retention.bytes": "1073741824"}, key: "kafka.retention", want: "retention.bytes"},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := design{name: "ops", plan: aPlan, reports: test.reports}
			is := topicLooks{partitions: 4, replicas: 3, brokers: 3, settings: maps.Clone(good)}
			maps.Copy(is.settings, test.change)
			if test.replicas != 0 {
				is.replicas = test.replicas
			}
			if test.brokers != 0 {
				is.brokers = test.brokers
			}
			remarks, err := d.check(is)
			var refused *TopicError
			if errors.As(err, &refused) {
				remarks = append(remarks, Remark{refused.Key, refused.Text, refused.Hint})
			}
			switch {
			case test.fails != (err != nil):
				t.Error(remarks, err)
			case test.key == "" && len(remarks) != 0, test.key != "" && len(remarks) != 1:
				t.Error(remarks, err)
			case test.key != "" && (remarks[0].Key != test.key || !strings.Contains(remarks[0].Text, test.want)):
				t.Error(remarks, err)
			}
		})
	}
}

// A plan with larger records than Kafka has is remarked on, and bounded.
func TestEnsureLargestRecord(t *testing.T) {
	cluster := startFake(t)
	plan := aPlan
	plan.MaxRecordBytes = RecordBytes(500 << 20)
	_, remarks, err := connect(t, cluster).Ensure(t.Context(), plan)
	if err != nil || len(remarks) != 1 || !strings.Contains(remarks[0].Text, "dead letters") {
		t.Error(remarks, err)
	}
	if got := settingsOf(cluster, "ops")["max.message.bytes"]; got != "100663296" {
		t.Error(got)
	}
	if got := RecordBytes(50 << 20); got != 51<<20 {
		t.Error(got)
	}
}

// Offsets of reports order the instances, so reports do not begin anew under operations that are there.
func TestReportsGone(t *testing.T) {
	cluster := startFake(t)
	c := connect(t, cluster)
	ensure(t, c)
	begun(t, c)
	if err := cluster.DeleteTopic("ops.reports"); err != nil {
		t.Fatal(err)
	}
	refused := func() {
		t.Helper()
		_, _, err := c.Look(t.Context(), aPlan)
		var of *TopicError
		if !errors.As(err, &of) || of.Key != "kafka.topic" || !strings.Contains(of.Text, "it was removed") {
			t.Error(err)
		}
	}
	refused()
	// Whoever makes it anew by hand does not make it better.
	if err := cluster.CreateTopic("ops.reports", 1, map[string]string{"min.insync.replicas": "2", "max.message.bytes": "1048576"}); err != nil {
		t.Fatal(err)
	}
	refused()
}

func TestReportsOfOnePartition(t *testing.T) {
	cluster := startFake(t, kfake.SeedTopics(2, "ops.reports"))
	_, _, err := connect(t, cluster).Ensure(t.Context(), aPlan)
	var refused *TopicError
	if !errors.As(err, &refused) || !strings.Contains(refused.Text, "2 partitions and must have one") {
		t.Error(err)
	}
}

func TestState(t *testing.T) {
	cluster := startFake(t)
	c := connect(t, cluster)
	if state, err := c.State(t.Context()); err != nil || state != (State{}) {
		t.Error(state, err)
	}
	made := ensure(t, c)
	if state, err := c.State(t.Context()); err != nil || state != made {
		t.Error(state, err)
	}
	// A broker that does not know of it yet is not believed at once.
	cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Metadata}, Topic: "ops", Err: kerr.UnknownTopicOrPartition, Count: confirmations - 1})
	if state, err := c.State(t.Context()); err != nil || state != made {
		t.Error(state, err)
	}
	for _, topic := range []string{"ops", "ops.reports"} {
		if err := cluster.DeleteTopic(topic); err != nil {
			t.Fatal(err)
		}
		if state, err := c.State(t.Context()); err != nil || state != (State{}) {
			t.Error(state, err)
		}
	}
	again := ensure(t, c)
	if state, err := c.State(t.Context()); err != nil || state != again || state.ID == made.ID || state.ReportsID == made.ReportsID {
		t.Error(state, err)
	}
	// What is no answer is no state.
	cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Metadata}, Topic: "ops", Err: kerr.UnknownServerError})
	if state, err := c.State(t.Context()); err == nil || dbsync.IsPermanent(err) {
		t.Error(state, err)
	}
}

func TestDelete(t *testing.T) {
	cluster := startFake(t)
	c := connect(t, cluster)
	ensure(t, c)
	leave := join(t, c, cluster)
	commit := c.Delete(t.Context())
	var refused *TopicError
	if !errors.As(commit, &refused) || refused.Key != "kafka.group" || !strings.Contains(refused.Hint, "tidemark apply") {
		t.Error(commit)
	}
	if cluster.TopicInfo("ops") == nil || cluster.TopicInfo("ops.reports") == nil {
		t.Error("a topic was removed under workers")
	}
	leave()
	for range 2 { // the second time there is nothing
		if err := c.Delete(t.Context()); err != nil {
			t.Error(err)
		}
		if cluster.TopicInfo("ops") != nil || cluster.TopicInfo("ops.reports") != nil || cluster.GroupInfo("workers") != nil {
			t.Error("something is left")
		}
	}
}

// A topic that is removed under an instance, and comes back, has nothing to do with the one of before.
func TestDeleteThenEnsure(t *testing.T) {
	cluster := startFake(t)
	c := connect(t, cluster)
	before := ensure(t, c)
	begun(t, c)
	if err := c.Delete(t.Context()); err != nil {
		t.Fatal(err)
	}
	after := ensure(t, c)
	lag, err := c.Lag(t.Context())
	if err != nil || after.ID == before.ID || lag.Records != 0 {
		t.Error(before, after, lag, err)
	}
}

// A Kafka that has had no group yet makes a place for them when it is asked first.
func TestEnsureFirstGroup(t *testing.T) {
	cluster := startFake(t)
	c := connect(t, cluster)
	var asked atomic.Int32
	cluster.ControlKey(kmsg.FindCoordinator.Int16(), func(r kmsg.Request) (kmsg.Response, error, bool) {
		if asked.Add(1) > 30 {
			cluster.DropControl()
			return nil, nil, false
		}
		cluster.KeepControl()
		response := r.ResponseKind().(*kmsg.FindCoordinatorResponse)
		for _, key := range r.(*kmsg.FindCoordinatorRequest).CoordinatorKeys {
			response.Coordinators = append(response.Coordinators, kmsg.FindCoordinatorResponseCoordinator{Key: key, ErrorCode: kerr.CoordinatorNotAvailable.Code})
		}
		return response, nil, true
	})
	if _, _, err := c.Ensure(t.Context(), aPlan); err != nil {
		t.Error(err)
	}
	if asked.Load() != 31 {
		t.Errorf("asked %d times", asked.Load())
	}
}
