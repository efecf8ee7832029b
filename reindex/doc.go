// Package reindex fills indices from their tables while the stream goes on, and moves the
// alias that searchers use onto a physical index when it is complete.
//
// There is one way for the first filling of an index and for every later rebuild: a new
// physical index is made, every change from then on is written to it beside the one in
// use, the table is read in chunks between watermarks ([dbsync.Syncer.OpenWindow]), and
// when the last chunk is stored and the stream has passed, the alias moves in one step.
//
// How far that is stands in the control schema, so that a restart goes on where the last
// process was.
package reindex
