"""Tests with python3-kafka, as Debian has it: kafka-python 2.0.2, the pure
Python client. Prints the Test Anything Protocol.
"""

import os
import sys
import threading
import time
import unittest
import uuid

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, NewPartitions, NewTopic
from kafka.errors import (
    GroupIdNotFoundError,
    InvalidTopicError,
    MessageSizeTooLargeError,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
)
from kafka.codec import has_lz4, has_snappy, has_zstd
from kafka.structs import OffsetAndMetadata

import tap

BOOTSTRAP = os.environ["INTEROP_BOOTSTRAP"]
PATIENCE = 20


def consumer(*topics, **options):
    settings = dict(
        bootstrap_servers=BOOTSTRAP,
        auto_offset_reset="earliest",
        consumer_timeout_ms=PATIENCE * 1000,
    )
    settings.update(options)
    return KafkaConsumer(*topics, **settings)


def take(c, n):
    """The next n records."""
    records = []
    for record in c:
        records.append(record)
        if len(records) == n:
            break
    return records


class Client(unittest.TestCase):
    def setUp(self):
        self.admin = KafkaAdminClient(bootstrap_servers=BOOTSTRAP)
        self.addCleanup(self.admin.close)

    def name(self):
        return "python-" + uuid.uuid4().hex[:12]

    def topic(self, partitions=1, **settings):
        name = self.name()
        configs = {k.replace("_", "."): v for k, v in settings.items()}
        self.admin.create_topics([NewTopic(name, partitions, 1, topic_configs=configs)])
        return name

    def producer(self, **options):
        p = KafkaProducer(bootstrap_servers=BOOTSTRAP, max_block_ms=PATIENCE * 1000, **options)
        self.addCleanup(p.close)
        return p

    def consumer(self, *topics, **options):
        c = consumer(*topics, **options)
        self.addCleanup(c.close)
        return c

    def fill(self, topic, values, partition=0, **options):
        p = self.producer(**options)
        sent = [p.send(topic, v, partition=partition) for v in values]
        p.flush(PATIENCE)
        return [s.get(PATIENCE).offset for s in sent]

    def test_produce_and_consume(self):
        topic = self.topic()
        values = [b"value-%06d" % i for i in range(5000)]
        self.assertEqual(self.fill(topic, values), list(range(5000)))
        self.assertEqual([r.value for r in take(self.consumer(topic), 5000)], values)

    def codec(self, codec):
        topic = self.topic()
        values = [b"value-%06d" % i for i in range(1000)]
        self.fill(topic, values, compression_type=codec, linger_ms=50)
        self.assertEqual([r.value for r in take(self.consumer(topic), 1000)], values)

    def test_gzip(self):
        self.codec("gzip")

    @unittest.skipUnless(has_snappy(), "python3-snappy is not installed")
    def test_snappy(self):
        self.codec("snappy")

    @unittest.skipUnless(has_lz4(), "python3-lz4 is not installed")
    def test_lz4(self):
        self.codec("lz4")

    @unittest.skipUnless(has_zstd(), "python3-zstandard is not installed")
    def test_zstd(self):
        self.codec("zstd")

    def acks(self, acks):
        topic = self.topic()
        p = self.producer(acks=acks)
        for value in (b"one", b"two"):
            p.send(topic, value)
        p.flush(PATIENCE)
        self.assertEqual([r.value for r in take(self.consumer(topic), 2)], [b"one", b"two"])

    def test_acks_0(self):
        self.acks(0)

    def test_acks_1(self):
        self.acks(1)

    def test_acks_all(self):
        self.acks("all")

    def test_key_headers_timestamp(self):
        topic = self.topic()
        now = int(time.time() * 1000)
        p = self.producer()
        p.send(topic, b"v", key=b"k", headers=[("colour", "grün".encode()), ("empty", b"")], timestamp_ms=now)
        p.send(topic, None, key=b"k")  # a tombstone
        p.flush(PATIENCE)
        first, second = take(self.consumer(topic), 2)
        self.assertEqual((first.key, first.value, first.timestamp, first.timestamp_type), (b"k", b"v", now, 0))
        self.assertEqual(list(first.headers), [("colour", "grün".encode()), ("empty", b"")])
        self.assertIsNone(second.value)

    def old_protocol(self, version):
        """An old client, which does not ask for the versions."""
        topic = self.topic()
        self.fill(topic, [b"one", b"two"], api_version=version)
        c = self.consumer(topic, api_version=version)
        self.assertEqual([r.value for r in take(c, 2)], [b"one", b"two"])

    def test_protocol_of_0_11(self):
        self.old_protocol((0, 11, 0))

    def test_protocol_of_1_0(self):
        self.old_protocol((1, 0, 0))

    def test_protocol_of_2_5(self):
        self.old_protocol((2, 5, 0))

    def test_seek(self):
        topic = self.topic()
        self.fill(topic, [b"%d" % i for i in range(100)])
        c = self.consumer()
        tp = TopicPartition(topic, 0)
        c.assign([tp])
        for offset in (0, 42, 99, 7):
            c.seek(tp, offset)
            record = take(c, 1)[0]
            self.assertEqual((record.offset, record.value), (offset, b"%d" % offset))
        self.assertEqual(c.beginning_offsets([tp]), {tp: 0})
        self.assertEqual(c.end_offsets([tp]), {tp: 100})

    def test_offsets_for_times(self):
        topic = self.topic()
        p = self.producer()
        for i in range(10):
            p.send(topic, b"%d" % i, timestamp_ms=1_700_000_000_000 + i * 1000)
        p.flush(PATIENCE)
        c = self.consumer()
        tp = TopicPartition(topic, 0)
        for asked, offset, found in ((0, 0, 0), (4000, 4, 4000), (4001, 5, 5000), (9000, 9, 9000)):
            got = c.offsets_for_times({tp: 1_700_000_000_000 + asked})[tp]
            self.assertEqual((got.offset, got.timestamp), (offset, 1_700_000_000_000 + found))
        self.assertIsNone(c.offsets_for_times({tp: 1_700_000_009_001})[tp])

    def test_group_resumes(self):
        topic, group = self.topic(2), self.name()
        for partition in (0, 1):
            self.fill(topic, [b"%d-%d" % (partition, i) for i in range(50)], partition)
        c = self.consumer(topic, group_id=group, enable_auto_commit=False)
        first = take(c, 60)
        seen = {}
        for r in first:
            seen[TopicPartition(topic, r.partition)] = OffsetAndMetadata(r.offset + 1, "note")
        c.commit(seen)
        for tp, committed in seen.items():
            self.assertEqual(c.committed(tp), committed.offset)
        c.close()
        c = self.consumer(topic, group_id=group, enable_auto_commit=False)
        rest = take(c, 40)
        both = sorted(r.value for r in first + rest)
        self.assertEqual(both, sorted(b"%d-%d" % (p, i) for p in (0, 1) for i in range(50)))

    def test_group_shares_partitions(self):
        topic, group = self.topic(4), self.name()
        mine = [None, None]
        stop = threading.Event()

        def member(i):
            c = consumer(topic, group_id=group, client_id="member-%d" % i)
            while not stop.is_set():
                c.poll(200)
                mine[i] = {tp.partition for tp in c.assignment()}
            c.close()

        threads = [threading.Thread(target=member, args=(i,)) for i in (0, 1)]
        for t in threads:
            t.start()
        try:
            for _ in range(PATIENCE * 10):
                if mine[0] and mine[1] and len(mine[0]) == 2 and mine[0] | mine[1] == {0, 1, 2, 3}:
                    break
                time.sleep(0.1)
            else:
                self.fail("assigned %r" % mine)
            described = self.admin.describe_consumer_groups([group])[0]
            self.assertEqual((described.state, described.protocol_type, len(described.members)), ("Stable", "consumer", 2))
        finally:
            stop.set()
            for t in threads:
                t.join()
        self.assertIn((group, "consumer"), self.admin.list_consumer_groups())
        self.assertEqual(self.admin.delete_consumer_groups([group])[0][1].errno, 0)
        self.assertEqual(self.admin.delete_consumer_groups([group])[0][1], GroupIdNotFoundError)

    def test_lag_of_a_group(self):
        topic, group = self.topic(), self.name()
        self.fill(topic, [b"x"] * 10)
        c = self.consumer(topic, group_id=group)
        take(c, 10)
        c.commit()
        tp = TopicPartition(topic, 0)
        self.assertEqual(self.admin.list_consumer_group_offsets(group)[tp].offset, 10)
        self.assertEqual(c.end_offsets([tp])[tp], 10)

    def test_pattern(self):
        prefix = self.name()
        names = [prefix + "-a", prefix + "-b"]
        self.admin.create_topics([NewTopic(n, 1, 1) for n in names])
        for n in names:
            self.fill(n, [n.encode()])
        c = self.consumer(group_id=prefix)
        c.subscribe(pattern="^%s-.*" % prefix)
        self.assertEqual(sorted(r.value.decode() for r in take(c, 2)), names)

    def test_admin_topics(self):
        topic = self.topic(2)
        self.assertIn(topic, self.admin.list_topics())
        with self.assertRaises(TopicAlreadyExistsError):
            self.admin.create_topics([NewTopic(topic, 1, 1)])
        with self.assertRaises(InvalidTopicError):
            self.admin.create_topics([NewTopic("not/legal", 1, 1)])
        self.admin.create_partitions({topic: NewPartitions(5)})
        described = self.admin.describe_topics([topic])[0]
        self.assertEqual(len(described["partitions"]), 5)
        self.admin.delete_topics([topic])
        with self.assertRaises(UnknownTopicOrPartitionError):
            self.admin.delete_topics([topic])

    def test_admin_configs(self):
        topic = self.topic(retention_ms="3600000")
        resource = ConfigResource(ConfigResourceType.TOPIC, topic)

        def setting(name):
            answer = self.admin.describe_configs([resource])[0].resources[0]
            return {c[0]: c[1] for c in answer[4]}[name]

        self.assertEqual(setting("retention.ms"), "3600000")
        self.admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs={"retention.ms": "7200000"})])
        self.assertEqual(setting("retention.ms"), "7200000")

    def test_cluster(self):
        cluster = self.admin.describe_cluster()
        self.assertEqual(len(cluster["brokers"]), 1)
        self.assertEqual(cluster["controller_id"], cluster["brokers"][0]["node_id"])

    def test_too_large(self):
        topic = self.topic(max_message_bytes="10000")
        with self.assertRaises(MessageSizeTooLargeError):
            self.producer().send(topic, b"x" * 20000).get(PATIENCE)

    def test_auto_create(self):
        topic = self.name()
        self.assertEqual(self.fill(topic, [b"hello"]), [0])


if __name__ == "__main__":
    sys.exit(tap.run(Client))
