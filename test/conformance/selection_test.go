package conformance

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/polylog-mq/polylog"
)

// selectable is the message that selectors are tried on.
var selectable = map[string]any{
	"s": "hello", "empty": "", "quote": "it's", "percent": "50%_\\", "uni": "grün", "orders": "2", "phone": "12993", "word": "lose", "under": "_foo", "country": "UK",
	"b": int8(5), "sh": int16(5), "i": int32(5), "l": int64(5), "f": float32(2.5), "d": 2.5, "neg": int32(-5), "zero": int32(0), "age": int32(17),
	"big": int64(math.MaxInt64), "least": int64(math.MinInt64), "imax": int32(math.MaxInt32), "tenth": float32(0.1), "f24": float32(1 << 24), "f1": float32(1),
	"yes": true, "no": false, "$_x1": int32(1), "été": "summer", "Like1": int32(1), "Nulls": "n", "JMS_mine": int32(3),
	"long": strings.Repeat("ab", 2000), strings.Repeat("n", 3000): int32(1),
}

const (
	selectableType        = "car"
	selectableCorrelation = "c-1"
	selectableGroup       = "g"
)

// selects says whether a selector, presented with a browser, selects the message.
func (c *fixture) selects(selector string) bool {
	c.t.Helper()
	con, err := c.b.shared()
	c.done(err)
	q := c.sessionOn(con).Queue("selectable")
	defer func() { c.done(q.Session().Close(c.ctx)) }()
	c.b.selectable.Do(func() {
		m := polylog.NewMessage()
		for name, value := range selectable {
			c.done(m.SetProperty(name, value))
		}
		m.GroupSeq = 2
		put(c, q, m, polylog.WithType(selectableType), polylog.WithCorrelationID(selectableCorrelation), polylog.WithGroup(selectableGroup), polylog.WithPriority(7))
		put(c, q, polylog.NewMessage()) // of which nothing but the header fields is not null
	})
	found := false
	for b, err := range q.Browse(c.ctx, polylog.WithSelector(selector)) {
		if err != nil {
			c.t.Fatalf("%s: %v", selector, err)
		}
		if len(b.Message().Properties) > 0 {
			found = true
		}
	}
	return found
}

