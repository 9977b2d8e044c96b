package conformance

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/polylog-mq/polylog"
)

// Of the rules of §3.5.1 and §3.5.4 that polylog is looser or stricter about.
const (
	anyName   = "a property's name must be an identifier of the selector language; polylog takes any text, as Kafka's headers may have any, and only refuses names that begin with JMS and are its own"
	asNumber  = "Float.valueOf and Double.valueOf of Java say what a text spells; polylog reads it with Go's strconv, which takes no %s"
	asNumber2 = "Float.valueOf and Double.valueOf of Java say what a text spells; polylog reads it with Go's strconv, which takes %s"
)

// specimens are the properties of the message that the conversions are read from.
// Their names are the rows of table 3-2.
var specimens = map[string]any{
	"boolean": true, "byte": int8(-7), "short": int16(-300), "int": int32(70_000), "long": int64(1) << 40,
	"float": float32(1.25), "double": 1e300,
	"text": "hello", "digits": "42", "negative": "-42", "plus": "+42", "true": "TRUE", "false": "false", "yes": "yes", "empty": "",
	"byte max": "127", "byte over": "128", "short max": "32767", "short over": "32768",
	"int max": "2147483647", "int over": "2147483648", "long max": "9223372036854775807", "long over": "9223372036854775808",
	"decimal": "1.5", "exponent": "25e-1", "padded": " 42 ", "hex": "0x2A", "underscore": "4_2", "infinity": "Infinity", "nan": "NaN", "huge": "1e999", "inf": "inf", "suffix": "1.5f",
}

// specimen is a received message with those properties.
func (c *fixture) specimen() *polylog.Message {
	c.t.Helper()
	c.b.specimen.Do(func() {
		con, err := c.b.shared()
		c.done(err)
		q := c.sessionOn(con).Queue("specimen")
		m := polylog.NewMessage()
		for name, value := range specimens {
			c.done(m.SetProperty(name, value))
		}
		put(c, q, m)
		c.b.received = take(c, q).Message()
	})
	if c.b.received == nil {
		c.t.Fatal("there is no message to read")
	}
	return c.b.received
}

// column reads a property as one Java type, and gives it back as a Go value.
type column struct {
	name string
	read func(m *polylog.Message, name string) (any, error)
}

func columnOf[T polylog.PropertyValue](name string) column {
	return column{name, func(m *polylog.Message, property string) (any, error) {
		return polylog.Property[T](m, property)
	}}
}

var columns = []column{
	columnOf[bool]("boolean"), columnOf[int8]("byte"), columnOf[int16]("short"), columnOf[int32]("int"),
	columnOf[int64]("long"), columnOf[float32]("float"), columnOf[float64]("double"), columnOf[string]("String"),
}

func properties(s *section) {
	propertyNames(s)
	propertyValues(s)
	conversions(s)
	conversionsOfText(s)
	propertyFacility(s)
	jmsxProperties(s)
	messageGroups(s)
	ignoredAcknowledgement(s)
}

