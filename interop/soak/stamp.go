package main

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"
)

// A transaction is known by the run's session, its producer, and its number there.
type transactionID struct {
	Session  int
	Producer int
	Number   int64
}

func (t transactionID) String() string {
	return fmt.Sprintf("%d/%d/%d", t.Session, t.Producer, t.Number)
}

// after tells the order in which one producer made two transactions.
func (t transactionID) after(u transactionID) bool {
	if t.Session != u.Session {
		return t.Session > u.Session
	}
	return t.Number > u.Number
}

func parseTransactionID(s string) (t transactionID, err error) {
	parts := strings.Split(s, "/")
	if len(parts) != 3 {
		return t, fmt.Errorf("transaction %q", s)
	}
	if t.Session, err = strconv.Atoi(parts[0]); err != nil {
		return t, err
	}
	if t.Producer, err = strconv.Atoi(parts[1]); err != nil {
		return t, err
	}
	t.Number, err = strconv.ParseInt(parts[2], 10, 64)
	return t, err
}

// An origin is a record, as the processor that consumed it knows it.
type origin struct {
	Transaction transactionID
	Position    int
}

// A stamp is what every record says of itself: its transaction, its place there, how
// many records the transaction has, whether it is meant to be aborted, and what it was
// made from, if it was. The record's value is the stamp and its checksum on one line,
// and then filler that follows from the two:
//
//	1/3/17 2/5 commit 1/0/9#4 77812ab3
type stamp struct {
	transactionID
	Position int // from 0
	Count    int
	Abort    bool
	From     *origin // nil: of nothing
}

func (s stamp) String() string {
	intent := "commit"
	if s.Abort {
		intent = "abort"
	}
	from := "-"
	if s.From != nil {
		from = fmt.Sprintf("%s#%d", s.From.Transaction, s.From.Position)
	}
	return fmt.Sprintf("%s %d/%d %s %s", s.transactionID, s.Position, s.Count, intent, from)
}

// value is the record's, with so many bytes of filler.
func (s stamp) value(filler int) []byte {
	head := s.String()
	sum := crc32.ChecksumIEEE([]byte(head))
	b := fmt.Appendf(nil, "%s %08x\n", head, sum)
	return appendFiller(b, sum, filler)
}

func appendFiller(b []byte, seed uint32, n int) []byte {
	for range n {
		seed = seed*1664525 + 1013904223
		b = append(b, 'a'+byte(seed>>24)%26)
	}
	return b
}

var errDamaged = errors.New("not what was produced")

func parseStamp(value []byte) (s stamp, err error) {
	line, filler, ok := bytes.Cut(value, []byte{'\n'})
	words := strings.Fields(string(line))
	if !ok || len(words) != 5 {
		return s, errDamaged
	}
	if s.transactionID, err = parseTransactionID(words[0]); err != nil {
		return s, errDamaged
	}
	if _, err := fmt.Sscanf(words[1], "%d/%d", &s.Position, &s.Count); err != nil || s.Position < 0 || s.Position >= s.Count {
		return s, errDamaged
	}
	s.Abort = words[2] == "abort"
	if words[3] != "-" {
		id, position, _ := strings.Cut(words[3], "#")
		s.From = &origin{}
		if s.From.Transaction, err = parseTransactionID(id); err != nil {
			return s, errDamaged
		}
		if s.From.Position, err = strconv.Atoi(position); err != nil {
			return s, errDamaged
		}
	}
	if !bytes.Equal(value, s.value(len(filler))) {
		return s, errDamaged
	}
	return s, nil
}
