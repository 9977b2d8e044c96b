package polylog_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"slices"
	"time"

	"github.com/polylog-mq/polylog"
	"github.com/polylog-mq/polylog/embed"
)

// example starts a broker in the process and connects to it. A program of its
// own connects to "polylog://localhost:7400".
func example(opts ...polylog.Option) (*polylog.Connection, func()) {
	server, err := embed.Start(embed.Options{})
	if err != nil {
		log.Fatal(err)
	}
	c, err := polylog.Connect(context.Background(), "polylog://embedded", append(opts, polylog.WithDialer(server.Dial))...)
	if err != nil {
		log.Fatal(err)
	}
	return c, func() {
		c.Close()
		server.Close()
	}
}

func exampleSession(mode ...polylog.Mode) (*polylog.Session, func()) {
	c, stop := example()
	s, err := c.Session(context.Background(), mode...)
	if err != nil {
		log.Fatal(err)
	}
	return s, stop
}

func Example() {
	c, stop := example()
	defer stop()
	ctx := context.Background()

	type Order struct{ Number, Items int }
	s, err := c.Session(ctx)
	if err != nil {
		log.Fatal(err)
	}
	orders := polylog.QueueOf[Order](s, "orders")
	if _, err := orders.Put(ctx, Order{Number: 1, Items: 3}); err != nil {
		log.Fatal(err)
	}
	for d, err := range orders.Consume(ctx) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(d.Value.Number, d.Value.Items)
		break
	}
	// Output: 1 3
}

