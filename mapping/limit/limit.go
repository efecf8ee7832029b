// Package limit has the bounds of bulk requests: the YAML is held against them when it is read,
// and a client when it is made. What the one accepts the other must not refuse.
package limit

import "time"

// Requests at a time.
const (
	DefaultRequests = 4
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

// How long a document that alone the server answers with an error of its own is tried.
const (
	DefaultPoisonAfter = 10 * time.Minute
	MinPoisonAfter     = time.Second
	MaxPoisonAfter     = 24 * time.Hour
)
