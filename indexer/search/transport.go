package search

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"tidemark/mapping/limit"
)

// productTransport makes one client serve both products. go-elasticsearch refuses
// answers without the header X-Elastic-Product, which OpenSearch and Elasticsearch
// before 7.14 do not send. Which product answers is read from the body of GET / at
// start (see Connect), so nothing is lost by always showing the header here.
type productTransport struct{ next http.RoundTripper }

func (t productTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	res, err := t.next.RoundTrip(req)
	if err == nil && res.Header.Get("X-Elastic-Product") == "" {
		res.Header.Set("X-Elastic-Product", "Elasticsearch")
	}
	return res, err
}

// newTransport builds the connections to all nodes: HTTP/1.1 with keep-alive, so that
// each concurrent request has a connection of its own that stays open between batches.
func newTransport(o Options) (*http.Transport, error) {
	tlsConfig, err := TLSFiles{o.CAFile, o.CertFile, o.KeyFile}.Config(o.Logger)
	if err != nil {
		return nil, err
	}
	tlsConfig.InsecureSkipVerify = o.SkipVerify
	proxy := http.ProxyFromEnvironment
	if o.ProxyURL != "" {
		u, err := url.Parse(o.ProxyURL)
		if err != nil || u.Host == "" {
			return nil, errors.New("the URL of the proxy cannot be parsed") // its text may hold a password
		}
		proxy = http.ProxyURL(u)
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Transport{
		Proxy:                 proxy,
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		TLSClientConfig:       tlsConfig,
		TLSHandshakeTimeout:   10 * time.Second,
		Protocols:             protocols,
		MaxIdleConnsPerHost:   limit.MaxRequests + 4, // bulk requests, and those beside them
		IdleConnTimeout:       90 * time.Second,
		ResponseHeaderTimeout: 0,    // each request has its own deadline
		DisableCompression:    true, // answers are filtered to a few bytes per item
		WriteBufferSize:       64 << 10,
		ReadBufferSize:        32 << 10,
	}, nil
}

// splitURLs takes user names and passwords out of the URLs, so that no later message
// can show them, and returns the user that they name.
func splitURLs(urls []string) (addresses []string, user, password string, err error) {
	if len(urls) == 0 {
		return nil, "", "", fmt.Errorf("no URL given")
	}
	for i, raw := range urls {
		u, err := url.Parse(strings.TrimSpace(raw))
		if err != nil {
			// The parser's error quotes the text, which may hold a password.
			return nil, "", "", fmt.Errorf("url %d of %d cannot be parsed", i+1, len(urls))
		}
		if u.User != nil {
			name := u.User.Username()
			secret, _ := u.User.Password()
			if user != "" && (user != name || password != secret) {
				return nil, "", "", fmt.Errorf("url %d of %d names another user than those before it", i+1, len(urls))
			}
			user, password = name, secret
			u.User = nil
		}
		if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
			// A query may hold a token: only scheme and host are shown.
			return nil, "", "", fmt.Errorf("url %d of %d (%s://%s): want http://host:port or https://host:port", i+1, len(urls), u.Scheme, u.Host)
		}
		addresses = append(addresses, strings.TrimRight(u.String(), "/"))
	}
	return addresses, user, password, nil
}

// loopback reports whether every address is on this machine, where compressing
// costs more than it saves.
func loopback(addresses []string) bool {
	for _, address := range addresses {
		u, err := url.Parse(address)
		if err != nil {
			return false
		}
		if ip := net.ParseIP(u.Hostname()); u.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback()) {
			return false
		}
	}
	return true
}
