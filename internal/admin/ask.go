package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
)

// maxPage bounds what is read of a status page, in bytes.
const maxPage = 16 << 20

// Ask returns the slot and the alarms of the instance whose admin server listens at the address
// listen, HOST:PORT; without a host, at this one's loopback address.
func Ask(ctx context.Context, listen string) (slot string, alarms []Alarm, err error) {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return "", nil, fmt.Errorf("ask the instance at %s: %w", listen, err)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(host, port)+"/status", nil)
	if err != nil {
		return "", nil, fmt.Errorf("ask the instance at %s: %w", listen, err)
	}
	transport := &http.Transport{DisableKeepAlives: true} // no proxy stands before it
	res, err := transport.RoundTrip(req)
	if err != nil {
		return "", nil, fmt.Errorf("ask the instance at %s: %w", listen, err)
	}
	defer res.Body.Close()
	var p page
	if res.StatusCode != http.StatusOK {
		return "", nil, fmt.Errorf("ask the instance at %s: it answered %s", listen, res.Status)
	}
	if err := json.NewDecoder(io.LimitReader(res.Body, maxPage)).Decode(&p); err != nil {
		return "", nil, fmt.Errorf("ask the instance at %s: the answer is no status: %w", listen, err)
	}
	for _, a := range p.Alarms {
		alarms = append(alarms, Alarm{Key: a.Reason, Text: a.Text, Since: a.Since})
	}
	return p.Slot.Name, alarms, nil
}
