// Package reindex sees to it that every index of the mapping is complete while the stream goes
// on, and moves the alias that searchers use onto a physical index when that is complete.
//
// There is one way for the first backfill of an index and for every later rebuild: a new
// physical index is made, every change from then on is written to it beside the one in use, the
// tables are read in chunks between watermarks ([dbsync.Syncer.OpenWindow]), and when the last
// chunk is stored and the stream has passed, the alias moves in one step.
//
// What a caller does: [New] when the Syncer is made; [Manager.Begin] whenever the slot is ours,
// before the first message; [Manager.Run] and [Manager.Serve], or [Manager.ServeUntilIdle], each
// in a goroutine of its own. They block, wait for all that they start, and end with the cause of
// their context, or with an error that concerns the process: another one has taken over, the slot
// is lost. What may pass is repeated without end, and shows in the Alarm. [NeedOf] says what an
// index needs, also to who only asks.
//
// The catalog is looked at again and again (watch.go), as the stream does not tell what a migration
// does. What comes of a difference is one table (difference.go), and done by conform. An index that
// cannot be as it should has an alarm of its own, and holds up no other (hold.go).
//
// What holds at each moment: how far a backfill is stands in the control schema before or after
// its effect, whichever costs only a repetition when the process ends in between, so the next
// process goes on where the last one was. An index in use is written to until the alias stands for
// its successor. Two indices are worked on at a time, and one table is read by one reader. A
// process that finds the notes of another one in the control schema ends
// ([control.TakenOverError]).
//
// What the process knows of an index is one struct, in index.go. What is kept of it is package
// control's; documents are compared with rows by package verify.
package reindex
