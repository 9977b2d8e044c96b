package selector

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Selector chooses messages. It may be used by several goroutines.
type Selector struct {
	root  node
	ids   []Identifier
	views sync.Pool
}

// Compile reads a selector. The error is an *Error.
func Compile(text string) (*Selector, error) {
	p := &parser{lexer: lexer{text: text}, ids: map[Identifier]bool{}}
	if len(text) > MaxBytes {
		return nil, &Error{Offset: MaxBytes, Column: MaxBytes + 1, Reason: "a selector may have " + strconv.Itoa(MaxBytes) + " bytes"}
	}
	if err := p.advance(); err != nil {
		return nil, err
	}
	o, err := p.disjunction()
	switch {
	case err != nil:
		return nil, err
	case p.token.kind != end:
		return nil, p.fail(p.token.at, "an operator or the end is expected, here is %s", p.token)
	}
	if err := p.want(o, condition); err != nil {
		return nil, err
	}
	s := &Selector{root: o.node}
	s.ids = slices.SortedFunc(maps.Keys(p.ids), func(a, b Identifier) int { return cmp.Compare(a.Name, b.Name) })
	s.views.New = func() any { return new(view) }
	return s, nil
}

// Matches says whether a message is selected: the selector is true of it.
func (s *Selector) Matches(m Message) bool { return s.root.eval(m).isTrue() }

// Identifiers are what the selector names, by name.
func (s *Selector) Identifiers() []Identifier { return s.ids }

// String is the selector in one way of writing it: two that differ in spaces,
// the case of keywords or brackets that change nothing have the same.
func (s *Selector) String() string { return string(s.root.append(nil)) }

func appendText(dst []byte, text string) []byte {
	dst = append(dst, '\'')
	dst = append(dst, strings.ReplaceAll(text, "'", "''")...)
	return append(dst, '\'')
}

func (n *literal) append(dst []byte) []byte {
	switch v := n.value; v.Kind {
	case Bool:
		return append(dst, strings.ToUpper(strconv.FormatBool(v.Bool))...)
	case Int:
		return strconv.AppendInt(dst, v.Int, 10)
	case Float:
		dst = strconv.AppendFloat(dst, v.Float, 'e', -1, 64)
		return dst
	default:
		return appendText(dst, v.Text)
	}
}

func (n *identifier) append(dst []byte) []byte { return append(dst, n.Name...) }

// appendIn writes a part in brackets, unless it is a single word.
func appendIn(dst []byte, n node) []byte {
	switch n := n.(type) {
	case *identifier:
		return n.append(dst)
	case *literal:
		if !strings.HasPrefix(string(n.append(nil)), "-") {
			return n.append(dst)
		}
	}
	return append(n.append(append(dst, '(')), ')')
}

func appendNot(dst []byte, not bool) []byte {
	if not {
		return append(dst, " NOT"...)
	}
	return dst
}

func (n *unary) append(dst []byte) []byte {
	if dst = append(dst, n.op...); n.op == "NOT" {
		dst = append(dst, ' ')
	}
	return appendIn(dst, n.operand)
}

func (n *logical) append(dst []byte) []byte {
	op := " OR "
	if n.and {
		op = " AND "
	}
	return appendIn(append(appendIn(dst, n.left), op...), n.right)
}

func (n *compared) append(dst []byte) []byte {
	return appendIn(append(append(append(appendIn(dst, n.left), ' '), n.op...), ' '), n.right)
}

func (n *computed) append(dst []byte) []byte {
	return appendIn(append(appendIn(dst, n.left), ' ', n.op, ' '), n.right)
}

func (n *between) append(dst []byte) []byte {
	dst = append(appendNot(appendIn(dst, n.operand), n.not), " BETWEEN "...)
	return appendIn(append(appendIn(dst, n.low), " AND "...), n.high)
}

func (n *like) append(dst []byte) []byte {
	dst = append(appendNot(n.operand.append(dst), n.not), " LIKE "...)
	if dst = appendText(dst, n.pattern.text); n.pattern.escape != 0 {
		dst = appendText(append(dst, " ESCAPE "...), string(n.pattern.escape))
	}
	return dst
}

func (n *in) append(dst []byte) []byte {
	dst = append(appendNot(n.operand.append(dst), n.not), " IN ("...)
	for i, s := range n.list {
		if i > 0 {
			dst = append(dst, ", "...)
		}
		dst = appendText(dst, s)
	}
	return append(dst, ')')
}

func (n *isNull) append(dst []byte) []byte {
	return append(appendNot(append(n.operand.append(dst), " IS"...), n.not), " NULL"...)
}
