package selector

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/polylog-mq/polylog/destination/record"
)

// properties is a message of a test.
type properties map[string]Value

func (p properties) Value(id Identifier) Value { return p[id.Name] }

func text(s string) Value    { return Value{Kind: String, Text: s} }
func whole(n int64) Value    { return Value{Kind: Int, Int: n} }
func approx(f float64) Value { return Value{Kind: Float, Float: f} }
func truth(v Value) string {
	switch {
	case v.isTrue():
		return "T"
	case v.isFalse():
		return "F"
	}
	return "U"
}

var message = properties{
	"s": text("hello"), "empty": text(""), "quote": text("it's"), "percent": text("50%_\\"), "uni": text("grün"),
	"i": whole(5), "neg": whole(-5), "zero": whole(0), "big": whole(math.MaxInt64), "f": approx(2.5), "nan": approx(math.NaN()),
	"yes": boolean(true), "no": boolean(false), "$_x1": whole(1), "été": text("summer"), "Like1": whole(1),
	"JMSPriority": whole(7), "JMSDeliveryMode": text("PERSISTENT"), "JMSType": text("car"), "JMSTimestamp": whole(1000), "JMSXGroupID": text("g"), "JMS_vendor": whole(3),
}

// By section of the specification: T is true, F false, U unknown.
var table = map[string][]string{
	"literals, §3.8.1.1": {
		"T s = 'hello'", "F s = 'Hello'", "T quote = 'it''s'", "T empty = ''", "T uni = 'grün'",
		"T i = 5", "T i = 5L", "T i = 5l", "T i = 05", "T i = 0x5", "T i = 0X5", "T i = 0x05L", "T zero = 0", "T zero = 00", "T neg = -5", "T i = +5", "T i = 012 - 5",
		"T big = 9223372036854775807", "T -9223372036854775808 < big", "T 0xFFFFFFFFFFFFFFFF = -1", "T 0xff = 255", "T 017 = 15",
		"T f = 2.5", "T f = 2.5d", "T f = 2.5F", "T f = 25e-1", "T f = 25E-1", "T f = .25e1", "T 7. = 7", "T 7E3 = 7000", "T -57.9E2 = -5790", "T +6.2 > 6", "T 1f = 1", "T 1D = 1", "T .5 = 0.5", "T -95.7 < 0",
		"T yes = TRUE", "T no = false", "T yes = True", "T TRUE", "F FALSE", "T true = true",
	},
	"identifiers, §3.8.1.1": {
		"T $_x1 = 1", "T été = 'summer'", "T Like1 = 1", "U I = 5", "U S = 'hello'", "U missing = 1",
		"T JMSPriority = 7", "T JMSPriority >= 7 AND JMSType = 'car'", "T JMSDeliveryMode = 'PERSISTENT'", "F JMSDeliveryMode = 'NON_PERSISTENT'", "T JMSTimestamp > 999",
		"T JMSXGroupID = 'g'", "T JMS_vendor = 3", "U JMSCorrelationID = 'x'", "U JMSMessageID LIKE 'ID:%'", "U JMSXDeliveryCount = 1",
		"T yes", "F no", "U missing", "U i", "U s", "F NOT yes", "T NOT no", "U NOT missing", "U NOT i",
	},
	"white space and case, §3.8.1.1": {
		"T i=5 AND(yes)", "T  i\t=\n5\r\fand\tyes", "T i between 1 And 9", "T s Like 'h%'", "T s In ('hello')", "T missing is Null", "T s is not null", "T (i=5)", "T((i)=(5))", "T 'hello'=s",
	},
	"comparison, §3.8.1.2": {
		"T i <> 6", "F i <> 5", "T i < 6", "F i < 5", "T i <= 5", "F i <= 4", "T i > 4", "F i > 5", "T i >= 5", "F i >= 6",
		"T i = 5.0", "T f > 2", "T f < 3", "T i > f", "F i < f", "T 5 = i", "T 4 < i", "T big > 9.2e18",
		"F s = 5", "F s <> 5", "F i = yes", "F i <> yes", "F s = yes", "F yes = s", "F i = s", "F s > 1", "F s < 1", "F s >= i", "F yes < no", "F s > s",
		"T s = s", "F s <> s", "T yes <> no", "F yes = no", "T yes = yes",
		"U missing = missing", "U missing <> 1", "U missing < 1", "U 1 > missing", "U missing = 'x'", "U missing = TRUE",
		"F nan = nan", "T nan <> nan", "F nan < 1", "F nan >= 1",
		"U NOT (missing = 1)", "T NOT (s = 5)", "T NOT (i = 6)",
	},
	"arithmetic, §3.8.1.2": {
		"T i + 1 = 6", "T i - 1 = 4", "T i * 2 = 10", "T i / 2 = 2", "T i / 2.0 = 2.5", "T -i = -5", "T - -i = 5", "T -(i) = neg", "T +i = 5", "T i + f = 7.5", "T f * 2 = 5",
		"T 1 + 2 * 3 = 7", "T (1 + 2) * 3 = 9", "T 10 - 4 - 3 = 3", "T 100 / 10 / 2 = 5", "T 2 * -3 = -6", "T neg / 2 = -2", "T 7 / -2 = -3",
		"T big + 1 < 0", "U i / zero = 1", "U zero / zero = 0", "T f / zero > 1e300", "F f / zero < 0", "U missing + 1 = 2", "U s + 1 = 2", "U -s = 1", "U yes * 2 = 2", "U -missing = 1", "T i+1>i",
	},
	"logic, §3.8.1.3": {
		"T yes AND yes", "F yes AND no", "F no AND yes", "F no AND no", "U yes AND missing", "U missing AND yes", "F no AND missing", "F missing AND no", "U missing AND missing",
		"T yes OR yes", "T yes OR no", "T no OR yes", "F no OR no", "T yes OR missing", "T missing OR yes", "U no OR missing", "U missing OR no", "U missing OR missing",
		"T NOT no AND yes", "T NOT (no AND yes)", "T no OR NOT no", "T yes OR no AND no", "F (yes OR no) AND no", "T NOT NOT yes", "T NOT no AND NOT no", "T i = 5 AND f = 2.5 OR s = 'x'", "U i AND yes", "T i OR yes", "F NOT i = 5", "U s AND TRUE", "F s AND FALSE",
	},
	"BETWEEN": {
		"T i BETWEEN 5 AND 5", "T i BETWEEN 1 AND 9", "F i BETWEEN 6 AND 9", "F i BETWEEN 1 AND 4", "F i BETWEEN 9 AND 1", "T f BETWEEN 2 AND 3", "T i BETWEEN f AND big", "T i NOT BETWEEN 6 AND 9", "F i NOT BETWEEN 1 AND 9",
		"U missing BETWEEN 1 AND 2", "U missing NOT BETWEEN 1 AND 2", "U i BETWEEN missing AND 9", "F i BETWEEN missing AND 4", "U i BETWEEN 1 AND missing", "F i BETWEEN 6 AND missing", "T i NOT BETWEEN 6 AND missing", "T i + 1 BETWEEN 6 - 1 AND 6 + 1", "T i BETWEEN 1 AND 9 AND yes", "F s BETWEEN 1 AND 2", "T 5 BETWEEN 1 AND 9",
	},
	"IN": {
		"T s IN ('hello')", "T s IN ('a', 'hello', 'b')", "F s IN ('a', 'b')", "T s NOT IN ('a')", "F s NOT IN ('hello')", "U missing IN ('a')", "U missing NOT IN ('a')", "F i IN ('5')", "T i NOT IN ('5')", "T empty IN ('')", "T quote IN ('it''s')", "T JMSType IN('car','bus')",
	},
	"LIKE": {
		"T s LIKE 'hello'", "T s LIKE 'h%'", "T s LIKE '%o'", "T s LIKE '%ell%'", "T s LIKE 'h_llo'", "T s LIKE '_____'", "F s LIKE '____'", "F s LIKE '______'", "T s LIKE '%'", "T s LIKE '%%'", "T s LIKE '%_%'", "T s LIKE 'h%l%o'", "F s LIKE 'H%'", "F s LIKE 'ello'", "F s LIKE 'hell'", "F s LIKE ''", "T empty LIKE ''", "T empty LIKE '%'", "F empty LIKE '_'",
		"T s LIKE '%l_o'", "T s LIKE '%_l_o'", "T s LIKE '%e_l%'", "F s LIKE '%e_x%'", "T s LIKE 'h%_'", "T s LIKE '_%_%_%_%_'", "F s LIKE '_%_%_%_%_%_'", "F s LIKE 'hello%o'", "F s LIKE 'hello_%'", "T s LIKE 'hel%lo'", "F s LIKE 'hell%llo'",
		"T uni LIKE 'gr_n'", "T uni LIKE '%ü%'", "T uni LIKE '____'", "F uni LIKE '_____'", "T uni LIKE '%_ü_%'",
		"T percent LIKE '50#%#_%' ESCAPE '#'", "F s LIKE '%#%' ESCAPE '#'", "T percent LIKE '50\\%\\_\\\\' ESCAPE '\\'", "T percent LIKE '__%'", "T percent LIKE '%a_\\' ESCAPE 'a'",
		"T s NOT LIKE 'x%'", "F s NOT LIKE 'h%'", "U missing LIKE '%'", "U missing NOT LIKE '%'", "F i LIKE '5'", "T i NOT LIKE '5'",
	},
	"IS NULL": {
		"T missing IS NULL", "F s IS NULL", "T s IS NOT NULL", "F missing IS NOT NULL", "F empty IS NULL", "T JMSCorrelationID IS NULL", "T (missing) IS NULL", "T missing IS NULL OR missing = 1",
	},
}

