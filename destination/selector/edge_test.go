package selector

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/polylog-mq/polylog/destination/record"
)

func nest(open, inner, shut string, n int) string {
	return strings.Repeat(open, n) + inner + strings.Repeat(shut, n)
}

// Each bound at its value, and one beyond.
func TestBounds(t *testing.T) {
	list := func(n int) string { return "s IN ('a'" + strings.Repeat(",'a'", n-1) + ")" }
	like := func(n int) string { return "s LIKE '" + strings.Repeat("ü", n) + "'" }
	size := func(n int) string { return strings.Repeat(" ", n-5) + "i = 5" }
	for name, test := range map[string]struct{ at, beyond, want string }{
		"brackets": {nest("(", "yes", ")", maxDepth), nest("(", "yes", ")", maxDepth+1), "column 258: nested more than 256 deep"},
		"NOT":      {nest("NOT ", "yes", "", maxDepth), nest("NOT ", "yes", "", maxDepth+1), "column 1029: nested more than 256 deep"},
		"signs":    {nest("-", "i", "", maxDepth) + " = 5", nest("-", "i", "", maxDepth+1) + " = 5", "column 258: nested more than 256 deep"},
		"list":     {list(maxList), list(maxList + 1), "column 16391: a list may have 4096 texts"},
		"pattern":  {like(maxPattern), like(maxPattern + 1), "column 8: a pattern may have 4096 characters"},
		"bytes":    {size(MaxBytes), size(MaxBytes + 1), "column 65537: a selector may have 65536 bytes"},
	} {
		if _, err := Compile(test.at); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := Compile(test.beyond); err == nil || err.Error() != test.want {
			t.Errorf("%s, one beyond: %v, want %s", name, err, test.want)
		}
	}
	// What stands side by side is not deep.
	side := strings.Repeat("(NOT (-(-i) = 5)) OR ", 2*maxDepth) + "yes"
	if s, err := Compile(side); err != nil || !s.Matches(message) {
		t.Errorf("side by side: %v", err)
	}
}

// What is no token is named as such wherever it stands, not what is missing
// because of it.
func TestErrorWithinAnything(t *testing.T) {
	for _, before := range []string{
		"", "i", "i ", "i + ", "i * ", "i = ", "i < ", "i = 5 ", "yes AND ", "yes OR ", "NOT ", "- ", "+ ", "(", "(i = 5 ", "(i = 5) ", "i IS ", "i IS NOT ",
		"i IS NULL ", "i NOT ", "i BETWEEN ", "i BETWEEN 1 ", "i BETWEEN 1 AND ", "i BETWEEN 1 AND 2 ", "s LIKE ", "s LIKE 'a' ", "s LIKE 'a' ESCAPE ", "s LIKE 'a' ESCAPE 'b' ",
		"s IN ", "s IN (", "s IN ('a' ", "s IN ('a',", "s IN ('a') ", "TRUE ", "i = -9223372036854775808 ", "i = 2.5 ", "s = 'ü' ", "yes = TRUE ",
	} {
		_, err := Compile(before + "#")
		var e *Error
		column := len([]rune(before)) + 1
		if want := fmt.Sprintf("column %d: '#' is no part of this language", column); !errors.As(err, &e) || err.Error() != want || e.Offset != len(before) || e.Column != column {
			t.Errorf("%s#: %v, want %s", before, err, want)
		}
	}
}

