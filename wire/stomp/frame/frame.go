// Package frame reads and writes the frames of STOMP 1.0, 1.1 and 1.2.
//
// A Reader takes Frames from a stream, within Limits; Append writes one. Both go by
// the Version that CONNECT and CONNECTED have agreed on: what is escaped in headers,
// and whether a line may end with CR LF.
package frame

// Version is a version of the protocol.
type Version uint8

// The versions. V10 is the one of a stream before anything was agreed on: its
// CONNECT and CONNECTED frames are the same in all, for they are never escaped.
const (
	V10 Version = iota
	V11
	V12
)

// String is how the versions are written in accept-version and version.
func (v Version) String() string { return [...]string{"1.0", "1.1", "1.2"}[v] }

// Header is one line of a frame, unescaped.
type Header struct{ Name, Value string }

// Frame is one frame, of a client or of the server.
type Frame struct {
	Command string
	Headers []Header // in their order; of a name that is repeated the first counts
	Body    []byte
}

// Get returns a header's value, and "" if there is none.
func (f *Frame) Get(name string) string {
	v, _ := f.Lookup(name)
	return v
}

// Lookup returns a header's value and whether there is one. Of repeated headers only
// the first is used. STOMP 1.2, Repeated Header Entries
func (f *Frame) Lookup(name string) (string, bool) {
	for i := range f.Headers {
		if f.Headers[i].Name == name {
			return f.Headers[i].Value, true
		}
	}
	return "", false
}

// Size is about what the frame takes, in bytes.
func (f *Frame) Size() int {
	n := len(f.Command) + len(f.Body)
	for i := range f.Headers {
		n += len(f.Headers[i].Name) + len(f.Headers[i].Value) + 2
	}
	return n
}

// Add appends a header.
func (f *Frame) Add(name, value string) { f.Headers = append(f.Headers, Header{name, value}) }

// connecting reports whether a command's headers are never escaped, so that clients
// of 1.0 understand them. STOMP 1.2, Value Encoding
func connecting(command string) bool { return command == "CONNECT" || command == "CONNECTED" }
