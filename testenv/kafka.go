package testenv

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

// KafkaOptions configure a Kafka of one's own. The zero value is what the shared one runs with.
type KafkaOptions struct {
	// Nodes is how many there are, each of them broker and controller (default 1). With three, topics have
	// three replicas where nobody says otherwise, two of which have to be in sync for a write.
	Nodes int
	// Settings are added to server.properties of each node.
	Settings map[string]string
	// Java are arguments of the Java machine, over those by which it starts fast and stays small:
	// "-XX:TieredStopAtLevel=4" has it compile as well as it can, for measurements.
	Java []string
	// Port is the one for the first node to listen on if it is free. Default: any that is free.
	Port int
}

const (
	kafkaVersion   = "4.4.0"
	kafkaImage     = "apache/kafka"
	kafkaJava      = 17
	kafkaHeap      = "256m"
	kafkaBootLimit = 2 * time.Minute

	// KafkaVariable names the environment variable with the addresses of a running Kafka, HOST:PORT with
	// commas between them; its clients need neither TLS nor a password.
	KafkaVariable = "TIDEMARK_TEST_KAFKA_BROKERS"
)

// A Kafka is a running cluster, of one node or several.
type Kafka struct {
	Nodes []*KafkaNode // none: it was started by somebody else

	id      string // of the cluster
	brokers []string
}

// A KafkaNode is one server of a Kafka. Stop, Kill and Start leave its port and its data as they are.
type KafkaNode struct {
	server

	kafka  *Kafka
	number int // from 1 on
	port   int
	quorum int // port among the nodes
}

// SharedKafka is the one that the tests of this process share. Topics of a test have names of a
// prefix of its own, see [Kafka.NewPrefix].
func SharedKafka(t testing.TB) *Kafka {
	t.Helper()
	SkipShort(t)
	k, err := sharedKafka.get(func(ctx context.Context) (*Kafka, error) {
		if list := os.Getenv(KafkaVariable); list != "" {
			return &Kafka{brokers: strings.Split(list, ",")}, nil
		}
		k, err := LaunchKafka(ctx, KafkaOptions{})
		if err == nil {
			for _, n := range k.Nodes {
				n.shared = true
			}
		}
		return k, err
	})
	if err != nil {
		skipOrFail(t, fmt.Errorf("shared Kafka: %w", err))
	}
	return k
}

// StartKafka starts a Kafka for this test alone.
func StartKafka(t testing.TB, o KafkaOptions) *Kafka {
	t.Helper()
	SkipShort(t)
	ctx, cancel := context.WithTimeout(t.Context(), bootLimit)
	defer cancel()
	k, err := LaunchKafka(ctx, o)
	if err != nil {
		skipOrFail(t, fmt.Errorf("start Kafka: %w", err))
	}
	t.Cleanup(func() {
		if err := k.Close(); err != nil {
			t.Errorf("end Kafka: %v", err)
		}
	})
	return k
}

// LaunchKafka starts a Kafka; the caller closes it.
func LaunchKafka(ctx context.Context, o KafkaOptions) (*Kafka, error) {
	o.Nodes = max(o.Nodes, 1)
	if docker() != "" {
		k, err := launchKafka(ctx, o, dockerKafka)
		if !errors.Is(err, errNoImage) {
			return k, err
		}
	}
	d, err := prepareKafka(ctx)
	if err != nil {
		return nil, err
	}
	return launchKafka(ctx, o, d.layOut)
}

// launchKafka lays the nodes out and boots them, on other ports if somebody was faster.
func launchKafka(ctx context.Context, o KafkaOptions, layOut func(context.Context, *Kafka, KafkaOptions) error) (*Kafka, error) {
	for try := 1; ; try++ {
		k, err := newKafka(o, try)
		if err == nil {
			err = layOut(ctx, k, o)
		}
		if err == nil {
			err = k.Start(ctx)
		}
		if err == nil {
			return k, nil
		}
		retry := try < 5 && slices.ContainsFunc(k.Nodes, func(n *KafkaNode) bool { return n.process.portTaken() })
		if err = errors.Join(err, k.Close()); !retry {
			return nil, err
		}
	}
}

