"""Tests with Qpid Proton, a client of AMQP 1.0, as Debian has it. Prints the Test
Anything Protocol.
"""

import os
import sys
import unittest
import uuid

from proton import Message, Timeout, symbol, ulong
from proton.handlers import MessagingHandler, TransactionHandler
from proton.reactor import Container, Copy, Selector, SenderOption
from proton.utils import BlockingConnection, LinkDetached

import tap

URL = "amqp://" + os.environ["INTEROP_AMQP"]
PATIENCE = 20


class OfTopic(SenderOption):
    def apply(self, sender):
        sender.target.capabilities.put_object(symbol("topic"))


class FromTopic(object):
    """What Proton's receivers take for options."""

    def apply(self, receiver):
        receiver.source.capabilities.put_object(symbol("topic"))

    def test(self, receiver):
        return True


class Units(MessagingHandler, TransactionHandler):
    """Sends to a queue in transactions, of which every second is aborted."""

    def __init__(self, queue, units):
        super().__init__()
        self.queue, self.left, self.sent = queue, units, 0

    def on_start(self, event):
        self.connection = event.container.connect(URL, reconnect=False)
        self.sender = event.container.create_sender(self.connection, self.queue)
        self.container = event.container
        self.container.declare_transaction(self.connection, handler=self)

    def on_transaction_declared(self, event):
        for i in range(3):
            event.transaction.send(self.sender, Message(body="%d.%d" % (self.left, i)))
        if self.left % 2 == 0:
            event.transaction.commit()
        else:
            event.transaction.abort()

    def on_transaction_committed(self, event):
        self.next()

    def on_transaction_aborted(self, event):
        self.next()

    def next(self):
        self.left -= 1
        if self.left > 0:
            self.container.declare_transaction(self.connection, handler=self)
        else:
            self.connection.close()


class Client(unittest.TestCase):
    def setUp(self):
        self.connection = BlockingConnection(URL, timeout=PATIENCE)
        self.addCleanup(self.connection.close)

    def name(self):
        return "proton-" + uuid.uuid4().hex[:8]

    def put(self, queue, *messages, options=None):
        sender = self.connection.create_sender(queue, options=options)
        for m in messages:
            sender.send(m)
        sender.close()

    def take(self, queue, n, options=None):
        receiver = self.connection.create_receiver(queue, credit=n, options=options)
        got = []
        for _ in range(n):
            got.append(receiver.receive(timeout=PATIENCE))
            receiver.accept()
        receiver.close()
        return got

    def test_put_and_take(self):
        q = self.name()
        self.put(q, *[Message(body="%d" % i) for i in range(200)])
        self.assertEqual([m.body for m in self.take(q, 200)], ["%d" % i for i in range(200)])

    def test_everything_comes_back(self):
        q = self.name()
        sent = Message(
            body={"a": 1, "b": ["x", None, True], "c": {"d": ulong(5)}}, id=uuid.uuid4(), correlation_id=ulong(7),
            subject="s", reply_to="r", group_id="g", group_sequence=3, content_encoding="gzip", user_id=b"ann",
            durable=True, priority=6, properties={"n": 5, "s": "x", "u": ulong(9), "b": b"bytes"},
            annotations={symbol("x-opt-mine"): "kept"}, creation_time=1700000000.0,
        )
        self.put(q, sent)
        got = self.take(q, 1)[0]
        for name in ("body", "id", "correlation_id", "subject", "reply_to", "group_id", "group_sequence", "content_encoding",
                     "user_id", "durable", "priority", "properties", "annotations", "creation_time"):
            self.assertEqual(getattr(got, name), getattr(sent, name), name)

    def test_bodies(self):
        q = self.name()
        bodies = ["text", b"bytes", 5, ulong(6), 1.5, True, None, ["a", 1], {"k": "v"}, uuid.uuid4(), symbol("s")]
        self.put(q, *[Message(body=b) for b in bodies])
        for want, m in zip(bodies, self.take(q, len(bodies))):
            self.assertEqual(m.body, want)
            self.assertIs(type(m.body), memoryview if isinstance(want, memoryview) else type(want))

    def test_release_and_reject(self):
        q = self.name()
        self.put(q, Message(body="x"))
        receiver = self.connection.create_receiver(q, credit=1)
        receiver.receive(timeout=PATIENCE)
        receiver.release(delivered=False)
        receiver.flow(1)
        self.assertEqual(receiver.receive(timeout=PATIENCE).delivery_count, 0)
        receiver.release(delivered=True)
        receiver.flow(1)
        self.assertEqual(receiver.receive(timeout=PATIENCE).delivery_count, 0)  # modified, but not delivery-failed
        receiver.reject()
        receiver.close()
        self.assertEqual(self.take("DLQ." + q, 1)[0].properties["JMS_POLYLOG_DLQ_ORIGIN"], q)

    def test_nothing_comes(self):
        receiver = self.connection.create_receiver(self.name(), credit=1)
        with self.assertRaises(Timeout):
            receiver.receive(timeout=0.2)

    def test_selector(self):
        q = self.name()
        self.put(q, *[Message(body=i, properties={"n": i}) for i in range(6)])
        self.assertEqual([m.body for m in self.take(q, 2, options=Selector("n > 3"))], [4, 5])

    def test_bad_selector(self):
        with self.assertRaises(LinkDetached) as refused:
            self.connection.create_receiver(self.name(), options=Selector("n >"))
        self.assertEqual(refused.exception.condition, "amqp:invalid-field")

    def test_browse(self):
        q = self.name()
        self.put(q, Message(body="a"), Message(body="b"))
        for _ in range(2):
            browser = self.connection.create_receiver(q, credit=2, options=Copy())
            self.assertEqual([browser.receive(timeout=PATIENCE).body for _ in range(2)], ["a", "b"])
            browser.close()
        self.assertEqual(len(self.take(q, 2)), 2)

    def test_topic(self):
        topic = self.name()
        one = self.connection.create_receiver(topic, credit=5, name="one", options=FromTopic())
        two = self.connection.create_receiver(topic, credit=5, name="two", options=FromTopic())
        self.put(topic, Message(body="x"), options=OfTopic())
        for receiver in (one, two):
            self.assertEqual(receiver.receive(timeout=PATIENCE).body, "x")
            receiver.accept()

    def test_dynamic(self):
        receiver = self.connection.create_receiver(None, dynamic=True, credit=1)
        address = receiver.link.remote_source.address
        self.put(address, Message(body="x"))
        self.assertEqual(receiver.receive(timeout=PATIENCE).body, "x")
        receiver.accept()
        receiver.close()
        with self.assertRaises(LinkDetached):
            self.put(address, Message(body="y"))

    def test_relay(self):
        q = self.name()
        sender = self.connection.create_sender(None)
        sender.send(Message(address=q, body="relayed"))
        self.assertEqual(self.take(q, 1)[0].body, "relayed")

    def test_transactions(self):
        q = self.name()
        Container(Units(q, 10)).run()
        want = ["%d.%d" % (unit, i) for unit in (10, 8, 6, 4, 2) for i in range(3)]
        self.assertEqual([m.body for m in self.take(q, 15)], want)
        with self.assertRaises(Timeout):
            self.connection.create_receiver(q, credit=1).receive(timeout=0.2)

    def test_large(self):
        q = self.name()
        body = os.urandom(800_000)
        self.put(q, Message(body=body))
        self.assertEqual(bytes(self.take(q, 1)[0].body), body)


if __name__ == "__main__":
    sys.exit(tap.run(Client))
