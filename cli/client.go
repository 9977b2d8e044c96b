package cli

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/polylog-mq/polylog"
	"github.com/polylog-mq/polylog/wire/native"
)

// closeTimeout bounds how long a command waits, once it is done or
// interrupted, for what is under way.
const closeTimeout = 10 * time.Second

// connect dials the broker that --url names. A command that is over soon does
// not reconnect: a script would rather know.
func (r *run) connect(ctx context.Context, opts ...polylog.Option) (*polylog.Connection, error) {
	opts = append([]polylog.Option{
		polylog.WithReconnect(polylog.ReconnectPolicy{Disabled: true}),
		polylog.WithLogger(r.clientLogger()),
	}, opts...)
	secure, err := r.clientTLS()
	if err != nil {
		return nil, err
	}
	if secure != nil {
		opts = append(opts, polylog.WithTLS(secure))
	}
	c, err := polylog.Connect(ctx, r.config.text("url"), opts...)
	if err != nil && ctx.Err() != nil {
		return nil, errInterrupted // whatever the connection died of
	}
	return c, err
}

// clientTLS is how a polylogs:// address is connected to; nil: another address.
func (r *run) clientTLS() (*tls.Config, error) {
	if !strings.HasPrefix(r.config.text("url"), "polylogs:") {
		return nil, nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if file := r.config.text("tls-ca"); file != "" {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(text) {
			return nil, usagef("no certificate in %s", file)
		}
	}
	if file := r.config.text("tls-certificate"); file != "" {
		certificate, err := tls.LoadX509KeyPair(file, r.config.text("tls-key"))
		if err != nil {
			return nil, err
		}
		c.Certificates = []tls.Certificate{certificate}
	}
	return c, nil
}

// reconnecting is for commands that run until they are interrupted.
func reconnecting() polylog.Option {
	return polylog.WithReconnect(polylog.ReconnectPolicy{Min: 50 * time.Millisecond, Max: 5 * time.Second})
}

// withAdmin runs f with the administration of a connection.
func (r *run) withAdmin(ctx context.Context, f func(polylog.Admin) error) error {
	c, err := r.connect(ctx)
	if err != nil {
		return err
	}
	defer c.Close() // what matters has been waited for by then
	return f(c.Admin())
}

// logger writes to standard error at the level that was asked for.
func (r *run) logger() *slog.Logger { return r.loggerAt(r.config.text("log-level")) }

// clientLogger is one for commands that are not a broker: unless somebody asks
// for more, people who take messages want to read messages.
func (r *run) clientLogger() *slog.Logger {
	if r.config["log-level"].source == sourceDefault {
		return r.loggerAt("warn")
	}
	return r.logger()
}

func (r *run) loggerAt(text string) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(text)) // checked
	options := &slog.HandlerOptions{Level: level}
	if r.config.text("log-format") == "json" {
		return slog.New(slog.NewJSONHandler(r.stderr, options))
	}
	return slog.New(slog.NewTextHandler(r.stderr, options))
}

// brokersOwn ends the broker's refusal of what would change an internal
// destination.
const brokersOwn = "is the broker's own"

// explain is an error with what to do about it.
func explain(err error, c configuration) string {
	text := err.Error()
	if e, ok := errors.AsType[*native.Error](err); ok && e.Code == native.CodeUnauthorized {
		switch {
		case strings.HasSuffix(e.Message, brokersOwn):
			return text + "\nIt is an internal destination, read only: nothing can be put into it or taken from it.\n`polylog destination describe` shows it."
		case strings.Contains(e.Message, "user or password"):
			return text + "\nName a user in the address: --url polylog://USER:PASSWORD@HOST:PORT"
		}
		return text
	}
	if advice := adviceInUse(err, c); advice != "" {
		return text + "\n" + advice
	}
	if e, ok := errors.AsType[*net.OpError](err); ok && e.Op == "dial" {
		address := c.text("url")
		if u, parseErr := url.Parse(address); parseErr == nil {
			address = u.Redacted()
		}
		return fmt.Sprintf("no broker answers at %s: %v\nStart one with `polylog serve --data DIR`, or name another with --url or POLYLOG_URL.", address, e.Err)
	}
	return text
}

// withSession runs f with a session whose deliveries one call acknowledges.
// Closing it gives back what was not acknowledged.
func (r *run) withSession(ctx context.Context, options []polylog.Option, f func(*polylog.Session) error) error {
	c, err := r.connect(ctx, options...)
	if err != nil {
		return err
	}
	defer c.Close() // what matters has been waited for by then
	session, err := c.Session(ctx, polylog.ClientAcknowledge)
	if err != nil {
		return err
	}
	return f(session)
}
