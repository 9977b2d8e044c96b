package pitfalls

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"

	"github.com/IBM/sarama"
	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/polylog-mq/polylog/interop/target"
)

// onlyUpTo are all requests in their newest versions but for one.
func onlyUpTo(key, version int16) *kversion.Versions {
	v := kversion.Stable()
	v.SetMaxKeyVersion(key, version)
	return v
}

const apiVersions = 18

// fromTheFuture stands before the broker and turns the first ApiVersions request
// of each connection into one of a version that no broker knows yet. It counts
// the answers that say so in the form of version 0.
func fromTheFuture(t *testing.T) (address string, refusals *atomic.Int32) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	refusals = new(atomic.Int32)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go pass(t, c, refusals)
		}
	}()
	return l.Addr().String(), refusals
}

func pass(t *testing.T, client net.Conn, refusals *atomic.Int32) {
	defer client.Close()
	broker, err := net.Dial("tcp", target.Bootstrap(t))
	if err != nil {
		return
	}
	defer broker.Close()
	request, err := frame(client)
	if err != nil || len(request) < 8 {
		return
	}
	if binary.BigEndian.Uint16(request) == apiVersions {
		binary.BigEndian.PutUint16(request[2:], 99)
	}
	if _, err := broker.Write(framed(request)); err != nil {
		return
	}
	answer, err := frame(broker)
	if err != nil {
		return
	}
	// Correlation id, error code, keys: in version 0 there is nothing else. The
	// broker has to be older than the client, which asks anew for what there is.
	var r kmsg.ApiVersionsResponse
	if len(answer) > 6 && int16(binary.BigEndian.Uint16(answer[4:])) == kerr.UnsupportedVersion.Code && r.ReadFrom(answer[4:]) == nil {
		refusals.Add(1)
		for i := range r.ApiKeys {
			r.ApiKeys[i].MaxVersion = min(r.ApiKeys[i].MaxVersion, 2)
		}
		answer = r.AppendTo(answer[:4:4])
	}
	if _, err := client.Write(framed(answer)); err != nil {
		return
	}
	go io.Copy(broker, client) //nolint:errcheck // ends with the connections
	_, _ = io.Copy(client, broker)
}

func frame(r io.Reader) ([]byte, error) {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(size[:])
	if n > 1<<20 {
		return nil, errors.New("no frame of this size is expected")
	}
	b := make([]byte, n)
	_, err := io.ReadFull(r, b)
	return b, err
}

func framed(b []byte) []byte { return append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...) }

// Test03ApiVersions: an unknown version of ApiVersions is answered in the form of
// version 0 with code 35, never by closing.
func Test03ApiVersions(t *testing.T) {
	refused := func(t *testing.T, refusals *atomic.Int32) {
		t.Helper()
		if refusals.Load() == 0 {
			t.Error("nothing was refused")
		}
	}
	t.Run("kgo", func(t *testing.T) {
		address, refusals := fromTheFuture(t)
		cl := target.Client(t, kgo.SeedBrokers(address))
		target.Ask[*kmsg.MetadataResponse](t, cl, kmsg.NewPtrMetadataRequest())
		refused(t, refusals)
	})
	t.Run("librdkafka", func(t *testing.T) {
		address, refusals := fromTheFuture(t)
		a, err := kafka.NewAdminClient(librdkafka(t, "bootstrap.servers", address))
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		if _, err := a.GetMetadata(nil, true, int(target.Patience.Milliseconds())); err != nil {
			t.Error(err)
		}
		refused(t, refusals)
	})
	t.Run("sarama", func(t *testing.T) {
		address, refusals := fromTheFuture(t)
		c := saramaConfig()
		c.ApiVersionsRequest = true
		cl, err := sarama.NewClient([]string{address}, c)
		if err != nil {
			t.Fatal(err)
		}
		cl.Close()
		refused(t, refusals)
	})
	// The request as bytes, of a client that nobody has written yet.
	t.Run("raw", func(t *testing.T) {
		c, err := net.Dial("tcp", target.Bootstrap(t))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for range 2 { // the connection goes on
			request := []byte{0, apiVersions, 0x7f, 0xff, 0, 0, 0, 7, 0, 1, 'x', 0, 2, 'f', 'f'}
			if _, err := c.Write(framed(request)); err != nil {
				t.Fatal(err)
			}
			answer, err := frame(c)
			if err != nil {
				t.Fatal(err)
			}
			var r kmsg.ApiVersionsResponse
			if binary.BigEndian.Uint32(answer) != 7 {
				t.Errorf("correlation id of % x", answer[:4])
			}
			if err := r.ReadFrom(answer[4:]); err != nil {
				t.Errorf("not in the form of version 0: %v", err)
			}
			code(t, "ApiVersions 32767", r.ErrorCode, kerr.UnsupportedVersion)
			if len(r.ApiKeys) != 1 || r.ApiKeys[0].ApiKey != apiVersions || r.ApiKeys[0].MaxVersion < 3 {
				t.Errorf("says what it supports as %+v", r.ApiKeys) // KIP-511
			}
		}
	})
}