// Whole messages, where a beginning would not tell two apart.
func TestErrorTexts(t *testing.T) {
	for source, want := range map[string]string{
		"i = 5;":                      "column 6: ';' is no part of this language",
		"i != 5":                      "column 3: '!' is no part of this language; unequal is <>, and a text stands in 'single quotes'",
		`s = "x"`:                     `column 5: '"' is no part of this language; unequal is <>, and a text stands in 'single quotes'`,
		"i = 5 'it''s'":               "column 7: an operator or the end is expected, here is 'it''s'",
		"i = 5 2.5":                   "column 7: an operator or the end is expected, here is a number",
		"i = 5 j":                     `column 7: an operator or the end is expected, here is "j"`,
		"i = 5LL":                     "column 7: 'L' cannot follow a number",
		"i = 5.5L":                    "column 8: 'L' cannot follow a number",
		"i = 0x5d.":                   "column 9: '.' cannot follow a number",
		"i = 5.5.":                    "column 8: '.' cannot follow a number",
		"i = 1e+":                     "column 5: an exponent without digits",
		"i = 0X":                      "column 5: a number without digits",
		"i = 02000000000000000000000": "column 5: this number does not fit into 64 bits",
		"i = 18446744073709551616":    "column 5: this number does not fit into 64 bits",
		"-9223372036854775809 = i":    "column 2: this number does not fit into 64 bits",
		"+9223372036854775808 = i":    "column 2: this number does not fit into 64 bits",
		"JMS = 1":                     "column 1: JMS cannot be selected by",
		"JMSx = 1":                    "column 1: JMSx cannot be selected by",
		"(5) IS NULL":                 "column 2: IS NULL is asked of a property, this is a number",
		"i = 5 IS NULL":               "column 7: an operator or the end is expected, here is \"IS\"",
		"TRUE IS NULL":                "column 1: IS NULL is asked of a property, this is a condition",
		"i + 1 IN ('a')":              "column 1: IN is asked of a property, this is a number",
		"s LIKE 'a' ESCAPE 5":         "column 19: a text in 'quotes' is expected, here is a number",
		"i BETWEEN TRUE AND 2":        "column 11: a number is expected, this is a condition",
		"i BETWEEN 1 AND 'b'":         "column 17: a number is expected, this is a text",
		"'a' BETWEEN 1 AND 2":         "column 1: a number is expected, this is a text",
		"i = 1 BETWEEN 1 AND 2":       `column 7: an operator or the end is expected, here is "BETWEEN"`,
		"yes AND (5)":                 "column 10: a condition is expected, this is a number",
		"yes OR 5 + 1":                "column 8: a condition is expected, this is a number",
		"'a' AND yes":                 "column 1: a condition is expected, this is a text",
		"5 * 'a' = 1":                 "column 5: a number is expected, this is a text",
		"TRUE * 5 = 1":                "column 1: a number is expected, this is a condition",
		"5 < TRUE":                    "column 5: a condition has no order: only = and <> compare it",
		"'a' = TRUE":                  "column 5: a text and a condition are never equal",
		"5 <> TRUE":                   "column 3: a number and a condition are never equal",
		"+TRUE = 1":                   "column 2: a number is expected, this is a condition",
	} {
		_, err := Compile(source)
		if err == nil || !strings.HasPrefix(err.Error(), want) || !strings.HasPrefix(source, "JMS") && err.Error() != want {
			t.Errorf("%s: %v, want %s", source, err, want)
		}
	}
}

// A selector is written in one way.
func TestWritten(t *testing.T) {
	for source, want := range map[string]string{
		"i=1 and b=2 or not c":             "((i = 1) AND (b = 2)) OR (NOT c)",
		"a or b or c":                      "(a OR b) OR c",
		"not (a or b)":                     "NOT (a OR b)",
		"not yes":                          "NOT yes",
		"((yes))":                          "yes",
		"true":                             "TRUE",
		"yes<>false":                       "yes <> FALSE",
		"i>=5.5":                           "i >= 5.5e+00",
		"-i=1":                             "(-i) = 1",
		"+i=1":                             "i = 1",
		"-5=i":                             "(-5) = i",
		"-(-5)=i":                          "5 = i",
		"-(-9223372036854775808)=i":        "(-(-9223372036854775808)) = i",
		"-9223372036854775808=i":           "(-9223372036854775808) = i",
		"0xff=017":                         "255 = 15",
		"i+2*3-4/5=7":                      "((i + (2 * 3)) - (4 / 5)) = 7",
		"i between -1 and j":               "i BETWEEN (-1) AND j",
		"i+1 not between 1 and 2":          "(i + 1) NOT BETWEEN 1 AND 2",
		"s like 'a%'":                      "s LIKE 'a%'",
		"s not like 'it''s' escape '#'":    "s NOT LIKE 'it''s' ESCAPE '#'",
		"s in('a','b''c')":                 "s IN ('a', 'b''c')",
		"s not in('a')":                    "s NOT IN ('a')",
		"s is null":                        "s IS NULL",
		"s is not null":                    "s IS NOT NULL",
		"not s is not null and i <= 1e300": "(NOT (s IS NOT NULL)) AND (i <= 1e+300)",
	} {
		s, err := Compile(source)
		if err != nil {
			t.Errorf("%s: %v", source, err)
		} else if s.String() != want {
			t.Errorf("%s is written as %s, want %s", source, s, want)
		}
	}
}