func propertyNames(s *section) {
	// comesBack sends a property and wants it back, and selects by it if it may.
	comesBack := func(c *fixture, name string, selectable bool) {
		c.t.Helper()
		q := c.messages()
		m := polylog.NewMessage()
		c.done(m.SetProperty(name, "v"))
		put(c, q, m)
		var opts []polylog.ConsumeOption
		if selectable {
			opts = append(opts, polylog.WithSelector(name+" = 'v'"))
		}
		got, err := polylog.Property[string](take(c, q, opts...).Message(), name)
		c.done(err)
		equal(c.t, "value", got, "v")
	}
	for _, name := range []string{
		"colour", "Colour", "_private", "$price", "a1", "x_y$z", "größe", "名前", "éa", "ab\u0301", "NULLABLE", "nothing", "betweens", "Android", "inch", "jms", "JMS_vendor", "JMS_POLYLOG_mine",
		strings.Repeat("n", 1000),
	} {
		title := name
		if len(title) > 100 {
			title = fmt.Sprintf("of %d characters", len(name))
		}
		s.clause("3.5.1", "a property may be named "+title, func(t *testing.T, c *fixture) { comesBack(c, name, true) })
	}
	for _, name := range []string{
		"1st", "a-b", "a b", "a.b", "a:b", "#", "'", "NULL", "TRUE", "FALSE", "NOT", "AND", "OR", "BETWEEN", "LIKE", "IN", "IS", "ESCAPE", "null", "And",
	} {
		s.clause("3.5.1", "no property may be named "+name, func(t *testing.T, c *fixture) { comesBack(c, name, false) }, deviates(anyName))
	}
	s.clause("3.5.1", "a property must have a name", func(t *testing.T, c *fixture) {
		c.refused(polylog.NewMessage().SetProperty("", "v"), polylog.ErrInvalid)
		_, err := c.texts().Put(c.ctx, "x", polylog.WithProperty("", "v"))
		c.refused(err, polylog.ErrInvalid)
	})
	s.clause("3.5.1", "names of properties are case-sensitive", func(t *testing.T, c *fixture) {
		q := c.messages()
		m := polylog.NewMessage()
		c.done(m.SetProperty("a", "small"))
		c.done(m.SetProperty("A", "large"))
		put(c, q, m)
		got := take(c, q).Message()
		equal(t, "a", got.Properties["a"], any("small"))
		equal(t, "A", got.Properties["A"], any("large"))
	})
	for _, name := range []string{
		"JMSDestination", "JMSDeliveryMode", "JMSMessageID", "JMSTimestamp", "JMSCorrelationID", "JMSReplyTo", "JMSRedelivered", "JMSType", "JMSExpiration", "JMSPriority", "JMSDeliveryTime",
		"JMS", "JMSmine", "JMSXDeliveryCount", "JMSXRcvTimestamp", "JMSXState", "JMSXUserID",
	} {
		s.clause("3.5.1", "no client sets a property named "+name, func(t *testing.T, c *fixture) {
			_, err := c.texts().Put(c.ctx, "x", polylog.WithProperty(name, "v"))
			if err == nil {
				t.Error("it was sent")
			}
		})
	}
	s.clause("3.5.1", "that a name is reserved is an error that a client can tell", func(t *testing.T, c *fixture) {
		_, err := c.texts().Put(c.ctx, "x", polylog.WithProperty("JMSmine", "v"))
		if !errors.Is(err, polylog.ErrInvalid) {
			t.Error(err)
		}
	})
}

func propertyValues(s *section) {
	for name, value := range ordered(map[string]any{
		"boolean true": true, "boolean false": false, "byte": int8(-128), "short": int16(32767), "int": int32(math.MinInt32),
		"long": int64(math.MaxInt64), "long, the least": int64(math.MinInt64), "float": float32(3.4e38), "float, the least": float32(math.SmallestNonzeroFloat32),
		"double": math.MaxFloat64, "double, infinite": math.Inf(-1), "String": "größe\n€", "String, empty": "", "String, long": strings.Repeat("y", 30_000),
	}) {
		s.clause("3.5.2", "a property keeps its type and value: "+name, func(t *testing.T, c *fixture) {
			q := c.messages()
			put(c, q, polylog.NewMessage(), polylog.WithProperty("p", value))
			equal(t, "value", take(c, q).Message().Properties["p"], value)
		})
	}
	s.clause("3.5.2", "a property keeps its type and value: double, not a number", func(t *testing.T, c *fixture) {
		q := c.messages()
		put(c, q, polylog.NewMessage(), polylog.WithProperty("p", math.NaN()))
		if got, ok := take(c, q).Message().Properties["p"].(float64); !ok || !math.IsNaN(got) {
			t.Errorf("%v", got)
		}
	})
	s.clause("3.5.2", "a hundred properties", func(t *testing.T, c *fixture) {
		q := c.messages()
		m := polylog.NewMessage()
		for i := range 100 {
			c.done(m.SetProperty(fmt.Sprint("p", i), int32(i)))
		}
		put(c, q, m)
		got := take(c, q).Message()
		equal(t, "properties", len(got.Properties), 100)
		for i := range 100 {
			equal(t, "value", got.Properties[fmt.Sprint("p", i)], any(int32(i)))
		}
	})
	s.clause("3.5.3", "properties of a received message are read-only", func(t *testing.T, c *fixture) {
		q := c.messages()
		put(c, q, polylog.NewMessage())
		c.done(take(c, q).Message().SetProperty("p", "v"))
	}, deviates("SetProperty on a received message is to fail with MessageNotWriteableException; polylog only documents that a received message must not be changed"))
	for what, value := range ordered(map[string]any{
		"uint8": uint8(1), "uint64": uint64(1), "a struct": struct{}{}, "a time": time.Unix(0, 0), "a slice": []int{1}, "a map": map[string]string{}, "a pointer": new(int), "a complex number": 1i, "a message": polylog.NewMessage(),
	}) {
		s.clause("3.5.5", "no property is "+what, func(t *testing.T, c *fixture) {
			c.refused(polylog.NewMessage().SetProperty("p", value), polylog.ErrInvalid)
		})
		s.clause("3.5.5", "no property of a message that is sent is "+what, func(t *testing.T, c *fixture) {
			m := polylog.NewMessage()
			m.Properties = map[string]any{"p": value}
			_, err := c.messages().Put(c.ctx, m)
			c.refused(err, polylog.ErrInvalid)
		})
	}
	s.clause("3.5.5", "no property is of the type byte[]", func(t *testing.T, c *fixture) {
		q := c.messages()
		put(c, q, polylog.NewMessage(), polylog.WithProperty("p", []byte{1, 0xff}))
		if got, ok := take(c, q).Message().Properties["p"].([]byte); !ok || string(got) != "\x01\xff" {
			t.Errorf("%v", got)
		}
	}, deviates("setObjectProperty takes no byte[]; polylog does, for Kafka's headers that are not text"))
}