// The rows of the tables below: T is true, F false and U unknown of the message;
// N is not true, where the specification leaves open whether it is false.
var rows = []struct {
	clause, about string
	rows          []string
}{
	{"3.8.1.1", "a string literal", []string{
		"T s = 'hello'", "F s = 'Hello'", "F s = 'hello '", "T quote = 'it''s'", "F quote = 'its'", "T empty = ''", "F s = ''", "T uni = 'grün'", "T 'hello' = s", "T 'a' = 'a'", "F 'a' = 'b'", "F s = 'AND'",
	}},
	{"3.8.1.1", "an exact numeric literal", []string{
		"T i = 5", "T i = 05", "T i = 0x5", "T i = 0X5", "T i = 5L", "T i = 5l", "T i = 0x05L", "T zero = 0", "T zero = 00", "T neg = -5", "T i = +5", "T 017 = 15", "T 0xff = 255", "T 0xFF = 255", "T -957 < 57", "T +62 = 62",
		"T big = 9223372036854775807", "T least = -9223372036854775808", "T 0xFFFFFFFFFFFFFFFF = -1",
	}},
	{"3.8.1.1", "an approximate numeric literal", []string{
		"T d = 2.5", "T d = 2.5d", "T d = 2.5D", "T d = 2.5f", "T d = 25e-1", "T d = 25E-1", "T d = .25e1", "T 7. = 7", "T 7E3 = 7000", "T -57.9E2 = -5790", "T -95.7 < 0", "T +6.2 > 6", "T .5 = 0.5", "T 1f = 1", "T 1e+2 = 100", "T 1.7976931348623157E308 > 1e308",
	}},
	{"3.8.1.1", "a boolean literal", []string{"T yes = TRUE", "T no = FALSE", "T yes = true", "T yes = True", "F yes = FALSE", "T TRUE", "F FALSE", "T yes <> FALSE"}},
	{"3.8.1.1", "an identifier", []string{
		"T $_x1 = 1", "T été = 'summer'", "T Like1 = 1", "T Nulls = 'n'", "U S = 'hello'", "U I = 5", "U missing = 1", "T JMS_mine = 3", "T " + strings.Repeat("n", 3000) + " = 1",
	}},
	{"3.8.1.1", "a header field", []string{
		"T JMSPriority = 7", "T JMSPriority > 6 AND JMSPriority < 8", "F JMSPriority = 4", "T JMSDeliveryMode = 'PERSISTENT'", "F JMSDeliveryMode = 'NON_PERSISTENT'", "T JMSDeliveryMode <> 'NON_PERSISTENT'", "T JMSDeliveryMode IN ('PERSISTENT')",
		"T JMSTimestamp > 1577836800000", "F JMSTimestamp < 1577836800000", "T JMSMessageID LIKE 'ID:%'", "F JMSMessageID = 'ID:'", "T JMSMessageID IS NOT NULL", "T JMSCorrelationID = 'c-1'", "T JMSCorrelationID LIKE 'c-_'", "T JMSType = 'car'", "T JMSType IN ('bus', 'car')", "F JMSType = 'Car'",
		"T JMSXGroupID = 'g'", "T JMSXGroupSeq = 2", "T JMSXGroupSeq BETWEEN 1 AND 3", "U JMSXUserID = 'me'", "U JMSXAppID = 'x'",
	}},
	{"3.8.1.1", "a conditional expression", []string{"T yes", "F no", "U missing", "N i", "N s", "F NOT yes", "T NOT no", "U NOT missing", "T (yes)", "T ((yes))"}},
	{"3.8.1.1", "white space and case", []string{
		"T i=5 AND(yes)", "T  i\t=\n5\r\fand\tyes", "T i between 1 And 9", "T s Like 'h%'", "T s In ('hello')", "T missing is Null", "T s is not null", "T not no", "T (i=5)", "T s LIKE 'h#%' ESCAPE '#' oR yes",
	}},
	{"3.8.1.1", "comparison of numbers", []string{
		"T i = 5", "F i = 6", "T i <> 6", "F i <> 5", "T i < 6", "F i < 5", "T i <= 5", "F i <= 4", "T i > 4", "F i > 5", "T i >= 5", "F i >= 6", "T 4 < i", "T 5 = i", "T neg < zero",
	}},
	{"3.8.1.1", "comparison of exact and approximate numbers", []string{
		"T i = 5.0", "T i < 5.5", "T d > 2", "T d < 3", "T i > d", "T b = sh", "T sh = i", "T i = l", "T f = d", "T l >= 5e0", "F tenth = 0.1", "T big > 9.2e18",
	}},
	{"3.8.1.1", "comparison of strings and booleans", []string{"T s <> 'x'", "F s <> 'hello'", "T s = s", "F s <> s", "T yes <> no", "F yes = no", "T yes = yes", "T empty <> s", "F s = 'HELLO'"}},
	{"3.8.1.1", "comparison of unlike types is false", []string{
		"F s = 5", "F s <> 5", "F orders > 1", "F orders = 2", "F orders <> 2", "F i = yes", "F i <> yes", "F s = yes", "F s <> yes", "F yes = s", "F i = s", "F s > 1", "F s <= 1", "F orders BETWEEN 1 AND 3", "F JMSPriority = s", "F JMSType = 1", "F JMSTimestamp = s",
	}},
	{"3.8.1.1", "order of strings and booleans is false", []string{"F yes < no", "F yes >= no", "F s > s", "F s <= s", "F s < quote"}},
	{"3.8.1.1", "logical operators and their precedence", []string{
		"T NOT no AND yes", "T NOT (no AND yes)", "T no OR NOT no", "T yes OR no AND no", "F (yes OR no) AND no", "T NOT NOT yes", "T NOT no AND NOT no", "T i = 5 AND d = 2.5 OR s = 'x'", "F i = 5 AND (d = 1 OR s = 'x')", "F NOT i = 5", "T no AND no OR yes",
	}},
	{"3.8.1.1", "arithmetic and its precedence", []string{
		"T i + 1 = 6", "T i - 1 = 4", "T i * 2 = 10", "T i / 2 = 2", "T i / 2.0 = 2.5", "T -i = -5", "T - -i = 5", "T -(i) = neg", "T +i = 5", "T i + d = 7.5", "T d * 2 = 5", "T 1 + 2 * 3 = 7", "T (1 + 2) * 3 = 9", "T 10 - 4 - 3 = 3", "T 100 / 10 / 2 = 5", "T 2 * -3 = -6", "T neg / 2 = -2", "T 7 / -2 = -3",
		"T i+1>i", "T i-1<i", "T big + 1 = least", "T d / zero > 1e300", "T i * i - i = 20", "T b + sh = 10", "T JMSPriority + 1 = 8", "T JMSPriority * 2 BETWEEN 13 AND 15",
	}},
	{"3.8.1.1", "arithmetic with what is no number", []string{"N s + 1 = 2", "N orders + 1 = 3", "N -s = 1", "N yes * 2 = 2", "N s - s = 0"}},
	{"3.8.1.1", "BETWEEN", []string{
		"T age BETWEEN 15 AND 19", "F age NOT BETWEEN 15 AND 19", "T i BETWEEN 5 AND 5", "F i BETWEEN 6 AND 9", "F i BETWEEN 1 AND 4", "F i BETWEEN 9 AND 1", "T i NOT BETWEEN 9 AND 1", "T d BETWEEN 2 AND 3", "T i BETWEEN d AND big", "T i NOT BETWEEN 6 AND 9",
		"T i + 1 BETWEEN 6 - 1 AND 6 + 1", "T i BETWEEN 1 AND 9 AND yes", "F i BETWEEN 1 AND 9 AND no", "T 5 BETWEEN 1 AND 9", "T 5 BETWEEN i AND i", "T NOT i BETWEEN 6 AND 9", "T neg BETWEEN -6 AND -4",
	}},
	{"3.8.1.1", "IN", []string{
		"T country IN ('UK', 'US', 'France')", "F s IN ('UK', 'US', 'France')", "F country NOT IN ('UK', 'US', 'France')", "T s NOT IN ('UK', 'US', 'France')", "T country IN ('UK')", "F country IN ('uk')", "T empty IN ('')", "T quote IN ('it''s')", "T s IN('a','hello')", "T NOT s IN ('a')", "N i IN ('5')", "T uni IN ('gruen', 'grün')",
	}},
	{"3.8.1.1", "LIKE", []string{
		"T phone LIKE '12%3'", "F word LIKE '12%3'", "F phone NOT LIKE '12%3'", "T word NOT LIKE '12%3'", "T word LIKE 'l_se'", "F s LIKE 'l_se'", "T s LIKE 'hello'", "F s LIKE 'HELLO'", "T s LIKE 'h%'", "T s LIKE '%o'", "T s LIKE '%ell%'", "T s LIKE '_____'", "F s LIKE '____'", "F s LIKE '______'", "T s LIKE '%'", "T s LIKE '%%'", "T s LIKE '%_%'",
		"F s LIKE 'ello'", "F s LIKE 'hell'", "F s LIKE ''", "T empty LIKE ''", "T empty LIKE '%'", "F empty LIKE '_'", "T s LIKE 'h%l%o'", "T s LIKE '%l_o'", "F s LIKE '%e_x%'", "T s LIKE '_%_%_%_%_'", "F s LIKE '_%_%_%_%_%_'", "T uni LIKE 'gr_n'", "T uni LIKE '____'", "F uni LIKE '_____'", "T quote LIKE 'it''%'", "N i LIKE '5'", "T percent LIKE '50%'", "T NOT s LIKE 'x%'",
	}},
	{"3.8.1.1", "LIKE with ESCAPE", []string{
		`T under LIKE '\_%' ESCAPE '\'`, `F word LIKE '\_%' ESCAPE '\'`, "T percent LIKE '50#%#__' ESCAPE '#'", "F s LIKE '%#%' ESCAPE '#'", "F s LIKE 'h#_llo' ESCAPE '#'", `T percent LIKE '50\%\_\\' ESCAPE '\'`, "T percent LIKE '50a%%' ESCAPE 'a'", "F percent LIKE '50aa%' ESCAPE 'a'", "F percent NOT LIKE '50#%%' ESCAPE '#'", "T s NOT LIKE '#%%' ESCAPE '#'", "T uni LIKE 'gré_%' ESCAPE 'é' OR TRUE",
	}},
	{"3.8.1.1", "IS NULL", []string{"T missing IS NULL", "F s IS NULL", "T s IS NOT NULL", "F missing IS NOT NULL", "F empty IS NULL", "F zero IS NULL", "F no IS NULL", "T JMSXUserID IS NULL", "F JMSType IS NULL", "T JMSType IS NOT NULL", "T missing IS NULL AND s IS NOT NULL", "F NOT missing IS NULL"}},
	{"3.8.1.2", "a comparison with null is unknown", []string{"U missing = missing", "U missing <> 1", "U missing < 1", "U 1 > missing", "U missing >= 1", "U missing <= 1", "U missing = 'x'", "U missing <> 'x'", "U missing = TRUE", "U missing = i"}},
	{"3.8.1.2", "arithmetic with null is unknown", []string{"U missing + 1 = 2", "U 1 + missing = 2", "U missing * 0 = 0", "U -missing = 1", "U missing - missing = 0", "U i / missing = 1"}},
	{"3.8.1.2", "BETWEEN, IN and LIKE of null are unknown", []string{
		"U missing BETWEEN 1 AND 2", "U missing NOT BETWEEN 1 AND 2", "U i BETWEEN missing AND 9", "F i BETWEEN missing AND 4", "U i BETWEEN 1 AND missing", "F i BETWEEN 6 AND missing", "T i NOT BETWEEN 6 AND missing", "U missing IN ('a')", "U missing NOT IN ('a')", "U missing LIKE '%'", "U missing NOT LIKE '%'", "U missing LIKE '#%' ESCAPE '#'",
	}},
	{"3.8.1.2", "AND, table 3-4", []string{"T yes AND yes", "F yes AND no", "U yes AND missing", "F no AND yes", "F no AND no", "F no AND missing", "U missing AND yes", "F missing AND no", "U missing AND missing"}},
	{"3.8.1.2", "OR, table 3-5", []string{"T yes OR yes", "T yes OR no", "T yes OR missing", "T no OR yes", "F no OR no", "U no OR missing", "T missing OR yes", "U missing OR no", "U missing OR missing"}},
	{"3.8.1.2", "NOT, table 3-6", []string{"F NOT yes", "T NOT no", "U NOT missing", "U NOT (missing = 1)", "T NOT (s = 5)", "U NOT missing LIKE 'a'", "U NOT (missing OR no)"}},
	{"3.8.1.3", "special notes", []string{"T JMSDeliveryMode = 'PERSISTENT' AND JMSTimestamp >= 0", "T JMSTimestamp BETWEEN 1577836800000 AND 9223372036854775807"}},
}