func TestTable(t *testing.T) {
	n := 0
	for section, lines := range table {
		for _, line := range lines {
			n++
			want, source := line[:1], strings.TrimPrefix(line[1:], " ")
			s, err := Compile(source)
			if err != nil {
				t.Errorf("%s: %s: %v", section, source, err)
				continue
			}
			if got := truth(s.root.eval(message)); got != want {
				t.Errorf("%s: %s is %s, want %s (read as %s)", section, source, got, want, s)
			}
			if s.Matches(message) != (want == "T") {
				t.Errorf("%s: %s: only what is true matches", section, source)
			}
			again, err := Compile(s.String())
			if err != nil || again.String() != s.String() {
				t.Errorf("%s: %s is written as %s, which is read as %v, %v", section, source, s, again, err)
			} else if got := truth(again.root.eval(message)); got != want {
				t.Errorf("%s: %s, written as %s, is %s, want %s", section, source, s, got, want)
			}
		}
	}
	if n < 250 {
		t.Errorf("%d cases, 250 are the least", n)
	}
}

// What cannot be meant is refused when it is compiled, with the place.
func TestErrors(t *testing.T) {
	for source, want := range map[string]string{
		"":                          "column 1: a value is expected, here is the end",
		"   ":                       "column 4: a value",
		"i =":                       "column 4: a value is expected",
		"= 5":                       `column 1: a value is expected, here is "="`,
		"i = = 5":                   `column 5: a value`,
		"i == 5":                    `column 4: a value`,
		"i != 5":                    "column 3: '!' is no part of this language; unequal is <>",
		`s = "x"`:                   `column 5: '"' is no part of this language`,
		"s = 'x":                    "column 5: a text begins here that does not end",
		"s = x'":                    "column 6: a text",
		"i = 5)":                    `column 6: an operator or the end is expected, here is ")"`,
		"(i = 5":                    "column 7: ) is expected, here is the end",
		"i = 5 5":                   "column 7: an operator or the end is expected, here is a number",
		"i AND":                     "column 6: a value",
		"AND i":                     `column 1: a value is expected, here is "AND"`,
		"NOT":                       "column 4: a value",
		"i = NULL":                  `column 5: a value is expected, here is "NULL"`,
		"i IS 5":                    "column 6: NULL is expected",
		"i IS NOT":                  "column 9: NULL is expected",
		"5 IS NULL":                 "column 1: IS NULL is asked of a property",
		"i NOT 5":                   "column 7: BETWEEN, LIKE or IN is expected",
		"i BETWEEN 1":               "column 12: AND is expected",
		"i BETWEEN 1 AND":           "column 16: a value",
		"s BETWEEN 'a' AND 'b'":     "column 11: a number is expected, this is a text",
		"i IN":                      "column 5: ( is expected",
		"i IN ()":                   "column 7: a text in 'quotes' is expected",
		"i IN (5)":                  "column 7: a text in 'quotes' is expected, here is a number",
		"i IN ('a' 'b')":            "column 11: ) is expected",
		"i IN ('a',)":               "column 11: a text",
		"'a' IN ('a')":              "column 1: IN is asked of a property",
		"s LIKE 5":                  "column 8: a text in 'quotes' is expected",
		"s LIKE t":                  "column 8: a text in 'quotes' is expected",
		"'a' LIKE 'a'":              "column 1: LIKE is asked of a property",
		"s LIKE 'a' ESCAPE 'ab'":    "column 19: an escape is one character",
		"s LIKE 'a' ESCAPE ''":      "column 19: an escape is one character",
		"s LIKE 'a#b' ESCAPE '#'":   "column 8: the escape stands before",
		"s LIKE 'a#' ESCAPE '#'":    "column 8: the escape stands before",
		"s > 'a'":                   "column 5: a text has no order",
		"TRUE < no":                 "column 1: a condition has no order",
		"5 = 'a'":                   "column 3: a number and a text are never equal",
		"TRUE = 1":                  "column 6: a condition and a number are never equal",
		"s + 'a' = 5":               "column 5: a number is expected, this is a text",
		"-'a' = 5":                  "column 2: a number is expected, this is a text",
		"5":                         "column 1: a condition is expected, this is a number",
		"'a'":                       "column 1: a condition is expected, this is a text",
		"i + 1":                     "column 1: a condition is expected, this is a number",
		"NOT 5":                     "column 5: a condition is expected",
		"yes AND 5":                 "column 9: a condition is expected",
		"5 OR yes":                  "column 1: a condition is expected",
		"JMSReplyTo = 'x'":          "column 1: JMSReplyTo cannot be selected by",
		"JMSDestination IS NULL":    "column 1: JMSDestination cannot be selected by",
		"JMSRedelivered = TRUE":     "column 1: JMSRedelivered cannot be selected by",
		"JMSExpiration > 0":         "column 1: JMSExpiration cannot",
		"i = 9223372036854775808":   "column 5: this number does not fit into 64 bits",
		"i = 0x10000000000000000":   "column 5: this number does not fit into 64 bits",
		"i = 08":                    "column 5: a number that begins with 0 is octal",
		"i = 0x":                    "column 5: a number without digits",
		"i = 5x":                    "column 6: 'x' cannot follow a number",
		"i = 1e":                    "column 5: an exponent without digits",
		"i = 1e999":                 "column 5: this number is too large",
		"i = .":                     "column 5: a number without digits",
		"i = 1.2.3":                 "column 8: '.' cannot follow a number",
		"ü = #":                     "column 5: '#' is no part of this language",
		"i = 5;":                    "column 6: ';'",
		"a-b = 1 AND c.d = 2":       "column 14: a number without digits",
		"s = '\xff'":                "column 5: this text is not UTF-8",
		"\xff = 1":                  "column 1: this is not UTF-8",
		strings.Repeat("(", 300):    "nested more than 256 deep",
		strings.Repeat("NOT ", 300): "nested more than 256 deep",
		strings.Repeat("-", 300):    "nested more than 256 deep",
		"s LIKE '" + strings.Repeat("a", 5000) + "'":     "a pattern may have 4096 characters",
		"s IN ('a'" + strings.Repeat(",'a'", 5000) + ")": "a list may have 4096 texts",
		strings.Repeat(" ", MaxBytes) + "i = 5":          "a selector may have 65536 bytes",
	} {
		_, err := Compile(source)
		var e *Error
		if !errors.As(err, &e) || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: %v, want %s", source, err, want)
			continue
		}
		if e.Offset < 0 || e.Offset > len(source) {
			t.Errorf("%.60q: offset %d", source, e.Offset)
		}
	}
}