func ExampleQueue_Put() {
	s, stop := exampleSession()
	defer stop()
	ctx := context.Background()
	orders := polylog.QueueOf[string](s, "orders")
	receipt, err := orders.Put(ctx, "a pen", polylog.WithPriority(9), polylog.WithTTL(time.Hour), polylog.WithProperty("shop", "north"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(receipt.Partition, receipt.Offset, receipt.MessageID()[:3])
	// Output: 0 0 ID:
}

func ExampleQueue_PutAsync() {
	s, stop := exampleSession()
	defer stop()
	ctx := context.Background()
	orders := polylog.QueueOf[string](s, "orders")
	for _, item := range []string{"a pen", "ink", "paper"} {
		err := orders.PutAsync(ctx, item, func(r polylog.Receipt, err error) {
			fmt.Println(item, "is on disk at", r.Offset, err) // in the order of the sends
		})
		if err != nil {
			log.Fatal(err)
		}
	}
	if err := s.Flush(ctx); err != nil {
		log.Fatal(err)
	}
	// Output:
	// a pen is on disk at 0 <nil>
	// ink is on disk at 1 <nil>
	// paper is on disk at 2 <nil>
}

func ExampleQueue_PutAll() {
	s, stop := exampleSession()
	defer stop()
	n, err := polylog.QueueOf[string](s, "orders").PutAll(context.Background(), slices.Values([]string{"a pen", "ink"}))
	fmt.Println(n, err)
	// Output: 2 <nil>
}

func ExampleQueue_Take() {
	s, stop := exampleSession()
	defer stop()
	ctx := context.Background()
	orders := polylog.QueueOf[string](s, "orders")
	_, err := orders.Take(ctx, polylog.NoWait())
	fmt.Println(errors.Is(err, polylog.ErrNoMessage))
	if _, err := orders.Put(ctx, "a pen"); err != nil {
		log.Fatal(err)
	}
	d, err := orders.Take(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(d.Value)
	// Output:
	// true
	// a pen
}

func ExampleQueue_TakeBatch() {
	s, stop := exampleSession()
	defer stop()
	ctx := context.Background()
	orders := polylog.QueueOf[string](s, "orders")
	if _, err := orders.PutAll(ctx, slices.Values([]string{"a pen", "ink", "paper"})); err != nil {
		log.Fatal(err)
	}
	list, err := orders.TakeBatch(ctx, 2)
	if err != nil {
		log.Fatal(err)
	}
	for _, d := range list {
		fmt.Println(d.Value)
	}
	// Output:
	// a pen
	// ink
}

func ExampleQueue_Consume() {
	s, stop := exampleSession(polylog.IndividualAcknowledge)
	defer stop()
	ctx := context.Background()
	orders := polylog.QueueOf[string](s, "orders")
	if _, err := orders.PutAll(ctx, slices.Values([]string{"a pen", "ink", "stop"})); err != nil {
		log.Fatal(err)
	}
	for d, err := range orders.Consume(ctx) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(d.Value, d.DeliveryCount())
		if err := d.Ack(ctx); err != nil { // on disk: it does not come again
			log.Fatal(err)
		}
		if d.Value == "stop" {
			break
		}
	}
	// Output:
	// a pen 1
	// ink 1
	// stop 1
}

func ExampleQueue_Listen() {
	s, stop := exampleSession()
	defer stop()
	ctx, cancel := context.WithCancel(context.Background())
	orders := polylog.QueueOf[string](s, "orders")
	if _, err := orders.Put(ctx, "a pen"); err != nil {
		log.Fatal(err)
	}
	err := orders.Listen(ctx, func(ctx context.Context, d *polylog.Delivery[string]) error {
		fmt.Println(d.Value)
		cancel()
		return nil // an error would have it delivered again
	})
	fmt.Println(err)
	// Output:
	// a pen
	// <nil>
}

func ExampleQueue_Browse() {
	s, stop := exampleSession()
	defer stop()
	ctx := context.Background()
	orders := polylog.QueueOf[string](s, "orders")
	if _, err := orders.PutAll(ctx, slices.Values([]string{"a pen", "ink"})); err != nil {
		log.Fatal(err)
	}
	for b, err := range orders.Browse(ctx) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(b.Offset, b.Value)
	}
	// Output:
	// 0 a pen
	// 1 ink
}

func ExampleDelivery_Release() {
	s, stop := exampleSession(polylog.IndividualAcknowledge)
	defer stop()
	ctx := context.Background()
	orders := polylog.QueueOf[string](s, "orders")
	if _, err := orders.Put(ctx, "a pen"); err != nil {
		log.Fatal(err)
	}
	for range 2 {
		d, err := orders.Take(ctx)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(d.Value, d.DeliveryCount(), d.Redelivered())
		if err := d.Release(ctx, time.Millisecond); err != nil {
			log.Fatal(err)
		}
	}
	// Output:
	// a pen 1 false
	// a pen 2 true
}

func ExampleDelivery_Reject() {
	s, stop := exampleSession(polylog.IndividualAcknowledge)
	defer stop()
	ctx := context.Background()
	orders := polylog.QueueOf[string](s, "orders")
	if _, err := orders.Put(ctx, "nonsense"); err != nil {
		log.Fatal(err)
	}
	d, err := orders.Take(ctx)
	if err != nil {
		log.Fatal(err)
	}
	if err := d.Reject(ctx, "it makes no sense"); err != nil {
		log.Fatal(err)
	}
	dead, err := s.Queue("DLQ.orders").Take(ctx)
	if err != nil {
		log.Fatal(err)
	}
	letter, _ := dead.Value.DeadLetter()
	fmt.Println(dead.Value.Text(), "from", letter.Origin, "because", letter.Reason)
	// Output: nonsense from orders because it makes no sense
}

func ExampleSession_Acknowledge() {
	s, stop := exampleSession(polylog.ClientAcknowledge)
	defer stop()
	ctx := context.Background()
	orders := polylog.QueueOf[string](s, "orders")
	if _, err := orders.PutAll(ctx, slices.Values([]string{"a pen", "ink"})); err != nil {
		log.Fatal(err)
	}
	for range 2 {
		if _, err := orders.Take(ctx); err != nil {
			log.Fatal(err)
		}
	}
	fmt.Println(s.Acknowledge(ctx)) // both
	// Output: <nil>
}

func ExampleSession_Recover() {
	s, stop := exampleSession(polylog.ClientAcknowledge)
	defer stop()
	ctx := context.Background()
	orders := polylog.QueueOf[string](s, "orders")
	if _, err := orders.Put(ctx, "a pen"); err != nil {
		log.Fatal(err)
	}
	for range 2 {
		d, err := orders.Take(ctx)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(d.Value, d.DeliveryCount())
		if err := s.Recover(ctx); err != nil {
			log.Fatal(err)
		}
	}
	// Output:
	// a pen 1
	// a pen 2
}

func ExampleTopic_Subscribe() {
	s, stop := exampleSession()
	defer stop()
	ctx := context.Background()
	news := polylog.TopicOf[string](s, "news")
	sub, err := news.Subscribe(ctx)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := news.Publish(ctx, "it rains"); err != nil {
		log.Fatal(err)
	}
	for d, err := range sub.Consume(ctx) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(d.Value)
		break
	}
	// Output: it rains
}

