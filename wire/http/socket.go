package http

import (
	"context"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"

	"github.com/polylog-mq/polylog/wire"
)

// socket takes a WebSocket (RFC 6455) that carries STOMP. What the peer sends is a stream:
// how it is cut into messages means nothing.
func (s *Server) socket(w http.ResponseWriter, r *http.Request) {
	p := r.Context().Value(peerKey{}).(*peer)
	c, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"v12.stomp", "v11.stomp", "v10.stomp"}})
	if err != nil {
		return // it has answered
	}
	c.SetReadLimit(1 << 20)
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.Context()))
	defer cancel()
	near, far := wire.Pipe()
	var copying sync.WaitGroup
	copying.Go(func() { // either end may go
		defer near.Close()
		for {
			_, message, err := c.Reader(ctx)
			if err != nil {
				return
			}
			if _, err := io.Copy(near, message); err != nil {
				return
			}
		}
	})
	copying.Go(func() {
		for b := make([]byte, 32<<10); ; {
			n, err := near.Read(b)
			if err != nil {
				_ = c.Close(websocket.StatusNormalClosure, "")
				return
			}
			kind := websocket.MessageBinary
			if utf8.Valid(b[:n]) {
				kind = websocket.MessageText // as clients expect it that know nothing else
			}
			if c.Write(ctx, kind, b[:n]) != nil {
				near.Close()
				return
			}
		}
	})
	s.options.STOMP(carried{far, p.Conn}, p.ticket)
	far.Close()
	stop := time.AfterFunc(farewell, cancel)
	defer stop.Stop()
	copying.Wait()
}

// farewell is how long a peer has to read the last of it.
const farewell = 5 * time.Second

// carried is one end of a pipe, which is a peer's.
type carried struct {
	net.Conn
	peer net.Conn
}

func (c carried) RemoteAddr() net.Addr { return c.peer.RemoteAddr() }