func TestIdentifiers(t *testing.T) {
	s, err := Compile("b = 1 AND a IN ('x') OR JMSPriority > 4 AND b IS NULL")
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(s.Identifiers()); got != "[{JMSPriority 2} {a 0} {b 0}]" {
		t.Errorf("identifiers: %s", got)
	}
}

// LIKE is what a regular expression says of the same.
func TestLikeAgainstRegexp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		letters := rapid.SampledFrom([]rune("abü%_#"))
		source := string(rapid.SliceOfN(letters, 0, 12).Draw(t, "pattern"))
		value := string(rapid.SliceOfN(letters, 0, 16).Draw(t, "text"))
		p, ok := newPattern(source, '#')
		var expression strings.Builder
		expression.WriteString(`(?s)^`)
		valid, escaped := true, false
		for _, c := range source {
			switch {
			case escaped:
				valid = valid && (c == '%' || c == '_' || c == '#')
				expression.WriteString(regexp.QuoteMeta(string(c)))
				escaped = false
			case c == '#':
				escaped = true
			case c == '%':
				expression.WriteString(".*")
			case c == '_':
				expression.WriteString(".")
			default:
				expression.WriteString(regexp.QuoteMeta(string(c)))
			}
		}
		if valid = valid && !escaped; ok != valid {
			t.Fatalf("%q: valid %v, want %v", source, ok, valid)
		}
		if !ok {
			return
		}
		if got, want := p.match(value), regexp.MustCompile(expression.String()+"$").MatchString(value); got != want {
			t.Fatalf("%q LIKE %q: %v, want %v", value, source, got, want)
		}
	})
}

