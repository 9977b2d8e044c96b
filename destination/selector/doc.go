// Package selector is the language in which consumers say what they want:
// Jakarta Messaging 3.1 §3.8.
//
//	text ──► lexer ──► parser ──► tree of nodes ──► Match(record)
//
// A selector is checked when it is compiled, types included where they can be
// known, and an [Error] says where it is wrong. Evaluation knows three values:
// what is compared with a property that is not there is unknown, and only what is
// true matches (§3.8.1.2). It reads the record's headers as they are encoded,
// and allocates nothing.
//
// What the specification leaves open: values of unlike types are not equal, and
// not ordered: both comparisons are false. Arithmetic with something that is no
// number, and a division of integers by zero, is as if the property were not
// there. Integers are 64 bits wide and wrap around, as in Java.
package selector
