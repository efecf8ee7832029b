package testenv

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
)

// Requests to Kafka that starting a server and cleaning up after a test take, in the oldest form that every
// release from 2.1 on answers. Sizes and numbers are big-endian; a string has its length before it as an
// int16, an array as an int32. https://kafka.apache.org/protocol
const (
	metadataRequest, metadataVersion         = 3, 2
	deleteTopicsRequest, deleteTopicsVersion = 20, 1
)

// askKafka sends one request on a connection of its own, and returns the body of the answer.
func askKafka(ctx context.Context, addr string, request, version int16, body []byte) ([]byte, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	const correlation = 1
	head := binary.BigEndian.AppendUint16(nil, uint16(request))
	head = binary.BigEndian.AppendUint16(head, uint16(version))
	head = binary.BigEndian.AppendUint32(head, correlation)
	head = appendKafkaString(head, "testenv")
	message := binary.BigEndian.AppendUint32(nil, uint32(len(head)+len(body)))
	if _, err := conn.Write(append(append(message, head...), body...)); err != nil {
		return nil, errors.Join(context.Cause(ctx), err)
	}
	var size, got uint32
	if err := errors.Join(binary.Read(conn, binary.BigEndian, &size), binary.Read(conn, binary.BigEndian, &got)); err != nil {
		return nil, errors.Join(context.Cause(ctx), fmt.Errorf("answer of %s: %w", addr, err))
	}
	const most = 64 << 20
	if got != correlation || size < 4 || size > most {
		return nil, fmt.Errorf("%s is no Kafka: it answers with %d bytes to request %d", addr, size, got)
	}
	answer := make([]byte, size-4)
	if _, err := io.ReadFull(conn, answer); err != nil {
		return nil, errors.Join(context.Cause(ctx), fmt.Errorf("answer of %s: %w", addr, err))
	}
	return answer, nil
}

func appendKafkaString(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

// A kafkaAnswer is read from its beginning. After a part that is not there all are zero, and short is set.
type kafkaAnswer struct {
	rest  []byte
	short bool
}

func (a *kafkaAnswer) take(n int) []byte {
	if n < 0 || n > len(a.rest) {
		a.rest, a.short = nil, true
	}
	if a.short {
		return nil
	}
	part := a.rest[:n]
	a.rest = a.rest[n:]
	return part
}

func (a *kafkaAnswer) int16() int16 {
	if b := a.take(2); b != nil {
		return int16(binary.BigEndian.Uint16(b))
	}
	return 0
}

func (a *kafkaAnswer) int32() int32 {
	if b := a.take(4); b != nil {
		return int32(binary.BigEndian.Uint32(b))
	}
	return 0
}

// string reads one that may be null, which is "".
func (a *kafkaAnswer) string() string { return string(a.take(int(max(a.int16(), 0)))) }

// each calls f for each element of an array.
func (a *kafkaAnswer) each(f func()) {
	for n := a.int32(); n > 0 && !a.short; n-- {
		f()
	}
}

// kafkaMetadata is what a broker knows of its cluster.
type kafkaMetadata struct {
	cluster string
	nodes   []int32 // brokers that take part
	topics  []string
}

// describeKafka asks a broker for its cluster, with the names of all topics.
func describeKafka(ctx context.Context, addr string) (*kafkaMetadata, error) {
	const all = ^uint32(0)
	body, err := askKafka(ctx, addr, metadataRequest, metadataVersion, binary.BigEndian.AppendUint32(nil, all))
	if err != nil {
		return nil, err
	}
	a, m := &kafkaAnswer{rest: body}, &kafkaMetadata{}
	a.each(func() {
		m.nodes = append(m.nodes, a.int32())
		a.string() // host
		a.int32()  // port
		a.string() // rack
	})
	m.cluster = a.string()
	a.int32() // controller
	a.each(func() {
		a.int16() // error
		m.topics = append(m.topics, a.string())
		a.take(1) // is internal
		a.each(func() {
			a.int16()                    // error
			a.int32()                    // partition
			a.int32()                    // leader
			a.each(func() { a.int32() }) // replicas
			a.each(func() { a.int32() }) // in sync
		})
	})
	if a.short || len(a.rest) > 0 {
		return nil, fmt.Errorf("%s answers a metadata request with what is none", addr)
	}
	return m, nil
}

// deleteKafkaTopics deletes topics.
func deleteKafkaTopics(ctx context.Context, addr string, topics []string) error {
	const limit = 30_000 // ms
	body := binary.BigEndian.AppendUint32(nil, uint32(len(topics)))
	for _, topic := range topics {
		body = appendKafkaString(body, topic)
	}
	answer, err := askKafka(ctx, addr, deleteTopicsRequest, deleteTopicsVersion, binary.BigEndian.AppendUint32(body, limit))
	if err != nil {
		return err
	}
	var errs []error
	a := &kafkaAnswer{rest: answer}
	a.int32() // throttled
	a.each(func() {
		const gone = 3 // UNKNOWN_TOPIC_OR_PARTITION
		if topic, code := a.string(), a.int16(); code != 0 && code != gone {
			errs = append(errs, fmt.Errorf("topic %s: error code %d", topic, code))
		}
	})
	if a.short {
		errs = append(errs, fmt.Errorf("%s answers a request to delete topics with what is no answer", addr))
	}
	return errors.Join(errs...)
}
