// Package limit has the bounds of bulk requests, documents and fan-outs: the YAML is held against them when it is read,
// and a client when it is made. What the one accepts the other must not refuse.
package limit

import "time"

// Requests at a time at the most. How many there are follows the server: more than a batch can be cut into are
// never asked for, which is about the default.
const (
	DefaultRequests = 16
	MaxRequests     = 64
)

// Bytes of one request, before compression. Servers take requests of 100 MiB
// (http.max_content_length, "100mb"), some of them count what comes out of the compression, and
// a request is made by an estimate of its size; so ours end a tenth below.
const (
	DefaultBytes = 8 << 20
	MinBytes     = 64 << 10
	MaxBytes     = 90 << 20
)

// Documents of one request.
const (
	DefaultDocuments = 5000
	MaxDocuments     = 100_000
)

// Bytes of one document. Servers take requests of 100 MiB, unless http.max_content_length says
// otherwise, and a text that is analyzed takes them many times its size. Postgres has no values of
// more than 1 GiB, which its text forms count to: twice the largest document, for bytea, and a MiB
// are let in.
const (
	DefaultDocumentBytes = 50 << 20
	MinDocumentBytes     = 64 << 10
	MaxDocumentBytes     = 500 << 20
)

// RowBytes is how many bytes a row may have that is read for a document of so many.
func RowBytes(document int) int { return 2*document + 1<<20 }

// How long a document that alone the server answers with an error of its own is tried.
const (
	DefaultPoisonAfter = 10 * time.Minute
	MinPoisonAfter     = time.Second
	MaxPoisonAfter     = 24 * time.Hour
)

// Documents that the changes of related rows in a batch may concern so that the batch waits for them.
// Their keys are held at a time.
const (
	DefaultFanOut = 10_000
	MaxFanOut     = 100_000
)