// More lines for the table of TestTable.
func TestTableEdges(t *testing.T) {
	for _, line := range []string{
		"T f <= 2.5", "F f <= 2.4", "T f >= 2.5", "F f >= 2.6", "F f > 2.5", "F f < 2.5", "T f < 2.6", "T f > 2.4", "T f <> 2", "F f <> 2.5",
		"F nan <= nan", "F nan > nan", "F nan >= nan", "F nan < nan", "T i <= 5.0", "T i >= 5.0", "F i <> 5.0",
		"T f - 1 = 1.5", "T f / 2 = 1.25", "T 1 + f = 3.5", "T 1 - f = -1.5", "T f * f = 6.25", "T 5 / f = 2", "T big - 1 < big", "T -big < 0", "T - big + big = zero",
		"T 09.5 = 9.5", "T 08e1 = 80", "T 0.5 = .5", "T 0f = 0", "T 07L = 7", "T 1e+2 = 100", "T 1E-2d = 0.01", "T 0x1F = 31", "T 0x1f = 31", "T 0Xabcdef = 11259375",
		"T 01777777777777777777777 = -1", "T 0x8000000000000000 < 0", "T 0x7fffffffffffffff = big", "T - 9223372036854775808 = -big - 1",
		"T -(-9223372036854775808) = -9223372036854775808", "T -(-2.5) = f", "T -2.5 = -f", "T - - i = 5", "T -+i = -5", "T +-i = neg",
		"F s LIKE '%_hello'", "F s LIKE '_hello'", "F s LIKE 'hello_'", "T s LIKE '_ello'", "F s LIKE '%x_lo'", "T s LIKE '%l_o'", "T s LIKE 'h_l%'", "F s LIKE 'h_x%'", "F s LIKE 'hello__%'",
		"F s LIKE '%h_llo_%'", "T uni LIKE '%r_n'", "T uni LIKE 'g_ü%'", "F uni LIKE '%_____'", "T uni LIKE '%____'", "F s LIKE 'hell_x%'", "T s LIKE '%_'", "F empty LIKE '%_'", "F empty LIKE '_%'", "F empty LIKE '%_%'",
		"T yes = yes OR s LIKE 'x'", "F yes <> yes", "F no = TRUE", "T no <> TRUE", "F TRUE = no", "U yes AND NOT missing", "U NOT (yes AND missing)", "F missing AND missing AND no", "T missing OR missing OR yes",
		"U missing BETWEEN 1 AND missing", "F i BETWEEN missing AND 4", "T i NOT BETWEEN missing AND 4", "U i NOT BETWEEN missing AND 9", "F i BETWEEN s AND 9", "T i NOT BETWEEN s AND 9",
		"F s IN ('hell', 'helloo')", "T s IN ('hello', 'x')", "F yes LIKE 'true'", "F yes IN ('true')", "T yes NOT IN ('true')", "F yes IS NULL",
		"T JMSXAnything IS NULL", "T JMS_other IS NULL", "U -s = 5", "U NOT s", "F +s = 5",
	} {
		want, source := line[:1], line[2:]
		s, err := Compile(source)
		if err != nil {
			t.Errorf("%s: %v", source, err)
		} else if got := truth(s.root.eval(message)); got != want {
			t.Errorf("%s is %s, want %s (read as %s)", source, got, want, s)
		}
	}
}

// A segment with a _ that is about as long as a word has bits, or several.
func TestLongSegments(t *testing.T) {
	for _, n := range []int{2, 62, 63, 64, 65, 66, 127, 128, 129, 192, 193} {
		for _, gap := range []int{0, 1, n / 2, n - 1} {
			chars := []rune(strings.Repeat("ab", n)[:n])
			chars[gap] = '_'
			segment := string(chars)
			for _, source := range []string{"%" + segment + "%", segment + "%", "%" + segment, segment} {
				p, ok := newPattern(source, 0)
				if !ok {
					t.Fatal(source)
				}
				expression := regexp.MustCompile("(?s)^" + strings.NewReplacer("%", ".*", "_", ".").Replace(source) + "$")
				for _, text := range []string{
					strings.Repeat("ab", n)[:n], strings.Repeat("ab", n), "x" + strings.Repeat("ab", n), strings.Repeat("ba", n), strings.Repeat("ab", n)[:n-1], strings.Repeat("ab", n/2) + "ü" + strings.Repeat("ab", n), strings.Repeat("b", 2*n), strings.Repeat("ab", n)[:n] + "x",
					strings.Replace(segment, "_", "ü", 1), "y" + strings.Replace(segment, "_", "ü", 1) + "z", "ab" + segment + "ü",
				} {
					if got, want := p.match(text), expression.MatchString(text); got != want {
						t.Errorf("%d, _ at %d: %q LIKE %q: %t", n, gap, text, source, got)
					}
				}
			}
		}
	}
}