// conversions is table 3-2, every cell of it.
func conversions(s *section) {
	want := map[string]map[string]any{
		"boolean": {"boolean": true, "String": "true"},
		"byte":    {"byte": int8(-7), "short": int16(-7), "int": int32(-7), "long": int64(-7), "String": "-7"},
		"short":   {"short": int16(-300), "int": int32(-300), "long": int64(-300), "String": "-300"},
		"int":     {"int": int32(70_000), "long": int64(70_000), "String": "70000"},
		"long":    {"long": int64(1) << 40, "String": "1099511627776"},
		"float":   {"float": float32(1.25), "double": 1.25, "String": "1.25"},
		"double":  {"double": 1e300, "String": "1e+300"},
	}
	for _, row := range columns[:7] {
		for _, to := range columns {
			value, marked := want[row.name][to.name]
			if marked {
				s.clause("3.5.4", fmt.Sprintf("a property set as %s is read as %s", row.name, to.name), func(t *testing.T, c *fixture) {
					got, err := to.read(c.specimen(), row.name)
					c.done(err)
					equal(t, "value", got, value)
				})
				continue
			}
			s.clause("3.5.4", fmt.Sprintf("a property set as %s is not read as %s", row.name, to.name), func(t *testing.T, c *fixture) {
				_, err := to.read(c.specimen(), row.name)
				c.refused(err, polylog.ErrInvalid)
			})
		}
	}
	// The last row of the table.
	for to, cell := range ordered(map[string]struct {
		property string
		value    any
	}{
		"boolean": {"true", true}, "byte": {"digits", int8(42)}, "short": {"digits", int16(42)}, "int": {"digits", int32(42)}, "long": {"digits", int64(42)},
		"float": {"decimal", float32(1.5)}, "double": {"decimal", 1.5}, "String": {"text", "hello"},
	}) {
		s.clause("3.5.4", "a property set as String is read as "+to, func(t *testing.T, c *fixture) {
			got, err := columnNamed(to).read(c.specimen(), cell.property)
			c.done(err)
			equal(t, "value", got, cell.value)
		})
	}
	// §3.5.8: what is not there is null, and null is read as valueOf(null).
	for _, to := range columns {
		switch to.name {
		case "boolean":
			s.clause("3.5.8", "a property that is not there is false as boolean", func(t *testing.T, c *fixture) {
				got, err := to.read(c.specimen(), "missing")
				c.done(err)
				equal(t, "value", got, any(false))
			})
		case "String":
			s.clause("3.5.8", "a property that is not there is null as String", func(t *testing.T, c *fixture) {
				got, err := to.read(c.specimen(), "missing")
				c.done(err)
				equal(t, "value", got, any(""))
			})
		default:
			s.clause("3.5.8", "a property that is not there is no "+to.name, func(t *testing.T, c *fixture) {
				_, err := to.read(c.specimen(), "missing")
				c.refused(err, polylog.ErrInvalid)
			})
		}
	}
	for _, row := range columns[5:7] {
		s.clause("3.5.4", "a "+row.name+" that was read as String is the same number", func(t *testing.T, c *fixture) {
			text, err := polylog.Property[string](c.specimen(), row.name)
			c.done(err)
			q := c.messages()
			put(c, q, polylog.NewMessage(), polylog.WithProperty("p", text))
			got, err := row.read(take(c, q).Message(), "p")
			c.done(err)
			equal(t, "value", got, specimens[row.name])
		})
	}
}

