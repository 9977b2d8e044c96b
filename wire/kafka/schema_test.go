package kafka

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestVersionsOfFields keeps versions.txt as kmsg's comments are. REWRITE=1
// writes it.
func TestVersionsOfFields(t *testing.T) {
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/twmb/franz-go/pkg/kmsg").Output()
	if err != nil {
		t.Skip("no module cache:", err)
	}
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(strings.TrimSpace(string(dir)), "generated.go"), nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	version := regexp.MustCompile(`^(v\d+\+|v\d+-v\d+|tag \d+)`)
	var b strings.Builder
	for _, d := range file.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != token.TYPE {
			continue
		}
		for _, spec := range g.Specs {
			s := spec.(*ast.TypeSpec)
			body, ok := s.Type.(*ast.StructType)
			if !ok || !strings.Contains(s.Name.Name, "Request") {
				continue
			}
			for _, f := range body.Fields.List {
				text := version.FindString(strings.TrimSpace(f.Comment.Text()))
				if s.Name.Name == "ListOffsetsRequestTopicPartition" && len(f.Names) == 1 && f.Names[0].Name == "MaxNumOffsets" {
					text = "v0-v0" // the one comment that does not say it
				}
				if text != "" && len(f.Names) == 1 {
					fmt.Fprintf(&b, "%s.%s %s\n", s.Name.Name, f.Names[0].Name, text)
				}
			}
		}
	}
	if b.String() == versionsText {
		return
	}
	if os.Getenv("REWRITE") != "" {
		if err := os.WriteFile("versions.txt", []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Error("versions.txt is not what kmsg says; REWRITE=1 writes it")
}

// fill sets everything in v that can be set, at random.
func fill(v reflect.Value, random *rand.Rand, depth int) {
	switch v.Kind() {
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[kmsg.Tags]() {
			if random.IntN(4) == 0 {
				v.Addr().Interface().(*kmsg.Tags).Set(100+random.Uint32N(100), []byte("tag"))
			}
			return
		}
		for i := range v.NumField() {
			if name := v.Type().Field(i).Name; name != "Version" || i > 0 {
				fill(v.Field(i), random, depth+1)
			}
		}
	case reflect.Slice:
		n := random.IntN(4)
		if v.Type().Elem().Kind() == reflect.Uint8 {
			n = random.IntN(300)
		}
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		for i := range n {
			fill(v.Index(i), random, depth+1)
		}
	case reflect.Array:
		for i := range v.Len() {
			v.Index(i).SetUint(random.Uint64N(256))
		}
	case reflect.Pointer:
		if random.IntN(3) > 0 {
			v.Set(reflect.New(v.Type().Elem()))
			fill(v.Elem(), random, depth+1)
		}
	case reflect.String:
		v.SetString(strings.Repeat("s", random.IntN(200)))
	case reflect.Bool:
		v.SetBool(random.IntN(2) == 0)
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(random.Int64N(200) - 100)
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(random.Uint64N(100))
	case reflect.Float64:
		v.SetFloat(random.Float64())
	default:
		panic(v.Kind().String())
	}
}

// TestEveryRequestIsWalked shows that what kmsg writes passes, to its last byte,
// in every version that is served, and that nothing passes that is cut off.
func TestEveryRequestIsWalked(t *testing.T) {
	for key, h := range handlers {
		random := rand.New(rand.NewPCG(uint64(key), 7))
		for version := h.min; version <= h.max; version++ {
			for range 30 {
				q := kmsg.RequestForKey(key)
				q.SetVersion(version)
				fill(reflect.ValueOf(q).Elem(), random, 0)
				p := q.AppendTo(nil)
				w := walker{rest: p, version: version, flexible: q.IsFlexible(), left: 1 << 30}
				if w.schema(schemaOf(q)); w.bad || len(w.rest) > 0 {
					t.Fatalf("%s version %d: bad %t, %d of %d bytes are left", kmsg.NameForKey(key), version, w.bad, len(w.rest), len(p))
				}
				for range 5 {
					if n := random.IntN(len(p) + 1); n < len(p) && checkRequest(q, p[:n]) == nil {
						t.Fatalf("%s version %d: the first %d of %d bytes pass", kmsg.NameForKey(key), version, n, len(p))
					}
				}
			}
		}
	}
}

// TestDecodingIsBounded damages requests at random: what passes the walk is
// decoded in a moment and without much memory.
func TestDecodingIsBounded(t *testing.T) {
	for key, h := range handlers {
		random := rand.New(rand.NewPCG(uint64(key), 8))
		for version := h.min; version <= h.max; version++ {
			for range 200 {
				q := kmsg.RequestForKey(key)
				q.SetVersion(version)
				fill(reflect.ValueOf(q).Elem(), random, 0)
				p := q.AppendTo(nil)
				for range 1 + random.IntN(4) {
					if len(p) > 0 {
						p[random.IntN(len(p))] = byte(random.Uint32())
					}
				}
				if at := random.IntN(len(p) + 1); random.IntN(2) == 0 {
					copy(p[at:], []byte{0xff, 0xff, 0xff, 0xff, 0x0f})
				}
				if checkRequest(q, p) == nil {
					_ = q.ReadFrom(p) // it may refuse it, too; what counts is that it comes back
				}
			}
		}
	}
}
