package main

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/constant"
	"go/token"
	"go/types"
	"slices"
	"strconv"
	"strings"
)

// point is one change that can be made to a source file: the bytes [from, to)
// are replaced by text.
type point struct {
	kind     string
	from, to int
	text     string
}

// finder finds the points of one file.
type finder struct {
	fset   *token.FileSet
	info   *types.Info
	source []byte
	points []point
	skip   map[ast.Node]bool // what is left as it is, with all below it
}

// find returns the points of a file, ascending, no two of them the same change.
func find(fset *token.FileSet, info *types.Info, file *ast.File, source []byte) []point {
	f := &finder{fset: fset, info: info, source: source, skip: map[ast.Node]bool{}}
	ast.Inspect(file, f.visit)
	slices.SortStableFunc(f.points, func(a, b point) int {
		return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(a.to, b.to), cmp.Compare(a.text, b.text))
	})
	return slices.CompactFunc(f.points, func(a, b point) bool {
		return a.from == b.from && a.to == b.to && a.text == b.text
	})
}

func (f *finder) offset(p token.Pos) int { return f.fset.Position(p).Offset }

func (f *finder) text(n ast.Node) string {
	return string(f.source[f.offset(n.Pos()):f.offset(n.End())])
}

func (f *finder) replace(kind string, from, to token.Pos, text string) {
	f.points = append(f.points, point{kind, f.offset(from), f.offset(to), text})
}

// remove takes a statement out, and leaves its lines, so that positions hold.
func (f *finder) remove(kind string, from, to token.Pos) {
	gone := f.source[f.offset(from):f.offset(to)]
	f.replace(kind, from, to, strings.Repeat("\n", strings.Count(string(gone), "\n")))
}

func (f *finder) visit(n ast.Node) bool {
	if n == nil || f.skip[n] {
		return false
	}
	switch n := n.(type) {
	case *ast.FuncDecl:
		return n.Body != nil && (n.Recv == nil || !describes[n.Name.Name])
	case *ast.CallExpr:
		return f.call(n)
	case *ast.ArrayType:
		if n.Len != nil {
			f.skip[n.Len] = true
		}
	case *ast.BinaryExpr:
		f.binary(n)
	case *ast.UnaryExpr:
		if n.Op == token.NOT {
			f.replace("negation", n.OpPos, n.X.Pos(), "")
		}
	case *ast.BasicLit:
		f.number(n)
	case *ast.Ident:
		if to, ok := flipped[n.Name]; ok && f.info.Uses[n] == types.Universe.Lookup(n.Name) {
			f.replace("boolean", n.Pos(), n.End(), to)
		}
	case *ast.IfStmt:
		f.negate(n.Cond)
		f.empty(n.Body.Lbrace+1, n.Body.Rbrace, n.Body.List)
		if other, ok := n.Else.(*ast.BlockStmt); ok {
			f.empty(other.Lbrace+1, other.Rbrace, other.List)
		}
	case *ast.CaseClause:
		f.empty(n.Colon+1, n.End(), n.Body)
	case *ast.ForStmt:
		if _, ok := n.Post.(*ast.IncDecStmt); ok {
			f.skip[n.Post] = true // a loop that does not advance is no fault that anybody would make
		}
	case *ast.ReturnStmt:
		f.returned(n)
	case *ast.BranchStmt:
		if to, ok := branches[n.Tok]; ok && n.Label == nil {
			f.replace("branch", n.Pos(), n.End(), to.String())
		}
	case ast.Stmt:
		if f.removable(n) {
			f.remove("statement", n.Pos(), n.End())
		}
		f.assignment(n)
	}
	return true
}

// describes are the methods that only say what something is.
var describes = map[string]bool{"String": true, "GoString": true, "Error": true, "Format": true}

var flipped = map[string]string{"true": "false", "false": "true"}

var branches = map[token.Token]token.Token{token.BREAK: token.CONTINUE, token.CONTINUE: token.BREAK}

// operators are what each becomes.
var operators = map[token.Token]token.Token{
	token.LSS: token.LEQ, token.LEQ: token.LSS, token.GTR: token.GEQ, token.GEQ: token.GTR,
	token.EQL: token.NEQ, token.NEQ: token.EQL, token.LAND: token.LOR, token.LOR: token.LAND,
	token.ADD: token.SUB, token.SUB: token.ADD, token.MUL: token.QUO, token.QUO: token.MUL,
	token.SHL: token.SHR, token.SHR: token.SHL, token.AND: token.OR, token.OR: token.AND,
	token.ADD_ASSIGN: token.SUB_ASSIGN, token.SUB_ASSIGN: token.ADD_ASSIGN, token.OR_ASSIGN: token.AND_ASSIGN,
	token.INC: token.DEC, token.DEC: token.INC,
}

func (f *finder) operator(kind string, at token.Pos, op token.Token) {
	if to, ok := operators[op]; ok {
		f.replace(kind, at, at+token.Pos(len(op.String())), to.String())
	}
}

func (f *finder) binary(n *ast.BinaryExpr) {
	switch n.Op {
	case token.LAND, token.LOR:
		f.operator("logic", n.OpPos, n.Op)
	case token.LSS, token.LEQ, token.GTR, token.GEQ, token.EQL, token.NEQ:
		f.operator("comparison", n.OpPos, n.Op)
	default:
		// Of a constant its numbers are changed.
		if v := f.info.Types[n]; v.Value == nil && isNumeric(v.Type) {
			f.operator("arithmetic", n.OpPos, n.Op)
		}
	}
}

func isNumeric(t types.Type) bool {
	b, ok := t.Underlying().(*types.Basic)
	return ok && b.Info()&types.IsNumeric != 0
}