func ExampleTopic_Durable() {
	c, stop := example(polylog.WithClientID("shop"))
	defer stop()
	ctx := context.Background()
	s, err := c.Session(ctx)
	if err != nil {
		log.Fatal(err)
	}
	news := polylog.TopicOf[string](s, "news")
	sub, err := news.Durable(ctx, "all news")
	if err != nil {
		log.Fatal(err)
	}
	sub.Close(ctx) // what is published meanwhile waits
	if _, err := news.Publish(ctx, "it rains"); err != nil {
		log.Fatal(err)
	}
	if sub, err = news.Durable(ctx, "all news"); err != nil {
		log.Fatal(err)
	}
	d, err := sub.Take(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(d.Value)
	if err := s.Flush(ctx); err != nil { // until the message is acknowledged
		log.Fatal(err)
	}
	fmt.Println(sub.Unsubscribe(ctx))
	// Output:
	// it rains
	// <nil>
}

func ExampleTopic_SharedDurable() {
	s, stop := exampleSession()
	defer stop()
	ctx := context.Background()
	news := polylog.TopicOf[string](s, "news")
	sub, err := news.SharedDurable(ctx, "workers") // and other processes too
	if err != nil {
		log.Fatal(err)
	}
	if _, err := news.PublishAll(ctx, slices.Values([]string{"it rains", "it snows"})); err != nil {
		log.Fatal(err)
	}
	for range 2 {
		d, err := sub.Take(ctx)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(d.Value)
	}
	// Output:
	// it rains
	// it snows
}

func ExampleTopic_Shared() {
	s, stop := exampleSession()
	defer stop()
	sub, err := polylog.TopicOf[string](s, "news").Shared(context.Background(), "workers")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(sub.Name())
	// Output: workers
}

func ExampleTopic_Exclusive() {
	s, stop := exampleSession()
	defer stop()
	sub, err := polylog.TopicOf[string](s, "news").Exclusive(context.Background(), "leader")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(sub.Name())
	// Output: leader
}

func ExampleConnection_Request() {
	c, stop := example()
	defer stop()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	s, err := c.Session(ctx)
	if err != nil {
		log.Fatal(err)
	}
	done := make(chan error)
	go func() {
		done <- s.Queue("greet").Listen(ctx, func(ctx context.Context, d *polylog.Delivery[*polylog.Message]) error {
			return polylog.Reply(ctx, s, d.Value, "hello "+d.Value.Text())
		})
	}()
	reply, err := c.Request(ctx, "greet", polylog.NewText("world"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(reply.Text())
	cancel()
	fmt.Println(<-done)
	// Output:
	// hello world
	// <nil>
}

func ExampleConnection_Admin() {
	c, stop := example()
	defer stop()
	ctx := context.Background()
	admin := c.Admin()
	_, err := admin.Create(ctx, polylog.DestinationSpec{Name: "orders", Kind: "queue", Settings: map[string]string{"max.deliveries": "3"}})
	if err != nil {
		log.Fatal(err)
	}
	_, err = admin.Create(ctx, polylog.DestinationSpec{Name: "orders", Kind: "queue"})
	fmt.Println(errors.Is(err, polylog.ErrExists))
	info, err := admin.Describe(ctx, "orders")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(info.Name, info.Kind, info.Settings["max.deliveries"])
	// Output:
	// true
	// orders queue 3
}

func ExampleProperty() {
	m := polylog.NewText("a pen")
	if err := m.SetProperty("count", int16(3)); err != nil {
		log.Fatal(err)
	}
	n, err := polylog.Property[int64](m, "count")
	fmt.Println(n, err)
	_, err = polylog.Property[bool](m, "count")
	fmt.Println(err)
	// Output:
	// 3 <nil>
	// property count is a int16 and cannot be read as bool
}

// An order is billed: that it is taken and that the bill is published is done
// together, or not at all.
func ExampleConnection_Tx() {
	c, stop := example()
	defer stop()
	ctx := context.Background()
	s, err := c.Session(ctx)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := polylog.QueueOf[string](s, "orders").Put(ctx, "a pen"); err != nil {
		log.Fatal(err)
	}
	err = c.Tx(ctx, func(tx *polylog.Session) error {
		order, err := polylog.QueueOf[string](tx, "orders").Take(ctx)
		if err != nil {
			return err
		}
		_, err = polylog.QueueOf[string](tx, "bills").Put(ctx, "bill for "+order.Value)
		return err
	})
	if err != nil {
		log.Fatal(err)
	}
	bill, err := polylog.QueueOf[string](s, "bills").Take(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(bill.Value)
	// Output: bill for a pen
}

func ExampleSession_Rollback() {
	s, stop := exampleSession(polylog.Transacted)
	defer stop()
	ctx := context.Background()
	q := polylog.QueueOf[string](s, "orders")
	if _, err := q.Put(ctx, "never sent"); err != nil {
		log.Fatal(err)
	}
	if err := s.Rollback(ctx); err != nil {
		log.Fatal(err)
	}
	if _, err := q.Put(ctx, "sent"); err != nil {
		log.Fatal(err)
	}
	if err := s.Commit(ctx); err != nil {
		log.Fatal(err)
	}
	order, err := q.Take(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(order.Value)
	// Output: sent
}

func ExampleStream_Read() {
	s, stop := exampleSession()
	defer stop()
	ctx := context.Background()
	orders := polylog.QueueOf[string](s, "orders")
	for _, item := range []string{"a pen", "a book"} {
		if _, err := orders.Put(ctx, item); err != nil {
			log.Fatal(err)
		}
	}
	if _, err := orders.TakeBatch(ctx, 2); err != nil { // what is taken stays in the log
		log.Fatal(err)
	}
	for r, err := range polylog.StreamOf[string](s, "orders").Read(ctx, polylog.FromBeginning(), polylog.NoWait()) {
		if err != nil {
			log.Fatal(err)
		}
		item, err := r.Value()
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(r.Offset, item)
	}
	// Output:
	// 0 a pen
	// 1 a book
}

func ExampleStream_Group() {
	s, stop := exampleSession()
	defer stop()
	ctx := context.Background()
	if _, err := polylog.TopicOf[string](s, "prices").Publish(ctx, "a pen: 2"); err != nil {
		log.Fatal(err)
	}
	auditors, err := polylog.StreamOf[string](s, "prices").Group(ctx, "auditors", polylog.FromBeginning())
	if err != nil {
		log.Fatal(err)
	}
	defer auditors.Close(ctx)
	for r, err := range auditors.Consume(ctx) {
		if err != nil {
			log.Fatal(err)
		}
		price, err := r.Value()
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(price)
		if err := auditors.Commit(ctx, r); err != nil {
			log.Fatal(err)
		}
		break
	}
	// Output: a pen: 2
}

func ExampleWithSelector() {
	s, stop := exampleSession()
	defer stop()
	ctx := context.Background()
	q := polylog.QueueOf[string](s, "orders")
	for _, colour := range []string{"red", "blue"} {
		if _, err := q.Put(ctx, "a "+colour+" pen", polylog.WithProperty("colour", colour)); err != nil {
			log.Fatal(err)
		}
	}
	d, err := q.Take(ctx, polylog.WithSelector("colour IN ('blue', 'green')"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(d.Value)
	// Output: a blue pen
}

// Broadcast: each instance of an application gets every message, because each
// has a subscription of its own.
func ExampleTopic_Subscribe_broadcast() {
	s, stop := exampleSession()
	defer stop()
	ctx := context.Background()
	prices := polylog.TopicOf[string](s, "prices")
	var instances []*polylog.Subscription[string]
	for range 2 {
		sub, err := prices.Subscribe(ctx)
		if err != nil {
			log.Fatal(err)
		}
		instances = append(instances, sub)
	}
	if _, err := prices.Publish(ctx, "ink is 3.20"); err != nil {
		log.Fatal(err)
	}
	for i, sub := range instances {
		d, err := sub.Take(ctx)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(i, d.Value)
	}
	// Output:
	// 0 ink is 3.20
	// 1 ink is 3.20
}

// Strict order by key: the messages of a group go to one consumer at a time,
// in order, while those of other groups go to the others.
func ExampleWithGroup() {
	s, stop := exampleSession(polylog.IndividualAcknowledge)
	defer stop()
	ctx := context.Background()
	accounts := polylog.QueueOf[string](s, "accounts")
	for _, m := range []string{"ada +10", "bob +5", "ada -3"} {
		if _, err := accounts.Put(ctx, m, polylog.WithGroup(m[:3])); err != nil {
			log.Fatal(err)
		}
	}
	var ada []string
	for d, err := range accounts.Consume(ctx, polylog.WithConcurrency(2)) {
		if err != nil {
			log.Fatal(err)
		}
		if d.Message().Group() == "ada" {
			ada = append(ada, d.Value)
		}
		if err := d.Ack(ctx); err != nil {
			log.Fatal(err)
		}
		if len(ada) == 2 {
			break
		}
	}
	fmt.Println(ada)
	// Output: [ada +10 ada -3]
}

// A new subscription may begin in the past.
func ExampleFromLast() {
	s, stop := exampleSession()
	defer stop()
	ctx := context.Background()
	news := polylog.TopicOf[string](s, "news")
	if _, err := news.PublishAll(ctx, slices.Values([]string{"one", "two", "three"})); err != nil {
		log.Fatal(err)
	}
	sub, err := news.Subscribe(ctx, polylog.FromLast(2))
	if err != nil {
		log.Fatal(err)
	}
	for range 2 {
		d, err := sub.Take(ctx)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(d.Value)
	}
	// Output:
	// two
	// three
}

// What fails too often becomes a dead letter that says why.
func ExampleDelivery_Fail() {
	c, stop := example()
	defer stop()
	ctx := context.Background()
	spec := polylog.DestinationSpec{Name: "orders", Kind: "queue", Settings: map[string]string{"max.deliveries": "1"}}
	if _, err := c.Admin().Create(ctx, spec); err != nil {
		log.Fatal(err)
	}
	s, err := c.Session(ctx, polylog.IndividualAcknowledge)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := polylog.QueueOf[string](s, "orders").Put(ctx, "a unicorn"); err != nil {
		log.Fatal(err)
	}
	d, err := polylog.QueueOf[string](s, "orders").Take(ctx)
	if err != nil {
		log.Fatal(err)
	}
	if err := d.Fail(ctx, errors.New("out of stock")); err != nil {
		log.Fatal(err)
	}
	dead, err := s.Queue("DLQ.orders").Take(ctx)
	if err != nil {
		log.Fatal(err)
	}
	letter, _ := dead.Value.DeadLetter()
	fmt.Println(dead.Value.Text(), "-", letter.Reason, "-", letter.Exception)
	// Output: a unicorn - max.deliveries - out of stock
}

// A message that is delivered only if a transaction elsewhere is committed. Here
// its end is not told, and the group of producers is asked.
func ExampleConnection_Producers() {
	c, stop := example()
	defer stop()
	ctx := context.Background()
	paid := map[string]bool{"order-17": true} // as the database has it
	producers, err := c.Producers(ctx, "shop", func(_ context.Context, half polylog.Half) polylog.Outcome {
		if paid[half.ID] {
			return polylog.Commit
		}
		return polylog.Rollback
	}, polylog.CheckAfter(10*time.Millisecond))
	if err != nil {
		log.Fatal(err)
	}
	defer producers.Close(ctx)
	err = producers.Send(ctx, "order-17", func(s *polylog.Session) error {
		_, err := polylog.QueueOf[string](s, "shipping").Put(ctx, "ship order 17")
		return err
	}, func(context.Context) polylog.Outcome {
		return polylog.Unknown // the database did not answer in time
	})
	if err != nil {
		log.Fatal(err)
	}
	s, err := c.Session(ctx)
	if err != nil {
		log.Fatal(err)
	}
	d, err := polylog.QueueOf[string](s, "shipping").Take(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(d.Value)
	// Output: ship order 17
}

// All queues whose names begin so, those that are made later included.
func ExampleQueue_Consume_pattern() {
	c, stop := example()
	defer stop()
	ctx := context.Background()
	s, err := c.Session(ctx)
	if err != nil {
		log.Fatal(err)
	}
	for _, country := range []string{"orders.eu", "orders.us"} {
		if _, err := polylog.QueueOf[string](s, country).Put(ctx, "a pen"); err != nil {
			log.Fatal(err)
		}
	}
	n := 0
	for d, err := range polylog.QueueOf[string](s, "orders.*").Consume(ctx) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(d.Value, "of", d.Destination())
		if n++; n == 2 {
			break
		}
	}
	// Unordered output:
	// a pen of orders.eu
	// a pen of orders.us
}