// Selectors that polylog evaluates otherwise than the specification wants.
var deviatingRows = []struct{ wanted, row, how string }{
	{"the sum of two ints is an int", "T imax + imax = 4294967294", "arithmetic uses Java's numeric promotion, by which the sum of two ints is an int of 32 bits and wraps; polylog computes with 64 bits"},
	{"the sum of two floats is a float", "T f24 + f1 = 16777217", "arithmetic uses Java's numeric promotion, by which the sum of two floats is a float; polylog computes with doubles"},
}

// What is wrong with a selector is said when it is presented, with the place.
var wrong = []struct {
	selector string
	column   int
}{
	{"i =", 4},
	{"= 5", 1},
	{"i = = 5", 5},
	{"i == 5", 4},
	{"i != 5", 3},
	{`s = "x"`, 5},
	{"s = 'x", 5},
	{"i = 5)", 6},
	{"(i = 5", 7},
	{"()", 2},
	{"i = 5 5", 7},
	{"i AND", 6},
	{"AND i", 1},
	{"yes OR", 7},
	{"NOT", 4},
	{"i = NULL", 5},
	{"NULL = 1", 1},
	{"i IS 5", 6},
	{"i IS NOT", 9},
	{"i IS TRUE", 6},
	{"5 IS NULL", 1},
	{"i NOT 5", 7},
	{"i NOT = 5", 7},
	{"i BETWEEN 1", 12},
	{"i BETWEEN 1 AND", 16},
	{"i BETWEEN 1, 2", 12},
	{"s BETWEEN 'a' AND 'b'", 11},
	{"i IN", 5},
	{"i IN ()", 7},
	{"i IN (5)", 7},
	{"s IN ('a' 'b')", 11},
	{"s IN ('a',)", 11},
	{"s IN 'a'", 6},
	{"s IN (t)", 7},
	{"'a' IN ('a')", 1},
	{"s LIKE 5", 8},
	{"s LIKE t", 8},
	{"s LIKE", 7},
	{"'a' LIKE 'a'", 1},
	{"s LIKE 'a' ESCAPE 'ab'", 19},
	{"s LIKE 'a' ESCAPE ''", 19},
	{"s LIKE 'a' ESCAPE 5", 19},
	{"s LIKE 'a#' ESCAPE '#'", 8},
	{"s > 'a'", 5},
	{"s >= 'a'", 6},
	{"TRUE < no", 1},
	{"5", 1},
	{"'a'", 1},
	{"i + 1", 1},
	{"i + = 5", 5},
	{"i * / 2 = 1", 5},
	{"-'a' = 5", 2},
	{"s + 'a' = 5", 5},
	{"yes AND 5", 9},
	{"i = 9223372036854775808", 5},
	{"i = 08", 5},
	{"i = 0x", 5},
	{"i = 5x", 6},
	{"i = 1e", 5},
	{"i = 1.2.3", 8},
	{"i = 5;", 6},
	{"i = 5 -- a comment", 12},
	{"i = 5 /* a comment */", 8},
	{"#i = 5", 1},
	{"a.b = 5", 2},
	{"i = 5 AND", 10},
	{"s = 'a' AND OR yes", 13},
	{"TRUE = = TRUE", 8},
	{"JMSReplyTo = 'x'", 1},
	{"JMSDestination IS NULL", 1},
	{"JMSRedelivered = TRUE", 1},
	{"JMSExpiration > 0", 1},
	{"JMSDeliveryTime > 0", 1},
	{"i = 5 AND JMSFoo = 1", 11},
	{"BETWEEN = 1", 1},
	{"LIKE = 1", 1},
	{"IN = 1", 1},
	{"IS = 1", 1},
	{"ESCAPE = 1", 1},
	{"OR = 1", 1},
	{"1st = 1", 2},
	{"s = '\xff'", 5},
}

