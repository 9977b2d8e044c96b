package destination

import (
	"errors"
	"testing"

	"github.com/polylog-mq/polylog/destination/record"
)

func replayOne(t *testing.T, key, value []byte) {
	r := replay{cursors: map[CursorID]*replayed{}}
	for offset := range int64(3) {
		if err := r.record(&record.Record{Offset: offset, Key: key, Value: value}, int64(len(value))); err != nil {
			if !errors.Is(err, ErrNewerFormat) {
				t.Fatalf("untyped error: %v", err)
			}
		}
	}
	for _, found := range r.cursors {
		if found.cursor != nil {
			checkInvariants(t, found.cursor)
		}
	}
}
