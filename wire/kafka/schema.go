package kafka

import (
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"sync"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// kmsg believes what a request says of itself. It makes room for as many
// elements as are announced if there is a byte for each, which is up to 115 times
// the request, and it counts to four billion tagged fields though none follow.
// So a request is walked before it is decoded: every count must be there, and what
// decoding will take must be in proportion to the bytes.
//
// The walk follows kmsg's own types. Which versions have which field stands only
// in its comments; versions.txt has these, and a test keeps it true.

//go:embed versions.txt
var versionsText string

// A field of a request as it lies on the wire.
type field struct {
	kind     fieldKind
	size     int     // bytes of a fixed one
	memory   int     // bytes that an element takes once it is decoded
	of       *schema // elements and structs
	element  *field  // of an array of anything else
	min, max int16   // versions that have it
}

type fieldKind uint8

const (
	fixedField fieldKind = iota
	textField
	bytesField
	arrayField
	structField
	optionalField // a struct behind a byte that says whether it is there
)

// schema is a struct's fields in the order of the wire.
type schema struct {
	fields   []field
	flexible int16 // the first version with tagged fields; -1: none
}

const noVersion int16 = -1

// versionRange is of one field, by "Type.Field".
type versionRange struct {
	min, max int16
	tagged   bool
}

var fieldVersions = sync.OnceValue(func() map[string]versionRange {
	all := map[string]versionRange{}
	for line := range strings.Lines(versionsText) {
		name, text, _ := strings.Cut(strings.TrimSpace(line), " ")
		all[name] = parseVersions(text)
	}
	// kmsg's comment leaves it out.
	all["ShareFetchRequestTopicPartition.PartitionMaxBytes"] = parseVersions("v0-v0")
	return all
})

// parseVersions reads "v3+", "v0-v14" or "tag 0".
func parseVersions(text string) versionRange {
	if strings.HasPrefix(text, "tag") {
		return versionRange{tagged: true}
	}
	first, last, bounded := strings.Cut(strings.TrimSuffix(text, "+"), "-")
	number := func(s string) int16 {
		n, err := strconv.ParseInt(strings.TrimPrefix(s, "v"), 10, 16)
		if err != nil {
			panic("kafka: versions.txt: " + text)
		}
		return int16(n)
	}
	r := versionRange{min: number(first), max: 1<<15 - 1}
	if bounded {
		r.max = number(last)
	}
	return r
}

// schemas are built when a request is first seen.
var schemas sync.Map // key → *schema

func schemaOf(q kmsg.Request) *schema {
	if s, ok := schemas.Load(q.Key()); ok {
		return s.(*schema)
	}
	s, _ := schemas.LoadOrStore(q.Key(), newSchema(reflect.TypeOf(q).Elem()))
	return s.(*schema)
}

func newSchema(t reflect.Type) *schema {
	s := &schema{flexible: noVersion}
	for i := range t.NumField() {
		f := t.Field(i)
		v, bounded := fieldVersions()[t.Name()+"."+f.Name]
		if !bounded {
			v.max = 1<<15 - 1
		}
		switch {
		case f.Name == "Version" && i == 0 && f.Type.Kind() == reflect.Int16 && strings.HasSuffix(t.Name(), "Request"):
		case f.Type == reflect.TypeFor[kmsg.Tags]():
			s.flexible = v.min
		case v.tagged:
		default:
			w := newField(f.Type)
			w.min, w.max = v.min, v.max
			s.fields = append(s.fields, w)
		}
	}
	return s
}

func newField(t reflect.Type) field {
	f := field{kind: fixedField, size: int(t.Size()), memory: int(t.Size())}
	switch t.Kind() {
	case reflect.String:
		f.kind = textField
	case reflect.Pointer:
		f.kind = textField
		if t.Elem().Kind() == reflect.Struct {
			f.kind, f.of, f.memory = optionalField, newSchema(t.Elem()), int(t.Elem().Size())
		}
	case reflect.Struct:
		f.kind, f.of = structField, newSchema(t)
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			f.kind = bytesField
			break
		}
		element := newField(t.Elem())
		f.kind, f.memory, f.element = arrayField, int(t.Elem().Size()), &element
	}
	return f
}

