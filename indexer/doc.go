// Package indexer turns the changes of a database into operations on documents, and has them
// written.
//
// A [Handler] is told of the messages of the replication stream. Each row's tuple becomes an
// operation by a plan that was compiled when the stream described the table; it carries the
// position of its transaction's commit as version. Rows that a message does not hold whole,
// and documents that rows of other tables are inside of, are read again from Postgres by key
// before their batch is written, by a snapshot that shows every transaction of the batch. Then
// package search writes it, and the position is confirmed only after that.
//
// A [Pager] gives the rows of a table in chunks, as selects that a window of package dbsync
// reads: that is how an index is filled.
//
// What goes wrong with one document becomes a dead letter, what cannot be done for any
// document ends the run by a permanent error, and all else is tried again by the Syncer.
package indexer