// Selectors that are right, and that polylog refuses.
var tooStrict = []struct{ selector, how string }{
	{"i = 0b101", "exact numeric literals use the Java integer literal syntax, which has 0b since Java 7; polylog refuses it"},
	{"i = 0_5", "numeric literals use the Java literal syntax, which has underscores between digits since Java 7; polylog refuses them"},
	{"i = 0x1.4p2", "approximate literals use the Java floating-point literal syntax, which has hexadecimal ones; polylog refuses them"},
}

func selection(s *section) {
	for _, group := range rows {
		for _, row := range group.rows {
			s.clause(group.clause, titleOf(group.about, row), rowCase(row))
		}
	}
	for _, row := range deviatingRows {
		s.clause("3.8.1.1", "numeric promotion: "+row.wanted, rowCase(row.row), deviates(row.how))
	}
	for _, row := range wrong {
		s.clause("3.8.1.1", "an error when it is presented: "+row.selector, func(t *testing.T, c *fixture) {
			con, err := c.b.shared()
			c.done(err)
			session := c.sessionOn(con)
			defer func() { c.done(session.Close(c.ctx)) }()
			_, err = session.Queue("selectable").Take(c.ctx, polylog.WithSelector(row.selector), polylog.NoWait())
			c.refused(err, polylog.ErrBadSelector)
			if err != nil && !strings.Contains(err.Error(), fmt.Sprintf("column %d:", row.column)) {
				t.Errorf("%v, want column %d", err, row.column)
			}
		})
	}
	for _, row := range tooStrict {
		s.clause("3.8.1.1", "a literal is read: "+row.selector, func(t *testing.T, c *fixture) {
			_, err := c.texts().Take(c.ctx, polylog.WithSelector(row.selector), polylog.NoWait())
			c.refused(err, polylog.ErrBadSelector)
		}, deviates(row.how))
	}
	s.clause("3.8.1.1", "an identifier of any length", func(t *testing.T, c *fixture) {
		_, err := c.texts().Take(c.ctx, polylog.WithSelector(strings.Repeat("n", 5000)+" = 1"), polylog.NoWait())
		c.refused(err, polylog.ErrTooLarge)
	}, deviates("an identifier may be of any length; polylog takes selectors of 4 KiB"))
	selectingConsumers(s)
}