// What costs others exponential or quadratic time.
func TestLikeIsLinear(t *testing.T) {
	long := strings.Repeat("a", 1<<20)
	for _, source := range []string{strings.Repeat("%_", 2000), strings.Repeat("%a", 2000), "%" + strings.Repeat("a_", 2000) + "b%", "%" + strings.Repeat("a", 4000) + "b%"} {
		p, _ := newPattern(source, 0)
		started := time.Now()
		p.match(long)
		if took := time.Since(started); took > 5*time.Second {
			t.Errorf("%.20s...: %v for a text of 1 MiB", source, took)
		}
	}
	p, _ := newPattern(strings.Repeat("%_", 2000), 0)
	if p.match(strings.Repeat("a", 1999)) || !p.match(strings.Repeat("a", 2000)) {
		t.Error("each _ wants a character")
	}
}

// jms is a record of a JMS message.
func jms(t testing.TB, m *record.Message) *record.Record {
	t.Helper()
	var b record.Builder
	if err := m.AppendTo(&b); err != nil {
		t.Fatal(err)
	}
	return first(t, &b)
}

func first(t testing.TB, b *record.Builder) *record.Record {
	t.Helper()
	r := new(record.Reader)
	if err := r.Reset(b.Batch(), 1<<20); err != nil || !r.Next() {
		t.Fatal(err)
	}
	return r.Record()
}

