// Package indexer turns the changes of a database into documents of OpenSearch or
// Elasticsearch.
//
// A [Client] talks to the cluster. A [Bulk] writes a batch of operations and returns
// when the fate of each is known: stored, found a newer version, or refused for good
// and handed to whoever keeps it ([DeadLetters]). Everything else, a server that is
// away, full or hung, an index that is gone, closed or read-only, refused credentials,
// is waited for with growing pauses and without end; an [Alarm] tells why. Operations
// carry the LSN of their commit as external version, so that repeating a batch, after
// a crash or a lost answer, never brings back anything old.
//
// Indices are built under names with a time, and written by an alias of their own that
// the server cannot mistake for the name of an index to create ([PhysicalName]).
// Searchers use an alias that [Client.MoveAlias] moves when an index is complete.
package indexer
