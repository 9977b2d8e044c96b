package selector

import (
	"math"
	"strings"
	"unicode/utf8"
)

const (
	// maxDepth bounds how deep a selector is nested, and maxList an IN.
	maxDepth = 256
	maxList  = 4096
)

// static is what is known of a node's type before there is a message.
type static uint8

const (
	anything static = iota // an identifier
	condition
	number
	texts
)

func (s static) String() string {
	return [...]string{"a value", "a condition", "a number", "a text"}[s]
}

// operand is a node, where it begins, and its type.
type operand struct {
	node
	at  int
	typ static
}

type parser struct {
	lexer
	token token
	depth int
	ids   map[Identifier]bool
}

// advance reads the next token.
func (p *parser) advance() (err error) {
	p.token, err = p.next()
	return err
}

// is says whether the next token is a keyword or a symbol, and takes it if so.
func (p *parser) takes(text string) (bool, error) {
	if (p.token.kind != word && p.token.kind != symbol) || p.token.text != text {
		return false, nil
	}
	return true, p.advance()
}

func (p *parser) expect(text string) error {
	ok, err := p.takes(text)
	if err == nil && !ok {
		err = p.fail(p.token.at, "%s is expected, here is %s", text, p.token)
	}
	return err
}

// want says that an operand has to be of a type, as far as that is known.
func (p *parser) want(o operand, typ static) error {
	if o.typ == anything || o.typ == typ {
		return nil
	}
	return p.fail(o.at, "%s is expected, this is %s", typ, o.typ)
}

// nested bounds recursion.
func (p *parser) nested(parse func() (operand, error)) (operand, error) {
	if p.depth++; p.depth > maxDepth {
		return operand{}, p.fail(p.token.at, "nested more than %d deep", maxDepth)
	}
	defer func() { p.depth-- }()
	return parse()
}

// disjunction is conditions with OR between them.
func (p *parser) disjunction() (operand, error) { return p.logical("OR", p.conjunction) }

func (p *parser) conjunction() (operand, error) { return p.logical("AND", p.negation) }

func (p *parser) logical(op string, part func() (operand, error)) (operand, error) {
	left, err := part()
	for err == nil {
		var more bool
		if more, err = p.takes(op); !more || err != nil {
			break
		}
		if err = p.want(left, condition); err != nil {
			break
		}
		var right operand
		if right, err = part(); err == nil {
			err = p.want(right, condition)
		}
		left = operand{&logical{op == "AND", left.node, right.node}, left.at, condition}
	}
	return left, err
}

func (p *parser) negation() (operand, error) {
	at := p.token.at
	not, err := p.takes("NOT")
	if err != nil || !not {
		if err != nil {
			return operand{}, err
		}
		return p.comparison()
	}
	o, err := p.nested(p.negation)
	if err == nil {
		err = p.want(o, condition)
	}
	return operand{&unary{"NOT", o.node}, at, condition}, err
}

// comparison is a value, or what is said of one.
func (p *parser) comparison() (operand, error) {
	left, err := p.sum()
	if err != nil {
		return left, err
	}
	if how, ok := comparisons[p.token.text]; ok && p.token.kind == symbol {
		return p.compared(left, how)
	}
	if is, err := p.takes("IS"); is || err != nil {
		not := false
		if err == nil {
			not, err = p.takes("NOT")
		}
		if err == nil {
			err = p.expect("NULL")
		}
		id, named := left.node.(*identifier)
		if err == nil && !named {
			err = p.fail(left.at, "IS NULL is asked of a property, this is %s", left.typ)
		}
		if err != nil {
			return operand{}, err
		}
		return operand{&isNull{not, *id}, left.at, condition}, nil
	}
	not, err := p.takes("NOT")
	if err != nil {
		return left, err
	}
	for _, o := range []struct {
		word  string
		parse func(left operand, not bool) (operand, error)
	}{{"BETWEEN", p.between}, {"LIKE", p.like}, {"IN", p.in}} {
		if found, err := p.takes(o.word); err != nil {
			return left, err
		} else if found {
			return o.parse(left, not)
		}
	}
	if not {
		return left, p.fail(p.token.at, "BETWEEN, LIKE or IN is expected, here is %s", p.token)
	}
	return left, nil
}

func (p *parser) compared(left operand, how comparison) (operand, error) {
	op, at := p.token.text, p.token.at
	if err := p.advance(); err != nil {
		return left, err
	}
	right, err := p.sum()
	if err != nil {
		return left, err
	}
	if how > unequal {
		for _, side := range []operand{left, right} {
			if side.typ != anything && side.typ != number {
				return left, p.fail(side.at, "%s has no order: only = and <> compare it", side.typ)
			}
		}
	} else if left.typ != anything && right.typ != anything && left.typ != right.typ {
		return left, p.fail(at, "%s and %s are never equal", left.typ, right.typ)
	}
	return operand{&compared{op, how, left.node, right.node}, left.at, condition}, nil
}

func (p *parser) between(left operand, not bool) (operand, error) {
	low, err := p.sum()
	if err == nil {
		err = p.expect("AND")
	}
	var high operand
	if err == nil {
		high, err = p.sum()
	}
	for _, o := range []operand{left, low, high} {
		if err == nil {
			err = p.want(o, number)
		}
	}
	return operand{&between{not, left.node, low.node, high.node}, left.at, condition}, err
}

// named says that LIKE and IN are asked of an identifier.
func (p *parser) named(left operand, of string) (identifier, error) {
	id, ok := left.node.(*identifier)
	if !ok {
		return identifier{}, p.fail(left.at, "%s is asked of a property, this is %s", of, left.typ)
	}
	return *id, nil
}

