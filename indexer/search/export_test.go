package search

import (
	"context"
	"io"
	"math"
	"net/http"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"tidemark/dbsync"
	"tidemark/indexer/retry"
)

const (
	MaxAnswer    = maxAnswer
	SuspectBytes = suspectBytes
)

// WritePart writes ops by one request, where Write might make several.
func (b *Bulk) WritePart(ctx context.Context, ops []dbsync.Operation) error {
	return b.writePart(ctx, partOf(ops), new(atomic.Bool))
}

// NewEncoder returns what makes the bodies of bulk requests in the same storage, and returns
// their lengths in bytes before compression and after it.
func NewEncoder(level int) func(ops []dbsync.Operation) (raw, sent int, err error) {
	r := newBulkRequest(level)
	return func(ops []dbsync.Operation) (raw, sent int, err error) {
		err = r.encode(partOf(ops))
		return r.raw, r.size, err
	}
}

// Cut cuts ops into the parts of bulk requests, as Write does before it encodes them.
func (b *Bulk) Cut(ops []dbsync.Operation) error {
	w, err := b.begin(ops)
	if err == nil {
		b.end(w)
	}
	return err
}

// VersionOf returns the version of an operation.
func VersionOf(op dbsync.Operation) (int64, error) { return Version(&op) }

// Fix has b go on with as many requests at a time as its options allow.
func (b *Bulk) Fix() { b.gate.pace.fix(b.o.Requests) }

// fix has p go on with n requests at a time.
func (p *pace) fix(n int) {
	p.requests = window{now: n, least: n, most: n, before: n, patience: math.MaxInt}
}

// AwaitWaiting waits until so many requests wait for their turn.
func (b *Bulk) AwaitWaiting(ctx context.Context, n int) error {
	return retry.Poll(ctx, func() (bool, error) {
		b.gate.mu.Lock()
		defer b.gate.mu.Unlock()
		return b.gate.waiting.Len() == n, nil
	})
}

// Sign signs a request with the key's id, its secret and the session's token, as an awsSigner does.
func Sign(req *http.Request, key [3]string, region, service string, at time.Time) error {
	s := &awsSigner{AWSCredentials: &AWSCredentials{region: region, signer: v4.NewSigner(), now: func() time.Time { return at }}, service: service}
	hash, err := hashBody(req)
	if err != nil {
		return err
	}
	return s.sign(req, aws.Credentials{AccessKeyID: key[0], SecretAccessKey: key[1], SessionToken: key[2]}, hash)
}

// AllLimitations returns the table.
func AllLimitations() []Limitation { return limitations }

// HashBulk returns the hash that a bulk request of ops is signed with, uncompressed, and how many bytes
// were allocated to have it.
func HashBulk(ops []dbsync.Operation) (hash string, allocated uint64, err error) {
	r := newBulkRequest(noCompression)
	if err := r.encode(partOf(ops)); err != nil {
		return "", 0, err
	}
	defer r.close()
	req, err := http.NewRequest(http.MethodPost, "/_bulk", r.newReader())
	if err != nil {
		return "", 0, err
	}
	req.GetBody = func() (io.ReadCloser, error) { return r.newReader(), nil }
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	hash, err = hashBody(req)
	runtime.ReadMemStats(&after)
	return hash, after.TotalAlloc - before.TotalAlloc, err
}
