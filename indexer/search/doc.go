// Package search talks to one OpenSearch or Elasticsearch cluster, and knows no Postgres.
//
// [Connect] returns a [Client]: indices, aliases, documents. Its calls try once and return
// what came back. A *[ServerError] is an answer other than 2xx, a *[LostError] none, so
// that the request may have had its effect; whether repeating is worth it says
// dbsync.IsPermanent, and retry.Do does it. What may be repeated after a lost answer, creation
// and removal of indices and moves of aliases among it, finds its own work done.
//
// A [Bulk] writes a batch of operations and returns when the fate of each is known: stored,
// found a newer version, or refused for good and handed to whoever keeps it. All else is waited
// for, with growing pauses and without end: a server that is away, full or hung, an index that
// is gone, closed or read-only, refused credentials. An alarm says why. What an answer means
// is decided in one place, judge.go. Operations carry their version as an external one, so
// that a batch may be repeated, after a crash or a lost answer, and never brings back anything
// old.
//
// Each physical index has a stamp of its [Owner]; what has none, or another one, is neither moved nor
// dropped. A change counts when the cluster acknowledges it.
//
// Indices are built under names with a time, and written by an alias of their own that the
// server cannot mistake for the name of an index to create ([PhysicalName]). Searchers use an
// alias that [Client.MoveAlias] moves when an index is complete.
package search
