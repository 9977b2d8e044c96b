"""Tests with python-memcached, as Debian has it: a queue is a key. Prints the Test
Anything Protocol.
"""

import os
import sys
import unittest
import uuid

import memcache

import tap

ADDRESS = os.environ["INTEROP_MEMCACHE"]


class Memcache(unittest.TestCase):
    def setUp(self):
        self.queue = "memcache-" + uuid.uuid4().hex[:12]
        self.client = memcache.Client([ADDRESS], socket_timeout=20)
        self.addCleanup(self.client.disconnect_all)

    def test_put_and_take(self):
        for i in range(100):
            self.assertTrue(self.client.set(self.queue, "message %d" % i))
        self.assertEqual([self.client.get(self.queue) for _ in range(101)], ["message %d" % i for i in range(100)] + [None])

    def test_values_of_python(self):
        for value in (5, {"a": [1, 2]}, b"\x00\r\n\xff", "größer", True):
            self.assertTrue(self.client.set(self.queue, value))
            self.assertEqual(self.client.get(self.queue), value)

    def test_two_clients_share(self):
        other = memcache.Client([ADDRESS], socket_timeout=20)
        self.addCleanup(other.disconnect_all)
        for i in range(10):
            self.client.set(self.queue, i)
        taken = [c.get(self.queue) for _ in range(5) for c in (self.client, other)]
        self.assertEqual(sorted(taken), list(range(10)))
        self.assertIsNone(other.get(self.queue))

    def test_get_multi(self):
        a, b = self.queue + "a", self.queue + "b"
        self.client.set_multi({a: 1, b: 2})
        self.assertEqual(self.client.get_multi([a, b, self.queue]), {a: 1, b: 2})

    def test_delete(self):
        self.client.set(self.queue, "x")
        self.assertTrue(self.client.delete(self.queue))
        self.assertIsNone(self.client.get(self.queue))

    def test_large(self):
        body = os.urandom(1_000_000)
        self.assertTrue(self.client.set(self.queue, body))
        self.assertEqual(self.client.get(self.queue), body)

    def test_what_no_queue_can_do(self):
        self.assertFalse(self.client.add(self.queue, "x"))
        self.assertFalse(self.client.append(self.queue, "x"))
        self.assertIsNone(self.client.get(self.queue))

    def test_stats(self):
        ((_, stats),) = self.client.get_stats()
        self.assertIn("version", stats)


sys.exit(tap.run(Memcache))