// newKafka makes a place for each node. What there is of them is in the Kafka also with an error.
func newKafka(o KafkaOptions, try int) (*Kafka, error) {
	// A name that tells it from any other Kafka which may have its ports some day; 16 bytes are what
	// Kafka's own ids have.
	id := make([]byte, 16)
	_, _ = rand.Read(id) // never fails
	k := &Kafka{id: base64.RawURLEncoding.EncodeToString(id)}
	for number := 1; number <= o.Nodes; number++ {
		n := &KafkaNode{kafka: k, number: number}
		var err error
		if n.port, err = choosePort(o.Port, try+number-1); err != nil { // the port asked for is the first one's
			return k, err
		}
		if n.quorum, err = FreePort(); err != nil {
			return k, err
		}
		if n.process, err = newProcess("kafka"); err != nil {
			return k, err
		}
		n.ready = n.waitReady
		k.Nodes = append(k.Nodes, n)
		k.brokers = append(k.brokers, n.Addr())
	}
	return k, nil
}

// each calls f for all nodes at a time; the first error ends the others' contexts.
func (k *Kafka) each(ctx context.Context, f func(context.Context, *KafkaNode) error) error {
	all, ctx := errgroup.WithContext(ctx)
	for _, n := range k.Nodes {
		all.Go(func() error {
			if err := f(ctx, n); err != nil {
				return fmt.Errorf("node %d: %w", n.number, err)
			}
			return nil
		})
	}
	return all.Wait()
}

// Brokers are the addresses of all nodes, HOST:PORT.
func (k *Kafka) Brokers() []string { return slices.Clone(k.brokers) }

// Close ends all nodes, unless somebody else started them, and removes their data.
func (k *Kafka) Close() error {
	return k.each(context.Background(), func(_ context.Context, n *KafkaNode) error { return n.close() })
}

// Start starts the nodes that do not run, and waits until all of them take part.
func (k *Kafka) Start(ctx context.Context) error {
	if len(k.Nodes) == 0 {
		return errNotOurs
	}
	err := k.each(ctx, func(ctx context.Context, n *KafkaNode) error {
		if n.Running() {
			return nil
		}
		return n.Start(ctx)
	})
	if err != nil {
		return err
	}
	return k.each(ctx, func(ctx context.Context, n *KafkaNode) error { return n.awaitNodes(ctx, k.numbers()) })
}

// Kill ends all nodes at once, as a crash would. To end all of them in order is not possible: the last ones
// have nobody left to sign off at.
func (k *Kafka) Kill(ctx context.Context) error {
	if len(k.Nodes) == 0 {
		return errNotOurs
	}
	return k.each(ctx, func(ctx context.Context, n *KafkaNode) error { return n.Kill(ctx) })
}

func (k *Kafka) numbers() []int32 {
	numbers := make([]int32, len(k.Nodes))
	for i, n := range k.Nodes {
		numbers[i] = int32(n.number)
	}
	return numbers
}

// NewPrefix makes a beginning for names of topics and groups that no other test uses. Topics that begin with
// it are deleted at the end of the test.
func (k *Kafka) NewPrefix(t testing.TB) string {
	t.Helper()
	prefix := fmt.Sprintf("t%d%s-", time.Now().Unix()%1e6, strings.ToLower(rand.Text()[:8]))
	t.Cleanup(func() {
		if slices.ContainsFunc(k.Nodes, func(n *KafkaNode) bool { return !n.Running() }) {
			return // the test stopped its own nodes, the topics go with them
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), dropLimit)
		defer cancel()
		if err := k.deleteTopics(ctx, prefix); err != nil {
			t.Errorf("delete topics %s*: %v", prefix, err)
		}
	})
	return prefix
}