func columnNamed(name string) column {
	for _, k := range columns {
		if k.name == name {
			return k
		}
	}
	panic("no column " + name)
}

// conversionsOfText is what the valueOf methods of Java make of texts.
func conversionsOfText(s *section) {
	for _, row := range []struct {
		property, to string
		value        any // nil: it is refused
		marks        []mark
	}{
		{"true", "boolean", true, nil},
		{"false", "boolean", false, nil},
		{"yes", "boolean", false, nil},
		{"empty", "boolean", false, nil},
		{"text", "boolean", false, nil},
		{"digits", "boolean", false, nil},
		{"negative", "byte", int8(-42), nil},
		{"plus", "byte", int8(42), nil},
		{"byte max", "byte", int8(127), nil},
		{"byte over", "byte", nil, nil},
		{"short max", "short", int16(32767), nil},
		{"short over", "short", nil, nil},
		{"int max", "int", int32(math.MaxInt32), nil},
		{"int over", "int", nil, nil},
		{"long max", "long", int64(math.MaxInt64), nil},
		{"long over", "long", nil, nil},
		{"text", "byte", nil, nil},
		{"text", "short", nil, nil},
		{"text", "int", nil, nil},
		{"text", "long", nil, nil},
		{"text", "float", nil, nil},
		{"text", "double", nil, nil},
		{"empty", "int", nil, nil},
		{"empty", "double", nil, nil},
		{"decimal", "int", nil, nil},
		{"decimal", "long", nil, nil},
		{"exponent", "long", nil, nil},
		{"padded", "int", nil, nil},
		{"hex", "int", nil, nil},
		{"underscore", "int", nil, nil},
		{"true", "int", nil, nil},
		{"digits", "float", float32(42), nil},
		{"digits", "double", 42.0, nil},
		{"exponent", "float", float32(2.5), nil},
		{"exponent", "double", 2.5, nil},
		{"infinity", "float", float32(math.Inf(1)), nil},
		{"infinity", "double", math.Inf(1), nil},
		{"padded", "float", nil, []mark{deviates(fmt.Sprintf(asNumber, "spaces around it"))}},
		{"padded", "double", nil, []mark{deviates(fmt.Sprintf(asNumber, "spaces around it"))}},
		{"nan", "float", nil, []mark{deviates(fmt.Sprintf(asNumber, "NaN (polylog refuses it)"))}},
		{"nan", "double", nil, []mark{deviates(fmt.Sprintf(asNumber, "NaN (polylog refuses it)"))}},
		{"huge", "double", nil, []mark{deviates(fmt.Sprintf(asNumber, "number beyond the range, which in Java is Infinity"))}},
		{"huge", "float", nil, []mark{deviates(fmt.Sprintf(asNumber, "number beyond the range, which in Java is Infinity"))}},
		{"suffix", "double", nil, []mark{deviates(fmt.Sprintf(asNumber, "f or d behind it"))}},
		{"underscore", "double", 42.0, []mark{deviates(fmt.Sprintf(asNumber2, "underscores between digits"))}},
		{"inf", "double", math.Inf(1), []mark{deviates(fmt.Sprintf(asNumber2, "inf"))}},
	} {
		title := fmt.Sprintf("the String %q as %s", specimens[row.property], row.to)
		verdict := "is refused"
		if row.value != nil {
			verdict = fmt.Sprintf("is %v", row.value)
		}
		if len(row.marks) > 0 {
			verdict = "is what Java says"
		}
		title += " " + verdict
		if row.value == nil {
			s.clause("3.5.4", title, func(t *testing.T, c *fixture) {
				_, err := columnNamed(row.to).read(c.specimen(), row.property)
				c.refused(err, polylog.ErrInvalid)
			}, row.marks...)
			continue
		}
		s.clause("3.5.4", title, func(t *testing.T, c *fixture) {
			got, err := columnNamed(row.to).read(c.specimen(), row.property)
			c.done(err)
			equal(t, "value", got, row.value)
		}, row.marks...)
	}
}

