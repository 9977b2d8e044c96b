// Package access has the same users and rules hold at every door, with clients that others
// wrote.
package access

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/polylog-mq/polylog"
	"github.com/polylog-mq/polylog/broker"
	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/embed"
	"github.com/polylog-mq/polylog/wire"
)

// secured is a broker that asks everybody who they are, behind all of its doors: ann may
// write orders, and bob is known and may nothing.
func secured(t *testing.T, o embed.Options) *embed.Server {
	t.Helper()
	loopback := wire.Config{Address: "127.0.0.1:0"}
	o.Listen, o.AMQP, o.STOMP, o.Memcache, o.HTTP, o.Kafka = loopback, loopback, loopback, loopback, loopback, []embed.KafkaListener{{Config: loopback}}
	o.Broker.Authorization = true
	s, err := embed.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	for _, name := range []string{"ann", "bob", "admin"} {
		if err := s.Broker().PutUser(t.Context(), name, name+"'s password"); err != nil {
			t.Fatal(err)
		}
	}
	for _, access := range []destination.Access{destination.AccessWrite, destination.AccessCreate} {
		if err := s.Broker().CreateACLs(t.Context(), destination.ACL{
			Resource: destination.ResourceTopic, Name: "orders", Pattern: destination.PatternLiteral, Principal: "User:ann", Host: "*",
			Operation: access, Effect: destination.EffectAllow,
		}); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func kafka(t *testing.T, s *embed.Server, opts ...kgo.Opt) error {
	t.Helper()
	opts = append([]kgo.Opt{
		kgo.SeedBrokers(s.KafkaAddrs()[0].String()), kgo.AllowAutoTopicCreation(), kgo.RecordDeliveryTimeout(2 * time.Second), kgo.UnknownTopicRetries(1),
		kgo.RetryTimeout(2 * time.Second),
	}, opts...)
	c, err := kgo.NewClient(opts...)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	return c.ProduceSync(ctx, &kgo.Record{Topic: "orders", Value: []byte("x")}).FirstErr()
}

func TestKafkaUsers(t *testing.T) {
	s := secured(t, embed.Options{})
	for _, c := range []struct {
		user, password string
		may            bool
	}{{"ann", "ann's password", true}, {"bob", "bob's password", false}, {"ann", "bob's password", false}, {"eve", "x", false}} {
		scramAuth := scram.Auth{User: c.user, Pass: c.password}
		for _, mechanism := range []sasl.Mechanism{
			scramAuth.AsSha256Mechanism(), scramAuth.AsSha512Mechanism(), plain.Auth{User: c.user, Pass: c.password}.AsMechanism(),
		} {
			if err := kafka(t, s, kgo.SASL(mechanism)); (err == nil) != c.may {
				t.Errorf("%s by %s: %v", c.user, mechanism.Name(), err)
			}
		}
	}
	if err := kafka(t, s); err == nil {
		t.Error("nobody may write")
	}
}

// speak sends text and returns the first bytes of the answer, to whoever speaks in lines.
func speak(t *testing.T, dial func() (net.Conn, error), text string) string {
	t.Helper()
	c, err := dial()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	line, _ := bufio.NewReader(c).ReadString('\n')
	return line
}

func plainly(a net.Addr) func() (net.Conn, error) {
	return func() (net.Conn, error) { return net.Dial("tcp", a.String()) }
}

func TestPasswordsAtEveryDoor(t *testing.T) {
	s := secured(t, embed.Options{})
	for _, c := range []struct{ user, stomp, memcache string }{
		{"ann", "CONNECTED\n", "STORED\r\n"}, {"eve", "ERROR\n", "CLIENT_ERROR authentication failure\r\n"},
	} {
		password := c.user + "'s password"
		if got := speak(t, plainly(s.STOMPAddr()), fmt.Sprintf("CONNECT\nlogin:%s\npasscode:%s\n\n\x00", c.user, password)); got != c.stomp {
			t.Errorf("STOMP: %q", got)
		}
		value := c.user + " " + password
		if got := speak(t, plainly(s.MemcacheAddr()), fmt.Sprintf("set any 0 0 %d\r\n%s\r\n", len(value), value)); got != c.memcache {
			t.Errorf("memcache: %q", got)
		}
		conn, err := polylog.Connect(t.Context(), "polylog://"+s.Addr().String(), polylog.WithUser(c.user, password))
		if (err == nil) != (c.user == "ann") || err != nil && !errors.Is(err, polylog.ErrUnauthorized) {
			t.Errorf("native: %v", err)
		}
		if err == nil {
			conn.Close()
		}
	}
}

// authority signs certificates.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t, dir: t.TempDir(), pool: x509.NewCertPool()}
	a.certify("authority", true)
	a.pool.AddCert(a.cert)
	return a
}

func (a *authority) certify(name string, ca bool) (certificate, key string) {
	a.t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		IsCA: ca, BasicConstraintsValid: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	if ca {
		a.cert, a.key = template, private
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &private.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	if ca {
		if a.cert, err = x509.ParseCertificate(der); err != nil {
			a.t.Fatal(err)
		}
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		a.t.Fatal(err)
	}
	certificate, key = filepath.Join(a.dir, name+".pem"), filepath.Join(a.dir, name+".key")
	for file, block := range map[string]*pem.Block{certificate: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
	return certificate, key
}

// client is a configuration for who has a certificate of that name; empty: of none.
func (a *authority) client(name string) *tls.Config {
	c := &tls.Config{RootCAs: a.pool, ServerName: "127.0.0.1"}
	if name != "" {
		pair, err := tls.LoadX509KeyPair(a.certify(name, false))
		if err != nil {
			a.t.Fatal(err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c
}

// Who has a certificate needs no password, at any door; who has none needs one.
func TestCertificatesAtEveryDoor(t *testing.T) {
	a := newAuthority(t)
	certificate, key := a.certify("broker", false)
	config, err := wire.TLSFiles{Certificate: certificate, Key: key, ClientCA: filepath.Join(a.dir, "authority.pem")}.Load()
	if err != nil {
		t.Fatal(err)
	}
	s := secured(t, embed.Options{TLS: config})
	for _, c := range []struct{ who, stomp, memcache string }{
		{"ann", "CONNECTED\n", "STORED\r\n"},
		{"bob", "CONNECTED\n", "CLIENT_ERROR unauthorized: user \"bob\" may not create \"orders\"\r\n"},
		{"", "ERROR\n", "CLIENT_ERROR authentication failure\r\n"},
	} {
		secure := a.client(c.who)
		dial := func(to net.Addr) func() (net.Conn, error) {
			return func() (net.Conn, error) { return tls.Dial("tcp", to.String(), secure) }
		}
		if got := speak(t, dial(s.STOMPAddr()), "CONNECT\naccept-version:1.2\n\n\x00"); got != c.stomp {
			t.Errorf("%s at STOMP: %q", c.who, got)
		}
		got := speak(t, dial(s.MemcacheAddr()), "set orders 0 0 1\r\nx\r\n")
		if refused := c.who == "bob"; refused && got[:12] != "CLIENT_ERROR" || !refused && got != c.memcache {
			t.Errorf("%s at memcache: %q", c.who, got)
		}
		if err := kafka(t, s, kgo.DialTLSConfig(secure)); (err == nil) != (c.who == "ann") {
			t.Errorf("%s at Kafka's door: %v", c.who, err)
		}
		conn, err := polylog.Connect(t.Context(), "polylogs://"+s.Addr().String(), polylog.WithTLS(secure))
		if (err == nil) != (c.who != "") {
			t.Errorf("%s at the native door: %v", c.who, err)
		}
		if err == nil {
			conn.Close()
		}
	}
	// Within the process there is no network, but users all the same.
	if _, err := polylog.Connect(t.Context(), "polylog://embedded", polylog.WithDialer(s.Dial)); !errors.Is(err, polylog.ErrUnauthorized) {
		t.Errorf("within the process: %v", err)
	}
	conn, err := polylog.Connect(t.Context(), "polylog://embedded", polylog.WithDialer(s.Dial), polylog.WithUser("admin", "admin's password"))
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
}

func TestOpenToTheNetworkWhenSecured(t *testing.T) {
	a := newAuthority(t)
	config, err := wire.TLSFiles{Certificate: filepath.Join(a.dir, "authority.pem"), Key: filepath.Join(a.dir, "authority.key")}.Load()
	if err != nil {
		t.Fatal(err)
	}
	everywhere := wire.Config{Address: "0.0.0.0:0"}
	if _, err := embed.Start(embed.Options{Dir: t.TempDir(), Listen: everywhere, TLS: config}); !errors.Is(err, wire.ErrInsecure) {
		t.Errorf("without users: %v", err)
	}
	if _, err := embed.Start(embed.Options{Dir: t.TempDir(), Listen: everywhere, Broker: broker.Options{Authorization: true}}); !errors.Is(err, wire.ErrInsecure) {
		t.Errorf("without TLS: %v", err)
	}
	s, err := embed.Start(embed.Options{Dir: t.TempDir(), Listen: everywhere, TLS: config, Broker: broker.Options{Authorization: true}})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
