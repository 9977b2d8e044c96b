package spill_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"os"
	"sync/atomic"

	"github.com/polylog-mq/polylog"
	"github.com/polylog-mq/polylog/embed"
	"github.com/polylog-mq/polylog/spill"
)

// A shop takes orders while no broker is there, and delivers them when there is. A
// program of its own needs no dialer, and names an address such as
// "polylog://localhost:7400".
func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "outbox-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	var broker atomic.Pointer[embed.Server]
	dial := func(ctx context.Context) (net.Conn, error) {
		if b := broker.Load(); b != nil {
			return b.Dial(ctx)
		}
		return nil, errors.New("there is no broker")
	}

	p, err := spill.Open(dir, "polylog://embedded", spill.Options{Connect: []polylog.Option{polylog.WithDialer(dial)}})
	if err != nil {
		log.Fatal(err)
	}
	defer p.Close()
	put := func(order string) {
		receipt, err := p.Send(ctx, spill.Queue("orders"), polylog.NewText(order))
		if err != nil {
			log.Fatal(err) // it is not safe
		}
		fmt.Printf("%s is safe, spilled: %t, pending: %d\n", order, receipt.Spilled, p.Pending())
	}
	put("one")
	put("two")

	b, err := embed.Start(embed.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer b.Close()
	broker.Store(b)
	if err := p.Flush(ctx); err != nil {
		log.Fatal(err)
	}
	put("three")

	c, err := polylog.Connect(ctx, "polylog://embedded", polylog.WithDialer(b.Dial))
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	s, err := c.Session(ctx)
	if err != nil {
		log.Fatal(err)
	}
	orders := polylog.QueueOf[string](s, "orders")
	for range 3 {
		d, err := orders.Take(ctx)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(d.Value)
	}
	// Output:
	// one is safe, spilled: true, pending: 1
	// two is safe, spilled: true, pending: 2
	// three is safe, spilled: false, pending: 0
	// one
	// two
	// three
}
