package main

import (
	"context"
	"errors"
	"io"
	"time"
)

// copyOut reads the rows of a query in COPY's text form, passes over them, and tells how long
// that took.
func copyOut(ctx context.Context, url, query string) (took time.Duration, err error) {
	conn, err := connect(ctx, url)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	begin := time.Now()
	_, err = conn.PgConn().CopyTo(ctx, io.Discard, "copy ("+query+") to stdout")
	return time.Since(begin), err
}
