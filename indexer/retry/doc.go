// Package retry repeats what fails in passing. [Do] is the one way to do so: everything is
// tried again unless it is marked permanent (dbsync.IsPermanent), with growing pauses and
// without end, and an [Alarm] shows from the third failure on what does not come about, and
// why. [Poll] asks for what no event tells of.
//
// Nothing here starts a goroutine, and everything ends with its context.
package retry
