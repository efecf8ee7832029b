package testenv

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// kafkaClient is closed at the end of the test.
func kafkaClient(t *testing.T, k *Kafka, o ...kgo.Opt) (*kgo.Client, *kadm.Client) {
	t.Helper()
	client, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(k.Brokers()...), kgo.MetadataMinAge(100 * time.Millisecond),
	}, o...)...)
	must(t, err)
	t.Cleanup(client.Close)
	return client, kadm.NewClient(client)
}

// produce returns when Kafka has acknowledged the value.
func produce(ctx context.Context, client *kgo.Client, topic, value string) error {
	return client.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: []byte(value)}).FirstErr()
}

// consume reads a topic of one partition from its beginning, n values of it.
func consume(t *testing.T, k *Kafka, topic string, n int) []string {
	t.Helper()
	client, _ := kafkaClient(t, k, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	var values []string
	for ctx := within(t, time.Minute); len(values) < n; {
		fetches := client.PollFetches(ctx)
		must(t, fetches.Err())
		fetches.EachRecord(func(r *kgo.Record) { values = append(values, string(r.Value)) })
	}
	return values
}

func TestKafkaKeepsData(t *testing.T) {
	k := StartKafka(t, KafkaOptions{Settings: map[string]string{"message.max.bytes": "70000"}})
	client, admin := kafkaClient(t, k)
	ctx := within(t, 4*time.Minute)
	_, err := admin.CreateTopic(ctx, 1, -1, nil, "a")
	must(t, err)
	n, want := k.Nodes[0], []string{"before"}
	must(t, produce(ctx, client, "a", "before"))
	for name, again := range map[string]func(context.Context) error{
		"restarted": n.Restart,
		"killed":    func(ctx context.Context) error { return errors.Join(n.Kill(ctx), n.Start(ctx)) },
		"stopped":   func(ctx context.Context) error { return errors.Join(n.Stop(ctx), n.Start(ctx)) },
		"all":       func(ctx context.Context) error { return errors.Join(k.Kill(ctx), k.Start(ctx)) },
	} {
		must(t, again(ctx))
		must(t, produce(ctx, client, "a", name)) // by the connection's same address
		want = append(want, name)
	}
	if got := consume(t, k, "a", len(want)); !slices.Equal(got, want) {
		t.Errorf("the topic holds %q, want %q", got, want)
	}
	configs, err := admin.DescribeBrokerConfigs(ctx, 1)
	must(t, err)
	if value, err := kafkaConfig(configs, "message.max.bytes"); value != "70000" {
		t.Errorf("message.max.bytes is %s, %v", value, err)
	}
}

func kafkaConfig(configs kadm.ResourceConfigs, key string) (string, error) {
	for _, r := range configs {
		if r.Err != nil {
			return "", r.Err
		}
		for _, c := range r.Configs {
			if c.Key == key {
				return c.MaybeValue(), nil
			}
		}
	}
	return "", fmt.Errorf("no %s", key)
}

// A cluster loses one of three nodes and takes on what is written. Without two it takes nothing, and loses nothing.
func TestKafkaOfThreeNodes(t *testing.T) {
	k := StartKafka(t, KafkaOptions{Nodes: 3})
	client, admin := kafkaClient(t, k)
	ctx := within(t, 4*time.Minute)
	_, err := admin.CreateTopic(ctx, 1, -1, nil, "a")
	must(t, err)
	must(t, poll(ctx, func(ctx context.Context) error { // the node that is asked learns of the topic by itself
		configs, err := admin.DescribeTopicConfigs(ctx, "a")
		if err == nil {
			var value string
			if value, err = kafkaConfig(configs, "min.insync.replicas"); err == nil && value != "2" {
				t.Errorf("min.insync.replicas is %s", value)
			}
		}
		return err
	}))
	leader := func() (leader *KafkaNode, inSync int) {
		topics, err := admin.ListTopics(ctx, "a")
		must(t, err)
		p := topics["a"].Partitions[0]
		if len(p.Replicas) != 3 {
			t.Fatalf("%d replicas", len(p.Replicas))
		}
		if p.Leader < 1 {
			return nil, len(p.ISR)
		}
		return k.Nodes[p.Leader-1], len(p.ISR)
	}
	must(t, produce(ctx, client, "a", "all"))
	first, _ := leader()
	must(t, first.Kill(ctx))
	must(t, produce(ctx, client, "a", "two"))
	if second, _ := leader(); second == nil || second == first {
		t.Error("the killed node leads")
	}
	must(t, k.Start(ctx))
	must(t, poll(ctx, func(context.Context) error {
		if _, n := leader(); n != 3 {
			return errors.New("not all are in sync")
		}
		return nil
	}))
	for _, n := range k.Nodes[1:] {
		must(t, n.Kill(ctx))
	}
	acknowledged := make(chan error, 1)
	go func() { acknowledged <- produce(ctx, client, "a", "one") }()
	select {
	case err := <-acknowledged:
		t.Errorf("one node of three has acknowledged (%v)", err)
	case <-time.After(time.Second):
	}
	must(t, k.Start(ctx))
	must(t, <-acknowledged)
	if got := consume(t, k, "a", 3); !slices.Equal(got, []string{"all", "two", "one"}) {
		t.Errorf("the topic holds %q", got)
	}
}

func TestKafkaPauses(t *testing.T) {
	k := StartKafka(t, KafkaOptions{})
	n, ctx := k.Nodes[0], within(t, 2*time.Minute)
	_, err := describeKafka(ctx, n.Addr())
	must(t, err)
	must(t, n.Pause(ctx))
	short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	if m, err := describeKafka(short, n.Addr()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a paused node answers %v, %v", m, err)
	}
	conn, err := net.Dial("tcp", n.Addr())
	must(t, err) // it refuses nothing, either
	must(t, conn.Close())
	must(t, n.Resume(ctx))
	_, err = describeKafka(ctx, n.Addr())
	must(t, err)
	must(t, n.Pause(ctx))
	must(t, n.Kill(ctx)) // a paused one ends as well
	if err := n.Pause(ctx); err == nil {
		t.Error("a node that does not run is paused")
	}
}

// Somebody may listen on a port between the choice and the start.
func TestKafkaPortTaken(t *testing.T) {
	SkipShort(t)
	d, err := prepareKafka(t.Context())
	if err != nil {
		skipOrFail(t, err)
	}
	tries := 0
	k, err := launchKafka(t.Context(), KafkaOptions{Nodes: 1}, func(ctx context.Context, k *Kafka, o KafkaOptions) error {
		if tries++; tries == 1 {
			l, err := net.Listen("tcp", k.Nodes[0].Addr())
			if err != nil {
				return err
			}
			t.Cleanup(func() { l.Close() })
		}
		return d.layOut(ctx, k, o)
	})
	must(t, err)
	must(t, k.Close())
	if tries != 2 {
		t.Errorf("%d tries", tries)
	}
}

func TestKafkaThatCannotStartSaysWhy(t *testing.T) {
	SkipShort(t)
	_, err := LaunchKafka(t.Context(), KafkaOptions{Settings: map[string]string{"num.io.threads": "many"}})
	var missing *MissingError
	if errors.As(err, &missing) {
		skipOrFail(t, err)
	}
	if err == nil || !strings.Contains(err.Error(), "num.io.threads") {
		t.Errorf("error is %v", err)
	}
}

func TestKafkaPrefixTakesTopicsWithIt(t *testing.T) {
	k := SharedKafka(t)
	_, admin := kafkaClient(t, k)
	var prefix string
	t.Run("create", func(t *testing.T) {
		prefix = k.NewPrefix(t)
		_, err := admin.CreateTopics(t.Context(), 2, 1, nil, prefix+"a", prefix+"b", "not-"+prefix)
		must(t, err)
	})
	m, err := describeKafka(t.Context(), k.Brokers()[0])
	must(t, err)
	if left := slices.DeleteFunc(m.topics, func(topic string) bool { return !strings.Contains(topic, prefix) }); !slices.Equal(left, []string{"not-" + prefix}) {
		t.Errorf("left are %q", left)
	}
	must(t, k.deleteTopics(t.Context(), "not-"+prefix))
	if len(k.Nodes) > 0 {
		for _, end := range []func(context.Context) error{k.Kill, k.Nodes[0].Stop, k.Nodes[0].Pause} {
			if err := end(t.Context()); !errors.Is(err, errNotOurs) {
				t.Errorf("a test ends the shared Kafka: %v", err)
			}
		}
	}
}

// What is older than a topic keeps goes within seconds, so that a test can wait for it.
func TestKafkaForgets(t *testing.T) {
	k := SharedKafka(t)
	client, admin := kafkaClient(t, k)
	topic, ctx := k.NewPrefix(t)+"a", within(t, time.Minute)
	retention := "100" // ms
	_, err := admin.CreateTopic(ctx, 1, -1, map[string]*string{"retention.ms": &retention}, topic)
	must(t, err)
	must(t, produce(ctx, client, topic, "gone soon"))
	must(t, poll(ctx, func(ctx context.Context) error {
		offsets, err := admin.ListStartOffsets(ctx, topic)
		if err == nil {
			err = offsets.Error()
		}
		if o, _ := offsets.Lookup(topic, 0); err == nil && o.Offset != 1 {
			err = fmt.Errorf("the log begins at %d", o.Offset)
		}
		return err
	}))
}

// A server that has the port of another one by now is not taken for it.
func TestKafkaOfAnotherCluster(t *testing.T) {
	k := StartKafka(t, KafkaOptions{})
	former := *k.Nodes[0]
	former.kafka = &Kafka{id: "AAAAAAAAAAAAAAAAAAAAAA"}
	must(t, poll(within(t, time.Minute), func(ctx context.Context) error {
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		err := former.waitReady(short)
		if err == nil {
			t.Error("it is taken for what was there before")
		} else if !strings.Contains(err.Error(), "belongs to another cluster") {
			return err // it may not have answered in that time
		}
		return nil
	}))
}

// What is no answer of Kafka's is an error, however long it says that it is.
func TestKafkaAnswers(t *testing.T) {
	for _, test := range []struct{ name, answer string }{
		{"nothing", ""},
		{"of a web server", "HTTP/1.1 400 Bad Request\r\n\r\n"},
		{"cut off", "\x00\x00\x01\x00\x00\x00\x00\x01\x00"},
		{"with an array longer than it", "\x00\x00\x00\x08\x00\x00\x00\x01\x7f\xff\xff\xff"},
		{"with more than its parts", "\x00\x00\x00\x13\x00\x00\x00\x01\x00\x00\x00\x00\xff\xff\x00\x00\x00\x00\x00\x00\x00\x00\x00"},
	} {
		t.Run(test.name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			must(t, err)
			defer l.Close()
			served := make(chan error, 1)
			go func() {
				conn, err := l.Accept()
				if err == nil {
					buffer := make([]byte, 1024)
					_, err = conn.Read(buffer)
					_, err2 := conn.Write([]byte(test.answer))
					err = errors.Join(err, err2, conn.Close())
				}
				served <- err
			}()
			if m, err := describeKafka(within(t, time.Minute), l.Addr().String()); err == nil {
				t.Errorf("is taken for %+v", m)
			}
			must(t, <-served)
		})
	}
}