func titleOf(about, row string) string {
	if len(row) > 200 {
		row = row[:20] + "..."
	}
	verdict := map[byte]string{'T': "is true", 'F': "is false", 'U': "is unknown", 'N': "does not match"}[row[0]]
	return fmt.Sprintf("%s: %s %s", about, row[2:], verdict)
}

// rowCase asks for a selector and its negation: what is false is true negated, and
// what is unknown is neither.
func rowCase(row string) func(t *testing.T, c *fixture) {
	verdict, selector := row[0], row[2:]
	return func(t *testing.T, c *fixture) {
		if got, want := c.selects(selector), verdict == 'T'; got != want {
			t.Errorf("%s: selected %v, want %v", selector, got, want)
		}
		if verdict == 'N' {
			return
		}
		if got, want := c.selects("NOT ("+selector+")"), verdict == 'F'; got != want {
			t.Errorf("NOT (%s): selected %v, want %v", selector, got, want)
		}
	}
}

// selectingConsumers is what becomes of messages that a selector does not select.
func selectingConsumers(s *section) {
	colours := func(c *fixture, q *polylog.Queue[string], names ...string) {
		c.t.Helper()
		for _, name := range names {
			put(c, q, name, polylog.WithProperty("colour", name))
		}
	}
	s.clause("3.8.1", "a consumer of a queue gets what its selector matches", func(t *testing.T, c *fixture) {
		q := c.texts()
		colours(c, q, "red", "blue", "red", "green")
		wantTexts(t, "red", rest(c, q, polylog.WithSelector("colour = 'red'")), "red", "red")
	})
	s.clause("3.8.1", "what is not selected stays on the queue", func(t *testing.T, c *fixture) {
		q := c.texts()
		colours(c, q, "red", "blue", "red", "green")
		rest(c, q, polylog.WithSelector("colour = 'red'"))
		wantTexts(t, "the rest", rest(c, q), "blue", "green")
	})
	s.clause("3.8.1", "an empty selector is none", func(t *testing.T, c *fixture) {
		q := c.texts()
		colours(c, q, "red", "blue")
		wantTexts(t, "all", rest(c, q, polylog.WithSelector("")), "red", "blue")
	})
	s.clause("3.8.1", "a selector waits for a message that matches", func(t *testing.T, c *fixture) {
		q := c.texts()
		colours(c, q, "red")
		done := c.background(func(ctx context.Context) {
			d, err := q.Take(ctx, polylog.WithSelector("colour = 'blue'"))
			if err != nil || d.Value != "blue" {
				t.Errorf("took %v, %v", d, err)
			}
		})
		colours(c, q, "green", "blue")
		c.comes("the message", done)
	})
	s.clause("3.8.1", "messages that are selected by nobody hold nobody up", func(t *testing.T, c *fixture) {
		q := c.texts()
		colours(c, q, slices.Repeat([]string{"red"}, 50)...)
		colours(c, q, "blue")
		equal(t, "message", take(c, q, polylog.WithSelector("colour = 'blue'")).Value, "blue")
	})
	s.clause("3.8.1", "the body cannot be selected by", func(t *testing.T, c *fixture) {
		q := polylog.QueueOf[map[string]any](c.session(), c.name("q"))
		put(c, q, map[string]any{"colour": "red"})
		nothing(c, q, polylog.WithSelector("colour = 'red'"))
		take(c, q, polylog.WithSelector("colour IS NULL"))
	})
	s.clause("3.8.1", "a topic's subscription gets only what its selector matches", func(t *testing.T, c *fixture) {
		topic := polylog.TopicOf[string](c.session(), c.name("t"))
		subscription := sub[string](c)(topic.Subscribe(c.ctx, polylog.WithSelector("colour <> 'red'")))
		for _, name := range []string{"red", "blue", "red", "green"} {
			publish(c, topic, name, polylog.WithProperty("colour", name))
		}
		wantTexts(t, "received", takeN(c, subscription, 2), "blue", "green")
	})
	s.clause("3.8.1.1", "JMSDeliveryMode of a message that is not persistent", func(t *testing.T, c *fixture) {
		q := c.texts()
		put(c, q, "persistent")
		put(c, q, "not", polylog.NonPersistent())
		equal(t, "message", take(c, q, polylog.WithSelector("JMSDeliveryMode = 'NON_PERSISTENT'")).Value, "not")
	})
	s.clause("3.8.1.1", "JMSMessageID of one message", func(t *testing.T, c *fixture) {
		q := c.texts()
		put(c, q, "one")
		r := put(c, q, "two")
		put(c, q, "three")
		equal(t, "message", take(c, q, polylog.WithSelector("JMSMessageID = '"+r.MessageID()+"'")).Value, "two")
	})
	s.clause("3.8.1.1", "JMSTimestamp of what came after a time", func(t *testing.T, c *fixture) {
		q := c.texts()
		put(c, q, "old")
		sleepUntil(time.Now())
		at := time.Now().UnixMilli()
		put(c, q, "new")
		wantTexts(t, "received", rest(c, q, polylog.WithSelector(fmt.Sprintf("JMSTimestamp >= %d", at))), "new")
	})
	s.clause("3.8.1.1", "JMSCorrelationID and JMSType are null where none was set", func(t *testing.T, c *fixture) {
		q := c.texts()
		put(c, q, "x", polylog.WithType("t"), polylog.WithCorrelationID("c"))
		put(c, q, "y")
		equal(t, "message", take(c, q, polylog.WithSelector("JMSCorrelationID IS NULL AND JMSType IS NULL")).Value, "y")
	})
	s.clause("3.8.1", "a pattern takes time in proportion to the text", func(t *testing.T, c *fixture) {
		equal(t, "selected", c.selects("long LIKE '"+strings.Repeat("%_", 2000)+"x'"), false)
	})
	for what, open := range ordered(map[string]func(c *fixture, selector polylog.ConsumeOption) error{
		"a consumer of a queue": func(c *fixture, selector polylog.ConsumeOption) error {
			for _, err := range c.texts().Consume(c.ctx, selector) {
				return err
			}
			return nil
		},
		"a listener": func(c *fixture, selector polylog.ConsumeOption) error {
			return c.texts().Listen(c.ctx, func(context.Context, *polylog.Delivery[string]) error { return nil }, selector)
		},
		"a browser": func(c *fixture, selector polylog.ConsumeOption) error {
			for _, err := range c.texts().Browse(c.ctx, selector) {
				return err
			}
			return nil
		},
		"an unshared subscription": func(c *fixture, selector polylog.ConsumeOption) error {
			_, err := c.session().Topic(c.name("t")).Subscribe(c.ctx, selector)
			return err
		},
		"a shared subscription": func(c *fixture, selector polylog.ConsumeOption) error {
			_, err := c.session().Topic(c.name("t")).Shared(c.ctx, c.name("sub"), selector)
			return err
		},
		"an unshared durable subscription": func(c *fixture, selector polylog.ConsumeOption) error {
			s := c.sessionOn(c.connect(polylog.WithClientID(c.name("id"))))
			_, err := s.Topic(c.name("t")).Durable(c.ctx, c.name("sub"), selector)
			return err
		},
		"a shared durable subscription": func(c *fixture, selector polylog.ConsumeOption) error {
			_, err := c.session().Topic(c.name("t")).SharedDurable(c.ctx, c.name("sub"), selector)
			return err
		},
	}) {
		s.clause("3.8.1.1", "a syntax error fails "+what+" when it is made", func(t *testing.T, c *fixture) {
			err := open(c, polylog.WithSelector("colour = = 'red'"))
			c.refused(err, polylog.ErrBadSelector)
			var refusal *polylog.Error
			if !errors.As(err, &refusal) || !strings.Contains(refusal.Message, "column 10") {
				t.Errorf("%v does not say where", err)
			}
		})
	}
}
