package topic

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"tidemark/indexer/retry"
)

// MaxRecordBytes is what a record may have at most: brokers take requests of 100 MiB
// (socket.request.max.bytes), and a request has more than the record.
const MaxRecordBytes = 96 << 20

// RecordBytes returns what a topic has to take for documents of so many bytes: their keys and headers
// come to them, and what a batch of records begins with.
func RecordBytes(document int) int { return min(document+1<<20, MaxRecordBytes) }

// A Plan says what topics are made like. For one that is there already it is what they are held against.
type Plan struct {
	Partitions     int           // of the topic of operations, 1 or more
	Replication    int           // replicas of each partition; 0: as many as the brokers give a topic
	Retention      time.Duration // how long records are kept
	MaxRecordBytes int           // see [RecordBytes]; that it is [MaxRecordBytes] is remarked on, what is above counts as that
}

// A State is what may not change under an instance and its workers: a topic of another id is another one.
type State struct {
	ID, ReportsID string // of the topics, as Kafka gives them out; hexadecimal
	Partitions    int    // of the topic of operations
}

// A Remark is something about the topics that works and may hurt.
type Remark struct {
	Key  string // of the file, for example kafka.retention
	Text string
	Hint string // what to do; "" where the text says it
}

// A TopicError reports topics that operations cannot go through.
type TopicError struct {
	Key  string // of the file, for example kafka.replication
	Text string
	Hint string
	Err  error // what Kafka says; nil where it says nothing
}

func (e *TopicError) Error() string {
	text := e.Text
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	if e.Hint != "" {
		text += "; hint: " + e.Hint
	}
	return text
}
func (e *TopicError) Unwrap() error { return e.Err }

// Permanent marks it for dbsync.IsPermanent.
func (e *TopicError) Permanent() bool { return true }

// Ensure makes the topics that are not there, and looks at those that are, as [Client.Look] does. Of
// several processes that make them at a time one does. It returns when each partition has a leader.
// Errors that are no [*TopicError] may be over some time.
func (c *Client) Ensure(ctx context.Context, p Plan) (State, []Remark, error) {
	found, err := c.find(ctx)
	if err != nil {
		return State{}, nil, err
	}
	made := false
	for _, d := range c.designs(p) {
		if _, is := found.topics[d.name]; !is {
			made = true
			if err := c.create(ctx, d); err != nil {
				return State{}, nil, err
			}
		}
	}
	if made {
		if err := c.awaitLeaders(ctx); err != nil {
			return State{}, nil, err
		}
	}
	return c.Look(ctx, p)
}

// Look returns what the topics are, and what is remarkable about them, to who produces. Where one is not
// there the State is zero, and Kafka is asked whether it would make it. Its errors are those of Ensure.
func (c *Client) Look(ctx context.Context, p Plan) (State, []Remark, error) {
	found, err := c.find(ctx)
	if err != nil {
		return State{}, nil, err
	}
	var remarks []Remark
	if p.MaxRecordBytes >= MaxRecordBytes {
		remarks = append(remarks, Remark{Key: "kafka", Text: fmt.Sprintf("documents of more than %d bytes become dead letters, whatever search.max_document_bytes is: brokers take no larger requests", MaxRecordBytes-recordSlack)})
	}
	for _, d := range c.designs(p) {
		detail, is := found.topics[d.name]
		if !is {
			if _, err := c.try(ctx, d); err != nil {
				return State{}, nil, err
			}
			continue
		}
		more, err := c.inspect(ctx, d, detail, found.brokers)
		if err != nil {
			return State{}, nil, err
		}
		remarks = append(remarks, more...)
	}
	if err := c.pair(ctx, found); err != nil {
		return State{}, nil, err
	}
	if err := c.awaitGroups(ctx); err != nil {
		return State{}, nil, c.refusal(c.o.Topic, "ask for its group", err, "")
	}
	return found.state(c), remarks, nil
}

// groupsPatience is how long is waited for a Kafka that has had no group yet: it makes a place for them.
const groupsPatience = 20 * time.Second

// awaitGroups waits until Kafka can be asked for the group.
func (c *Client) awaitGroups(ctx context.Context) error {
	for end := time.Now().Add(groupsPatience); ; {
		_, err := c.members(ctx)
		if err == nil || !kerr.IsRetriable(err) || time.Now().After(end) {
			return err
		}
		if ended := retry.Sleep(ctx, leadersPause); ended != nil {
			return fmt.Errorf("%w; %w", ended, err)
		}
	}
}

