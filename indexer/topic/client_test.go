package topic

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"tidemark/dbsync"
)

// Who connects is told what is wrong with what.
func TestConnect(t *testing.T) {
	server := httptest.NewTLSServer(nil) // has a certificate
	defer server.Close()
	certificate := &tls.Config{Certificates: server.TLS.Certificates}
	trusting := server.Client().Transport.(*http.Transport).TLSClientConfig
	sasl := []kfake.Opt{kfake.EnableSASL(), kfake.Superuser("PLAIN", "plain", "secret"), kfake.Superuser("SCRAM-SHA-256", "scram", "secret"), kfake.Superuser("SCRAM-SHA-512", "scram", "secret")}
	for _, test := range []struct {
		name    string
		cluster []kfake.Opt
		change  func(*Options)
		kind    ConnectKind // -1: it works
	}{
		{"plain text", nil, func(*Options) {}, -1},
		{"compression that there is not", nil, func(o *Options) { o.Compression = "rar" }, BadOptions},
		{"plain", sasl, func(o *Options) { o.SASL = &SASL{Mechanism: "plain", User: "plain", Password: "secret"} }, -1},
		{"scram-sha-256", sasl, func(o *Options) { o.SASL = &SASL{Mechanism: "scram-sha-256", User: "scram", Password: "secret"} }, -1},
		{"scram-sha-512", sasl, func(o *Options) { o.SASL = &SASL{Mechanism: "scram-sha-512", User: "scram", Password: "secret"} }, -1},
		{"a wrong password", sasl, func(o *Options) { o.SASL = &SASL{Mechanism: "scram-sha-512", User: "scram", Password: "wrong"} }, BadCredentials},
		{"a mechanism that there is not", sasl, func(o *Options) { o.SASL = &SASL{Mechanism: "gssapi", User: "me", Password: "secret"} }, BadOptions},
		{"a broker that is away", nil, func(o *Options) { o.Brokers = []string{"127.0.0.1:1"} }, Away},
		{"TLS", []kfake.Opt{kfake.TLS(certificate)}, func(o *Options) { o.TLS = trusting.Clone() }, -1},
		{"a certificate that nobody trusts", []kfake.Opt{kfake.TLS(certificate)}, func(o *Options) { o.TLS = new(tls.Config) }, BadCertificate},
		{"TLS where there is none", nil, func(o *Options) { o.TLS = new(tls.Config) }, BadCertificate},
	} {
		t.Run(test.name, func(t *testing.T) {
			cluster := startFake(t, slices.Concat([]kfake.Opt{kfake.NumBrokers(1)}, test.cluster)...)
			o := options(t, cluster)
			test.change(&o)
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			c, err := Connect(ctx, o)
			if err == nil {
				c.Close()
			}
			var refused *ConnectError
			switch {
			case test.kind < 0:
				if err != nil {
					t.Error(err)
				}
			case !errors.As(err, &refused) || refused.Kind != test.kind || dbsync.IsPermanent(err) != (test.kind != Away):
				t.Errorf("%#v: %v", err, err)
			}
		})
	}
}
