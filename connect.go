package polylog

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"

	"github.com/polylog-mq/polylog/wire/native"
)

// defaultPort is the native protocol's.
const defaultPort = "7400"

// Connect opens a connection. The address is
//
//	polylog://[user[:password]@]host[:port][,host[:port]...][?client-id=ID]
//
// or polylogs:// for TLS, with port 7400 where none is given; several hosts are tried in turn, now and
// whenever the connection breaks. The first time every host is tried once.
// Errors: ErrUnauthorized; ErrConflict if the client id is in use.
func Connect(ctx context.Context, address string, opts ...Option) (*Connection, error) {
	o := defaultOptions()
	hosts, err := parseAddress(address, &o)
	if err != nil {
		return nil, err
	}
	for _, set := range opts {
		set(&o)
	}
	c := newConnection(hosts, o)
	l, err := c.dialAny(ctx)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", strings.Join(hosts, ","), err)
	}
	c.start(l)
	if err := c.establish(ctx, l); err != nil {
		_ = c.Close()
		return nil, fmt.Errorf("connect to %s: %w", strings.Join(hosts, ","), err)
	}
	return c, nil
}

func parseAddress(address string, o *options) (hosts []string, err error) {
	u, err := url.Parse(address)
	if err != nil {
		// The error would show the address, and with it the password.
		return nil, &Error{Code: native.CodeInvalid, Message: "the address is no URL such as polylog://localhost:7400"}
	}
	switch u.Scheme {
	case "polylog":
	case "polylogs":
		if o.tls == nil {
			o.tls = &tls.Config{}
		}
	default:
		return nil, &Error{Code: native.CodeInvalid, Message: fmt.Sprintf("an address is \"polylog://HOST:PORT\" or \"polylogs://HOST:PORT\", and this has the scheme %q", u.Scheme)}
	}
	if u.User != nil {
		o.user = u.User.Username()
		o.password, _ = u.User.Password()
	}
	for name, values := range u.Query() {
		if name != "client-id" {
			return nil, &Error{Code: native.CodeInvalid, Message: fmt.Sprintf("the address has an unknown parameter %q", name)}
		}
		o.clientID = values[0]
	}
	for host := range strings.SplitSeq(u.Host, ",") {
		if host == "" {
			host = "localhost"
		}
		if _, _, err := net.SplitHostPort(host); err != nil {
			host = net.JoinHostPort(strings.Trim(host, "[]"), defaultPort)
		}
		hosts = append(hosts, host)
	}
	return hosts, nil
}

// dialAny tries every host once, beginning behind the one that was tried last.
func (c *Connection) dialAny(ctx context.Context) (*link, error) {
	var failed error
	for range c.hosts {
		host := c.hosts[c.nextHost%len(c.hosts)]
		c.nextHost++
		l, err := c.dial(ctx, host)
		if err == nil {
			return l, nil
		}
		failed = errors.Join(failed, err)
		if ctx.Err() != nil || errors.Is(err, ErrUnauthorized) {
			break
		}
	}
	return nil, failed
}

func (c *Connection) dial(ctx context.Context, host string) (*link, error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	var conn net.Conn
	var err error
	if c.options.dial != nil {
		conn, err = c.options.dial(ctx)
	} else {
		var d net.Dialer
		conn, err = d.DialContext(ctx, "tcp", host)
	}
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	if secure := c.options.tls; secure != nil {
		if secure.ServerName == "" {
			secure = secure.Clone()
			secure.ServerName, _, _ = net.SplitHostPort(host)
		}
		conn = tls.Client(conn, secure)
	}
	l, err := c.handshake(conn)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return l, nil
}