// confirmations is how often Kafka has to say that a topic is not there: a broker that has just come up
// may not know of it yet, and the instance builds everything anew for a topic that is gone.
const confirmations = 3

// State returns what the topics are now, zero where one of them is not there.
func (c *Client) State(ctx context.Context) (State, error) {
	for i := 1; ; i++ {
		found, err := c.find(ctx)
		if err != nil {
			return State{}, err
		}
		if state := found.state(c); state != (State{}) || i == confirmations {
			return state, nil
		}
		if err := retry.Sleep(ctx, leadersPause); err != nil {
			return State{}, err
		}
	}
}

// found is what Kafka says of the topics.
type found struct {
	topics  kadm.TopicDetails // those that are there
	brokers int
}

func (f *found) state(c *Client) State {
	operations, is := f.topics[c.o.Topic]
	reports, both := f.topics[c.o.reports()]
	if !is || !both {
		return State{}
	}
	return State{ID: hex.EncodeToString(operations.ID[:]), ReportsID: hex.EncodeToString(reports.ID[:]), Partitions: len(operations.Partitions)}
}

// find asks a broker for the topics: not what the client has noted of them.
func (c *Client) find(ctx context.Context) (*found, error) {
	m, err := c.admin.Metadata(kadm.WithAuthorizedOps(ctx), c.o.Topic, c.o.reports())
	if err != nil {
		return nil, c.refusal(c.o.Topic, "ask for it", err, "")
	}
	f := &found{topics: m.Topics, brokers: len(m.Brokers)}
	for name, detail := range m.Topics {
		switch {
		case errors.Is(detail.Err, kerr.UnknownTopicOrPartition):
			delete(f.topics, name)
		case detail.Err != nil:
			return nil, c.refusal(name, "ask for it", detail.Err, "")
		case detail.ID == kadm.TopicID{}:
			return nil, &TopicError{Key: "kafka", Text: fmt.Sprintf("topic %s has no id, so it cannot be told from another one that gets its name", name), Hint: "Kafka 3.0 or newer is needed"}
		}
	}
	return f, nil
}

// A design is what a topic is made like.
type design struct {
	name        string
	partitions  int
	replication int16 // -1: as the brokers like
	settings    map[string]string
	plan        Plan
	reports     bool // it is that of reports
}

// designs returns those of both topics, in the order in which they are made: where there are operations
// there is somebody to report to.
func (c *Client) designs(p Plan) [2]design {
	settings := map[string]string{
		"cleanup.policy":    "delete",
		"retention.ms":      strconv.FormatInt(p.Retention.Milliseconds(), 10),
		"retention.bytes":   "-1", // what the brokers give a topic may be less than what there is to apply
		"max.message.bytes": strconv.Itoa(min(p.MaxRecordBytes, MaxRecordBytes)),
	}
	replication := int16(p.Replication)
	if replication == 0 {
		replication = -1
	}
	return [2]design{
		{name: c.o.reports(), partitions: 1, replication: replication, settings: settings, plan: p, reports: true},
		{name: c.o.Topic, partitions: p.Partitions, replication: replication, settings: settings, plan: p},
	}
}

// try asks whether a topic would be made, and returns how many replicas it would have; 0: that is not said.
func (c *Client) try(ctx context.Context, d design) (replicas int, err error) {
	answers, err := c.admin.ValidateCreateTopics(ctx, int32(d.partitions), d.replication, kafkaSettings(d.settings), d.name)
	return c.answer(d, answers, err)
}

// create makes a topic, unless somebody else does.
func (c *Client) create(ctx context.Context, d design) error {
	replicas, err := c.try(ctx, d)
	if err != nil {
		return err
	}
	settings := kafkaSettings(d.settings)
	if max(replicas, d.plan.Replication) >= 3 {
		// Two of three have what is acknowledged, and one may be away.
		settings["min.insync.replicas"] = new("2")
	}
	answers, err := c.admin.CreateTopics(ctx, int32(d.partitions), d.replication, settings, d.name)
	if _, err := c.answer(d, answers, err); err != nil {
		return err
	}
	c.o.Logger.Info("topic made", "topic", d.name, "partitions", d.partitions, "replication", max(replicas, d.plan.Replication))
	return nil
}

func kafkaSettings(of map[string]string) map[string]*string {
	settings := make(map[string]*string, len(of)+1)
	for key, value := range of {
		settings[key] = &value
	}
	return settings
}

