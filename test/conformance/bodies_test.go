package conformance

import (
	"bytes"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/polylog-mq/polylog"
)

// bodyValues are what table 3-7 has as rows, but char, which Go does not have.
var bodyValues = map[string]any{
	"boolean": true, "byte": int8(-128), "short": int16(-300), "int": int32(70_000), "long": int64(1) << 40,
	"float": float32(1.25), "double": 1e300, "String": "größe", "byte[]": []byte{0, 1, 0xff},
	"null": nil, "byte, 0": int8(0), "short that fits a byte": int16(1), "int that fits a byte": int32(1), "long that fits a byte": int64(1), "long, the least": int64(math.MinInt64), "String, empty": "", "byte[], empty": []byte{},
}

type point struct {
	X, Y int
	Name string
}

func bodies(s *section) {
	// round sends a message and returns what comes.
	round := func(c *fixture, m *polylog.Message, err error) *polylog.Message {
		c.t.Helper()
		c.done(err)
		q := c.messages()
		put(c, q, m)
		return take(c, q).Message()
	}

	// §3.9
	s.clause("3.9", "a message can be changed once its send has returned", func(t *testing.T, c *fixture) {
		q := c.messages()
		body := []byte("before")
		m := polylog.NewBytes(body)
		c.done(m.SetProperty("p", "before"))
		put(c, q, m)
		copy(body, "after!")
		c.done(m.SetProperty("p", "after"))
		m.CorrelationID = "after"
		got := take(c, q).Message()
		equal(t, "body", string(got.Body), "before")
		equal(t, "property", got.Properties["p"], any("before"))
		equal(t, "correlation id", got.CorrelationID, "")
	})
	s.clause("3.9", "a message can be changed once its asynchronous send has completed", func(t *testing.T, c *fixture) {
		q := c.messages()
		body := []byte("before")
		done := make(chan struct{})
		c.done(q.PutAsync(c.ctx, polylog.NewBytes(body), func(polylog.Receipt, error) { close(done) }))
		c.comes("the completion", done)
		copy(body, "after!")
		equal(t, "body", string(take(c, q).Message().Body), "before")
	})
	s.clause("3.9", "one message can be sent several times", func(t *testing.T, c *fixture) {
		q := c.messages()
		m := polylog.NewText("x")
		for range 3 {
			put(c, q, m)
		}
		for range 3 {
			equal(t, "body", take(c, q).Message().Text(), "x")
		}
	})
	s.clause("3.9", "one message can be sent to several destinations", func(t *testing.T, c *fixture) {
		q, other := c.messages(), c.session().Queue(c.name("other"))
		m := polylog.NewText("x")
		put(c, q, m)
		put(c, other, m, polylog.WithProperty("p", "of the other"))
		equal(t, "properties", len(take(c, q).Message().Properties), 0)
		equal(t, "property", take(c, other).Message().Properties["p"], any("of the other"))
	})
	s.clause("3.9", "sending leaves the sender's message as it is", func(t *testing.T, c *fixture) {
		m := polylog.NewText("x")
		c.done(m.SetProperty("p", "v"))
		before := fmt.Sprintf("%+v", *m)
		put(c, c.messages(), m, polylog.WithProperty("q", "w"), polylog.WithPriority(9))
		equal(t, "message", fmt.Sprintf("%+v", *m), before)
	})
	s.clause("3.9", "a nil message is refused", func(t *testing.T, c *fixture) {
		_, err := c.messages().Put(c.ctx, nil)
		c.refused(err, polylog.ErrInvalid)
	})

	// §3.10
	s.clause("3.10", "a message that was changed by its consumer comes again as it was", func(t *testing.T, c *fixture) {
		q := c.messages(polylog.IndividualAcknowledge)
		m := polylog.NewBytes([]byte("before"))
		c.done(m.SetProperty("p", "before"))
		put(c, q, m)
		d := take(c, q)
		copy(d.Value.Body, "after!")
		d.Value.Properties["p"] = "after"
		d.Value.CorrelationID = "after"
		c.done(d.Release(c.ctx, 0))
		got := take(c, q).Message()
		equal(t, "body", string(got.Body), "before")
		equal(t, "property", got.Properties["p"], any("before"))
		equal(t, "correlation id", got.CorrelationID, "")
		equal(t, "redelivered", got.Redelivered(), true)
	})
	s.clause("3.10", "what one subscriber changes the other does not see", func(t *testing.T, c *fixture) {
		topic := c.session().Topic(c.name("t"))
		a, b := sub[*polylog.Message](c)(topic.Subscribe(c.ctx)), sub[*polylog.Message](c)(topic.Subscribe(c.ctx))
		publish(c, topic, polylog.NewText("before"))
		copy(take(c, a).Value.Body, "after!")
		equal(t, "body", take(c, b).Value.Text(), "before")
	})

	// §3.11
	s.clause("3.11", "TextMessage", func(t *testing.T, c *fixture) {
		m := round(c, polylog.NewText("größe €\n\x00 end"), nil)
		equal(t, "kind", m.Kind, polylog.BodyText)
		equal(t, "text", m.Text(), "größe €\n\x00 end")
	})
	s.clause("3.11", "TextMessage, empty", func(t *testing.T, c *fixture) {
		m := round(c, polylog.NewText(""), nil)
		equal(t, "kind", m.Kind, polylog.BodyText)
		equal(t, "text", m.Text(), "")
	})
	s.clause("3.11", "TextMessage of half a megabyte", func(t *testing.T, c *fixture) {
		text := strings.Repeat("0123456789abcdef", 32<<10)
		equal(t, "the same", round(c, polylog.NewText(text), nil).Text() == text, true)
	})
	s.clause("3.11", "BytesMessage", func(t *testing.T, c *fixture) {
		body := make([]byte, 256)
		for i := range body {
			body[i] = byte(i)
		}
		m := round(c, polylog.NewBytes(body), nil)
		equal(t, "kind", m.Kind, polylog.BodyBytes)
		equal(t, "body", string(m.Body), string(body))
	})
	s.clause("3.11", "BytesMessage, empty", func(t *testing.T, c *fixture) {
		m := round(c, polylog.NewBytes(nil), nil)
		equal(t, "kind", m.Kind, polylog.BodyBytes)
		equal(t, "length", len(m.Body), 0)
	})
	s.clause("3.11", "MapMessage", func(t *testing.T, c *fixture) {
		sent, err := polylog.NewMap(bodyValues)
		m := round(c, sent, err)
		equal(t, "kind", m.Kind, polylog.BodyMap)
		got, err := m.Map()
		c.done(err)
		equal(t, "entries", len(got), len(bodyValues))
	})
	s.clause("3.11", "MapMessage, empty", func(t *testing.T, c *fixture) {
		sent, err := polylog.NewMap(nil)
		got, err := round(c, sent, err).Map()
		c.done(err)
		equal(t, "entries", len(got), 0)
	})
	s.clause("3.11", "StreamMessage is read in the order in which it was written", func(t *testing.T, c *fixture) {
		sent, err := polylog.NewStream("a", int32(1), true, "b", nil, 2.5)
		m := round(c, sent, err)
		equal(t, "kind", m.Kind, polylog.BodyStream)
		got, err := m.Stream()
		c.done(err)
		equal(t, "values", fmt.Sprintf("%#v", got), fmt.Sprintf("%#v", []any{"a", int32(1), true, "b", nil, 2.5}))
	})
	s.clause("3.11", "StreamMessage, empty", func(t *testing.T, c *fixture) {
		sent, err := polylog.NewStream()
		got, err := round(c, sent, err).Stream()
		c.done(err)
		equal(t, "values", len(got), 0)
	})
	s.clause("3.11", "ObjectMessage, which in Go is a value", func(t *testing.T, c *fixture) {
		sent, err := polylog.NewValue(point{1, -2, "größe"})
		m := round(c, sent, err)
		equal(t, "kind", m.Kind, polylog.BodyValue)
		var got point
		c.done(m.Value(&got))
		equal(t, "value", got, point{1, -2, "größe"})
	})
	s.clause("3.11", "Message without a body", func(t *testing.T, c *fixture) {
		m := round(c, polylog.NewMessage(), nil)
		equal(t, "kind", m.Kind, polylog.BodyNone)
		equal(t, "length", len(m.Body), 0)
	})
	s.clause("3.11", "a message with properties and every header keeps its body", func(t *testing.T, c *fixture) {
		q := c.messages()
		put(c, q, polylog.NewText("body"), polylog.WithProperty("p", 1), polylog.WithType("t"), polylog.WithReplyTo("r"), polylog.WithGroup("g"))
		equal(t, "text", take(c, q).Message().Text(), "body")
	})

	// §3.11.1 and §3.11.2
	s.clause("3.11.1", "a body can be cleared, and the properties stay", func(t *testing.T, c *fixture) {
		m := polylog.NewText("x")
		c.done(m.SetProperty("p", "v"))
		m.Body = nil
		got := round(c, m, nil)
		equal(t, "text", got.Text(), "")
		equal(t, "kind", got.Kind, polylog.BodyText)
		equal(t, "property", got.Properties["p"], any("v"))
	})
	s.clause("3.11.2", "the body of a received message is read-only", func(t *testing.T, c *fixture) {
		m := round(c, polylog.NewText("x"), nil)
		m.Body = []byte("y")
		equal(t, "text", m.Text(), "y")
	}, deviates("to change the body of a received message is to fail with MessageNotWriteableException; polylog only documents that a received message must not be changed"))

	// §3.11.3
	for name, value := range ordered(bodyValues) {
		s.clause("3.11.3", "a MapMessage keeps type and value: "+name, func(t *testing.T, c *fixture) {
			sent, err := polylog.NewMap(map[string]any{"v": value})
			got, err := round(c, sent, err).Map()
			c.done(err)
			if v, there := got["v"]; !there || !reflect.DeepEqual(v, value) {
				t.Errorf("%#v, want %#v", v, value)
			}
		})
		s.clause("3.11.3", "a StreamMessage keeps type and value: "+name, func(t *testing.T, c *fixture) {
			sent, err := polylog.NewStream(value)
			got, err := round(c, sent, err).Stream()
			c.done(err)
			if len(got) != 1 || !reflect.DeepEqual(got[0], value) {
				t.Errorf("%#v, want %#v", got, value)
			}
		})
	}
	for name, value := range ordered(map[string]any{
		"uint16": uint16(1), "int, whose width Go does not say": 1, "a struct": point{}, "a map": map[string]any{}, "a slice": []string{"a"}, "a pointer": new(string),
	}) {
		s.clause("3.11.3", "a MapMessage has no "+name, func(t *testing.T, c *fixture) {
			if _, err := polylog.NewMap(map[string]any{"v": value}); err == nil {
				t.Error("no error")
			}
			if _, err := polylog.QueueOf[map[string]any](c.session(), c.name("q")).Put(c.ctx, map[string]any{"v": value}); err == nil {
				t.Error("it was sent")
			}
		})
		s.clause("3.11.3", "a StreamMessage has no "+name, func(t *testing.T, c *fixture) {
			if _, err := polylog.NewStream("a", value); err == nil {
				t.Error("no error")
			}
		})
	}
	s.clause("3.11.3", "a field of a MapMessage that is not there is null", func(t *testing.T, c *fixture) {
		sent, err := polylog.NewMap(map[string]any{"v": "x"})
		got, err := round(c, sent, err).Map()
		c.done(err)
		equal(t, "field", got["other"], nil)
	})
	for name, of := range ordered(map[string]func() (*polylog.Message, error){
		"text":   func() (*polylog.Message, error) { return polylog.NewText("x"), nil },
		"bytes":  func() (*polylog.Message, error) { return polylog.NewBytes([]byte("x")), nil },
		"stream": func() (*polylog.Message, error) { return polylog.NewStream("x") },
		"none":   func() (*polylog.Message, error) { return polylog.NewMessage(), nil },
	}) {
		s.clause("3.11.3", "a message whose body is "+name+" is no MapMessage", func(t *testing.T, c *fixture) {
			m, err := of()
			_, err = round(c, m, err).Map()
			c.refused(err, polylog.ErrBody)
		})
	}
	s.clause("3.11.3", "a message whose body is a map is no StreamMessage", func(t *testing.T, c *fixture) {
		m, err := polylog.NewMap(map[string]any{"v": "x"})
		_, err = round(c, m, err).Stream()
		c.refused(err, polylog.ErrBody)
	})

	// §3.11.4
	s.clause("3.11.4", "a message keeps its kind through a transacted session and a dead letter", func(t *testing.T, c *fixture) {
		session := c.session(polylog.Transacted)
		q := session.Queue(c.name("q"))
		m, err := polylog.NewMap(map[string]any{"v": int16(7)})
		c.done(err)
		put(c, q, m)
		c.done(session.Commit(c.ctx))
		again := c.session(polylog.IndividualAcknowledge)
		c.done(take(c, again.Queue(c.name("q"))).Reject(c.ctx, "why"))
		got, err := take(c, again.Queue("DLQ."+c.name("q"))).Message().Map()
		c.done(err)
		equal(t, "field", got["v"], any(int16(7)))
	})

	// §3.12
	s.clause("3.12", "an object that was put into a message is copied", func(t *testing.T, c *fixture) {
		value := []byte("before")
		m, err := polylog.NewMap(map[string]any{"v": value})
		c.done(err)
		copy(value, "after!")
		got, err := round(c, m, nil).Map()
		c.done(err)
		equal(t, "value", string(got["v"].([]byte)), "before")
	})
	s.clause("3.12", "an object that was read from a message is a copy", func(t *testing.T, c *fixture) {
		sent, err := polylog.NewMap(map[string]any{"v": []byte("before")})
		m := round(c, sent, err)
		first, err := m.Map()
		c.done(err)
		copy(first["v"].([]byte), "after!")
		second, err := m.Map()
		c.done(err)
		equal(t, "value", string(second["v"].([]byte)), "before")
	})
	s.clause("3.12", "the bytes that were put into a BytesMessage are copied", func(t *testing.T, c *fixture) {
		body := []byte("before")
		m := polylog.NewBytes(body)
		copy(body, "after!")
		if got := round(c, m, nil).Body; !bytes.Equal(got, []byte("after!")) {
			t.Errorf("%q", got)
		}
	}, deviates("writeBytes copies what it is given; NewBytes keeps the slice until the message is sent"))
}
