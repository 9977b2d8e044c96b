package selector

import (
	"strings"
	"unicode/utf8"
)

// maxPattern bounds a pattern, in characters.
const maxPattern = 4096

// pattern is what LIKE compares with: segments between its %s, each of which
// has to be found behind the one before. Where the first stretch of a pattern
// begins, and the last one ends, is fixed unless there is a % too. It takes time
// in proportion to the text, times a word for each 64 characters of a segment
// that has a _ in it.
type pattern struct {
	text     string // as it was written
	escape   rune   // 0: none
	first    segment
	middle   []segment
	last     segment
	anywhere bool // there is a %
}

// segment is characters that stand together.
type segment struct {
	chars []rune // anyone for _
	text  string // of chars, if there is no _ among them
	plain bool
	masks map[rune][]uint64 // where each character stands, for find
	any   []uint64          // where _ does
	size  int               // of chars without a _, in bytes; the least that it takes
}

// anyone stands for _.
const anyone rune = -1

// newPattern reads a pattern. It is false if what escape stands before is no
// special character.
func newPattern(text string, escape rune) (p *pattern, ok bool) {
	p = &pattern{text: text, escape: escape}
	var segments [][]rune
	var open []rune
	escaped := false
	for _, c := range text {
		switch {
		case escaped:
			if c != '%' && c != '_' && c != escape {
				return nil, false
			}
			open, escaped = append(open, c), false
		case escape != 0 && c == escape:
			escaped = true
		case c == '%':
			segments, open, p.anywhere = append(segments, open), nil, true
		case c == '_':
			open = append(open, anyone)
		default:
			open = append(open, c)
		}
	}
	if escaped {
		return nil, false
	}
	segments = append(segments, open)
	p.first = newSegment(segments[0])
	if n := len(segments); n > 1 {
		p.last = newSegment(segments[n-1])
		for _, s := range segments[1 : n-1] {
			if len(s) > 0 {
				p.middle = append(p.middle, newSegment(s))
			}
		}
	}
	return p, true
}

func newSegment(chars []rune) segment {
	s := segment{chars: chars, plain: true}
	var b strings.Builder
	for _, c := range chars {
		if c == anyone {
			s.plain = false
			s.size++
			continue
		}
		b.WriteRune(c)
		s.size += utf8.RuneLen(c)
	}
	if s.plain {
		s.text = b.String()
		return s
	}
	words := (len(chars) + 63) / 64
	s.masks, s.any = map[rune][]uint64{}, make([]uint64, words)
	for i, c := range chars {
		mask := s.any
		if c != anyone {
			if mask = s.masks[c]; mask == nil {
				mask = make([]uint64, words)
				s.masks[c] = mask
			}
		}
		mask[i/64] |= 1 << (i % 64)
	}
	return s
}

// match says whether all of text is like the pattern.
func (p *pattern) match(text string) bool {
	at, ok := p.first.prefix(text)
	if !ok {
		return false
	}
	if text = text[at:]; !p.anywhere {
		return text == ""
	}
	end, ok := p.last.suffix(text)
	if !ok {
		return false
	}
	text = text[:end]
	for i := range p.middle {
		at, ok := p.middle[i].find(text)
		if !ok {
			return false
		}
		text = text[at:]
	}
	return true
}

// prefix says whether text begins with the segment, and where that ends.
func (s *segment) prefix(text string) (end int, ok bool) {
	if s.plain {
		return len(s.text), strings.HasPrefix(text, s.text)
	}
	for _, c := range s.chars {
		if end == len(text) {
			return 0, false
		}
		r, size := utf8.DecodeRuneInString(text[end:])
		if c != anyone && c != r {
			return 0, false
		}
		end += size
	}
	return end, true
}

// suffix says whether text ends with the segment, and where that begins.
func (s *segment) suffix(text string) (begin int, ok bool) {
	if s.plain {
		return len(text) - len(s.text), strings.HasSuffix(text, s.text)
	}
	begin = len(text)
	for i := len(s.chars) - 1; i >= 0; i-- {
		if begin == 0 {
			return 0, false
		}
		r, size := utf8.DecodeLastRuneInString(text[:begin])
		if c := s.chars[i]; c != anyone && c != r {
			return 0, false
		}
		begin -= size
	}
	return begin, true
}

// find returns where the first occurrence of the segment in text ends. With a _
// in it that is Shift-And: bit i says that the last i+1 characters of what was
// read are like the first i+1 of the segment.
func (s *segment) find(text string) (end int, ok bool) {
	if s.plain {
		i := strings.Index(text, s.text)
		return i + len(s.text), i >= 0
	}
	var state [maxPattern / 64]uint64
	words := len(s.any)
	final := uint64(1) << ((len(s.chars) - 1) % 64)
	for at, c := range text {
		mask := s.masks[c]
		carry := uint64(1)
		for w := range words {
			here := s.any[w]
			if mask != nil {
				here |= mask[w]
			}
			next := state[w] >> 63 & 1
			state[w] = (state[w]<<1 | carry) & here
			carry = next
		}
		if state[words-1]&final != 0 {
			_, size := utf8.DecodeRuneInString(text[at:])
			return at + size, true
		}
	}
	return 0, false
}
