// Package dbsync hands the committed changes of a Postgres database, in commit
// order, to a [MessageHandler], and what the handler makes of them to a [Batcher].
//
// It reads the write-ahead log over the streaming replication protocol with the
// pgoutput plugin (https://www.postgresql.org/docs/current/protocol-logical-replication.html).
// A [Syncer] owns one replication slot. Its loop peeks at the head of the slot,
// translates what is there, compacts it to one operation per document, has the
// batch written, and only then moves the slot: a change reaches the Batcher at
// least once, and after a crash the same write comes again.
//
// Rows that were there before the slot was, or that have to be read again, come
// through windows: a select between two watermarks, after "DBLog: A Watermark
// Based Change-Data-Capture Framework" (Andreakis and Papapanagiotou, 2020,
// arXiv:2010.12597), with one addition: a commit is streamed before snapshots show
// it, so what was streamed and is not yet known to be visible is remembered, and
// never overwritten by an older row ([Syncer.OpenWindow]).
//
// Limits: one running Syncer per slot. A published table needs a primary key or
// another replica identity, or Postgres refuses its updates and deletes. Postgres
// 14 or newer. The package knows no search engine.
package dbsync
