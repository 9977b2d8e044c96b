"""Tests with stomp.py, as Debian has it. Prints the Test Anything Protocol."""

import os
import queue
import sys
import unittest
import uuid

import stomp

import tap

HOST, PORT = os.environ["INTEROP_STOMP"].rsplit(":", 1)
PATIENCE = 20
CLASSES = {"1.0": stomp.StompConnection10, "1.1": stomp.StompConnection11, "1.2": stomp.StompConnection12}


class Inbox(stomp.ConnectionListener):
    def __init__(self):
        self.messages, self.receipts, self.errors = queue.Queue(), queue.Queue(), queue.Queue()

    def on_message(self, frame):
        self.messages.put(frame)

    def on_receipt(self, frame):
        self.receipts.put(frame.headers["receipt-id"])

    def on_error(self, frame):
        self.errors.put(frame)


class Stomp(unittest.TestCase):
    def setUp(self):
        self.name = "stomp-" + uuid.uuid4().hex[:12]
        self.queue, self.topic = "/queue/" + self.name, "/topic/" + self.name

    def connect(self, version="1.2", headers=None, **options):
        c = CLASSES[version]([(HOST, int(PORT))], **options)
        c.inbox = Inbox()
        c.set_listener("inbox", c.inbox)
        c.connect(wait=True, headers=headers or {})
        self.addCleanup(lambda: c.is_connected() and c.disconnect())
        return c

    def put(self, c, to, body, **headers):
        headers = {k.replace("_", "-"): v for k, v in headers.items()}
        c.send(to, body, headers={**headers, "receipt": "r"})
        self.assertEqual(c.inbox.receipts.get(timeout=PATIENCE), "r")

    def get(self, c):
        return c.inbox.messages.get(timeout=PATIENCE)

    def leave(self, c):
        c.disconnect(receipt="bye")
        while c.inbox.receipts.get(timeout=PATIENCE) != "bye":
            pass

    def test_put_and_take(self):
        for version in CLASSES:
            c, q = self.connect(version), self.queue + version
            for i in range(100):
                self.put(c, q, str(i))
            c.subscribe(q, id="1", ack="auto")
            self.assertEqual([self.get(c).body for _ in range(100)], [str(i) for i in range(100)])

    def test_ack_and_nack(self):
        c = self.connect()
        for body in ("a", "b", "c"):
            self.put(c, self.queue, body)
        c.subscribe(self.queue, id="1", ack="client-individual")
        first, second, third = [self.get(c) for _ in range(3)]
        c.nack(second.headers["ack"])
        again = self.get(c)
        self.assertEqual((again.body, again.headers["redelivered"]), ("b", "true"))
        for m in (first, third, again):
            c.ack(m.headers["ack"])
        self.leave(c)
        c = self.connect()
        self.put(c, self.queue, "last")
        c.subscribe(self.queue, id="1", ack="auto")
        self.assertEqual(self.get(c).body, "last")

    def test_acknowledges_in_1_1(self):
        c = self.connect("1.1")
        self.put(c, self.queue, "a")
        self.put(c, self.queue, "b")
        c.subscribe(self.queue, id="s", ack="client")
        self.get(c)
        c.ack(self.get(c).headers["message-id"], "s")
        self.leave(c)
        c = self.connect("1.1")
        self.put(c, self.queue, "last")
        c.subscribe(self.queue, id="s", ack="auto")
        self.assertEqual(self.get(c).body, "last")

    def test_what_was_not_acknowledged_comes_again(self):
        c = self.connect()
        self.put(c, self.queue, "a")
        c.subscribe(self.queue, id="1", ack="client")
        self.get(c)
        self.leave(c)
        c = self.connect()
        c.subscribe(self.queue, id="1", ack="auto")
        self.assertEqual(self.get(c).body, "a")

    def test_transactions(self):
        c = self.connect()
        undone, done = c.begin(), c.begin()
        c.send(self.queue, "undone", transaction=undone)
        c.send(self.queue, "done", transaction=done)
        c.abort(undone)
        c.commit(done)
        c.subscribe(self.queue, id="1", ack="client-individual")
        m = self.get(c)
        self.assertEqual(m.body, "done")
        aborted = c.begin()
        c.ack(m.headers["ack"], transaction=aborted)
        c.abort(aborted)
        again = self.get(c)
        self.assertEqual((again.body, again.headers["redelivered"]), ("done", "true"))

    def test_durable_subscription(self):
        who = {"client-id": self.name}
        name = {"durable-subscription-name": "d"}
        c = self.connect(headers=who)
        c.subscribe(self.topic, id="1", ack="auto", headers={**name, "receipt": "s"})
        self.assertEqual(c.inbox.receipts.get(timeout=PATIENCE), "s")
        self.leave(c)
        self.put(self.connect(), self.topic, "meanwhile")
        c = self.connect(headers=who)
        c.subscribe(self.topic, id="1", ack="auto", headers=name)
        self.assertEqual(self.get(c).body, "meanwhile")
        c.unsubscribe("1", headers={**name, "receipt": "u"})
        self.assertEqual(c.inbox.receipts.get(timeout=PATIENCE), "u")

    def test_client_id_is_exclusive(self):
        self.connect(headers={"client-id": self.name})
        with self.assertRaises(stomp.exception.ConnectFailedException):
            self.connect(headers={"client-id": self.name})

    def test_headers(self):
        c = self.connect()
        odd = "a:b\nc\\d\re"
        self.put(c, self.queue, "x", odd=odd, correlation_id="k", priority="8", type="t")
        c.subscribe(self.queue, id="1", ack="auto", headers={"selector": "JMSPriority > 7 AND JMSType = 't'"})
        m = self.get(c)
        self.assertEqual((m.headers["odd"], m.headers["correlation-id"], m.headers["priority"], m.headers["type"]), (odd, "k", "8", "t"))

    def test_browser(self):
        c = self.connect()
        for i in range(5):
            self.put(c, self.queue, str(i))
        c.subscribe(self.queue, id="1", ack="auto", headers={"browser": "true"})
        self.assertEqual([self.get(c).body for _ in range(5)], ["0", "1", "2", "3", "4"])
        self.assertEqual(self.get(c).headers["browser"], "end")

    def test_errors_end_the_connection(self):
        c = self.connect()
        c.send("nowhere", "x", headers={"receipt": "r"})
        e = c.inbox.errors.get(timeout=PATIENCE)
        self.assertEqual(e.headers["receipt-id"], "r")
        self.assertIn("/queue/NAME", e.headers["message"])

    def test_heart_beats(self):
        c = self.connect(heartbeats=(1000, 1000))
        c.subscribe(self.queue, id="1", ack="auto")
        with self.assertRaises(queue.Empty):
            c.inbox.errors.get(timeout=4)
        self.put(c, self.queue, "still here")
        self.assertEqual(self.get(c).body, "still here")


sys.exit(tap.run(Stomp))
