package polylog

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"time"
)

// Option sets something of a Connection.
type Option func(*options)

type options struct {
	tls          *tls.Config // nil: none
	clientID     string
	user         string
	password     string
	dial         func(context.Context) (net.Conn, error)
	logger       *slog.Logger
	reconnect    ReconnectPolicy
	heartbeat    time.Duration
	exception    func(error)
	stopped      bool
	retryInDoubt bool
}

// Limits and defaults of a connection.
const (
	defaultHeartbeat = 10 * time.Second
	closeTimeout     = 10 * time.Second // Close waits no longer for what is under way
	inFlightBytes    = 8 << 20          // sent and not confirmed; a Put beyond it waits
	batchBytes       = 128 << 10        // a record batch is closed at this size
	batchRecords     = 16 << 10         // or at this many records
	unfilledBatches  = 3                // batches of one lane under way while the next one still fills
	defaultPrefetch  = 1000             // messages
	prefetchBytes    = 16 << 20         // bytes that a consumer holds ready, once it knows how large messages are
	assumedBytes     = 64 << 10         // what a message is assumed to have until then
)

func defaultOptions() options {
	return options{
		logger:    slog.New(slog.DiscardHandler),
		reconnect: ReconnectPolicy{Min: 50 * time.Millisecond, Max: 5 * time.Second},
		heartbeat: defaultHeartbeat,
	}
}

// ReconnectPolicy says how a broken connection is dialled again. The wait
// before the n-th attempt is drawn between Min and the lesser of Max and Min
// doubled n times.
type ReconnectPolicy struct {
	Min, Max time.Duration
	Attempts int  // in a row, before the connection is given up; 0: without end
	Disabled bool // a connection that breaks stays broken
}

// WithClientID sets the connection's client id, which names its durable
// subscriptions. Another connection with the same id is refused with
// ErrConflict. Jakarta Messaging 3.1 §6.1.2.
func WithClientID(id string) Option { return func(o *options) { o.clientID = id } }

// WithUser sets the user and the password, as the URL's userinfo does.
func WithUser(user, password string) Option {
	return func(o *options) { o.user, o.password = user, password }
}

// WithTLS has the connection encrypted, as the URL's scheme polylogs does, with the
// settings of a configuration: authorities that it trusts, a certificate by which it
// proves who it is.
func WithTLS(c *tls.Config) Option { return func(o *options) { o.tls = c } }

// WithDialer sets what dials, in place of TCP to the URL's hosts: a broker in
// the same process, a proxy.
func WithDialer(dial func(context.Context) (net.Conn, error)) Option {
	return func(o *options) { o.dial = dial }
}

// WithLogger sets where lost connections and failed acknowledgements are
// told. Without it nothing is logged.
func WithLogger(l *slog.Logger) Option { return func(o *options) { o.logger = l } }

// WithReconnect sets the reconnect policy. The default waits between 50 ms and
// 5 s, without end.
func WithReconnect(p ReconnectPolicy) Option { return func(o *options) { o.reconnect = p } }

// WithHeartbeat sets how long this end may be silent; the default is 10 s. A
// broker that is silent for twice what it announced is taken for dead.
func WithHeartbeat(d time.Duration) Option { return func(o *options) { o.heartbeat = d } }

// WithExceptionListener sets what is told of failures that no caller waits
// for: a lost connection, an acknowledgement that was refused. It is called on
// the connection's goroutines and must return soon. Jakarta Messaging 3.1
// §6.1.7.
func WithExceptionListener(f func(error)) Option { return func(o *options) { o.exception = f } }

// WithStopped leaves delivery stopped until Start, as Jakarta Messaging 3.1
// §6.1.4 has it. Without it a connection starts at once.
func WithStopped() Option { return func(o *options) { o.stopped = true } }

// WithRetryInDoubt sends again, after reconnecting, what was not confirmed
// when the connection broke. It may then be there twice, both times with the
// same message id. Without it such a send fails with ErrInDoubt.
func WithRetryInDoubt() Option { return func(o *options) { o.retryInDoubt = true } }

// ConsumeOption sets something of a consumer or subscription.
type ConsumeOption func(*consumeOptions)

type consumeOptions struct {
	selector    string
	prefetch    int
	exclusive   bool
	noLocal     bool
	start       StartKind
	startAt     int64
	noWait      bool
	concurrency int
	partitions  []int32
	settings    string
	temporary   bool // the destination is
}

// WithSelector consumes only messages that the selector holds for: Jakarta
// Messaging 3.1 §3.8. A syntax error fails with ErrBadSelector when the
// consumer is opened.
func WithSelector(selector string) ConsumeOption {
	return func(o *consumeOptions) { o.selector = selector }
}

// WithPrefetch sets how many messages, from 1 to 65,536, are held ready for
// the application; the default is 1,000. Whatever it is, no more than about
// 16 MiB are.
func WithPrefetch(messages int) ConsumeOption {
	return func(o *consumeOptions) { o.prefetch = min(max(messages, 1), 65536) }
}

// WithExclusive asks for a queue's messages to go to this consumer alone.
// Others that ask wait their turn.
func WithExclusive() ConsumeOption { return func(o *consumeOptions) { o.exclusive = true } }

// WithNoLocal leaves out what connections with this client id, or without one
// this connection, have published. Jakarta Messaging 3.1 §8.3.2.
func WithNoLocal() ConsumeOption { return func(o *consumeOptions) { o.noLocal = true } }

// FromBeginning starts a new subscription at the first message that is kept.
func FromBeginning() ConsumeOption {
	return func(o *consumeOptions) { o.start = StartBeginning }
}

// FromOffset starts a new subscription at an offset.
func FromOffset(offset int64) ConsumeOption {
	return func(o *consumeOptions) { o.start, o.startAt = StartOffset, offset }
}

// FromTime starts a new subscription at the first message at or after t.
func FromTime(t time.Time) ConsumeOption {
	return func(o *consumeOptions) { o.start, o.startAt = StartTime, t.UnixMilli() }
}

// FromLast starts a new subscription n offsets before the end of each
// partition: at its last n messages, or fewer where a transaction's markers or
// compaction have taken offsets.
func FromLast(n int64) ConsumeOption {
	return func(o *consumeOptions) { o.start, o.startAt = StartLast, n }
}

// WithSettings has a new subscription have settings of redelivery, dead letters,
// expiry and priority in place of its topic's, by their names in
// docs/configuration.md: ErrInvalid for others. Admin.AlterSubscription changes them.
func WithSettings(settings map[string]string) ConsumeOption {
	return func(o *consumeOptions) {
		for name, value := range settings {
			o.settings += name + "=" + value + "\n"
		}
	}
}

// NoWait lets a Take return ErrNoMessage at once when nothing is ready, and a
// Stream's Read end.
func NoWait() ConsumeOption { return func(o *consumeOptions) { o.noWait = true } }

// WithPartitions has a Stream read these partitions only.
func WithPartitions(partitions ...int32) ConsumeOption {
	return func(o *consumeOptions) { o.partitions = partitions }
}

// WithConcurrency lets a Listen run n consumers side by side; the default is
// 1. Messages of one group stay with one consumer.
func WithConcurrency(n int) ConsumeOption {
	return func(o *consumeOptions) { o.concurrency = max(n, 1) }
}

func consumeOptionsOf(opts []ConsumeOption) consumeOptions {
	o := consumeOptions{prefetch: defaultPrefetch, concurrency: 1}
	for _, set := range opts {
		set(&o)
	}
	return o
}