const (
	// maxOtherBytes bounds every request but Produce.
	maxOtherBytes = 4 << 20
	// decodedFactor and decodedBase bound what decoding a request may take, by
	// its size: 4 times, and 1 MiB for small ones.
	decodedFactor = 4
	decodedBase   = 1 << 20
	// tagMemory is about what kmsg keeps of one unknown tagged field, bytes.
	tagMemory = 128
)

var errMalformed = errors.New("malformed request")

// checkRequest says whether body has all that it announces, and decodes within
// bounds.
func checkRequest(q kmsg.Request, body []byte) error {
	if q.Key() != int16(kmsg.Produce) && len(body) > maxOtherBytes {
		return fmt.Errorf("%s of %d bytes, %d are the most", kmsg.NameForKey(q.Key()), len(body), maxOtherBytes)
	}
	w := walker{rest: body, version: q.GetVersion(), flexible: q.IsFlexible(), left: decodedFactor*len(body) + decodedBase}
	w.schema(schemaOf(q))
	if w.bad {
		return fmt.Errorf("%w: %s version %d", errMalformed, kmsg.NameForKey(q.Key()), w.version)
	}
	return nil
}

// walker goes through a request's bytes.
type walker struct {
	rest     []byte
	version  int16
	flexible bool
	left     int // bytes that decoding may still take
	bad      bool
}

func (w *walker) skip(n int) {
	if w.bad || n < 0 || n > len(w.rest) {
		w.bad = true
		return
	}
	w.rest = w.rest[n:]
}

func (w *walker) take(n int) {
	if w.left -= n; w.left < 0 {
		w.bad = true
	}
}

func (w *walker) uvarint() int {
	v, n := binary.Uvarint(w.rest)
	if n <= 0 || n > 5 || v > 1<<32-1 {
		w.bad = true
		return 0
	}
	w.rest = w.rest[n:]
	return int(v)
}

// length reads a length or a count of size bytes, or a compact one; null is 0.
func (w *walker) length(size int) int {
	if w.flexible {
		return max(w.uvarint()-1, 0)
	}
	head := w.rest
	if w.skip(size); w.bad {
		return 0
	}
	if size == 2 {
		return max(int(int16(binary.BigEndian.Uint16(head))), 0)
	}
	return max(int(int32(binary.BigEndian.Uint32(head))), 0)
}

func (w *walker) schema(s *schema) {
	for i := range s.fields {
		if f := &s.fields[i]; w.version >= f.min && w.version <= f.max {
			w.field(f)
		}
		if w.bad {
			return
		}
	}
	if s.flexible == noVersion || w.version < s.flexible || !w.flexible {
		return
	}
	n := w.uvarint()
	if n > len(w.rest)/2 {
		w.bad = true
	}
	for ; n > 0 && !w.bad; n-- {
		w.uvarint()
		w.skip(w.uvarint())
		w.take(tagMemory)
	}
}

func (w *walker) field(f *field) {
	switch f.kind {
	case fixedField:
		w.skip(f.size)
	case textField:
		n := w.length(2)
		w.skip(n)
		w.take(n)
	case bytesField:
		w.skip(w.length(4))
	case structField:
		w.schema(f.of)
	case optionalField:
		present := w.rest
		if w.skip(1); !w.bad && int8(present[0]) > 0 {
			w.take(f.memory)
			w.schema(f.of)
		}
	case arrayField:
		n := w.length(4)
		if n > len(w.rest) {
			w.bad = true
			return
		}
		w.take(n * f.memory)
		for ; n > 0 && !w.bad; n-- {
			w.field(f.element)
		}
	}
}
