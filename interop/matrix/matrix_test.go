// Package matrix has every door read what every other has written: one generated test,
// and the table of the README that it makes.
package matrix

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/Azure/go-amqp"
	"github.com/bradfitz/gomemcache/memcache"
	"github.com/go-stomp/stomp/v3"
	"github.com/go-stomp/stomp/v3/frame"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/polylog-mq/polylog"
	"github.com/polylog-mq/polylog/interop/target"
)

var rewrite = flag.Bool("rewrite", false, "write the table into README.md")

// letter is a message as far as a door can say it. Zero fields are not said.
type letter struct {
	text        bool // or bytes
	body        string
	id          string
	correlation string
	priority    int
	expires     int64 // unix ms
	property    string
}

// The fields, by the words of the table.
const (
	body        = "body"
	kind        = "kind"
	id          = "id"
	correlation = "correlation"
	priority    = "priority"
	expires     = "expiry"
	property    = "property"
)

var fields = []string{body, kind, id, correlation, priority, expires, property}

// door is one way in and out.
type door struct {
	name  string
	says  []string                                               // what one can say with it
	reads []string                                               // what one can read with it
	put   func(t *testing.T, queue string, l letter) (id string) // that the client says it has; empty: what it was told
	take  func(t *testing.T, queue string) letter
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func session(t *testing.T) *polylog.Session {
	t.Helper()
	c, err := polylog.Connect(t.Context(), "polylog://"+target.Native(t))
	must(t, err)
	t.Cleanup(func() { c.Close() })
	s, err := c.Session(t.Context(), polylog.IndividualAcknowledge)
	must(t, err)
	return s
}

func amqpSession(t *testing.T) *amqp.Session {
	t.Helper()
	c, err := amqp.Dial(t.Context(), "amqp://"+target.AMQP(t), nil)
	must(t, err)
	t.Cleanup(func() { c.Close() })
	s, err := c.NewSession(t.Context(), nil)
	must(t, err)
	return s
}

// patience bounds a take.
func patience(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), target.Patience)
	t.Cleanup(cancel)
	return ctx
}