func propertyFacility(s *section) {
	s.clause("3.5.6", "the properties are those that were set, without header fields", func(t *testing.T, c *fixture) {
		q := c.messages()
		put(c, q, polylog.NewText("x"), polylog.WithProperty("a", "1"), polylog.WithProperty("b", true),
			polylog.WithPriority(9), polylog.WithType("t"), polylog.WithCorrelationID("c"), polylog.WithReplyTo("r"), polylog.WithTTL(time.Hour), polylog.WithGroup("g"))
		m := take(c, q).Message()
		if len(m.Properties) != 2 || m.Properties["a"] != "1" || m.Properties["b"] != true {
			t.Errorf("%v", m.Properties)
		}
	})
	s.clause("3.5.6", "a message without properties has none", func(t *testing.T, c *fixture) {
		q := c.messages()
		put(c, q, polylog.NewText("x"))
		equal(t, "properties", len(take(c, q).Message().Properties), 0)
	})
	s.clause("3.5.7", "properties can be cleared, and the body stays", func(t *testing.T, c *fixture) {
		q := c.messages()
		m := polylog.NewText("x")
		c.done(m.SetProperty("old", "v"))
		m.Properties = nil
		c.done(m.SetProperty("new", "v"))
		put(c, q, m)
		got := take(c, q).Message()
		equal(t, "body", got.Text(), "x")
		equal(t, "properties", fmt.Sprint(got.Properties), "map[new:v]")
	})
	s.clause("3.5.7", "a cleared property is null", func(t *testing.T, c *fixture) {
		m := polylog.NewText("x")
		c.done(m.SetProperty("p", "v"))
		c.done(m.SetProperty("p", nil))
		got, err := polylog.Property[string](m, "p")
		c.done(err)
		equal(t, "value", got, "")
	})
	s.clause("3.5.8", "a null property is as one that is not there", func(t *testing.T, c *fixture) {
		q := c.messages()
		put(c, q, polylog.NewText("x"), polylog.WithProperty("p", nil))
		d := take(c, q, polylog.WithSelector("p IS NULL"))
		got, err := polylog.Property[string](d.Message(), "p")
		c.done(err)
		equal(t, "value", got, "")
	})
	s.clause("3.5.3", "a property of the send overrides one of the message", func(t *testing.T, c *fixture) {
		q := c.messages()
		m := polylog.NewText("x")
		c.done(m.SetProperty("p", "of the message"))
		put(c, q, m, polylog.WithProperty("p", "of the send"))
		equal(t, "sent", take(c, q).Message().Properties["p"], any("of the send"))
		equal(t, "the sender's", m.Properties["p"], any("of the message"))
	})
	s.clause("3.5.3", "properties reach every subscription", func(t *testing.T, c *fixture) {
		topic := c.session().Topic(c.name("t"))
		a, b := sub[*polylog.Message](c)(topic.Subscribe(c.ctx)), sub[*polylog.Message](c)(topic.Subscribe(c.ctx))
		publish(c, topic, polylog.NewText("x"), polylog.WithProperty("p", int32(7)))
		for _, from := range []*polylog.Subscription[*polylog.Message]{a, b} {
			equal(t, "value", take(c, from).Message().Properties["p"], any(int32(7)))
		}
	})
}

