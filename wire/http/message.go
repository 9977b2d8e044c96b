package http

import (
	"encoding/json"
	"fmt"
	"math"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/polylog-mq/polylog/destination/record"
	"github.com/polylog-mq/polylog/session"
)

// The headers of a message that is sent.
const (
	headerID          = "Polylog-Message-Id"
	headerPriority    = "Polylog-Priority"
	headerDelay       = "Polylog-Delay"
	headerExpiresIn   = "Polylog-Expires-In"
	headerCorrelation = "Polylog-Correlation-Id"
	headerType        = "Polylog-Type"
	headerReplyTo     = "Polylog-Reply-To"
	headerGroup       = "Polylog-Group"
	headerProperties  = "Polylog-Properties"
)

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", session.ErrInvalid, fmt.Sprintf(format, args...))
}

// parse takes a request for a message, sent at now.
func parse(h http.Header, body []byte, now time.Time) (*record.Message, error) {
	m := &record.Message{Body: body, Timestamp: now.UnixMilli()}
	m.Kind, m.Priority = record.BodyBytes, record.DefaultPriority
	media, _, _ := mime.ParseMediaType(h.Get("Content-Type"))
	if (strings.HasPrefix(media, "text/") || media == "application/json" || strings.HasSuffix(media, "+json")) && utf8.Valid(body) {
		m.Kind = record.BodyText
	}
	m.ID, m.CorrelationID, m.Type, m.ReplyTo = h.Get(headerID), h.Get(headerCorrelation), h.Get(headerType), h.Get(headerReplyTo)
	switch name, found := strings.CutPrefix(m.ReplyTo, "topic://"); {
	case found:
		m.ReplyTo, m.ReplyToKind = name, record.DestinationTopic
	case m.ReplyTo != "":
		m.ReplyTo, m.ReplyToKind = strings.TrimPrefix(m.ReplyTo, "queue://"), record.DestinationQueue
	}
	if group := h.Get(headerGroup); group != "" {
		m.Grouped, m.Key = true, []byte(group)
	}
	if text := h.Get(headerPriority); text != "" {
		n, err := strconv.ParseUint(text, 10, 8)
		if err != nil || n > 9 {
			return nil, invalid("%s %.40q is not 0 to 9", headerPriority, text)
		}
		m.Priority = uint8(n)
	}
	for _, t := range []struct {
		header string
		to     *int64
	}{{headerDelay, &m.DeliveryTime}, {headerExpiresIn, &m.Expiration}} {
		if text := h.Get(t.header); text != "" {
			d, err := duration(text)
			if err != nil {
				return nil, invalid("%s %.40q: %s", t.header, text, err)
			}
			*t.to = now.Add(d).UnixMilli()
		}
	}
	if text := h.Get(headerProperties); text != "" {
		properties, err := parseProperties(text)
		if err != nil {
			return nil, err
		}
		m.Properties = properties
	}
	return m, nil
}

// maxDuration bounds what is waited for: ten years, which is never.
const maxDuration = 10 * 365 * 24 * time.Hour

// duration reads "1m30s", or seconds.
func duration(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err != nil {
		var seconds float64
		if seconds, err = strconv.ParseFloat(text, 64); err != nil || math.IsNaN(seconds) || math.Abs(seconds) > maxDuration.Seconds() {
			return 0, fmt.Errorf("a duration such as 30s, or a number of seconds")
		}
		d = time.Duration(seconds * float64(time.Second))
	}
	if d < 0 || d > maxDuration {
		return 0, fmt.Errorf("a duration from 0 to %s", maxDuration)
	}
	return d, nil
}

// parseProperties reads a JSON object: texts, booleans and numbers, which are whole if they
// are written so.
func parseProperties(text string) (map[string]any, error) {
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	var properties map[string]any
	if err := d.Decode(&properties); err != nil || d.More() {
		return nil, invalid("%s is not a JSON object", headerProperties)
	}
	for name, v := range properties {
		switch v := v.(type) {
		case string, bool:
		case json.Number:
			if n, err := v.Int64(); err == nil {
				properties[name] = n
			} else if f, err := v.Float64(); err == nil {
				properties[name] = f
			} else {
				return nil, invalid("property %.80q: %.40s is out of range", name, v)
			}
		default:
			return nil, invalid("property %.80q is no text, number or boolean", name)
		}
	}
	return properties, nil
}

// message is one as it is answered.
type message struct {
	Receipt       string         `json:"receipt,omitempty"`
	ID            string         `json:"id,omitempty"`
	Destination   string         `json:"destination"`
	Partition     int32          `json:"partition"`
	Offset        int64          `json:"offset"`
	Kind          string         `json:"kind"`
	Text          *string        `json:"text,omitempty"`
	Body          []byte         `json:"body,omitempty"` // base64
	Priority      uint8          `json:"priority"`
	Timestamp     time.Time      `json:"timestamp"`
	Expires       *time.Time     `json:"expires,omitempty"`
	CorrelationID string         `json:"correlation_id,omitempty"`
	Type          string         `json:"type,omitempty"`
	ReplyTo       string         `json:"reply_to,omitempty"`
	Group         string         `json:"group,omitempty"`
	DeliveryCount int            `json:"delivery_count,omitempty"`
	State         string         `json:"state,omitempty"` // of one that is browsed
	Properties    map[string]any `json:"properties,omitempty"`
}

var kinds = map[record.BodyKind]string{
	record.BodyNone: "none", record.BodyText: "text", record.BodyBytes: "bytes", record.BodyMap: "map", record.BodyStream: "stream",
	record.BodyObject: "object", record.BodyValue: "value",
}

// messageOf is a record as it is answered.
func messageOf(r *record.Record, destination string, partition int32, count int) message {
	var m record.Message
	_ = record.DecodeMessage(r, &m) // what cannot be read of its header is as if it had none
	out := message{
		ID: m.ID, Destination: destination, Partition: partition, Offset: r.Offset, Kind: kinds[m.Kind], Priority: m.Priority,
		Timestamp: time.UnixMilli(m.Timestamp).UTC(), CorrelationID: m.CorrelationID, Type: m.Type, ReplyTo: m.ReplyTo, DeliveryCount: count,
		Properties: m.Properties,
	}
	for name, v := range m.Properties { // JSON has no numbers for these
		if f, ok := v.(float64); ok && (math.IsNaN(f) || math.IsInf(f, 0)) {
			m.Properties[name] = fmt.Sprint(f)
		}
		if f, ok := v.(float32); ok && (math.IsNaN(float64(f)) || math.IsInf(float64(f), 0)) {
			m.Properties[name] = fmt.Sprint(f)
		}
	}
	if m.ReplyToKind == record.DestinationTopic {
		out.ReplyTo = "topic://" + m.ReplyTo
	}
	if out.ID == "" {
		out.ID = fmt.Sprintf("ID:%s-%d-%d", destination, partition, r.Offset)
	}
	if m.Expiration > 0 {
		at := time.UnixMilli(m.Expiration).UTC()
		out.Expires = &at
	}
	if m.Grouped {
		out.Group = string(m.Key)
	}
	if m.Kind == record.BodyText && utf8.Valid(m.Body) {
		text := string(m.Body)
		out.Text = &text
	} else {
		out.Body = append([]byte{}, m.Body...)
	}
	return out
}
