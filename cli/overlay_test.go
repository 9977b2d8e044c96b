package cli

import (
	"bytes"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/polylog-mq/polylog/destination/commitlog"
)

// An overlay does what a directory does, and leaves the directory as it was.
func TestOverlayAgainstDirectory(t *testing.T) {
	below, copied := t.TempDir(), t.TempDir()
	original := bytes.Repeat([]byte("0123456789abcdef"), 3*overlayPage/16)
	for _, dir := range []string{below, copied} {
		if err := os.MkdirAll(filepath.Join(dir, "d"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "d", "f"), original, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	o, err := openOverlay(below)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	want, err := commitlog.DirFS(copied)
	if err != nil {
		t.Fatal(err)
	}
	defer want.Close()
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	a, b := open(t, o, "d/f"), open(t, want, "d/f")
	for step := range 2000 {
		at, size := random.Int64N(4*overlayPage), random.Int64N(overlayPage+10)
		switch random.IntN(8) {
		case 0:
			if random.IntN(3) == 0 {
				must(t, a.Truncate(at))
				must(t, b.Truncate(at))
			}
		case 1, 2, 3:
			p := bytes.Repeat([]byte{byte(step)}, int(size))
			_, err := a.WriteAt(p, at)
			must(t, err)
			_, err = b.WriteAt(p, at)
			must(t, err)
		default:
			p, q := make([]byte, size), make([]byte, size)
			n, errA := a.ReadAt(p, at)
			m, errB := b.ReadAt(q, at)
			if n != m || (errA == io.EOF) != (errB == io.EOF) || !bytes.Equal(p[:n], q[:m]) {
				t.Fatalf("seed %d, step %d: read %d at %d: %d %v, the directory %d %v", seed, step, size, at, n, errA, m, errB)
			}
		}
		x, _ := a.Size()
		if y, _ := b.Size(); x != y {
			t.Fatalf("seed %d, step %d: size %d, the directory's %d", seed, step, x, y)
		}
	}
	if got, _ := os.ReadFile(filepath.Join(below, "d", "f")); !bytes.Equal(got, original) {
		t.Error("the file below was changed")
	}
}

func TestOverlayNames(t *testing.T) {
	below := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(below, "d"), 0o755))
	must(t, os.WriteFile(filepath.Join(below, "d", "a"), []byte("a"), 0o644))
	must(t, os.WriteFile(filepath.Join(below, "d", "b"), []byte("bb"), 0o644))
	o, err := openOverlay(below)
	must(t, err)
	defer o.Close()
	must(t, o.Rename("d/a", "d/c"))
	must(t, o.Remove("d/b"))
	must(t, o.MkdirAll("e/f"))
	must(t, o.Link("d/c", "e/f/g"))
	if _, err := o.OpenFile("d/a", false); err == nil {
		t.Error("d/a is still there")
	}
	if err := o.Link("d/c", "e/f/g"); err == nil {
		t.Error("a link replaced a file")
	}
	for name, want := range map[string]string{".": "d e ", "d": "c ", "e": "f ", "e/f": "g "} {
		entries, err := o.ReadDir(name)
		must(t, err)
		got := ""
		for _, e := range entries {
			got += e.Name + " "
		}
		if got != want {
			t.Errorf("%s has %q, want %q", name, got, want)
		}
	}
	must(t, o.RemoveAll("e"))
	if _, err := o.ReadDir("e/f"); err == nil {
		t.Error("e/f is still there")
	}
	if size, err := o.Stat("d/c"); err != nil || size != 1 {
		t.Error(size, err)
	}
	list, err := os.ReadDir(filepath.Join(below, "d"))
	if err != nil || len(list) != 2 {
		t.Errorf("the directory below has changed: %v %v", list, err)
	}
}

func open(t *testing.T, fs commitlog.FS, name string) commitlog.File {
	t.Helper()
	f, err := fs.OpenFile(name, false)
	must(t, err)
	return f
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
