package cli

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/polylog-mq/polylog"
)

var bodyKinds = map[polylog.BodyKind]string{
	polylog.BodyNone: "none", polylog.BodyBytes: "bytes", polylog.BodyText: "text", polylog.BodyMap: "map",
	polylog.BodyStream: "stream", polylog.BodyObject: "object", polylog.BodyValue: "value",
}

// messageInfo is a message as JSON. Bytes that are UTF-8 are shown as text,
// others in base64 under another name.
type messageInfo struct {
	ID             string         `json:"id"`
	Destination    string         `json:"destination"`
	Partition      int32          `json:"partition"`
	Offset         int64          `json:"offset"`
	TimestampMS    int64          `json:"timestamp_ms"`
	DeliveryCount  int            `json:"delivery_count,omitempty"`
	State          string         `json:"state,omitempty"` // of a message that was browsed
	Kind           string         `json:"kind"`
	Body           any            `json:"body,omitempty"`
	BodyBase64     string         `json:"body_base64,omitempty"`
	ContentType    string         `json:"content_type,omitempty"`
	Key            string         `json:"key,omitempty"`
	KeyBase64      string         `json:"key_base64,omitempty"`
	Group          string         `json:"group,omitempty"`
	Priority       uint8          `json:"priority"`
	CorrelationID  string         `json:"correlation_id,omitempty"`
	Type           string         `json:"type,omitempty"`
	ReplyTo        string         `json:"reply_to,omitempty"`
	UserID         string         `json:"user_id,omitempty"`
	ExpirationMS   int64          `json:"expiration_ms,omitempty"`
	DeliveryTimeMS int64          `json:"delivery_time_ms,omitempty"`
	NonPersistent  bool           `json:"non_persistent,omitempty"`
	Properties     map[string]any `json:"properties,omitempty"`
}

func describeMessage(m *polylog.Message) messageInfo {
	info := messageInfo{
		ID: m.ID, Destination: m.Destination, Partition: m.Partition, Offset: m.Offset, TimestampMS: m.Timestamp,
		DeliveryCount: m.DeliveryCount, Kind: bodyKinds[m.Kind], ContentType: m.ContentType,
		Key: string(m.Key), Group: m.Group(), Priority: m.Priority, CorrelationID: m.CorrelationID,
		Type: m.Meta.Type, ReplyTo: m.ReplyTo, UserID: m.UserID, ExpirationMS: m.Expiration,
		DeliveryTimeMS: m.DeliveryTime, NonPersistent: m.NonPersistent, Properties: m.Properties,
	}
	if !utf8.Valid(m.Key) {
		info.Key, info.KeyBase64 = "", base64.StdEncoding.EncodeToString(m.Key)
	}
	body, err := bodyOf(m)
	switch text, isText := body.([]byte); {
	case err != nil, isText && !utf8.Valid(text):
		info.BodyBase64 = base64.StdEncoding.EncodeToString(m.Body)
	case isText && text == nil: // null, which no body is: a tombstone
	case isText:
		info.Body = string(text)
	default:
		info.Body = body
	}
	return info
}

// marshalMessage is a message as JSON, without a newline at the end.
func marshalMessage(m *polylog.Message, state string, indent bool) ([]byte, error) {
	info := describeMessage(m)
	info.State = state
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if indent {
		encoder.SetIndent("  ", "  ")
	}
	err := encoder.Encode(info)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

// bodyOf is what is in the body: bytes, or a value to be shown as JSON.
func bodyOf(m *polylog.Message) (any, error) {
	switch m.Kind {
	case polylog.BodyMap:
		return m.Map()
	case polylog.BodyStream:
		return m.Stream()
	case polylog.BodyValue:
		var v any
		err := m.Value(&v)
		return v, err
	case polylog.BodyNone:
		return nil, nil
	}
	return m.Body, nil
}

// plainBody is the body as a line of output: bytes as they are, a map, stream
// or value as JSON.
func plainBody(m *polylog.Message) []byte {
	body, err := bodyOf(m)
	if err != nil {
		return m.Body
	}
	if body == nil {
		return nil
	}
	if text, ok := body.([]byte); ok {
		return text
	}
	out, err := json.Marshal(body)
	if err != nil { // a map with a key that JSON has no word for
		return fmt.Append(nil, body)
	}
	return out
}

// propertyTypes reads the text of a property as the type that is named behind
// its name: k:int=3.
var propertyTypes = map[string]func(string) (any, error){
	"string": func(s string) (any, error) { return s, nil },
	"bool":   func(s string) (any, error) { return strconv.ParseBool(s) },
	"byte":   func(s string) (any, error) { n, err := strconv.ParseInt(s, 0, 8); return int8(n), err },
	"short":  func(s string) (any, error) { n, err := strconv.ParseInt(s, 0, 16); return int16(n), err },
	"int":    func(s string) (any, error) { n, err := strconv.ParseInt(s, 0, 32); return int32(n), err },
	"long":   func(s string) (any, error) { return strconv.ParseInt(s, 0, 64) },
	"float":  func(s string) (any, error) { f, err := strconv.ParseFloat(s, 32); return float32(f), err },
	"double": func(s string) (any, error) { return strconv.ParseFloat(s, 64) },
}

// parseProperty reads NAME=VALUE or NAME:TYPE=VALUE.
func parseProperty(text string) (name string, value any, err error) {
	left, right, ok := strings.Cut(text, "=")
	if !ok || left == "" {
		return "", nil, usagef("property %q: write NAME=VALUE or NAME:TYPE=VALUE", text)
	}
	name, kind, typed := strings.Cut(left, ":")
	if !typed {
		return name, right, nil
	}
	parse, ok := propertyTypes[kind]
	if !ok {
		return "", nil, usagef("property %s: there is no type %q; take one of bool, byte, short, int, long, float, double, string", name, kind)
	}
	if value, err = parse(right); err != nil {
		return "", nil, usagef("property %s: %q is no %s", name, right, kind)
	}
	return name, value, nil
}