// quoted takes a text.
func (p *parser) quoted() (token, error) {
	t := p.token
	if t.kind != str {
		return t, p.fail(t.at, "a text in 'quotes' is expected, here is %s", t)
	}
	return t, p.advance()
}

func (p *parser) like(left operand, not bool) (operand, error) {
	id, err := p.named(left, "LIKE")
	if err != nil {
		return left, err
	}
	text, err := p.quoted()
	if err != nil {
		return left, err
	}
	var escape rune
	if with, err := p.takes("ESCAPE"); err != nil {
		return left, err
	} else if with {
		t, err := p.quoted()
		if err != nil {
			return left, err
		}
		if utf8.RuneCountInString(t.text) != 1 {
			return left, p.fail(t.at, "an escape is one character")
		}
		escape, _ = utf8.DecodeRuneInString(t.text)
	}
	if utf8.RuneCountInString(text.text) > maxPattern {
		return left, p.fail(text.at, "a pattern may have %d characters", maxPattern)
	}
	pattern, ok := newPattern(text.text, escape)
	if !ok {
		return left, p.fail(text.at, "the escape stands before %%, _ or itself")
	}
	return operand{&like{not, id, pattern}, left.at, condition}, nil
}

func (p *parser) in(left operand, not bool) (operand, error) {
	id, err := p.named(left, "IN")
	if err == nil {
		err = p.expect("(")
	}
	n := &in{not: not, operand: id}
	for err == nil {
		var t token
		if t, err = p.quoted(); err != nil {
			break
		}
		if n.list = append(n.list, t.text); len(n.list) > maxList {
			err = p.fail(t.at, "a list may have %d texts", maxList)
			break
		}
		var more bool
		if more, err = p.takes(","); !more || err != nil {
			break
		}
	}
	if err == nil {
		err = p.expect(")")
	}
	return operand{n, left.at, condition}, err
}

func (p *parser) sum() (operand, error) { return p.computed("+-", p.product) }

func (p *parser) product() (operand, error) { return p.computed("*/", p.signed) }

func (p *parser) computed(ops string, part func() (operand, error)) (operand, error) {
	left, err := part()
	for err == nil && p.token.kind == symbol && strings.Contains(ops, p.token.text) {
		op := p.token.text[0]
		if err = p.want(left, number); err != nil {
			break
		}
		if err = p.advance(); err != nil {
			break
		}
		var right operand
		if right, err = part(); err == nil {
			err = p.want(right, number)
		}
		left = operand{&computed{op, left.node, right.node}, left.at, number}
	}
	return left, err
}

func (p *parser) signed() (operand, error) {
	at := p.token.at
	for _, op := range []string{"-", "+"} {
		found, err := p.takes(op)
		if err != nil {
			return operand{}, err
		}
		if !found {
			continue
		}
		if t := p.token; op == "-" && t.kind == integer && t.large { // the only number without a counterpart
			return operand{&literal{Value{Kind: Int, Int: math.MinInt64}}, at, number}, p.advance()
		}
		o, err := p.nested(p.signed)
		if err == nil {
			err = p.want(o, number)
		}
		if err != nil {
			return operand{}, err
		}
		if l, ok := o.node.(*literal); ok && op == "-" && !(l.value.Kind == Int && l.value.Int == math.MinInt64) {
			return operand{&literal{Value{Kind: l.value.Kind, Int: -l.value.Int, Float: -l.value.Float}}, at, number}, nil
		}
		if op == "+" {
			return operand{o.node, at, o.typ}, nil
		}
		return operand{&unary{op, o.node}, at, number}, nil
	}
	return p.primary()
}

func (p *parser) primary() (operand, error) {
	t := p.token
	switch t.kind {
	case integer:
		if t.large {
			return operand{}, p.fail(t.at, "this number does not fit into 64 bits")
		}
		return operand{&literal{Value{Kind: Int, Int: t.value}}, t.at, number}, p.advance()
	case float:
		return operand{&literal{Value{Kind: Float, Float: t.real}}, t.at, number}, p.advance()
	case str:
		return operand{&literal{Value{Kind: String, Text: t.text}}, t.at, texts}, p.advance()
	case name:
		id, err := p.identify(t)
		if err != nil {
			return operand{}, err
		}
		p.ids[id] = true
		return operand{&identifier{id}, t.at, anything}, p.advance()
	case word:
		if t.text == "TRUE" || t.text == "FALSE" {
			return operand{&literal{boolean(t.text == "TRUE")}, t.at, condition}, p.advance()
		}
	case symbol:
		if t.text == "(" {
			if err := p.advance(); err != nil {
				return operand{}, err
			}
			o, err := p.nested(p.disjunction)
			if err == nil {
				err = p.expect(")")
			}
			return o, err
		}
	}
	return operand{}, p.fail(t.at, "a value is expected, here is %s", t)
}

// identify is §3.8.1.1: of the header fields six may be named, of the properties
// that begin with JMS those of JMSX and of providers.
func (p *parser) identify(t token) (Identifier, error) {
	rest, jms := strings.CutPrefix(t.text, "JMS")
	f, known := fields[t.text]
	if jms && !known && (rest == "" || rest[0] != 'X' && rest[0] != '_') {
		return Identifier{}, p.fail(t.at, "%s cannot be selected by: only JMSDeliveryMode, JMSPriority, JMSMessageID, JMSTimestamp, JMSCorrelationID, JMSType and properties can", t.text)
	}
	return Identifier{t.text, f}, nil
}
