// Package topic takes operations from the instance that follows the slot to the workers that write
// them, over two topics of Kafka. A [Producer] appends operations to the one, keyed so that all of one
// document are in one partition; a [Worker] is a member of the consumer group that reads them. By the
// other one the workers say what the instance has to know: [Report].
//
// An operation is *produced* when Kafka has acknowledged it, and *applied* when the group has committed
// an offset beyond it; see [Client.AwaitApplied].
//
// docs/kafka.md says what a record looks like, for others who read it, and why nothing is lost and
// nothing older wins.
package topic
