package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"

	"tidemark/testenv"
)

// A link is the network between one instance and one of its servers.
type link struct {
	proxy  *toxiproxy.Proxy
	toxics int // made so far, for their names
}

// newLink listens in front of target, HOST:PORT.
func newLink(server *toxiproxy.ApiServer, name, target string) (*link, error) {
	// From below the ports of outgoing connections: while the link is cut off nobody else gets it.
	port, err := testenv.FreePort()
	if err != nil {
		return nil, err
	}
	l := &link{proxy: toxiproxy.NewProxy(server, name, net.JoinHostPort("127.0.0.1", fmt.Sprint(port)), target)}
	return l, l.proxy.Start()
}

// newToxiproxy has no address of its own: its proxies are made here. Some of its toxics write to
// the logger of the process whatever logger it is given.
func newToxiproxy() *toxiproxy.ApiServer {
	zerolog.SetGlobalLevel(zerolog.Disabled)
	return toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
}

// cut breaks the connections that there are, and lets new ones through.
func (l *link) cut() error {
	l.proxy.Stop()
	return l.restore()
}

// cutOff breaks the connections, and refuses new ones until restore.
func (l *link) cutOff() { l.proxy.Stop() }

// restore lets connections through again. Its port may be taken for a moment by what was cut.
func (l *link) restore() (err error) {
	for range 100 {
		if err = l.proxy.Start(); err == nil || err == toxiproxy.ErrProxyAlreadyStarted {
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return err
}

// A toxic is one of Toxiproxy's, on its way in one direction: downstream is what the server sends.
type toxic struct {
	Name       string         `json:"name"`
	Type       string         `json:"type"`
	Stream     string         `json:"stream"`
	Toxicity   float32        `json:"toxicity"`
	Attributes map[string]int `json:"attributes"`
}

func (l *link) poison(kind, stream string, attributes map[string]int) error {
	l.toxics++
	t := toxic{Name: fmt.Sprint(kind, l.toxics), Type: kind, Stream: stream, Toxicity: 1, Attributes: attributes}
	text, err := json.Marshal(t)
	if err != nil {
		return err
	}
	_, err = l.proxy.Toxics.AddToxicJson(strings.NewReader(string(text)))
	return err
}

// heal takes all toxics off. Connections that have lost bytes are broken by that, and the others
// are, too, where a toxic does not go: nobody can tell them apart.
func (l *link) heal() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		l.proxy.Toxics.ResetToxics(ctx)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		l.proxy.Stop() // which ends what ResetToxics waits for
		<-done
	}
	return l.restore()
}
