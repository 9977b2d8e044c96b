package selector

// Message is what a selector looks at. Unknown is what a message does not have.
type Message interface {
	Value(id Identifier) Value
}

// Identifier is a property, or one of the header fields that selectors may name
// (§3.8.1.1).
type Identifier struct {
	Name  string
	Field Field
}

// Field is a header field; Property for none.
type Field uint8

// The header fields that selectors may name.
const (
	Property Field = iota
	JMSDeliveryMode
	JMSPriority
	JMSMessageID
	JMSTimestamp
	JMSCorrelationID
	JMSType
)

var fields = map[string]Field{
	"JMSDeliveryMode": JMSDeliveryMode, "JMSPriority": JMSPriority, "JMSMessageID": JMSMessageID,
	"JMSTimestamp": JMSTimestamp, "JMSCorrelationID": JMSCorrelationID, "JMSType": JMSType,
}

// node is a part of a selector.
type node interface {
	eval(m Message) Value
	// append writes the node so that it reads back as it is.
	append(dst []byte) []byte
}

type (
	literal    struct{ value Value }
	identifier struct{ Identifier }
	unary      struct {
		op      string // NOT, - or +
		operand node
	}
	logical struct {
		and         bool
		left, right node
	}
	compared struct {
		op          string
		how         comparison
		left, right node
	}
	computed struct {
		op          byte
		left, right node
	}
	between struct {
		not                bool
		operand, low, high node
	}
	like struct {
		not     bool
		operand identifier
		pattern *pattern
	}
	in struct {
		not     bool
		operand identifier
		list    []string
	}
	isNull struct {
		not     bool
		operand identifier
	}
)

func (n *literal) eval(Message) Value      { return n.value }
func (n *identifier) eval(m Message) Value { return m.Value(n.Identifier) }

func (n *unary) eval(m Message) Value {
	v := n.operand.eval(m)
	switch {
	case n.op == "NOT":
		return v.not()
	case !v.isNumber():
		return Value{}
	case n.op == "-":
		v.Int, v.Float = -v.Int, -v.Float
	}
	return v
}

// eval is §3.8.1.3, tables 3-4 and 3-5. What is no boolean is unknown.
func (n *logical) eval(m Message) Value {
	a := n.left.eval(m)
	if n.and && a.isFalse() || !n.and && a.isTrue() {
		return a
	}
	b := n.right.eval(m)
	switch {
	case n.and && b.isFalse() || !n.and && b.isTrue():
		return b
	case a.Kind != Bool || b.Kind != Bool:
		return Value{}
	}
	return boolean(n.and)
}

func (n *compared) eval(m Message) Value { return compare(n.how, n.left.eval(m), n.right.eval(m)) }

func (n *computed) eval(m Message) Value { return arithmetic(n.op, n.left.eval(m), n.right.eval(m)) }

// eval is that of low <= operand AND operand <= high.
func (n *between) eval(m Message) Value {
	v := n.operand.eval(m)
	a, b := compare(greaterOrEqual, v, n.low.eval(m)), compare(lessOrEqual, v, n.high.eval(m))
	switch {
	case a.isFalse() || b.isFalse():
		return boolean(n.not)
	case a.Kind != Bool || b.Kind != Bool:
		return Value{}
	}
	return boolean(!n.not)
}

func (n *like) eval(m Message) Value {
	v := n.operand.eval(m)
	if v.Kind == Unknown {
		return v
	}
	return boolean((v.Kind == String && n.pattern.match(v.Text)) != n.not)
}

func (n *in) eval(m Message) Value {
	v := n.operand.eval(m)
	if v.Kind == Unknown {
		return v
	}
	found := false
	if v.Kind == String {
		for _, s := range n.list {
			if found = s == v.Text; found {
				break
			}
		}
	}
	return boolean(found != n.not)
}

func (n *isNull) eval(m Message) Value {
	return boolean((n.operand.eval(m).Kind == Unknown) != n.not)
}
