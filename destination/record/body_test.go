package record

import (
	"bytes"
	"errors"
	"math"
	"reflect"
	"testing"
)

// knownBodies are Map and Stream bodies as bytes, used both ways.
var knownBodies = []struct {
	name  string
	hex   string
	value any
}{
	{"empty map", "80", map[string]any{}},
	{"map", "83 a161 d0 01 a162 a178 a163 c0", map[string]any{"c": nil, "b": "x", "a": int8(1)}},
	{"empty stream", "90", []any{}},
	{
		"every type", `9b c0 c3 d0 ff d1 0001 d2 00000002 d3 0000000000000003 ca 3f000000 cb 3fe0000000000000
			a2 c3a4 c4 02 00ff c2`,
		[]any{nil, true, int8(-1), int16(1), int32(2), int64(3), float32(0.5), 0.5, "ä", []byte{0, 255}, false},
	},
}

func TestKnownBodies(t *testing.T) {
	for _, k := range knownBodies {
		t.Run(k.name, func(t *testing.T) {
			want := unhex(t, k.hex)
			var got []byte
			var back any
			var err, decodeErr error
			switch v := k.value.(type) {
			case map[string]any:
				got, err = EncodeMap([]byte("x"), v)
				back, decodeErr = DecodeMap(want)
			case []any:
				got, err = EncodeStream([]byte("x"), v)
				back, decodeErr = DecodeStream(want)
			}
			if err != nil || !bytes.Equal(got, append([]byte("x"), want...)) {
				t.Errorf("wrote %x, %v, want %x", got, err, want)
			}
			if decodeErr != nil || !reflect.DeepEqual(back, k.value) {
				t.Errorf("read %#v, %v", back, decodeErr)
			}
			for cut := 1; cut < len(want); cut++ {
				if _, ok := k.value.([]any); ok {
					_, err = DecodeStream(want[:cut])
				} else {
					_, err = DecodeMap(want[:cut])
				}
				if !errors.Is(err, ErrCorrupt) {
					t.Errorf("cut to %d: %v", cut, err)
				}
			}
		})
	}
}

func TestBodiesOfOthers(t *testing.T) {
	got, err := DecodeStream(unhex(t, "96 01 e0 cc ff cd ffff ce ffffffff cf 7fffffffffffffff"))
	if want := []any{int8(1), int8(-32), int16(255), int32(65535), int64(1<<32 - 1), int64(math.MaxInt64)}; err != nil ||
		!reflect.DeepEqual(got, want) {
		t.Errorf("%#v %v", got, err)
	}
	if m, err := DecodeMap(nil); err != nil || len(m) != 0 {
		t.Error(m, err)
	}
	if s, err := DecodeStream([]byte{}); err != nil || len(s) != 0 {
		t.Error(s, err)
	}
}

func TestBodiesRefused(t *testing.T) {
	for hex, want := range map[string]error{
		"91 90": ErrBodyType, "91 80": ErrBodyType, "91 cf ffffffffffffffff": ErrBodyType, "91 d4 01 01": ErrBodyType,
		"dd ffffffff": ErrCorrupt, "91 db ffffffff": ErrCorrupt, "91 c6 ffffffff": ErrCorrupt, "90 00": ErrCorrupt,
		"81 01 01": ErrCorrupt,
	} {
		if _, err := DecodeStream(unhex(t, hex)); !errors.Is(err, want) {
			t.Errorf("stream %s: %v", hex, err)
		}
	}
	for hex, want := range map[string]error{
		"81 a161 90": ErrBodyType, "df ffffffff": ErrCorrupt, "81 db ffffffff 01": ErrCorrupt, "80 00": ErrCorrupt,
		"91 01": ErrCorrupt, "81 01 01": ErrCorrupt, "c0": ErrCorrupt,
	} {
		if _, err := DecodeMap(unhex(t, hex)); !errors.Is(err, want) {
			t.Errorf("map %s: %v", hex, err)
		}
	}
	if _, err := EncodeMap(nil, map[string]any{"x": 1}); !errors.Is(err, ErrBodyType) {
		t.Error(err)
	}
	if _, err := EncodeStream(nil, []any{uint64(1)}); !errors.Is(err, ErrBodyType) {
		t.Error(err)
	}
}
