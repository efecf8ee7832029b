package topic

// A State is what a topic of operations and that of its reports are. Another one means that what was
// produced may be lost.
type State struct {
	ID, ReportsID string // as Kafka calls them, hexadecimal
	Partitions    int    // of the topic of operations
}