// What an escape may stand before, and what it is itself.
func TestEscapes(t *testing.T) {
	for _, test := range []struct {
		source string
		escape rune
		ok     bool
	}{
		{"a#%", '#', true},
		{"a#_", '#', true},
		{"##", '#', true},
		{"#a", '#', false},
		{"a#", '#', false},
		{"###", '#', false},
		{"a#b", 0, true},
		{"%%%", '%', false},
		{"%%%%", '%', true},
		{"__", '_', true},
		{"_", '_', false},
	} {
		if p, ok := newPattern(test.source, test.escape); ok != test.ok || ok == (p == nil) {
			t.Errorf("%q with %q: %t", test.source, test.escape, ok)
		}
	}
	if p, _ := newPattern("%%%%", '%'); !p.match("%%") || p.match("%") || p.match("ab") {
		t.Error("what is escaped is a character as others")
	}
}

// A property's text is what its type says, or nothing.
func TestProperties(t *testing.T) {
	for _, test := range []struct {
		text string
		typ  record.PropertyType
		want Value
	}{
		{"true", record.PropertyBool, boolean(true)},
		{"false", record.PropertyBool, boolean(false)},
		{"TRUE", record.PropertyBool, Value{}},
		{"5", record.PropertyByte, whole(5)},
		{"-5", record.PropertyShort, whole(-5)},
		{"5", record.PropertyInt, whole(5)},
		{"9223372036854775807", record.PropertyLong, whole(9223372036854775807)},
		{"9223372036854775808", record.PropertyLong, Value{}},
		{"0x5", record.PropertyInt, Value{}},
		{"five", record.PropertyInt, Value{}},
		{"2.5", record.PropertyFloat, approx(2.5)},
		{"1.1", record.PropertyFloat, approx(float64(float32(1.1)))},
		{"1.1", record.PropertyDouble, approx(1.1)},
		{"1e300", record.PropertyFloat, Value{}},
		{"1e300", record.PropertyDouble, approx(1e300)},
		{"x", record.PropertyDouble, Value{}},
		{"x", record.PropertyString, text("x")},
		{"", record.PropertyString, text("")},
		{"\xff", record.PropertyString, Value{}},
		{"x", record.PropertyBytes, Value{}},
	} {
		if got := property(test.text, test.typ); got != test.want {
			t.Errorf("%q as %v: %+v, want %+v", test.text, test.typ, got, test.want)
		}
	}
}

// A selector that looks at one record after another remembers nothing of those
// before.
func TestRecordsInTurn(t *testing.T) {
	plain := order()
	plain.Meta = record.Meta{Priority: 2, Kind: record.BodyText}
	var b record.Builder
	b.Append(99, []byte("k"), nil, []record.Header{{Key: "text", Value: []byte("a")}, {Key: "int", Value: []byte("3")}})
	damaged := new(record.Builder)
	damaged.Append(99, nil, nil, []record.Header{{Key: record.JMSHeader, Value: []byte{0xff, 0xff}}, {Key: "text", Value: []byte("a")}})
	records := []*record.Record{jms(t, order()), first(t, &b), jms(t, plain), first(t, damaged)}
	for source, want := range map[string]string{
		"JMSPriority = 7": "TFFF", "JMSPriority = 4": "FTFT", "JMSPriority = 2": "FFTF",
		"JMSDeliveryMode = 'NON_PERSISTENT'": "TFFF", "JMSDeliveryMode = 'PERSISTENT'": "FTTT",
		"JMSXGroupID = 'g'": "TFFF", "JMSXGroupID IS NULL": "FTTT", "JMSXGroupSeq = 3": "TFFF", "JMSXGroupSeq IS NULL": "FTTT",
		"JMSXUserID = 'me'": "TFFF", "JMSXUserID IS NULL": "FTTT", "JMSType IS NULL": "FTTT", "JMSMessageID IS NULL": "FTTT", "JMSCorrelationID = 'c'": "TFFF",
		"int = 3": "TFTF", "text = 'a'": "TTTT", "int IS NULL": "FFFT", "JMSTimestamp = 1234": "TFTF",
	} {
		s, err := Compile(source)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			got := ""
			for _, r := range records {
				got += strings.ToUpper(fmt.Sprint(s.Match(r))[:1])
			}
			if got != want {
				t.Errorf("%s: %s, want %s", source, got, want)
			}
		}
	}
}