// answer returns what came of the question for a topic to be made. That it is there is no error.
func (c *Client) answer(d design, answers kadm.CreateTopicResponses, err error) (replicas int, _ error) {
	if err != nil {
		return 0, c.refusal(d.name, "make it", err, "")
	}
	answer, err := answers.On(d.name, nil)
	if err == nil {
		err = answer.Err
	}
	if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
		switch {
		case errors.Is(err, kerr.InvalidReplicationFactor):
			err = &TopicError{Key: "kafka.replication", Text: fmt.Sprintf("topic %s cannot have %d replicas", d.name, d.replication), Hint: "there are no more than there are brokers", Err: said(err, answer.ErrMessage)}
		case errors.Is(err, kerr.InvalidPartitions):
			err = &TopicError{Key: "kafka.partitions", Text: fmt.Sprintf("topic %s cannot have %d partitions", d.name, d.partitions), Err: said(err, answer.ErrMessage)}
		default:
			err = c.refusal(d.name, "make it", err, answer.ErrMessage)
		}
		return 0, err
	}
	return max(0, int(answer.ReplicationFactor)), nil
}

// said adds what Kafka says beside the code of an error.
func said(err error, message string) error {
	if message == "" {
		return err
	}
	return fmt.Errorf("%w (%s)", err, message)
}

// refusal returns the error of a question about a topic: a [*TopicError] where asking again does not help.
func (c *Client) refusal(topic, doing string, err error, message string) error {
	var final *TopicError
	e := &TopicError{Key: "kafka.topic", Text: fmt.Sprintf("topic %s: %s", topic, doing), Err: said(err, message)}
	switch {
	case errors.As(err, &final):
		return err
	case errors.Is(err, kerr.TopicAuthorizationFailed), errors.Is(err, kerr.ClusterAuthorizationFailed), errors.Is(err, kerr.GroupAuthorizationFailed):
		e.Hint = c.rights()
		if errors.Is(err, kerr.GroupAuthorizationFailed) {
			e.Key, e.Text = "kafka.group", "group "+c.o.Group+": "+doing
		}
	case errors.Is(err, kerr.InvalidTopicException):
		e.Hint = "Kafka takes letters, digits, dots, underscores and hyphens, and no two names that differ in dots and underscores alone"
	case errors.Is(err, kerr.PolicyViolation), errors.Is(err, kerr.InvalidConfig):
		e.Hint = "where it is max.message.bytes that is too much, lower search.max_document_bytes; or make both topics yourself, with settings that these brokers take"
	case errors.Is(err, kerr.CoordinatorNotAvailable):
		return fmt.Errorf("group %s: %s: %w; hint: Kafka has no place for groups, or makes it: with few brokers offsets.topic.replication.factor has to be lower", c.o.Group, doing, err)
	default:
		return fmt.Errorf("topic %s: %s: %w", topic, doing, said(err, message))
	}
	return e
}

// rights says what the user of Kafka has to be allowed.
func (c *Client) rights() string {
	return fmt.Sprintf("who follows the slot needs the ACLs Describe, DescribeConfigs and Write on topic %[1]s, these and Read on topic %[2]s, Create on both unless they are made by somebody else, and Describe on group %[3]s; "+
		"workers need Describe and Read on topic %[1]s, Describe and Write on topic %[2]s, and Read on group %[3]s", c.o.Topic, c.o.reports(), c.o.Group)
}

// leadersPause is how long is waited before Kafka is asked again for what takes milliseconds.
const leadersPause = 100 * time.Millisecond

// awaitLeaders waits until both topics are there and each partition can be written to.
func (c *Client) awaitLeaders(ctx context.Context) error {
	for {
		f, err := c.find(ctx)
		waits := "topics were made"
		switch {
		case err == nil:
			if waits = f.leaderless(c); waits == "" {
				return nil
			}
		case !kerr.IsRetriable(err):
			return err
		}
		if err := retry.Sleep(ctx, leadersPause); err != nil {
			return fmt.Errorf("%s: %w", waits, err)
		}
	}
}

// leaderless says what keeps the topics from being written to, "" if nothing does.
func (f *found) leaderless(c *Client) string {
	for _, name := range []string{c.o.reports(), c.o.Topic} {
		detail, is := f.topics[name]
		if !is {
			return fmt.Sprintf("topic %s was made and is not there yet", name)
		}
		for _, p := range detail.Partitions.Sorted() {
			if p.Err != nil || p.Leader < 0 {
				return fmt.Sprintf("topic %s: partition %d has no leader", name, p.Partition)
			}
		}
	}
	return ""
}