// deleteTopics returns when the broker that is asked has no such topic left, which is a moment after
// the deletion was answered.
func (k *Kafka) deleteTopics(ctx context.Context, prefix string) error {
	return poll(ctx, func(ctx context.Context) error {
		m, err := describeKafka(ctx, k.brokers[0])
		if err != nil {
			return err
		}
		topics := slices.DeleteFunc(m.topics, func(topic string) bool { return !strings.HasPrefix(topic, prefix) })
		if len(topics) == 0 {
			return nil
		}
		return errors.Join(deleteKafkaTopics(ctx, k.brokers[0], topics), fmt.Errorf("%q are left", topics))
	})
}

// Addr is HOST:PORT.
func (n *KafkaNode) Addr() string { return address(n.port) }

func (n *KafkaNode) waitReady(ctx context.Context) error {
	return n.awaitNodes(ctx, []int32{int32(n.number)})
}

// awaitNodes waits until the node answers that these take part.
func (n *KafkaNode) awaitNodes(ctx context.Context, numbers []int32) error {
	ctx, cancel := context.WithTimeoutCause(ctx, kafkaBootLimit, fmt.Errorf("not ready within %s", kafkaBootLimit))
	defer cancel()
	return poll(ctx, func(ctx context.Context) error {
		m, err := describeKafka(ctx, n.Addr())
		if err != nil {
			return err
		}
		if m.cluster != n.kafka.id {
			return fmt.Errorf("%s belongs to another cluster, %q", n.Addr(), m.cluster)
		}
		for _, number := range numbers {
			if !slices.Contains(m.nodes, number) {
				return fmt.Errorf("node %d does not take part: %v do", number, m.nodes)
			}
		}
		return nil
	})
}

// Pause stops the node where it is, as a machine that stands still: connections stay, and nothing answers.
func (n *KafkaNode) Pause(ctx context.Context) error {
	return n.suspend(ctx, syscall.SIGSTOP, "pause")
}

// Resume has a paused node go on.
func (n *KafkaNode) Resume(ctx context.Context) error {
	return n.suspend(ctx, syscall.SIGCONT, "unpause")
}

func (n *KafkaNode) suspend(ctx context.Context, sig syscall.Signal, ofDocker string) error {
	switch {
	case n.shared:
		return errNotOurs
	case !n.Running():
		return errors.New("the node does not run")
	case n.program.container != "":
		return runTool(ctx, docker(), ofDocker, n.program.container)
	}
	return n.process.signal(sig)
}

// kafkaSettings are those of every node that do not depend on where it runs. Nothing has to survive a crash of
// the machine: Kafka itself leaves writing to disk to the system.
func kafkaSettings(nodes int, quorum []string) map[string]string {
	replicas, inSync := "1", "1"
	if nodes >= 3 {
		replicas, inSync = "3", "2"
	}
	return map[string]string{
		"process.roles":                  "broker,controller",
		"controller.listener.names":      "CONTROLLER",
		"controller.quorum.voters":       strings.Join(quorum, ","),
		"auto.create.topics.enable":      "false",
		"default.replication.factor":     replicas,
		"min.insync.replicas":            inSync,
		"log.cleaner.backoff.ms":         "500",
		"log.cleaner.dedupe.buffer.size": "16777216", // of a heap that is small
		// What is too old goes within seconds.
		"log.initial.task.delay.ms":       "500",
		"log.retention.check.interval.ms": "1000",
		"log.segment.delete.delay.ms":     "1000",
		// A node that is gone is noticed soon. One that begins again waits until its former self counts as gone.
		"broker.heartbeat.interval.ms": "500",
		"broker.session.timeout.ms":    "3000",
		// Few threads and few partitions for what Kafka keeps for itself.
		"num.network.threads":                              "2",
		"num.io.threads":                                   "2",
		"group.initial.rebalance.delay.ms":                 "0",
		"offsets.topic.num.partitions":                     "4",
		"offsets.topic.replication.factor":                 replicas,
		"transaction.state.log.num.partitions":             "4",
		"transaction.state.log.replication.factor":         replicas,
		"transaction.state.log.min.isr":                    inSync,
		"share.coordinator.state.topic.num.partitions":     "4",
		"share.coordinator.state.topic.replication.factor": replicas,
		"share.coordinator.state.topic.min.isr":            inSync,
	}
}