// number is one more, or one less if that is not below 0 and the place is odd.
func (f *finder) number(n *ast.BasicLit) {
	if n.Kind != token.INT {
		return
	}
	v, exact := constant.Int64Val(constant.MakeFromLiteral(n.Value, n.Kind, 0))
	if !exact {
		return
	}
	if v > 0 && f.offset(n.Pos())%2 == 1 {
		v--
	} else {
		v++
	}
	f.replace("number", n.Pos(), n.End(), strconv.FormatInt(v, 10))
}

// negate turns a condition around, unless changing its operator does the same.
func (f *finder) negate(cond ast.Expr) {
	switch n := ast.Unparen(cond).(type) {
	case *ast.UnaryExpr:
		if n.Op == token.NOT {
			return
		}
	case *ast.BinaryExpr:
		if n.Op == token.EQL || n.Op == token.NEQ {
			return
		}
	}
	f.replace("condition", cond.Pos(), cond.End(), "!("+f.text(cond)+")")
}

// empty takes out all statements of a body, unless that is what is done to its
// only one, or all that it does is to panic or to log.
func (f *finder) empty(from, to token.Pos, body []ast.Stmt) {
	if len(body) == 0 {
		return
	}
	if _, calls := body[0].(*ast.ExprStmt); len(body) == 1 && (calls || f.removable(body[0])) {
		return
	}
	f.remove("body", from, to)
	if r, ok := body[0].(*ast.ReturnStmt); ok && len(body) == 1 && len(r.Results) == 0 {
		f.skip[r] = true
	}
}

// removable are the statements that can be taken out one by one.
func (f *finder) removable(n ast.Stmt) bool {
	switch n := n.(type) {
	case *ast.ExprStmt:
		call, ok := n.X.(*ast.CallExpr)
		return ok && !isPanic(n) && !f.logs(call)
	case *ast.AssignStmt:
		return n.Tok != token.DEFINE && !slices.ContainsFunc(n.Lhs, isBlank)
	case *ast.IncDecStmt, *ast.DeferStmt, *ast.SendStmt:
		return true
	}
	return false
}

func isBlank(e ast.Expr) bool {
	id, ok := e.(*ast.Ident)
	return ok && id.Name == "_"
}

func isPanic(n ast.Stmt) bool {
	e, ok := n.(*ast.ExprStmt)
	if !ok {
		return false
	}
	call, ok := e.X.(*ast.CallExpr)
	return ok && isNamed(call.Fun, "panic")
}

func isNamed(e ast.Expr, name string) bool {
	id, ok := e.(*ast.Ident)
	return ok && id.Name == name
}

func (f *finder) assignment(n ast.Stmt) {
	switch n := n.(type) {
	case *ast.AssignStmt:
		if _, ok := operators[n.Tok]; ok && isNumeric(f.info.TypeOf(n.Lhs[0])) {
			f.operator("arithmetic", n.TokPos, n.Tok)
		}
	case *ast.IncDecStmt:
		f.operator("arithmetic", n.TokPos, n.Tok)
	}
}

// call says whether what is passed is looked at.
func (f *finder) call(n *ast.CallExpr) bool {
	if isNamed(n.Fun, "panic") || f.logs(n) {
		return false
	}
	if isNamed(n.Fun, "make") && len(n.Args) > 1 && !isMap(f.info.TypeOf(n.Args[0])) {
		f.skip[n.Args[len(n.Args)-1]] = len(n.Args) == 3 // room that may be needed
	}
	return true
}

func isMap(t types.Type) bool {
	_, ok := t.Underlying().(*types.Map)
	return ok
}

// logs says whether a call writes a log line.
func (f *finder) logs(n *ast.CallExpr) bool {
	s, ok := n.Fun.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	called := f.info.Uses[s.Sel]
	if called == nil || called.Pkg() == nil {
		return false
	}
	switch called.Pkg().Path() {
	case "log", "log/slog":
		return true
	case "fmt":
		return strings.HasPrefix(called.Name(), "Print")
	}
	return false
}

// returned has no error returned where one is, and goes on where a function
// without results returns before its end.
func (f *finder) returned(n *ast.ReturnStmt) {
	if len(n.Results) == 0 {
		f.remove("return", n.Pos(), n.End())
		return
	}
	last := n.Results[len(n.Results)-1]
	t := f.info.Types[last]
	if _, several := t.Type.(*types.Tuple); !several && !t.IsNil() && types.Implements(t.Type, errorType) {
		f.replace("error", last.Pos(), last.End(), "nil")
	}
}

var errorType = types.Universe.Lookup("error").Type().Underlying().(*types.Interface)

// applied is the source with the change made.
func (p point) applied(source []byte) []byte {
	return slices.Concat(source[:p.from], []byte(p.text), source[p.to:])
}

// diff shows the change within its line: what goes in [- -], what comes in {+ +}.
func (p point) diff(source []byte) string {
	begin := strings.LastIndexByte(string(source[:p.from]), '\n') + 1
	end := len(source)
	if i := strings.IndexByte(string(source[p.to:]), '\n'); i >= 0 {
		end = p.to + i
	}
	text := strings.TrimSpace(p.text)
	if text != "" {
		text = "{+" + text + "+}"
	}
	line := fmt.Sprintf("%s[-%s-]%s%s", source[begin:p.from], strings.TrimSpace(string(source[p.from:p.to])), text, source[p.to:end])
	line = strings.Join(strings.Fields(line), " ")
	if r := []rune(line); len(r) > 160 {
		line = string(r[:157]) + "..."
	}
	return line
}
