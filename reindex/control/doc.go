// Package control keeps, in the control schema of Postgres, what has to outlive a process: with
// the slot in the same database, so that both live and die together, and any machine can go on.
//
// # The tables
//
//   - indices has one row for each index: its physical index in use and the one being filled, what
//     the documents of each are made by, and how far the filling is. See [State]. The instance that
//     follows the slot writes it, no one else; commands read it.
//   - physical_indices has one row for each physical index that there is: what tells that it and this
//     schema still belong together. See [Marking]. The instance alone writes it.
//   - requests has what is asked of that instance: rebuilds, refreshes, cancellations. See
//     [Request]. Commands add to it, and so does the instance itself; the instance alone notes what
//     became of a request. The last 1000 that have ended are kept.
//   - dead_letters has the operations that the search server refuses for good, one row for each
//     version of a document. See [DeadLetter]. The instance adds to it, and drops those of a
//     physical index with that; commands drop what was written again or is given up.
//   - proofs has one row for each index of which there is something to say: when it was compared
//     with its tables, how far the comparison under way is, and why it may differ. See [Proof]. The
//     instance alone writes it.
//   - fan_outs and fan_out_passes have the related rows that changed and whose documents are stored
//     again beside the stream, and how far that is. See [FanOuts]. The instance alone writes them.
//   - recoveries has how the shards of each physical index were recovered last. See [Recovery]. The
//     instance alone writes it.
//   - epochs has, for each slot, the number of the process that may write. See [Schema.BeginEpoch].
//   - schema_version has the version of each part of the schema, see [dbsync.SchemaPart]. The part
//     of this package is tidemark, that of the slot table dbsync.
//
// A table is written in short transactions whose commit waits for this server's disk alone.
//
// # Versions
//
// The version of the part is how many of the steps in migration.go the schema has had. [Migrate]
// runs those that are left, in one transaction, when the slot is this process's: then no instance
// of an earlier version works by the tables any more. Other commands look at the version only, see
// [Condition]. A schema that a later version has changed is refused by everything.
//
// What is in a text column as JSON has a version in itself, and names that are not those of Go's
// fields. Its decoder takes every earlier version, also without a migration: where instances with
// slots of their own share a control schema, one of an earlier version may still write its form.
//
// To change what is stored:
//
//  1. Add a step at the end of the list, and never change one that was released. It has to keep
//     what is under way: dead letters, requests, and a filling together with its cursor.
//  2. A step may lose or redo work only where the documents would differ, and says so in its comment.
//  3. If the tables cannot be read by this version before the step has run, raise firstReadable.
//  4. Dump what the version before leaves, as testdata/control in package reindex says: the test of
//     upgrades takes up every dump.
package control