// inspect returns what is remarkable about a topic that is there.
func (c *Client) inspect(ctx context.Context, d design, detail kadm.TopicDetail, brokers int) ([]Remark, error) {
	needs := []kadm.ACLOperation{kadm.OpWrite}
	if d.reports {
		needs = append(needs, kadm.OpRead)
		if n := len(detail.Partitions); n != 1 {
			return nil, &TopicError{Key: "kafka.topic", Text: fmt.Sprintf("topic %s has %d partitions and must have one: reports have an order", d.name, n), Hint: "remove both topics while nothing runs, tidemark run makes them"}
		}
	}
	for _, need := range needs {
		// A broker that says nothing of rights is too old for the question.
		if len(detail.AuthorizedOperations) > 0 && !slices.Contains(detail.AuthorizedOperations, need) {
			return nil, &TopicError{Key: "kafka.topic", Text: fmt.Sprintf("topic %s: the user may not %s", d.name, strings.ToLower(need.String())), Hint: c.rights()}
		}
	}
	settings, err := c.settings(ctx, d.name)
	if errors.Is(err, kerr.TopicAuthorizationFailed) {
		return []Remark{{Key: "kafka.topic", Text: fmt.Sprintf("topic %s: how long records are kept, and how large they may be, cannot be looked at", d.name), Hint: "the user needs the ACL DescribeConfigs on it"}}, nil
	} else if err != nil {
		return nil, c.refusal(d.name, "ask for its settings", err, "")
	}
	return d.check(topicLooks{partitions: len(detail.Partitions), replicas: detail.Partitions.NumReplicas(), brokers: brokers, settings: settings})
}

// settings returns those of a topic.
func (c *Client) settings(ctx context.Context, name string) (map[string]string, error) {
	all, err := c.admin.DescribeTopicConfigs(ctx, name)
	if err != nil {
		return nil, err
	}
	one, err := all.On(name, nil)
	if err == nil {
		err = one.Err
	}
	if err != nil {
		return nil, said(err, one.ErrMessage)
	}
	settings := make(map[string]string)
	for i := range one.Configs {
		settings[one.Configs[i].Key] = one.Configs[i].MaybeValue()
	}
	return settings, nil
}

// topicLooks is what a topic is like.
type topicLooks struct {
	partitions, replicas, brokers int
	settings                      map[string]string
}

// number returns a setting, and whether there is one.
func (l *topicLooks) number(key string) (int64, bool) {
	n, err := strconv.ParseInt(l.settings[key], 10, 64)
	return n, err == nil
}

// shortRetention is how long workers may be away over a night, at least.
const shortRetention = 24 * time.Hour

// check holds a topic against what it should be like.
func (d *design) check(is topicLooks) (remarks []Remark, _ error) {
	remark := func(key, hint, format string, args ...any) {
		remarks = append(remarks, Remark{Key: key, Hint: hint, Text: fmt.Sprintf("topic "+d.name+": "+format, args...)})
	}
	wrong := func(key, hint, format string, args ...any) ([]Remark, error) {
		return nil, &TopicError{Key: key, Hint: hint, Text: fmt.Sprintf("topic "+d.name+": "+format, args...)}
	}
	alter := func(setting string) string {
		return fmt.Sprintf("kafka-configs.sh --alter --entity-type topics --entity-name %s --add-config %s", d.name, setting)
	}

	if slices.Contains(strings.Split(strings.ReplaceAll(is.settings["cleanup.policy"], " ", ""), ","), "compact") {
		return wrong("kafka.topic", alter("cleanup.policy=delete"), "its cleanup.policy is %s, and Kafka would remove records that were not applied", is.settings["cleanup.policy"])
	}
	if bytes, ok := is.number("max.message.bytes"); ok {
		wanted := int64(d.plan.MaxRecordBytes)
		wanted = min(wanted, MaxRecordBytes)
		switch {
		case bytes >= wanted:
		case d.reports:
			remark("kafka.topic", alter(fmt.Sprintf("max.message.bytes=%d", wanted)), "it takes records of %d bytes (max.message.bytes): dead letters of larger documents come without the document", bytes)
		default:
			return wrong("kafka.topic", alter(fmt.Sprintf("max.message.bytes=%d", wanted))+", or lower search.max_document_bytes",
				"it takes records of %d bytes (max.message.bytes), and with the documents that search.max_document_bytes allows they have up to %d", bytes, wanted)
		}
	}
	insync, ok := is.number("min.insync.replicas")
	switch {
	case ok && insync > int64(is.replicas):
		return wrong("kafka.replication", alter("min.insync.replicas=1")+", or give it more replicas", "%d brokers have to take a record (min.insync.replicas), and it has %d replicas: none is ever taken", insync, is.replicas)
	case ok && insync < 2 && is.replicas >= 2:
		remark("kafka.replication", alter("min.insync.replicas=2"), "a record counts as taken when one of its %d replicas has it (min.insync.replicas is %d), and is gone with that one", is.replicas, insync)
	case is.replicas == 1 && is.brokers > 1:
		remark("kafka.replication", "", "each record is on one of the %d brokers alone, and is gone with it", is.brokers)
	}
	if is.settings["unclean.leader.election.enable"] == "true" {
		remark("kafka.topic", alter("unclean.leader.election.enable=false"), "a broker that lacks records may come to lead a partition (unclean.leader.election.enable), and they are gone, although they were acknowledged")
	}
	if ms, ok := is.number("retention.ms"); ok && ms >= 0 {
		kept := time.Duration(ms) * time.Millisecond
		if ms > int64(1<<62)/int64(time.Millisecond) {
			kept = 1 << 62
		}
		longer := alter(fmt.Sprintf("retention.ms=%d", max(d.plan.Retention, shortRetention).Milliseconds()))
		if kept < shortRetention {
			remark("kafka.retention", longer, "it keeps records for %s: after workers were away for longer, indices are handled as after a lost slot", kept)
		} else if kept < d.plan.Retention {
			remark("kafka.retention", longer, "it keeps records for %s, and the file says %s, which counts for a topic that is made", kept, d.plan.Retention)
		}
	}
	if bytes, ok := is.number("retention.bytes"); ok && bytes >= 0 {
		remark("kafka.retention", alter("retention.bytes=-1"), "it keeps %d bytes of each partition (retention.bytes), and a backfill may write more before it is applied: then indices are handled as after a lost slot", bytes)
	}
	if !d.reports && is.partitions != d.plan.Partitions {
		remark("kafka.partitions", "", "it has %d partitions, and the file says %d, which counts for a topic that is made", is.partitions, d.plan.Partitions)
	}
	return remarks, nil
}