// A kafkaDistribution is a Kafka put together from published artifacts: lib/ has the jars.
type kafkaDistribution struct {
	folder  string
	java    jdk
	archive string // of classes as the JVM keeps them in memory, "" if it made none
}

// prepareKafka fetches what it takes, once per machine.
func prepareKafka(ctx context.Context) (*kafkaDistribution, error) {
	java, err := findJDK(kafkaJava)
	if err != nil {
		return nil, err
	}
	d := &kafkaDistribution{java: java}
	name := "kafka-" + recipe("kafka")
	d.folder, err = Cached(ctx, name, func(ctx context.Context, folder string) error {
		return fetchJars(ctx, "kafka", filepath.Join(folder, "lib"))
	})
	if err != nil {
		return nil, err
	}
	if d.archive, err = classArchive(ctx, name+"-classes-"+java.build, d.archiveClasses); err != nil {
		return nil, err
	}
	return d, nil
}

// archiveClasses runs a node once and has the JVM keep its loaded classes in a file, as for search servers.
func (d *kafkaDistribution) archiveClasses(ctx context.Context, folder string) error {
	var file string
	k, err := launchKafka(ctx, KafkaOptions{Nodes: 1}, func(ctx context.Context, k *Kafka, o KafkaOptions) error {
		if err := d.layOut(ctx, k, o); err != nil {
			return err
		}
		n := k.Nodes[0]
		file = filepath.Join(n.process.folder, "home", "tmp", archiveName)
		n.program.Args = append([]string{"-XX:ArchiveClassesAtExit=" + file}, n.program.Args...)
		return nil
	})
	if err != nil {
		return err
	}
	err = k.Nodes[0].Stop(ctx)
	if err == nil && exists(file) {
		err = copyFile(filepath.Join(folder, archiveName), file)
	}
	return errors.Join(err, k.Close())
}

// layOut makes a home for each node, with formatted data.
func (d *kafkaDistribution) layOut(ctx context.Context, k *Kafka, o KafkaOptions) error {
	return k.each(ctx, func(ctx context.Context, n *KafkaNode) error { return d.layOutNode(ctx, n, o) })
}

func (d *kafkaDistribution) layOutNode(ctx context.Context, n *KafkaNode, o KafkaOptions) error {
	home := filepath.Join(n.process.folder, "home")
	for _, f := range []string{"", "data", "tmp"} {
		if err := os.Mkdir(filepath.Join(home, f), 0o755); err != nil {
			return err
		}
	}
	logging, err := engines.ReadFile("engines/kafka/log4j2.properties")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(home, "log4j2.properties"), logging, 0o644); err != nil {
		return err
	}
	var quorum []string
	for _, other := range n.kafka.Nodes {
		quorum = append(quorum, fmt.Sprintf("%d@%s", other.number, address(other.quorum)))
	}
	settings := kafkaSettings(o.Nodes, quorum)
	maps.Copy(settings, map[string]string{
		"node.id":                        strconv.Itoa(n.number),
		"log.dirs":                       filepath.Join(home, "data"),
		"listeners":                      "PLAINTEXT://" + n.Addr() + ",CONTROLLER://" + address(n.quorum),
		"advertised.listeners":           "PLAINTEXT://" + n.Addr(),
		"inter.broker.listener.name":     "PLAINTEXT",
		"listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
	})
	maps.Copy(settings, o.Settings)
	var text strings.Builder
	for _, key := range slices.Sorted(maps.Keys(settings)) {
		fmt.Fprintf(&text, "%s=%s\n", key, settings[key])
	}
	properties := filepath.Join(home, "server.properties")
	if err := os.WriteFile(properties, []byte(text.String()), 0o644); err != nil {
		return err
	}
	if err := giveTo(serverAccount(), n.process.folder); err != nil {
		return err
	}
	format := d.command(home, nil, "kafka.tools.StorageTool", "format", "--cluster-id="+n.kafka.id, "--config", properties)
	if err := n.process.run(ctx, format); err != nil {
		return err
	}
	n.program = &program{command: d.command(home, o.Java, "kafka.Kafka", properties), stop: syscall.SIGTERM}
	return nil
}

