package testenv

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"sync"
	"testing"
)

// A TCPProxy passes the bytes of TCP connections on to a real server, and fails
// as a network does. It serves Postgres as it is; for search servers there is
// [SearchProxy] on top.
type TCPProxy struct {
	Addr string // HOST:PORT that clients connect to

	target   string
	listener net.Listener
	serving  sync.WaitGroup // the accept loop and every connection

	mu      sync.Mutex
	closed  bool
	refuse  bool
	frozen  chan struct{} // not nil while frozen; closed by Thaw
	links   map[*link]struct{}
	changed chan struct{} // closed and replaced when links or total changes
	total   int
}

// A link is a client's connection and ours to the server.
type link struct {
	client, server net.Conn
	stranded       bool          // nothing passes any more; guarded by the proxy's mu
	over           chan struct{} // closed when it is cut
	once           sync.Once     // for over
}

func (l *link) cut() {
	if l.over != nil {
		l.once.Do(func() { close(l.over) })
	}
	for _, c := range []net.Conn{l.client, l.server} {
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // a reset, as of a broken connection
		}
		_ = c.Close()
	}
}

// NewTCPProxy listens in front of target, HOST:PORT, until the test ends.
func NewTCPProxy(t testing.TB, target string) *TCPProxy {
	t.Helper()
	p, err := newTCPProxy(target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.close)
	return p
}

// NewProxy puts a proxy in front of the server, until the test ends.
func (p *Postgres) NewProxy(t testing.TB) *TCPProxy {
	t.Helper()
	return NewTCPProxy(t, p.Addr())
}

func newTCPProxy(target string) (*TCPProxy, error) {
	l, err := listen()
	if err != nil {
		return nil, err
	}
	p := &TCPProxy{Addr: l.Addr().String(), target: target, listener: l, links: map[*link]struct{}{}, changed: make(chan struct{})}
	p.serving.Go(p.accept)
	return p, nil
}

// listen takes a port as FreePort gives it.
func listen() (net.Listener, error) {
	var err error
	for range 10 {
		var port int
		if port, err = FreePort(); err != nil {
			return nil, err
		}
		var l net.Listener
		if l, err = net.Listen("tcp", address(port)); err == nil {
			return l, nil
		}
	}
	return nil, err
}

// URL puts the proxy's address in place of the one in a connection string.
func (p *TCPProxy) URL(server string) string {
	u, err := url.Parse(server)
	if err != nil {
		return server
	}
	u.Host = p.Addr
	return u.String()
}

func (p *TCPProxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return // closed
		}
		p.serving.Go(func() { p.serve(client) })
	}
}

func (p *TCPProxy) serve(client net.Conn) {
	l := &link{client: client, server: client, over: make(chan struct{})} // server: until there is one
	if !p.add(l) {
		l.cut()
		return
	}
	defer p.remove(l)
	server, err := net.Dial("tcp", p.target)
	if err != nil {
		l.cut() // refused by the server: the client finds its connection broken
		return
	}
	if !p.connected(l, server) {
		_ = server.Close()
		return
	}
	var copying sync.WaitGroup
	copying.Go(func() { p.copy(l, server, client) })
	copying.Go(func() { p.copy(l, client, server) })
	copying.Wait()
	_ = client.Close()
	_ = server.Close()
}

// copy passes bytes on until from ends, and then ends to in that direction; a
// broken connection breaks the other.
func (p *TCPProxy) copy(l *link, to, from net.Conn) {
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		p.wait()
		if p.isStranded(l) {
			<-l.over
			return
		}
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				(&link{client: from, server: to}).cut()
				return
			}
		}
		if errors.Is(err, io.EOF) {
			if half, ok := to.(*net.TCPConn); ok {
				_ = half.CloseWrite()
			}
			return
		}
		if err != nil {
			(&link{client: from, server: to}).cut()
			return
		}
	}
}

func (p *TCPProxy) add(l *link) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.total++
	p.announce()
	if p.refuse || p.closed {
		return false
	}
	p.links[l] = struct{}{}
	return true
}

// connected sets the server's side, unless the link was cut meanwhile.
func (p *TCPProxy) connected(l *link, server net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, there := p.links[l]; !there {
		return false
	}
	l.server = server
	return true
}

func (p *TCPProxy) remove(l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.links, l)
	p.announce()
}

// announce wakes who waits for a change; p.mu is held.
func (p *TCPProxy) announce() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// wait returns when the proxy is not frozen.
func (p *TCPProxy) wait() {
	p.mu.Lock()
	frozen := p.frozen
	p.mu.Unlock()
	if frozen != nil {
		<-frozen
	}
}

// Cut breaks the connections that there are; new ones are let through.
func (p *TCPProxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut()
}

func (p *TCPProxy) cut() {
	for l := range p.links {
		l.cut()
		delete(p.links, l)
	}
	p.announce()
}

// CutOff breaks all connections and refuses new ones until Restore.
func (p *TCPProxy) CutOff() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuse = true
	p.cut()
}

// Restore lets connections through again.
func (p *TCPProxy) Restore() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuse = false
}

// Freeze lets connections stand, but nothing passes in either direction until
// Thaw: so a peer looks whose machine or network hangs.
func (p *TCPProxy) Freeze() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.frozen == nil {
		p.frozen = make(chan struct{})
	}
}

// Thaw ends Freeze; what was held back passes.
func (p *TCPProxy) Thaw() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.frozen != nil {
		close(p.frozen)
		p.frozen = nil
	}
}

// Strand lets the connections stand that there are, but nothing passes over them any more, not
// even their end: so they look when a firewall has forgotten them, or a load balancer the server
// behind it. New ones are let through.
func (p *TCPProxy) Strand() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		l.stranded = true
	}
}

func (p *TCPProxy) isStranded(l *link) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return l.stranded
}

// Connections counts those that stand.
func (p *TCPProxy) Connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.links)
}

// Attempts counts the connections that clients have made, refused ones too.
func (p *TCPProxy) Attempts() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.total
}

// Await waits until cond holds; it is asked again after every connection that
// comes or goes.
func (p *TCPProxy) Await(ctx context.Context, cond func(*TCPProxy) bool) error {
	for {
		p.mu.Lock()
		changed := p.changed
		p.mu.Unlock()
		if cond(p) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("proxy %s: %w", p.Addr, context.Cause(ctx))
		}
	}
}

func (p *TCPProxy) close() {
	p.mu.Lock()
	p.closed = true
	p.cut()
	p.mu.Unlock()
	p.Thaw()
	_ = p.listener.Close()
	p.serving.Wait()
}
