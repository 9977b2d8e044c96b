package wire_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/polylog-mq/polylog/wire"
)

// What goes in comes out, whatever the sizes of the writes and reads, and more
// than the pipe holds at once.
func TestPipeCarriesBytes(t *testing.T) {
	a, b := wire.Pipe()
	want := make([]byte, 3<<20)
	random := rand.New(rand.NewPCG(1, 2))
	for i := range want {
		want[i] = byte(random.Uint32())
	}
	go func() {
		for rest := want; len(rest) > 0; {
			n := min(len(rest), 1+random.IntN(100<<10))
			if wrote, err := a.Write(rest[:n]); wrote != n || err != nil {
				t.Errorf("wrote %d of %d: %v", wrote, n, err)
			}
			rest = rest[n:]
		}
		a.Close()
	}()
	got, err := io.ReadAll(b)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%d bytes came, equal %v, %v", len(got), bytes.Equal(got, want), err)
	}
}

// A write returns when its bytes are buffered: nobody has to read.
func TestPipeBuffers(t *testing.T) {
	a, b := wire.Pipe()
	defer a.Close()
	defer b.Close()
	for range 16 {
		if _, err := a.Write(make([]byte, 16<<10)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestPipeDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := wire.Pipe()
		defer a.Close()
		defer b.Close()
		began := time.Now()
		a.SetReadDeadline(began.Add(3 * time.Second))
		if _, err := a.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != 3*time.Second {
			t.Errorf("read ended after %v with %v", time.Since(began), err)
		}
		a.SetReadDeadline(time.Time{})
		a.SetWriteDeadline(time.Now().Add(time.Second))
		n, err := a.Write(make([]byte, 1<<20))
		if !errors.Is(err, os.ErrDeadlineExceeded) || n == 0 || n == 1<<20 {
			t.Errorf("wrote %d, %v", n, err)
		}
		b.Write([]byte{7})
		if n, err := a.Read(make([]byte, 9)); n != 1 || err != nil {
			t.Errorf("after the deadline was lifted: %d, %v", n, err)
		}
	})
}

// Close ends a read and a write that wait, on both ends.
func TestPipeClose(t *testing.T) {
	for _, far := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			a, b := wire.Pipe()
			read, written := make(chan error, 1), make(chan error, 1)
			go func() { _, err := a.Read(make([]byte, 1)); read <- err }()
			go func() { _, err := a.Write(make([]byte, 1<<20)); written <- err }()
			synctest.Wait()
			wantRead, wantWrite := net.ErrClosed, net.ErrClosed
			if far {
				wantRead, wantWrite = io.EOF, io.ErrClosedPipe
				b.Close()
			} else {
				a.Close()
			}
			if err := <-read; !errors.Is(err, wantRead) {
				t.Errorf("far %v: read: %v", far, err)
			}
			if err := <-written; !errors.Is(err, wantWrite) {
				t.Errorf("far %v: write: %v", far, err)
			}
		})
	}
}