func jmsxProperties(s *section) {
	s.clause("3.5.9", "JMSXGroupID reaches the consumer", func(t *testing.T, c *fixture) {
		q := c.messages()
		put(c, q, polylog.NewText("x"), polylog.WithGroup("g"))
		equal(t, "group", take(c, q).Message().Group(), "g")
	})
	s.clause("3.5.9", "JMSXGroupID is null where none was set", func(t *testing.T, c *fixture) {
		q := c.messages()
		put(c, q, polylog.NewText("x"), polylog.WithKey("a key is no group"))
		equal(t, "group", take(c, q).Message().Group(), "")
	})
	s.clause("3.5.9", "JMSXGroupID can be selected by", func(t *testing.T, c *fixture) {
		q := c.texts()
		put(c, q, "a", polylog.WithGroup("a"))
		put(c, q, "b", polylog.WithGroup("b"))
		equal(t, "message", take(c, q, polylog.WithSelector("JMSXGroupID = 'b'")).Value, "b")
	})
	s.clause("3.5.9", "JMSXGroupID is set and read as a property", func(t *testing.T, c *fixture) {
		_, err := c.texts().Put(c.ctx, "x", polylog.WithProperty("JMSXGroupID", "g"))
		if err == nil {
			t.Error("it was sent")
		}
	}, deviates("JMSXGroupID and JMSXGroupSeq are properties that clients set; in polylog they are WithGroup and Message.GroupSeq, and a property of that name is refused when it is sent"))
	s.clause("3.5.9", "JMSXGroupSeq reaches the consumer", func(t *testing.T, c *fixture) {
		q := c.messages()
		m := polylog.NewText("x")
		m.GroupSeq = 3
		put(c, q, m, polylog.WithGroup("g"))
		equal(t, "sequence", take(c, q).Message().GroupSeq, int32(3))
	})
	s.clause("3.5.9", "JMSXGroupSeq can be selected by", func(t *testing.T, c *fixture) {
		q := c.messages()
		for n := range int32(3) {
			m := polylog.NewText(fmt.Sprint(n + 1))
			m.GroupSeq = n + 1
			put(c, q, m, polylog.WithGroup("g"))
		}
		equal(t, "message", take(c, q, polylog.WithSelector("JMSXGroupSeq = 2")).Message().Text(), "2")
	})
	s.clause("3.5.9", "JMSXGroupSeq is set and read as a property", func(t *testing.T, c *fixture) {
		_, err := c.texts().Put(c.ctx, "x", polylog.WithProperty("JMSXGroupSeq", int32(1)))
		if err == nil {
			t.Error("it was sent")
		}
	}, deviates("JMSXGroupID and JMSXGroupSeq are properties that clients set; in polylog they are WithGroup and Message.GroupSeq, and a property of that name is refused when it is sent"))
	s.clause("3.5.9", "a JMSX property that is not supported is as any other", func(t *testing.T, c *fixture) {
		q := c.texts()
		put(c, q, "x")
		equal(t, "message", take(c, q, polylog.WithSelector("JMSXAppID IS NULL")).Value, "x")
	})
	s.clause("3.5.9", "JMSXProducerTXID can be absent from a transacted message", func(t *testing.T, c *fixture) {
		session := c.session(polylog.Transacted)
		q := polylog.QueueOf[string](session, c.name("q"))
		put(c, q, "x")
		c.done(session.Commit(c.ctx))
		equal(t, "message", take(c, q, polylog.WithSelector("JMSXProducerTXID IS NULL")).Value, "x")
		c.done(session.Commit(c.ctx))
	})
	s.clause("3.5.10", "a provider's own property tells where a dead letter is from", func(t *testing.T, c *fixture) {
		q := c.messages(polylog.IndividualAcknowledge)
		put(c, q, polylog.NewText("x"))
		c.done(take(c, q).Reject(c.ctx, "why"))
		m := take(c, q.Session().Queue("DLQ."+c.name("q"))).Message()
		for name := range m.Properties {
			if !strings.HasPrefix(name, "JMS_POLYLOG_") {
				t.Errorf("property %s", name)
			}
		}
		equal(t, "origin", m.Properties["JMS_POLYLOG_DLQ_ORIGIN"], any(c.name("q")))
	})

	// §3.5.11
	s.clause("3.5.11", "JMSXDeliveryCount is 1 at the first delivery", func(t *testing.T, c *fixture) {
		q := c.messages()
		put(c, q, polylog.NewText("x"))
		d := take(c, q)
		equal(t, "of the message", d.Message().DeliveryCount, 1)
		equal(t, "of the delivery", d.DeliveryCount(), 1)
	})
	s.clause("3.5.11", "JMSXDeliveryCount counts deliveries", func(t *testing.T, c *fixture) {
		q := c.messages(polylog.IndividualAcknowledge)
		put(c, q, polylog.NewText("x"))
		for n := 1; n <= 4; n++ {
			d := take(c, q)
			equal(t, "count", d.Message().DeliveryCount, n)
			equal(t, "redelivered", d.Redelivered(), n > 1)
			c.done(d.Release(c.ctx, 0))
		}
	})
	s.clause("3.5.11", "JMSXDeliveryCount counts for each subscription", func(t *testing.T, c *fixture) {
		topic := polylog.TopicOf[string](c.session(polylog.IndividualAcknowledge), c.name("t"))
		a, b := sub[string](c)(topic.Subscribe(c.ctx)), sub[string](c)(topic.Subscribe(c.ctx))
		publish(c, topic, "x")
		c.done(take(c, a).Release(c.ctx, 0))
		equal(t, "the first's", take(c, a).DeliveryCount(), 2)
		equal(t, "the second's", take(c, b).DeliveryCount(), 1)
	})
	s.clause("3.5.11", "JMSXDeliveryCount is read as a property", func(t *testing.T, c *fixture) {
		q := c.messages()
		put(c, q, polylog.NewText("x"))
		if _, err := polylog.Property[int32](take(c, q).Message(), "JMSXDeliveryCount"); !errors.Is(err, polylog.ErrInvalid) {
			t.Error(err)
		}
	}, deviates("JMSXDeliveryCount is an int property of a received message; in polylog it is Message.DeliveryCount, and not among the properties"))
}
