package wire

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// ErrTooManyConnections is wrapped by Admit's refusals.
var ErrTooManyConnections = errors.New("too many connections")

// Guard counts connections over all listeners that share it.
type Guard struct {
	limits Limits

	mu          sync.Mutex // guards what follows
	open        int
	byAddress   map[string]int
	handshaking map[string]int
}

// NewGuard returns a Guard with these limits.
func NewGuard(l Limits) *Guard {
	return &Guard{limits: l.withDefaults(), byAddress: map[string]int{}, handshaking: map[string]int{}}
}

// HandshakeTimeout is the time a peer has to prove who it is; 0: no limit.
func (g *Guard) HandshakeTimeout() time.Duration { return max(g.limits.Handshake, 0) }

// Open returns how many connections are open.
func (g *Guard) Open() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.open
}

// Admit counts a connection from addr, until the ticket's release, or refuses
// it. A connection within the process has no address to be counted under.
func (g *Guard) admit(addr net.Addr) (*Ticket, error) {
	host := hostOf(addr)
	g.mu.Lock()
	defer g.mu.Unlock()
	switch l := g.limits; {
	case l.Connections > 0 && g.open >= l.Connections:
		return nil, fmt.Errorf("%w: %d are open", ErrTooManyConnections, g.open)
	case host != "" && l.PerAddress > 0 && g.byAddress[host] >= l.PerAddress:
		return nil, fmt.Errorf("%w from one address: %d are open", ErrTooManyConnections, l.PerAddress)
	case host != "" && l.Handshaking > 0 && g.handshaking[host] >= l.Handshaking:
		return nil, fmt.Errorf("%w from one address: %d are not yet authenticated", ErrTooManyConnections, l.Handshaking)
	}
	g.open++
	if host != "" {
		g.byAddress[host]++
		g.handshaking[host]++
	}
	return &Ticket{guard: g, host: host, handshaking: host != ""}, nil
}

// Ticket is one connection's place under the limits.
type Ticket struct {
	guard *Guard
	host  string

	handshaking bool // guarded by guard.mu
}

// HandshakeTimeout is the time a peer has to prove who it is; 0: no limit.
func (t *Ticket) HandshakeTimeout() time.Duration { return t.guard.HandshakeTimeout() }

// Authenticated says that the peer has proved who it is: the limits of
// strangers count it no longer.
func (t *Ticket) Authenticated() {
	t.guard.mu.Lock()
	defer t.guard.mu.Unlock()
	t.known()
}

func (t *Ticket) known() {
	if t.handshaking {
		t.handshaking = false
		countDown(t.guard.handshaking, t.host)
	}
}

func (t *Ticket) release() {
	g := t.guard
	g.mu.Lock()
	defer g.mu.Unlock()
	t.known()
	g.open--
	if t.host != "" {
		countDown(g.byAddress, t.host)
	}
}

// countDown forgets who has none, so that the maps hold present peers only.
func countDown(m map[string]int, host string) {
	if m[host]--; m[host] <= 0 {
		delete(m, host)
	}
}

// Host is the address of a peer without its port; empty within the process.
func Host(addr net.Addr) string {
	if addr == nil || addr.Network() == pipeNetwork {
		return ""
	}
	host, _, err := net.SplitHostPort(addr.String())
	if err != nil {
		return addr.String()
	}
	return host
}

func hostOf(addr net.Addr) string {
	host := Host(addr)
	// An IPv6 peer owns a /64, so its addresses count as one.
	if ip := net.ParseIP(host); ip != nil && ip.To4() == nil {
		return ip.Mask(net.CIDRMask(64, 128)).String()
	}
	return host
}