// pair makes sure that one topic was not made anew without the other. The offsets of reports tell which
// of two instances is the later one, so workers would pass over what is written after a beginning at 0.
func (c *Client) pair(ctx context.Context, f *found) error {
	if _, is := f.topics[c.o.Topic]; !is {
		return nil
	}
	ends, err := c.ends(ctx, c.o.Topic)
	if err != nil {
		return c.refusal(c.o.Topic, "ask for its end", err, "")
	}
	if !slices.ContainsFunc(ends, func(end int64) bool { return end > 0 }) {
		return nil
	}
	if _, is := f.topics[c.o.reports()]; is {
		reports, err := c.ends(ctx, c.o.reports())
		if err != nil {
			return c.refusal(c.o.reports(), "ask for its end", err, "")
		}
		if reports[0] > 0 {
			return nil
		}
	}
	return &TopicError{Key: "kafka.topic", Text: fmt.Sprintf("topic %s has operations, and topic %s no reports: it was removed", c.o.Topic, c.o.reports()), Hint: "remove both while neither an instance nor workers run, they belong together"}
}

// Delete removes both topics and the group. With workers in the group it removes nothing.
func (c *Client) Delete(ctx context.Context) error {
	_, err := c.admin.DeleteGroup(ctx, c.o.Group)
	switch {
	case errors.Is(err, kerr.NonEmptyGroup):
		return &TopicError{Key: "kafka.group", Text: "group " + c.o.Group + " has workers", Hint: "end tidemark apply first", Err: err}
	case err != nil && !errors.Is(err, kerr.GroupIDNotFound):
		return c.refusal(c.o.Topic, "remove group "+c.o.Group, err, "")
	}
	for _, name := range []string{c.o.Topic, c.o.reports()} {
		answer, err := c.admin.DeleteTopic(ctx, name)
		switch {
		case errors.Is(err, kerr.TopicAuthorizationFailed):
			return &TopicError{Key: "kafka.topic", Text: "topic " + name + ": remove it", Hint: "the user needs the ACL Delete on it, or somebody else removes it", Err: err}
		case err != nil && !errors.Is(err, kerr.UnknownTopicOrPartition):
			return c.refusal(name, "remove it", err, answer.ErrMessage)
		}
	}
	// Brokers hear of it one by one. Who makes the topics next must not take the old ones for his.
	for {
		f, err := c.find(ctx)
		if err != nil {
			return err
		}
		if len(f.topics) == 0 {
			return nil
		}
		if err := retry.Sleep(ctx, leadersPause); err != nil {
			return fmt.Errorf("topics are removed and still there: %w", err)
		}
	}
}
