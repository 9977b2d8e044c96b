package wire

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"
)

// ErrInsecure refuses a listener that would serve a network without TLS and
// authentication, and was not told that this is meant.
var ErrInsecure = errors.New("refusing to listen in the open")

// Config says where and how to listen.
type Config struct {
	// Address is host:port. An empty host is loopback, not every interface:
	// who wants those writes 0.0.0.0 or [::].
	Address string
	// TLS, if set, is what every connection is wrapped in, TLS 1.2 or later.
	TLS *tls.Config
	// Authenticated says that the protocol asks every peer who it is.
	Authenticated bool
	// Insecure permits an address other than loopback without TLS and
	// authentication.
	Insecure bool
}

// Check says whether the address is loopback or else protected; the error
// wraps ErrInsecure and says what to set.
func (c Config) Check() error {
	host, _, err := net.SplitHostPort(c.Address)
	if err != nil {
		return fmt.Errorf("address %q: %w", c.Address, err)
	}
	if c.Insecure || (c.TLS != nil && c.Authenticated) || loopback(host) {
		return nil
	}
	return fmt.Errorf("%w: %s is not loopback; without TLS and users, bind to 127.0.0.1, or permit it with --insecure", ErrInsecure, c.Address)
}

// loopback does not resolve names: what a name resolves to may change after
// it was checked, so localhost is the only one trusted.
func loopback(host string) bool {
	if host == "" || host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

func (c Config) listenAddress() string {
	host, port, _ := net.SplitHostPort(c.Address)
	if host == "" {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}

func (c Config) tlsConfig() *tls.Config {
	if c.TLS == nil || c.TLS.MinVersion >= tls.VersionTLS12 {
		return c.TLS
	}
	safer := c.TLS.Clone()
	safer.MinVersion = tls.VersionTLS12
	return safer
}

// Limits bound what peers can make a broker hold before it knows them. Zero
// fields take their defaults; negative ones are no limit.
type Limits struct {
	// Connections bounds those open at once over all listeners that share the
	// Guard. Default 10,000.
	Connections int
	// PerAddress bounds those open at once from one address. Default 4,096.
	PerAddress int
	// Handshaking bounds those from one address that have not yet proved who
	// they are. Default 512.
	Handshaking int
	// Handshake bounds the time that takes. Default 10 s.
	Handshake time.Duration
}

func (l Limits) withDefaults() Limits {
	l.Connections = defaultTo(l.Connections, 10_000)
	l.PerAddress = defaultTo(l.PerAddress, 4096)
	l.Handshaking = defaultTo(l.Handshaking, 512)
	l.Handshake = defaultTo(l.Handshake, 10*time.Second)
	return l
}

func defaultTo[T int | time.Duration](v, def T) T {
	if v == 0 {
		return def
	}
	return v
}
