package selector

import "cmp"

// Kind is the type of a Value.
type Kind uint8

// The kinds of values. Unknown is a property that is not there, and what is
// computed from it.
const (
	Unknown Kind = iota
	Bool
	Int
	Float
	String
)

// Value is what a property or an expression is.
type Value struct {
	Kind  Kind
	Bool  bool
	Int   int64
	Float float64
	Text  string
}

func boolean(b bool) Value { return Value{Kind: Bool, Bool: b} }

func (v Value) isTrue() bool   { return v.Kind == Bool && v.Bool }
func (v Value) isFalse() bool  { return v.Kind == Bool && !v.Bool }
func (v Value) isNumber() bool { return v.Kind == Int || v.Kind == Float }
func (v Value) approx() float64 { // of a number
	if v.Kind == Int {
		return float64(v.Int)
	}
	return v.Float
}

// not is §3.8.1.3, table 3-6.
func (v Value) not() Value {
	if v.Kind != Bool {
		return Value{}
	}
	return boolean(!v.Bool)
}

// comparison is one of the six.
type comparison uint8

const (
	equal comparison = iota
	unequal
	less
	lessOrEqual
	greater
	greaterOrEqual
)

var comparisons = map[string]comparison{"=": equal, "<>": unequal, "<": less, "<=": lessOrEqual, ">": greater, ">=": greaterOrEqual}

// compare is §3.8.1.2: numbers of both kinds compare with each other; texts and
// booleans are equal or not, and have no order; unlike types compare false.
func compare(op comparison, a, b Value) Value {
	switch {
	case a.Kind == Unknown || b.Kind == Unknown:
		return Value{}
	case a.Kind == Int && b.Kind == Int:
		return boolean(op.holds(cmp.Compare(a.Int, b.Int)))
	case a.isNumber() && b.isNumber():
		return boolean(op.holdsFor(a.approx(), b.approx()))
	case a.Kind != b.Kind || op > unequal:
		return boolean(false)
	case a.Kind == String:
		return boolean((a.Text == b.Text) == (op == equal))
	}
	return boolean((a.Bool == b.Bool) == (op == equal))
}

func (op comparison) holds(order int) bool {
	switch op {
	case equal:
		return order == 0
	case unequal:
		return order != 0
	case less:
		return order < 0
	case lessOrEqual:
		return order <= 0
	case greater:
		return order > 0
	}
	return order >= 0
}

// holdsFor compares as Java does: nothing but <> holds for NaN.
func (op comparison) holdsFor(a, b float64) bool {
	switch op {
	case equal:
		return a == b
	case unequal:
		return a != b
	case less:
		return a < b
	case lessOrEqual:
		return a <= b
	case greater:
		return a > b
	}
	return a >= b
}

// arithmetic is one of + - * /, of integers if both are.
func arithmetic(op byte, a, b Value) Value {
	switch {
	case !a.isNumber() || !b.isNumber():
		return Value{}
	case a.Kind == Float || b.Kind == Float:
		x, y := a.approx(), b.approx()
		switch op {
		case '+':
			x += y
		case '-':
			x -= y
		case '*':
			x *= y
		default:
			x /= y
		}
		return Value{Kind: Float, Float: x}
	}
	x, y := a.Int, b.Int
	switch {
	case op == '+':
		x += y
	case op == '-':
		x -= y
	case op == '*':
		x *= y
	case y == 0:
		return Value{}
	default:
		x /= y
	}
	return Value{Kind: Int, Int: x}
}
