package dbsync

import (
	"context"
	"net"
	"testing"
	"time"
)

// A readConn says when a read has begun.
type readConn struct {
	net.Conn
	begun chan struct{}
}

func (c readConn) Read(b []byte) (int, error) {
	c.begun <- struct{}{}
	return c.Conn.Read(b)
}

// A connection begins to be watched while something reads it in the background.
func TestWatchWhileReading(t *testing.T) {
	here, there := net.Pipe()
	defer there.Close()
	begun := make(chan struct{}, 1)
	w := &watchedConn{Conn: readConn{here, begun}}
	defer w.Close()
	read := make(chan error, 1)
	receive := func() {
		_, err := w.Read(make([]byte, 1))
		read <- err
	}
	answer := func() {
		t.Helper()
		if _, err := there.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if err := <-read; err != nil {
			t.Fatal(err)
		}
	}
	asked := make(chan struct{}, 1)
	go receive()
	<-begun
	w.watch(patienceWith{silence: time.Millisecond, pause: time.Hour, most: time.Hour, answer: time.Hour}, func(context.Context) (condition, error) {
		asked <- struct{}{}
		return working, nil
	})
	answer()
	go receive()
	<-begun
	<-asked // of the next one the server is asked
	answer()
}
