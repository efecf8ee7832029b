// Package verify compares the documents of an index with the rows of its tables, document by
// document, while both change; repairs what differs; and has the documents of dead letters stored
// again.
//
// [Run] reads all rows and holds their documents against the stored ones, and then lists all
// documents and looks for their rows. Nearly everything that differs there was changed in between:
// it is suspect, and looked at again by itself. A look is the row as a snapshot shows it, and then
// the document after the slot has come to where the log was then. A suspect is equal when one look
// finds it so, and different when two looks find it so and neither row nor document has changed
// from one to the other. One that changes from look to look is being written by the stream: it is
// counted as undecided, and nothing is said of it.
//
// Some process, this one or another, follows the slot meanwhile; it is known by its [Slot] alone.
// That process does what is repaired: it reads rows again when a request asks for it, so nothing
// older than the stream comes back. Only documents without a row are removed from here, by the
// version that was seen, so one that has come meanwhile stays. [RetryLetters] goes the same way. A
// crash at any line costs that the same is asked for again.
//
// What is held in memory is bounded: documents of a few MiB, ten thousand suspects, half a million
// hashed ids. Beyond a hundred thousand differences it ends with [TooDifferentError].
//
// What needs no server is tested here. The rest needs an instance that follows the slot:
// RetryLetters in reindex/verify_letter_test.go, Run in internal/e2e/verify_test.go.
package verify