func order() *record.Message {
	return &record.Message{
		Meta: record.Meta{
			ID: "ID:1", CorrelationID: "c", Type: "order", Priority: 7, NonPersistent: true, Grouped: true, GroupSeq: 3, UserID: "me", Kind: record.BodyText,
		},
		Key: []byte("g"), Timestamp: 1234, Body: []byte("body"),
		Properties: map[string]any{
			"text": "a", "flag": true, "byte": int8(1), "short": int16(2), "int": int32(3), "long": int64(4),
			"float": float32(1.1), "double": 2.2, "nothing": nil, "bytes": []byte{1, 2},
		},
	}
}

func TestRecords(t *testing.T) {
	r := jms(t, order())
	for source, want := range map[string]bool{
		"JMSMessageID = 'ID:1' AND JMSCorrelationID = 'c' AND JMSType = 'order'":                     true,
		"JMSPriority = 7 AND JMSTimestamp = 1234 AND JMSDeliveryMode = 'NON_PERSISTENT'":             true,
		"JMSXGroupID = 'g' AND JMSXGroupSeq = 3 AND JMSXUserID = 'me' AND JMSXDeliveryCount IS NULL": true,
		"text = 'a' AND flag AND byte = 1 AND short = 2 AND int = 3 AND long = 4 AND double = 2.2":   true,
		"float = 1.1":                       false, // a float is not the double of the same digits, as in Java
		"float BETWEEN 1.09 AND 1.11":       true,
		"bytes IS NULL AND nothing IS NULL": true,
	} {
		s, err := Compile(source)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Match(r); got != want {
			t.Errorf("%s: %v", source, got)
		}
	}
	var b record.Builder
	b.Append(99, []byte("k"), []byte("v"), []record.Header{{Key: "colour", Value: []byte("red")}, {Key: "n", Value: []byte("5")}, {Key: "raw", Value: []byte{0xff}}, {Key: "nil"}})
	foreign := first(t, &b)
	for source, want := range map[string]bool{
		"colour = 'red' AND n = '5'": true, "n = 5": false, "raw IS NULL AND nil IS NULL": true,
		"JMSPriority = 4 AND JMSDeliveryMode = 'PERSISTENT' AND JMSTimestamp = 99": true, "JMSMessageID IS NULL AND JMSXGroupID IS NULL AND JMSXUserID IS NULL": true,
	} {
		s, err := Compile(source)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Match(foreign); got != want {
			t.Errorf("of a record from Kafka: %s: %v", source, got)
		}
	}
}