var doors = []door{
	{
		name: "native", says: fields, reads: fields,
		put: func(t *testing.T, queue string, l letter) string {
			m := polylog.NewBytes([]byte(l.body))
			if l.text {
				m = polylog.NewText(l.body)
			}
			m.ID, m.CorrelationID, m.Priority, m.Expiration = l.id, l.correlation, uint8(l.priority), l.expires
			must(t, m.SetProperty("colour", l.property))
			r, err := polylog.QueueOf[*polylog.Message](session(t), queue).Put(t.Context(), m)
			must(t, err)
			return r.MessageID() // §3.4.3: the provider's
		},
		take: func(t *testing.T, queue string) letter {
			d, err := polylog.QueueOf[*polylog.Message](session(t), queue).Take(patience(t))
			must(t, err)
			m := d.Message()
			must(t, d.Ack(t.Context()))
			p, _ := m.Properties["colour"].(string)
			return letter{m.Kind == polylog.BodyText, string(m.Body), m.ID, m.CorrelationID, int(m.Priority), m.Expiration, p}
		},
	},
	{
		name: "AMQP", says: fields, reads: fields,
		put: func(t *testing.T, queue string, l letter) string {
			m := &amqp.Message{
				Header:                &amqp.MessageHeader{Durable: true, Priority: uint8(l.priority), TTL: time.Until(time.UnixMilli(l.expires))},
				Properties:            &amqp.MessageProperties{MessageID: l.id, CorrelationID: l.correlation},
				ApplicationProperties: map[string]any{"colour": l.property},
			}
			if l.text {
				m.Value = l.body
			} else {
				m.Data = [][]byte{[]byte(l.body)}
			}
			expiry := time.UnixMilli(l.expires)
			m.Properties.AbsoluteExpiryTime = &expiry
			out, err := amqpSession(t).NewSender(t.Context(), queue, nil)
			must(t, err)
			must(t, out.Send(t.Context(), m, nil))
			return ""
		},
		take: func(t *testing.T, queue string) letter {
			in, err := amqpSession(t).NewReceiver(t.Context(), queue, nil)
			must(t, err)
			m, err := in.Receive(patience(t), nil)
			must(t, err)
			must(t, in.AcceptMessage(t.Context(), m))
			l := letter{body: string(m.GetData())}
			if text, ok := m.Value.(string); ok {
				l.text, l.body = true, text
			}
			l.priority = int(m.Header.Priority)
			if p := m.Properties; p != nil {
				l.id, _ = p.MessageID.(string)
				l.correlation, _ = p.CorrelationID.(string)
				if p.AbsoluteExpiryTime != nil {
					l.expires = p.AbsoluteExpiryTime.UnixMilli()
				}
			}
			l.property, _ = m.ApplicationProperties["colour"].(string)
			return l
		},
	},
	{
		name: "STOMP", says: []string{body, kind, correlation, priority, expires, property}, reads: fields,
		put: func(t *testing.T, queue string, l letter) string {
			c, err := stomp.Dial("tcp", target.STOMP(t))
			must(t, err)
			defer c.MustDisconnect()
			content := "application/octet-stream"
			if l.text {
				content = "text/plain"
			}
			header := func(k, v string) func(*frame.Frame) error { return stomp.SendOpt.Header(k, v) }
			must(t, c.Send("/queue/"+queue, content, []byte(l.body), stomp.SendOpt.Receipt, header("correlation-id", l.correlation),
				header("priority", strconv.Itoa(l.priority)), header("expires", strconv.FormatInt(l.expires, 10)), header("colour", l.property)))
			return ""
		},
		take: func(t *testing.T, queue string) letter {
			c, err := stomp.Dial("tcp", target.STOMP(t))
			must(t, err)
			defer c.Disconnect()
			s, err := c.Subscribe("/queue/"+queue, stomp.AckClientIndividual, stomp.SubscribeOpt.Header("activemq.prefetchSize", "1"))
			must(t, err)
			select {
			case m := <-s.C:
				must(t, m.Err)
				must(t, c.Ack(m))
				n, _ := strconv.Atoi(m.Header.Get("priority"))
				at, _ := strconv.ParseInt(m.Header.Get("expires"), 10, 64)
				return letter{
					strings.HasPrefix(m.ContentType, "text/"), string(m.Body), m.Header.Get("message-id"), m.Header.Get("correlation-id"), n, at, m.Header.Get("colour"),
				}
			case <-patience(t).Done():
				t.Fatal("nothing came")
			}
			return letter{}
		},
	},
	{
		name: "HTTP", says: fields, reads: fields,
		put: func(t *testing.T, queue string, l letter) string {
			r, err := http.NewRequest("POST", "http://"+target.HTTP(t)+"/v1/queues/"+queue+"/messages", strings.NewReader(l.body))
			must(t, err)
			properties, _ := json.Marshal(map[string]string{"colour": l.property})
			for k, v := range map[string]string{
				"Polylog-Message-Id": l.id, "Polylog-Correlation-Id": l.correlation, "Polylog-Priority": strconv.Itoa(l.priority),
				"Polylog-Expires-In": time.Until(time.UnixMilli(l.expires)).String(), "Polylog-Properties": string(properties),
			} {
				r.Header.Set(k, v)
			}
			if l.text {
				r.Header.Set("Content-Type", "text/plain")
			}
			response, err := http.DefaultClient.Do(r)
			must(t, err)
			response.Body.Close()
			if response.StatusCode != http.StatusCreated {
				t.Fatal(response.Status)
			}
			return ""
		},
		take: func(t *testing.T, queue string) letter {
			response, err := http.Post("http://"+target.HTTP(t)+"/v1/queues/"+queue+"/take?timeout=20s&ack=auto", "", nil)
			must(t, err)
			defer response.Body.Close()
			text, err := io.ReadAll(response.Body)
			must(t, err)
			var all []struct {
				Kind, Text, ID string
				Body           []byte
				Priority       int
				CorrelationID  string `json:"correlation_id"`
				Expires        time.Time
				Properties     map[string]any
			}
			must(t, json.Unmarshal(text, &all))
			m := all[0]
			l := letter{text: m.Kind == "text", body: m.Text + string(m.Body), id: m.ID, correlation: m.CorrelationID, priority: m.Priority}
			l.property, _ = m.Properties["colour"].(string)
			if !m.Expires.IsZero() {
				l.expires = m.Expires.UnixMilli()
			}
			return l
		},
	},
	{
		name: "Kafka", says: []string{body, property}, reads: []string{body, property},
		put: func(t *testing.T, queue string, l letter) string {
			c := target.Client(t)
			must(t, c.ProduceSync(t.Context(), &kgo.Record{Topic: queue, Value: []byte(l.body), Headers: []kgo.RecordHeader{{Key: "colour", Value: []byte(l.property)}}}).FirstErr())
			return ""
		},
		take: func(t *testing.T, queue string) letter {
			c := target.Client(t, kgo.ConsumeTopics(queue), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
			r := c.PollFetches(patience(t)).Records()
			if len(r) == 0 {
				t.Fatal("nothing came")
			}
			l := letter{body: string(r[0].Value)}
			for _, h := range r[0].Headers {
				if h.Key == "colour" {
					l.property = string(h.Value)
				}
			}
			return l
		},
	},
	{
		name: "memcache", says: []string{body, expires}, reads: []string{body},
		put: func(t *testing.T, queue string, l letter) string {
			must(t, memcache.New(target.Memcache(t)).Set(&memcache.Item{Key: queue, Value: []byte(l.body), Expiration: int32(l.expires / 1000)}))
			return ""
		},
		take: func(t *testing.T, queue string) letter {
			item, err := memcache.New(target.Memcache(t)).Get(queue)
			must(t, err)
			return letter{body: string(item.Value)}
		},
	},
}

func has(list []string, field string) bool {
	for _, f := range list {
		if f == field {
			return true
		}
	}
	return false
}

// compare returns which of the fields that one door has said and another reads came as
// they were.
func compare(t *testing.T, from, to door, sent, got letter) (kept []string) {
	t.Helper()
	for _, f := range fields {
		if !has(from.says, f) || !has(to.reads, f) {
			continue
		}
		var want, have any
		switch f {
		case body:
			want, have = sent.body, got.body
		case kind:
			want, have = sent.text, got.text
		case id:
			want, have = sent.id, got.id
		case correlation:
			want, have = sent.correlation, got.correlation
		case priority:
			want, have = sent.priority, got.priority
		case expires: // a door may say how long from now on, or in seconds
			want, have = true, max(sent.expires, got.expires)-min(sent.expires, got.expires) < 1500
		case property:
			want, have = sent.property, got.property
		}
		if want != have {
			t.Errorf("%s: %v became %v", f, want, have)
			continue
		}
		kept = append(kept, f)
	}
	return kept
}

func TestMatrix(t *testing.T) {
	target.Native(t) // it is skipped without one
	var table bytes.Buffer
	table.WriteString("| written through ↓, read through → |")
	for _, to := range doors {
		fmt.Fprintf(&table, " %s |", to.name)
	}
	table.WriteString("\n|---|" + strings.Repeat("---|", len(doors)) + "\n")
	for _, from := range doors {
		fmt.Fprintf(&table, "| %s |", from.name)
		for _, to := range doors {
			kept := 0
			t.Run(from.name+" to "+to.name, func(t *testing.T) {
				for _, text := range []bool{true, false} {
					queue := target.Topic(t, 1)
					sent := letter{
						text: text, body: "größe\n", id: "ID:" + queue, correlation: "c-" + queue, priority: 7,
						expires: time.Now().Add(time.Hour).UnixMilli(), property: "rot & grün",
					}
					if !text {
						sent.body = "\x00\xff\r\n\x80"
					}
					if own := from.put(t, queue, sent); own != "" {
						sent.id = own
					}
					kept = len(compare(t, from, to, sent, to.take(t, queue)))
				}
			})
			switch {
			case kept == len(fields):
				table.WriteString(" all |")
			default:
				var names []string
				for _, f := range fields {
					if has(from.says, f) && has(to.reads, f) {
						names = append(names, f)
					}
				}
				fmt.Fprintf(&table, " %s |", strings.Join(names, ", "))
			}
		}
		table.WriteString("\n")
	}
	const begin, end = "<!-- matrix -->\n", "<!-- end of matrix -->"
	file := os.Getenv("INTEROP_README")
	if file == "" {
		file = "../../README.md"
	}
	readme, err := os.ReadFile(file)
	must(t, err)
	before, rest, ok1 := strings.Cut(string(readme), begin)
	old, after, ok2 := strings.Cut(rest, end)
	switch {
	case !ok1 || !ok2:
		t.Fatal("README.md has no place for the matrix")
	case *rewrite && !t.Failed():
		must(t, os.WriteFile(file, []byte(before+begin+table.String()+end+after), 0o644))
	case old != table.String():
		t.Errorf("README.md has another matrix; go test ./matrix -rewrite writes it:\n%s", table.String())
	}
}
