package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"log"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
)

// ceilingPeer is a bare append server: frames, a CRC, one file write for what
// a socket read brought, cumulative confirms, one sync for all that wait. It
// stores and does nothing else, so that no broker on this machine can be
// faster by much.
type ceilingPeer struct{ sync bool }

// errProduceOnly says that a peer has no consumers.
var errProduceOnly = errors.New("this peer only stores")

// errOneProducer says that a connection to the peer takes one producer.
var errOneProducer = errors.New("this peer has one queue")

func (p ceilingPeer) start(dir string) (*server, error) {
	mode := "memory"
	if p.sync {
		mode = "sync"
	}
	return child(dir, nil, os.Args[0], "serve", "ceiling", "{addr}", "{dir}", mode)
}

func (ceilingPeer) connect(s *server) (client, error) {
	c, err := net.Dial("tcp", s.addr)
	return &ceilingClient{Conn: c}, err
}

type ceilingClient struct {
	net.Conn
	busy atomic.Bool
}

func (*ceilingClient) declare(string) error                   { return nil }
func (*ceilingClient) consumer(string, int) (consumer, error) { return nil, errProduceOnly }
func (c *ceilingClient) close()                               { c.Close() }

func (c *ceilingClient) producer(_ string, places int) (producer, error) {
	if c.busy.Swap(true) {
		return nil, errOneProducer
	}
	p := &ceilingProducer{conn: c.Conn, window: newWindow(places), wake: make(chan struct{}, 1)}
	go p.write()
	go p.confirms()
	return p, nil
}

// ceilingProducer gathers what is sent while the last write runs.
type ceilingProducer struct {
	conn   net.Conn
	window window
	wake   chan struct{}
	mu     sync.Mutex
	buf    []byte
}

func (p *ceilingProducer) send(body []byte) error {
	p.window.take()
	p.mu.Lock()
	p.buf = binary.BigEndian.AppendUint32(p.buf, uint32(len(body)))
	p.buf = append(p.buf, body...)
	p.mu.Unlock()
	select {
	case p.wake <- struct{}{}:
	default:
	}
	return nil
}

func (p *ceilingProducer) flush() error { p.window.wait(); return nil }

func (p *ceilingProducer) write() {
	var spare []byte
	for range p.wake {
		p.mu.Lock()
		out := p.buf
		p.buf = spare[:0]
		p.mu.Unlock()
		if len(out) > 0 {
			if _, err := p.conn.Write(out); err != nil {
				return
			}
		}
		spare = out
	}
}

func (p *ceilingProducer) confirms() {
	var confirmed uint64
	b := make([]byte, 8)
	for {
		if _, err := io.ReadFull(p.conn, b); err != nil {
			return
		}
		for n := binary.BigEndian.Uint64(b); confirmed < n; confirmed++ {
			p.window.give()
		}
	}
}

// serveCeiling is the child process.
func serveCeiling(addr, dir, mode string) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		log.Fatal(err)
	}
	f, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		log.Fatal(err)
	}
	s := &ceilingServer{file: f, sync: mode == "sync", wake: make(chan struct{}, 1)}
	go s.commit()
	for {
		c, err := l.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go s.serve(c)
	}
}

type ceilingServer struct {
	file    *os.File
	sync    bool
	wake    chan struct{}
	mu      sync.Mutex
	end     int64
	waiting map[net.Conn]uint64 // confirms to write once synced
}

func (s *ceilingServer) serve(c net.Conn) {
	defer c.Close()
	r := bufio.NewReaderSize(c, 256<<10)
	var count uint64
	for {
		if _, err := r.Peek(4); err != nil {
			return
		}
		// All whole frames of what has arrived, in one write.
		have, _ := r.Peek(r.Buffered())
		n := 0
		for len(have)-n >= 4 {
			size := int(binary.BigEndian.Uint32(have[n:]))
			if len(have)-n < 4+size {
				break
			}
			crc32.Checksum(have[n+4:n+4+size], castagnoli)
			n += 4 + size
			count++
		}
		if n == 0 {
			if _, err := r.Peek(4 + int(binary.BigEndian.Uint32(have))); err != nil {
				return
			}
			continue
		}
		s.mu.Lock()
		at := s.end
		s.end += int64(n)
		s.mu.Unlock()
		if _, err := s.file.WriteAt(have[:n], at); err != nil {
			log.Fatal(err)
		}
		r.Discard(n)
		if !s.sync {
			confirm(c, count)
			continue
		}
		s.mu.Lock()
		if s.waiting == nil {
			s.waiting = map[net.Conn]uint64{}
		}
		s.waiting[c] = count
		s.mu.Unlock()
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func confirm(c net.Conn, count uint64) {
	c.Write(binary.BigEndian.AppendUint64(nil, count)) // a dead connection is the reader's to notice
}

func (s *ceilingServer) commit() {
	for range s.wake {
		s.mu.Lock()
		waiting := s.waiting
		s.waiting = nil
		s.mu.Unlock()
		if err := syscall.Fdatasync(int(s.file.Fd())); err != nil {
			log.Fatal(err)
		}
		for c, count := range waiting {
			confirm(c, count)
		}
	}
}

// serve runs a peer that lives in this program, as a child process.
func serve(name string, args []string) {
	switch name {
	case "ceiling":
		serveCeiling(args[0], args[1], args[2])
	case "jetstream":
		serveJetstream(args[0], args[1], args[2])
	}
}
