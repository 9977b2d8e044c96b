package kafka

import (
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestRequestsThatEndConnections shows what has no answer in this protocol:
// each ends its own connection, and nobody else's.
func TestRequestsThatEndConnections(t *testing.T) {
	r := newRig(t)
	r.create("t")
	bystander := r.dial()
	frame := func(body ...byte) []byte {
		return append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)
	}
	for name, p := range map[string][]byte{
		"negative size":       {0xff, 0xff, 0xff, 0xff},
		"huge size":           {0x7f, 0xff, 0xff, 0xff},
		"too short":           frame(0, 3, 0),
		"unknown key":         frame(0x7f, 0, 0, 0, 0, 0, 0, 1, 0xff, 0xff),
		"version too new":     frame(0, 3, 0x7f, 0, 0, 0, 0, 1, 0xff, 0xff),
		"client id too long":  frame(0, 3, 0, 1, 0, 0, 0, 1, 0x7f, 0xff),
		"lying array":         frame(0, 3, 0, 1, 0, 0, 0, 1, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff),
		"tags without an end": frame(0, 3, 0, 9, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff),
		"HTTP":                []byte("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
	} {
		c := r.dial()
		if _, err := c.conn.Write(p); err != nil {
			t.Fatal(err)
		}
		_ = c.conn.SetReadDeadline(time.Now().Add(5 * time.Second))
		if n, err := c.conn.Read(make([]byte, 100)); !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
			t.Errorf("%s: %d bytes, %v", name, n, err)
		}
		if a := bystander.produce("t", 0, batch("v")); a.ErrorCode != 0 {
			t.Errorf("%s: a bystander gets %d", name, a.ErrorCode)
		}
	}
}

// TestSizeAloneCostsNothing shows that a frame's announced size is not
// allocated before its bytes come.
func TestSizeAloneCostsNothing(t *testing.T) {
	r := newRig(t)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for range 50 {
		if _, err := r.dial().conn.Write([]byte{6, 0, 0, 0, 0, 0, 0, 0}); err != nil { // 96 MiB
			t.Fatal(err)
		}
	}
	time.Sleep(50 * time.Millisecond)
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 100<<20 {
		t.Errorf("50 announcements of 96 MiB took %d MiB", grown>>20)
	}
}

// FuzzRequests sends requests of every key and version, damaged at will, and
// asks after each whether the broker still serves others.
func FuzzRequests(f *testing.F) {
	for key, h := range handlers {
		for version := h.min; version <= h.max; version++ {
			q := kmsg.RequestForKey(key)
			q.SetVersion(version)
			f.Add(encodeRequest(q, 1)[4:])
			f.Add(encodeRequest(filled(q, uint64(key)), 1)[4:])
		}
	}
	r := newRig(f)
	r.create("t", "partitions=2")
	c := r.dial()
	f.Fuzz(func(t *testing.T, body []byte) {
		if len(body) > 1<<20 {
			return
		}
		p := append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)
		took := func() (bytes uint64, refused bool) {
			victim := r.dialFor(t)
			defer victim.conn.Close()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, _ = victim.conn.Write(p)
			// It is over when the broker has answered, or hung up; a request that
			// waits is left alone.
			_ = victim.conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
			_, err := victim.conn.Read(make([]byte, 1<<16))
			runtime.ReadMemStats(&after)
			return after.TotalAlloc - before.TotalAlloc, err != nil && !errors.Is(err, os.ErrDeadlineExceeded)
		}
		// What it costs it costs again; what the broker does beside it, it does not.
		limit := 1<<20 + 4*uint64(len(p))
		for try := 1; ; try++ {
			grown, refused := took()
			if !refused || grown <= limit {
				break
			}
			if try == 3 {
				t.Errorf("a frame of %d bytes that was refused took %d bytes", len(p), grown)
				break
			}
		}
		c.t = t
		if a := c.produce("t", 1, batch("v")); a.ErrorCode != 0 {
			t.Errorf("others are refused with %d", a.ErrorCode)
		}
	})
}

// filled sets a request's fields to something that a client could say.
func filled(q kmsg.Request, seed uint64) kmsg.Request {
	random := rand.New(rand.NewPCG(seed, 1))
	switch q := q.(type) {
	case *kmsg.ProduceRequest:
		version := q.Version
		*q = *produceRequest("t", 0, -1, batch("a", "b"))
		q.Version = version
	case *kmsg.FetchRequest:
		version := q.Version
		*q = *fetchRequest("t", 0, 0, 1)
		q.Version = version
	case *kmsg.MetadataRequest:
		name := "t"
		q.Topics = []kmsg.MetadataRequestTopic{{Topic: &name}}
	case *kmsg.ListOffsetsRequest:
		p := kmsg.NewListOffsetsRequestTopicPartition()
		p.Timestamp = random.Int64N(5) - 3
		q.Topics = []kmsg.ListOffsetsRequestTopic{{Topic: "t", Partitions: []kmsg.ListOffsetsRequestTopicPartition{p}}}
	}
	return q
}
