package selector

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/polylog-mq/polylog/destination/record"
)

// MaxBytes bounds a selector's text.
const MaxBytes = 64 << 10

// Error says what is wrong with a selector, and where.
type Error struct {
	Offset int // in bytes, from 0
	Column int // in characters, from 1
	Reason string
}

func (e *Error) Error() string { return fmt.Sprintf("column %d: %s", e.Column, e.Reason) }

// kind is what a token is.
type kind uint8

const (
	end kind = iota
	name
	word   // a keyword; text is in upper case
	symbol // an operator or a parenthesis
	str
	integer
	float
)

// token is one word of the language.
type token struct {
	kind  kind
	text  string // of a name, word, symbol or string
	at    int
	value int64
	large bool // an integer of 2^63, which only its negation can be
	real  float64
}

func (t token) String() string {
	switch t.kind {
	case end:
		return "the end"
	case str:
		return "'" + strings.ReplaceAll(t.text, "'", "''") + "'"
	case integer, float:
		return "a number"
	}
	return strconv.Quote(t.text)
}

// keywords cannot be identifiers (§3.8.1.1).
var keywords = map[string]bool{
	"NULL": true, "TRUE": true, "FALSE": true, "NOT": true, "AND": true, "OR": true,
	"BETWEEN": true, "LIKE": true, "IN": true, "IS": true, "ESCAPE": true,
}

// lexer cuts a text into tokens.
type lexer struct {
	text string
	at   int
}

func (l *lexer) fail(at int, format string, args ...any) error {
	return &Error{Offset: at, Column: utf8.RuneCountInString(l.text[:at]) + 1, Reason: fmt.Sprintf(format, args...)}
}

// next reads one token.
func (l *lexer) next() (token, error) {
	for l.at < len(l.text) && strings.IndexByte(" \t\n\r\f", l.text[l.at]) >= 0 {
		l.at++
	}
	at := l.at
	if at == len(l.text) {
		return token{kind: end, at: at}, nil
	}
	c, size := utf8.DecodeRuneInString(l.text[at:])
	switch {
	case c == utf8.RuneError && size == 1:
		return token{}, l.fail(at, "this is not UTF-8")
	case c == '\'':
		return l.string()
	case c >= '0' && c <= '9', c == '.':
		return l.number()
	case record.IdentifierStart(c):
		for l.at < len(l.text) {
			c, size := utf8.DecodeRuneInString(l.text[l.at:])
			if !record.IdentifierStart(c) && !record.IdentifierPart(c) {
				break
			}
			l.at += size
		}
		t := token{kind: name, text: l.text[at:l.at], at: at}
		if upper := strings.ToUpper(t.text); keywords[upper] {
			t.kind, t.text = word, upper
		}
		return t, nil
	}
	for _, s := range []string{"<>", "<=", ">=", "=", "<", ">", "+", "-", "*", "/", "(", ")", ","} {
		if strings.HasPrefix(l.text[at:], s) {
			l.at += len(s)
			return token{kind: symbol, text: s, at: at}, nil
		}
	}
	if c == '!' || c == '"' {
		return token{}, l.fail(at, "%q is no part of this language; unequal is <>, and a text stands in 'single quotes'", c)
	}
	return token{}, l.fail(at, "%q is no part of this language", c)
}

// string reads a text in quotes, in which a quote is doubled.
func (l *lexer) string() (token, error) {
	at := l.at
	var b strings.Builder
	for l.at++; ; {
		i := strings.IndexByte(l.text[l.at:], '\'')
		if i < 0 {
			return token{}, l.fail(at, "a text begins here that does not end")
		}
		b.WriteString(l.text[l.at : l.at+i])
		if l.at += i + 1; l.at == len(l.text) || l.text[l.at] != '\'' {
			break
		}
		b.WriteByte('\'')
		l.at++
	}
	if !utf8.ValidString(b.String()) {
		return token{}, l.fail(at, "this text is not UTF-8")
	}
	return token{kind: str, text: b.String(), at: at}, nil
}

// number reads a literal of Java: decimal, octal with 0, hexadecimal with 0x,
// perhaps with L; or with a point, an exponent, or f or d behind it.
func (l *lexer) number() (token, error) {
	at := l.at
	digits := func(set string) int {
		from := l.at
		for l.at < len(l.text) && strings.IndexByte(set, l.text[l.at]) >= 0 {
			l.at++
		}
		return l.at - from
	}
	takes := func(set string) bool {
		if l.at < len(l.text) && strings.IndexByte(set, l.text[l.at]) >= 0 {
			l.at++
			return true
		}
		return false
	}
	const decimal = "0123456789"
	base, from, exact := 10, at, true
	if strings.HasPrefix(l.text[at:], "0x") || strings.HasPrefix(l.text[at:], "0X") {
		l.at += 2
		base, from = 16, l.at
		if digits(decimal+"abcdefABCDEF") == 0 {
			return token{}, l.fail(at, "a number without digits")
		}
	} else {
		whole := digits(decimal)
		if takes(".") {
			if exact = false; digits(decimal)+whole == 0 {
				return token{}, l.fail(at, "a number without digits")
			}
		}
		if takes("eE") {
			exact = false
			takes("+-")
			if digits(decimal) == 0 {
				return token{}, l.fail(at, "an exponent without digits")
			}
		}
	}
	text := l.text[from:l.at]
	switch {
	case base == 10 && takes("fFdD"):
		exact = false
	case exact:
		takes("lL")
	}
	if c, _ := utf8.DecodeRuneInString(l.text[l.at:]); l.at < len(l.text) && (record.IdentifierStart(c) || c == '.') {
		return token{}, l.fail(l.at, "%q cannot follow a number", c)
	}
	if !exact {
		v, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return token{}, l.fail(at, "this number is too large")
		}
		return token{kind: float, at: at, real: v}, nil
	}
	if base == 10 && len(text) > 1 && text[0] == '0' {
		base, text = 8, text[1:]
		if strings.ContainsAny(text, "89") {
			return token{}, l.fail(at, "a number that begins with 0 is octal, and has no 8 or 9")
		}
	}
	v, err := strconv.ParseUint(text, base, 64)
	if err != nil || base == 10 && v > math.MaxInt64+1 {
		return token{}, l.fail(at, "this number does not fit into 64 bits")
	}
	return token{kind: integer, at: at, value: int64(v), large: base == 10 && v == math.MaxInt64+1}, nil
}
