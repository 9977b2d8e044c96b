package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	sessionTimeout = 10 * time.Second
	commitEvery    = 300 * time.Millisecond
)

var errCrashed = errors.New("crashed")

// A member is one consumer of the group, from its joining to its leaving. Its goroutine
// polls, processes and commits.
type member struct {
	id   int
	s    *storm
	cl   *kgo.Client
	stop context.CancelFunc
	done chan struct{}

	mu      sync.Mutex // guards what follows
	crashed bool       // nothing it is told counts any more
	conns   map[net.Conn]bool
}

// join starts a member.
func (s *storm) join(ctx context.Context, id int) (*member, error) {
	m := &member{id: id, s: s, done: make(chan struct{}), conns: map[net.Conn]bool{}}
	o := append(patient(s.address, 20*time.Second),
		kgo.Dialer(m.dial),
		kgo.ClientID(fmt.Sprintf("member-%d", id)),
		kgo.ConsumerGroup(s.group),
		kgo.ConsumeTopics(s.topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.DisableAutoCommit(),
		kgo.BlockRebalanceOnPoll(),
		kgo.FetchMaxWait(time.Second),
		kgo.FetchMaxBytes(1<<20),
		kgo.SessionTimeout(sessionTimeout),
		kgo.RebalanceTimeout(20*time.Second),
		kgo.HeartbeatInterval(time.Second),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, p map[string][]int32) {
			m.tell(func(o *ownership) { o.assigned(id, p[s.topic]) })
		}),
		kgo.OnPartitionsRevoked(func(ctx context.Context, _ *kgo.Client, p map[string][]int32) {
			m.commit(ctx)
			m.tell(func(o *ownership) { o.revoked(id, p[s.topic]) })
		}),
		kgo.OnPartitionsLost(func(_ context.Context, _ *kgo.Client, p map[string][]int32) {
			m.tell(func(o *ownership) { o.lost(id, p[s.topic]) })
		}),
	)
	switch s.Protocol {
	case "range":
		o = append(o, kgo.Balancers(kgo.RangeBalancer()))
	case "cooperative-sticky":
		o = append(o, kgo.Balancers(kgo.CooperativeStickyBalancer()))
	case "consumer":
		o = append(o, kgo.ServerSideBalancer(), kgo.Balancers(kgo.StickyBalancer()))
	default:
		return nil, fmt.Errorf("there is no protocol %s: range, cooperative-sticky and consumer are known", s.Protocol)
	}
	var err error
	if m.cl, err = kgo.NewClient(o...); err != nil {
		return nil, err
	}
	ctx, m.stop = context.WithCancel(ctx)
	go m.run(ctx)
	return m, nil
}

// tell has the judge know, unless the member has crashed.
func (m *member) tell(what func(*ownership)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.crashed {
		return
	}
	m.s.mu.Lock()
	defer m.s.mu.Unlock()
	what(m.s.judge)
}

func (m *member) run(ctx context.Context) {
	defer close(m.done)
	committed := time.Now()
	for ctx.Err() == nil {
		poll, cancel := context.WithTimeout(ctx, commitEvery)
		fetched := m.cl.PollFetches(poll)
		cancel()
		fetched.EachRecord(func(r *kgo.Record) {
			var partition int32
			var record int
			_, err := fmt.Sscanf(string(bytes.TrimRight(r.Value, ".")), "%d/%d", &partition, &record)
			m.tell(func(o *ownership) {
				if err != nil || partition != r.Partition {
					o.found.add(faultDamaged, 1, "partition %d offset %d: %.40q", r.Partition, r.Offset, r.Value)
					return
				}
				o.process(partition, record)
			})
		})
		fetched.EachError(func(_ string, partition int32, err error) {
			if loss := (*kgo.ErrDataLoss)(nil); errors.As(err, &loss) || errors.Is(err, kerr.OffsetOutOfRange) {
				m.tell(func(o *ownership) { o.found.add(faultLost, 1, "partition %d: %v", partition, err) })
			}
		})
		if time.Since(committed) >= commitEvery {
			m.commit(ctx)
			committed = time.Now()
		}
		m.cl.AllowRebalance()
	}
}

// commit commits what was processed, which is all that was polled.
func (m *member) commit(ctx context.Context) {
	offsets := m.cl.UncommittedOffsets()
	if len(offsets) == 0 {
		return
	}
	floors := map[int32]int64{}
	m.tell(func(o *ownership) {
		for p := range offsets[m.s.topic] {
			floors[p] = o.floor(p)
		}
	})
	m.cl.CommitOffsetsSync(ctx, offsets, func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, r *kmsg.OffsetCommitResponse, err error) {
		m.tell(func(o *ownership) {
			if err != nil {
				m.s.refused(err)
				return
			}
			for _, t := range r.Topics {
				for _, p := range t.Partitions {
					if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
						m.s.refused(err)
					} else {
						o.commit(m.id, p.Partition, offsets[m.s.topic][p.Partition].Offset, floors[p.Partition])
					}
				}
			}
		})
	})
}

// leave commits, gives the partitions back, and says good-bye.
func (m *member) leave() {
	m.stop()
	<-m.done
	m.cl.CloseAllowingRebalance()
}

// crash ends the member without a word. What it still does nobody hears.
func (m *member) crash() {
	m.mu.Lock()
	m.s.mu.Lock()
	m.s.judge.gone(m.id)
	m.s.mu.Unlock()
	m.crashed = true
	for c := range m.conns {
		c.Close()
	}
	m.mu.Unlock()
	m.stop()
	<-m.done
	m.cl.AllowRebalance()
	over, cancel := context.WithCancel(context.Background())
	cancel()
	_ = m.cl.LeaveGroupContext(over) // so that closing does not wait to say good-bye
	m.cl.Close()
}

func (m *member) dial(ctx context.Context, network, address string) (net.Conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.crashed {
		c.Close()
		return nil, errCrashed
	}
	m.conns[c] = true
	return &conn{c, m}, nil
}

// A conn is a member's, so that it can be broken.
type conn struct {
	net.Conn
	m *member
}

func (c *conn) Close() error {
	c.m.mu.Lock()
	delete(c.m.conns, c.Conn)
	c.m.mu.Unlock()
	return c.Conn.Close()
}