var complexities = map[string]string{
	"one":   "int = 3",
	"three": "int = 3 AND text = 'a' AND NOT flag",
	"many":  "(JMSPriority > 4 OR text LIKE 'b%c_d') AND int BETWEEN 1 AND 9 AND text IN ('x', 'y', 'a') AND double * 2 > 4 AND missing IS NULL",
}

func TestMatchAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("pools forget at random under the race detector")
	}
	r := jms(t, order())
	for name, source := range complexities {
		s, err := Compile(source)
		if err != nil {
			t.Fatal(err)
		}
		s.Match(r)
		if n := testing.AllocsPerRun(100, func() { s.Match(r) }); n > 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func BenchmarkMatch(b *testing.B) {
	r := jms(b, order())
	for name, source := range complexities {
		s, err := Compile(source)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				s.Match(r)
			}
		})
	}
}

func FuzzCompile(f *testing.F) {
	for _, lines := range table {
		for _, line := range lines {
			f.Add(line[1:])
		}
	}
	f.Fuzz(func(t *testing.T, source string) {
		s, err := Compile(source)
		if err != nil {
			var e *Error
			if !errors.As(err, &e) || e.Offset < 0 || e.Offset > len(source) || e.Column < 1 {
				t.Fatalf("%v", err)
			}
			return
		}
		written := s.String()
		if len(written) > MaxBytes {
			return // brackets have made it too long
		}
		again, err := Compile(written)
		if err != nil {
			if strings.Contains(err.Error(), "nested") {
				return
			}
			t.Fatalf("%q is written as %q: %v", source, written, err)
		}
		if again.String() != written || truth(again.root.eval(message)) != truth(s.root.eval(message)) {
			t.Fatalf("%q is written as %q, which is read as %q", source, written, again)
		}
	})
}
