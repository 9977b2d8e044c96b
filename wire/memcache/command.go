package memcache

import (
	"bytes"
	"errors"
	"strconv"
)

// The bounds of memcached: a key's length in bytes, and a value's, where the
// destination has no smaller one.
const (
	maxKey   = 250
	maxValue = 1 << 20
	maxLine  = 16 << 10 // of a get of many keys
)

// verb is what a command does.
type verb uint8

const (
	unknown verb = iota
	set
	get
	gets
	deletes
	stats
	version
	verbosity
	quit
	unsupported // a verb of memcached that makes no sense for a queue
	store       // one that has a value behind it, and makes none either
)

var verbs = map[string]verb{
	"set": set, "get": get, "gets": gets, "delete": deletes, "stats": stats, "version": version, "verbosity": verbosity, "quit": quit,
	"add": store, "replace": store, "append": store, "prepend": store, "cas": store,
	"incr": unsupported, "decr": unsupported, "touch": unsupported, "gat": unsupported, "gats": unsupported, "flush_all": unsupported,
}

// command is a line of the protocol.
type command struct {
	verb    verb
	keys    [][]byte // alias the line
	flags   uint32
	expires int64
	bytes   int // of the value that follows; -1: it is not said
	noreply bool
}

var (
	errUnknown = errors.New("ERROR")
	errFormat  = errors.New("CLIENT_ERROR bad command line format")
	errChunk   = errors.New("CLIENT_ERROR bad data chunk")
	errLarge   = errors.New("SERVER_ERROR object too large for cache")
	errVerb    = errors.New("SERVER_ERROR a queue cannot do that")
)

// parse reads a line, without its end. With errFormat, bytes still says how much of a
// value follows.
func parse(line []byte) (c command, err error) {
	words := bytes.Fields(line)
	if len(words) == 0 {
		return c, errUnknown
	}
	c.verb = verbs[string(words[0])]
	words = words[1:]
	switch c.verb {
	case unknown:
		return c, errUnknown
	case set, store:
		c.bytes = -1
		if len(words) < 4 {
			return c, errFormat
		}
		n, err := strconv.ParseUint(string(words[3]), 10, 31)
		if err != nil {
			return c, errFormat
		}
		c.bytes = int(n)
		flags, err := strconv.ParseUint(string(words[1]), 10, 32)
		if err != nil {
			return c, errFormat
		}
		c.flags = uint32(flags)
		if c.expires, err = strconv.ParseInt(string(words[2]), 10, 64); err != nil || !isKey(words[0]) {
			return c, errFormat
		}
		c.keys = words[:1]
		c.noreply = string(words[len(words)-1]) == "noreply"
	case get, gets:
		if len(words) == 0 {
			return c, errUnknown
		}
		for _, k := range words {
			if !isKey(k) {
				return c, errFormat
			}
		}
		c.keys = words
	case deletes:
		if len(words) == 0 || !isKey(words[0]) {
			return c, errFormat
		}
		c.keys = words[:1]
		c.noreply = string(words[len(words)-1]) == "noreply"
	case stats:
		c.keys = words
	case verbosity, unsupported:
		c.noreply = len(words) > 0 && string(words[len(words)-1]) == "noreply"
	}
	return c, nil
}

func isKey(k []byte) bool {
	if len(k) > maxKey {
		return false
	}
	for _, b := range k {
		if b < ' ' || b == 0x7f {
			return false
		}
	}
	return true
}

// thirtyDays is up to where an expiry is counted from now: protocol.txt.
const thirtyDays = 60 * 60 * 24 * 30

// expiration is when a value expires, in ms since 1970, at now; 0 is never.
func expiration(expires, now int64) int64 {
	switch {
	case expires == 0:
		return 0
	case expires < 0:
		return now
	case expires <= thirtyDays:
		return now + expires*1000
	case expires > 1<<50/1000:
		return 0
	}
	return expires * 1000
}