// command runs one of Kafka's programs, with more arguments of the Java machine.
func (d *kafkaDistribution) command(home string, more []string, class string, args ...string) command {
	options := []string{
		"-Xms" + kafkaHeap, "-Xmx" + kafkaHeap, "-XX:+UseSerialGC",
		"-XX:TieredStopAtLevel=1", // a start takes half the time of the processor
		"-XX:-UsePerfData",        // a file in the machine's temporary folder
		"-Djava.io.tmpdir=" + filepath.Join(home, "tmp"),
		"-Dlog4j2.configurationFile=" + filepath.Join(home, "log4j2.properties"),
	}
	if d.archive != "" {
		options = append(options, "-XX:SharedArchiveFile="+d.archive)
	}
	options = append(options, more...)
	options = append(options, "-cp", filepath.Join(d.folder, "lib", "*"), class)
	return command{
		Path: d.java.tool("java"), Args: append(options, args...), Env: environment(), Account: serverAccount(),
		End: syscall.SIGKILL,
	}
}

// dockerKafka makes a container for each node, in a network of their own.
func dockerKafka(ctx context.Context, k *Kafka, o KafkaOptions) error {
	first := k.Nodes[0].process
	if err := pullImage(ctx, first, kafkaImage+":"+kafkaVersion); err != nil {
		return err
	}
	network := containerName(first)
	if err := createNetwork(ctx, first, network); err != nil {
		return err
	}
	return k.each(ctx, func(ctx context.Context, n *KafkaNode) error { return dockerNode(ctx, n, network, o) })
}

func dockerNode(ctx context.Context, n *KafkaNode, network string, o KafkaOptions) error {
	const broker, controller, between = 9092, 9093, 9094 // ports inside
	var quorum []string
	for _, other := range n.kafka.Nodes {
		quorum = append(quorum, fmt.Sprintf("%d@%s:%d", other.number, containerName(other.process), controller))
	}
	settings := kafkaSettings(o.Nodes, quorum)
	maps.Copy(settings, map[string]string{
		"node.id":                        strconv.Itoa(n.number),
		"log.dirs":                       "/var/lib/kafka/data",
		"listeners":                      fmt.Sprintf("PLAINTEXT://:%d,CONTROLLER://:%d,BETWEEN://:%d", broker, controller, between),
		"advertised.listeners":           fmt.Sprintf("PLAINTEXT://%s,BETWEEN://%s:%d", n.Addr(), containerName(n.process), between),
		"inter.broker.listener.name":     "BETWEEN",
		"listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,BETWEEN:PLAINTEXT",
	})
	maps.Copy(settings, o.Settings)
	env := map[string]string{
		"CLUSTER_ID":                n.kafka.id,
		"KAFKA_HEAP_OPTS":           "-Xms" + kafkaHeap + " -Xmx" + kafkaHeap,
		"KAFKA_OPTS":                strings.Join(o.Java, " "),
		"KAFKA_LOG4J_ROOT_LOGLEVEL": "WARN",
	}
	// The image's own form of a key: https://hub.docker.com/r/apache/kafka
	form := strings.NewReplacer(".", "_", "_", "__", "-", "___")
	for key, value := range settings {
		env["KAFKA_"+strings.ToUpper(form.Replace(key))] = value
	}
	prog, err := createContainer(ctx, n.process, container{
		image: kafkaImage + ":" + kafkaVersion, port: broker, env: env, network: network,
	}, n.port)
	if err != nil {
		return err
	}
	prog.stop = syscall.SIGTERM
	n.program = prog
	return nil
}
