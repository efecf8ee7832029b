package search

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"sync"
)

// TLSFiles name what servers are verified by, and what is shown to them.
type TLSFiles struct {
	CA        string // PEM certificates to trust; empty: those of the system
	Cert, Key string // PEM certificate to show, and its key; both are read again when they have changed; empty: none
}

// Config reads the files. A change of Cert and Key is logged to logger.
func (f TLSFiles) Config(logger *slog.Logger) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if f.CA != "" {
		pem, err := os.ReadFile(f.CA)
		if err != nil {
			return nil, fmt.Errorf("read ca_file: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("ca_file %s holds no PEM certificate", f.CA)
		}
	}
	if f.Cert != "" {
		certificate, err := newClientCertificate(f.Cert, f.Key, logger)
		if err != nil {
			return nil, err
		}
		c.GetClientCertificate = certificate.get
	}
	return c, nil
}

// A clientCertificate is what this process shows of itself when it connects. It is read again when
// one of its files has changed, which each new connection looks at: certificates that live for hours
// are replaced while a process runs.
type clientCertificate struct {
	certFile, keyFile string
	logger            *slog.Logger

	mu     sync.Mutex
	loaded *tls.Certificate
	as     [2]fileState // of both files when they were read, or could not be
}

// A fileState tells whether a file is still the one that was read. Kubernetes replaces a folder by
// a link to another one, so what the name stands for is looked at.
type fileState struct {
	size     int64
	modified int64 // nanoseconds
}

// newClientCertificate reads both files.
func newClientCertificate(certFile, keyFile string, logger *slog.Logger) (*clientCertificate, error) {
	c := &clientCertificate{certFile: certFile, keyFile: keyFile, logger: logger}
	c.as = c.look()
	if err := c.load(); err != nil {
		return nil, fmt.Errorf("read cert_file and key_file: %w", err)
	}
	return c, nil
}

// get is for [tls.Config.GetClientCertificate]. While the files cannot be read, or do not belong
// together, the pair that was read before is shown: one file is replaced before the other.
func (c *clientCertificate) get(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if as := c.look(); as != c.as {
		c.as = as
		if err := c.load(); err != nil {
			c.logger.Warn("the client certificate has changed and cannot be used, the one before is", "cert_file", c.certFile, "key_file", c.keyFile, "error", err)
		} else {
			c.logger.Info("the client certificate has changed", "cert_file", c.certFile, "valid_until", c.loaded.Leaf.NotAfter)
		}
	}
	return c.loaded, nil
}

// load replaces what was loaded, by a pair that fits.
func (c *clientCertificate) load() error {
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return err
	}
	c.loaded = &pair
	return nil
}

func (c *clientCertificate) look() (as [2]fileState) {
	for i, name := range []string{c.certFile, c.keyFile} {
		if info, err := os.Stat(name); err == nil {
			as[i] = fileState{info.Size(), info.ModTime().UnixNano()}
		}
	}
	return as
}
