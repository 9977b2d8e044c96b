// Tests with @platformatic/kafka.
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { after, test } from 'node:test'
import zlib from 'node:zlib'
import { Admin, Consumer, GroupProtocols, Producer, stringDeserializers, stringSerializers } from '@platformatic/kafka'

const patience = 20_000
const base = { clientId: 'interop', bootstrapBrokers: [process.env.INTEROP_BOOTSTRAP], timeout: patience }
const admin = new Admin(base)
const name = () => 'platformatic-' + randomUUID().slice(0, 8)
const numbered = n => Array.from({ length: n }, (_, i) => `value-${i}`)

after(() => admin.close())

async function until (what, condition) {
  for (const end = Date.now() + patience; !await condition();) {
    if (Date.now() > end) assert.fail(`not after ${patience} ms: ${what}`)
    await new Promise(resolve => setTimeout(resolve, 50))
  }
}

const listGroups = () => admin.listGroups({ types: ['classic', 'consumer'] })

async function topic (partitions = 1, configs = []) {
  const topic = name()
  await admin.createTopics({ topics: [topic], partitions, replicas: 1, configs })
  return topic
}

async function producing (options, use) {
  const producer = new Producer({ ...base, serializers: stringSerializers, ...options })
  try {
    return await use(producer)
  } finally {
    await producer.close(true)
  }
}

const send = (topic, values, options = {}) =>
  producing({}, p => p.send({ messages: values.map(value => ({ topic, value, partition: 0 })), acks: -1, ...options }))

const consumer = (options = {}) =>
  new Consumer({ ...base, groupId: name(), deserializers: stringDeserializers, maxWaitTime: 200, ...options })

// consume gives the first n messages.
async function consume (topics, n, { stream = {}, ...options } = {}) {
  const c = consumer(options)
  const got = []
  let timer
  try {
    const s = await c.consume({ topics: [topics].flat(), mode: 'earliest', autocommit: false, ...stream })
    timer = setTimeout(() => s.destroy(new Error(`${got.length} of ${n} messages after ${patience} ms`)), patience)
    for await (const m of s) {
      got.push(m)
      if (got.length === n) break
    }
    return got
  } finally {
    clearTimeout(timer)
    await c.close(true)
  }
}

const texts = messages => messages.map(m => m.value)

test('produce and consume', async () => {
  const t = await topic()
  const { offsets } = await send(t, numbered(5000), { acks: -1 })
  assert.equal(offsets[0].offset, 0n)
  assert.deepEqual(texts(await consume(t, 5000)), numbered(5000))
})

for (const compression of ['gzip', 'snappy', 'lz4', 'zstd']) {
  const skip = compression === 'zstd' && !zlib.zstdCompressSync && 'this Node.js has no zstd'
  test(compression, { skip }, async () => {
    const t = await topic()
    await send(t, numbered(1000), { compression, acks: -1 })
    assert.deepEqual(texts(await consume(t, 1000)), numbered(1000))
  })
}

for (const acks of [0, 1, -1]) {
  test(`acks ${acks}`, async () => {
    const t = await topic()
    await send(t, ['one', 'two'], { acks })
    assert.deepEqual(texts(await consume(t, 2)), ['one', 'two'])
  })
}

test('key, headers, timestamp', async () => {
  const t = await topic()
  await producing({}, p => p.send({
    acks: -1,
    messages: [{ topic: t, key: 'k', value: 'v', headers: { colour: 'grün', empty: '' }, timestamp: 1700000000000n }]
  }))
  const [m] = await consume(t, 1)
  assert.deepEqual([m.key, m.value, m.timestamp, m.headers.get('colour'), m.offset], ['k', 'v', 1700000000000n, 'grün', 0n])
})

test('idempotent producer', async () => {
  const t = await topic()
  await producing({ idempotent: true }, async p => {
    for (const value of numbered(50)) await p.send({ messages: [{ topic: t, value }] })
  })
  assert.deepEqual(texts(await consume(t, 50)), numbered(50))
})

test('transactions: commit and abort', async () => {
  const t = await topic()
  await producing({ idempotent: true, transactionalId: name() }, async p => {
    for (const [value, commit] of [['a', true], ['b', false], ['c', true]]) {
      const transaction = await p.beginTransaction()
      await transaction.send({ messages: [{ topic: t, value }] })
      await (commit ? transaction.commit() : transaction.abort())
    }
  })
  assert.deepEqual(texts(await consume(t, 2, { stream: { isolationLevel: 1 } })), ['a', 'c'])
  assert.deepEqual(texts(await consume(t, 3, { stream: { isolationLevel: 0 } })), ['a', 'b', 'c'])
})

test('transactions: offsets', async () => {
  const t = await topic()
  const groupId = name()
  await send(t, numbered(10))
  const c = consumer({ groupId })
  try {
    const s = await c.consume({ topics: [t], mode: 'earliest', autocommit: false })
    await producing({ idempotent: true, transactionalId: name() }, async p => {
      const transaction = await p.beginTransaction()
      await transaction.addConsumer(c)
      for await (const m of s) {
        if (m.offset < 6n) continue
        await transaction.addOffset(m)
        break
      }
      await transaction.commit()
    })
  } finally {
    await c.close(true)
  }
  assert.deepEqual(texts(await consume(t, 3, { groupId, stream: { mode: 'committed' } })), numbered(10).slice(7))
})

for (const [protocol, groupProtocol] of Object.entries(GroupProtocols)) {
  test(`a ${protocol.toLowerCase()} group resumes`, async () => {
    const t = await topic()
    const groupId = name()
    await send(t, numbered(20))
    const c = consumer({ groupId, groupProtocol })
    try {
      const s = await c.consume({ topics: [t], mode: 'committed', fallbackMode: 'earliest', autocommit: false })
      for await (const m of s) {
        if (m.offset < 11n) continue
        await m.commit()
        break
      }
    } finally {
      await c.close(true)
    }
    const rest = await consume(t, 8, { groupId, groupProtocol, stream: { mode: 'committed' } })
    assert.deepEqual(texts(rest), numbered(20).slice(12))
  })

  test(`a ${protocol.toLowerCase()} group shares partitions`, async () => {
    const t = await topic(4)
    const groupId = name()
    const members = [0, 1].map(() => consumer({ groupId, groupProtocol, heartbeatInterval: 500 }))
    const held = m => (m.assignments ?? []).find(a => a.topic === t)?.partitions ?? []
    try {
      for (const m of members) await m.consume({ topics: [t], mode: 'earliest', autocommit: false })
      await until('two partitions for each', () => members.every(m => held(m).length === 2))
      assert.deepEqual(members.flatMap(held).sort(), [0, 1, 2, 3])
    } finally {
      for (const m of members) await m.close(true)
    }
    assert((await listGroups()).has(groupId))
    await admin.deleteGroups({ groups: [groupId] })
    assert(!(await listGroups()).has(groupId))
  })
}

test('offsets by time', async () => {
  const t = await topic()
  await producing({}, p => p.send({
    acks: -1,
    messages: numbered(10).map((value, i) => ({ topic: t, value, timestamp: 1700000000000n + BigInt(i) * 1000n }))
  }))
  const at = async timestamp => {
    const [{ partitions: [p] }] = await admin.listOffsets({ topics: [{ name: t, partitions: [{ partitionIndex: 0, timestamp }] }] })
    return [p.offset, p.timestamp]
  }
  assert.deepEqual(await at(1700000000000n), [0n, 1700000000000n])
  assert.deepEqual(await at(1700000004001n), [5n, 1700000005000n])
  assert.deepEqual(await at(1700000009001n), [-1n, -1n])
  assert.equal((await at(-1n))[0], 10n)
  assert.equal((await at(-2n))[0], 0n)
  assert.deepEqual(await at(-3n), [9n, 1700000009000n]) // the offset of the latest time, KIP-734
})

test('offsets of a group', async () => {
  const t = await topic()
  const groupId = name()
  await admin.alterConsumerGroupOffsets({ groupId, topics: [{ name: t, partitionOffsets: [{ partition: 0, offset: 8n }] }] })
  const committed = async () => {
    const [g] = await admin.listConsumerGroupOffsets({ groups: [{ groupId, topics: [{ name: t, partitionIndexes: [0] }] }] })
    return g.topics[0].partitions[0].committedOffset
  }
  assert.equal(await committed(), 8n)
  await admin.deleteConsumerGroupOffsets({ groupId, topics: [{ name: t, partitionIndexes: [0] }] })
  assert.equal(await committed(), -1n)
})

test('lag', async () => {
  const t = await topic()
  const groupId = name()
  await send(t, numbered(10))
  await admin.alterConsumerGroupOffsets({ groupId, topics: [{ name: t, partitionOffsets: [{ partition: 0, offset: 8n }] }] })
  const c = consumer({ groupId })
  try {
    c.topics.track(t)
    await c.joinGroup()
    assert.deepEqual((await c.listCommittedOffsets({ topics: [{ topic: t, partitions: [0] }] })).get(t), [8n])
    assert.deepEqual((await c.listOffsets({ topics: [t] })).get(t), [10n])
  } finally {
    await c.close(true)
  }
})

test('delete records', async () => {
  const t = await topic()
  await send(t, numbered(10))
  const [{ partitions: [p] }] = await admin.deleteRecords({ topics: [{ name: t, partitions: [{ partition: 0, offset: 4n }] }] })
  assert.equal(p.lowWatermark, 4n)
  assert.deepEqual(texts(await consume(t, 6)), numbered(10).slice(4))
})

test('admin: topics', async () => {
  const [made] = await admin.createTopics({ topics: [name()], partitions: 2, replicas: 1 })
  assert.equal(made.partitions, 2)
  await until('the topic is listed', async () => (await admin.listTopics()).includes(made.name))
  await assert.rejects(admin.createTopics({ topics: [made.name], partitions: 1, replicas: 1 }))
  await assert.rejects(admin.createTopics({ topics: ['not/legal'], partitions: 1, replicas: 1 }))
  await admin.createPartitions({ topics: [{ name: made.name, count: 5, assignments: null }] })
  await until('it has five partitions', async () => {
    const m = await admin.metadata({ topics: [made.name], forceUpdate: true })
    return m.topics.get(made.name).partitionsCount === 5
  })
  await admin.deleteTopics({ topics: [made.name] })
  await until('the topic is gone', async () => !(await admin.listTopics()).includes(made.name))
})

test('admin: configs', async () => {
  const t = await topic(1, [{ name: 'retention.ms', value: '3600000' }])
  const setting = async () => {
    const [r] = await admin.describeConfigs({ resources: [{ resourceType: 2, resourceName: t, configurationKeys: ['retention.ms'] }] })
    return r.configs[0].value
  }
  assert.equal(await setting(), '3600000')
  await admin.incrementalAlterConfigs({ resources: [{ resourceType: 2, resourceName: t, configs: [{ name: 'retention.ms', configOperation: 0, value: '7200000' }] }] })
  assert.equal(await setting(), '7200000')
})

test('admin: log directories', async () => {
  const t = await topic()
  await send(t, numbered(10))
  const [broker] = await admin.describeLogDirs({ topics: [{ name: t, partitions: [0] }] })
  const logs = broker.results.flatMap(r => r.topics).filter(r => r.name === t).flatMap(r => r.partitions)
  assert.equal(logs.length, 1)
  assert(logs[0].partitionSize > 0n)
})

test('auto-create', async () => {
  const t = name()
  await producing({ autocreateTopics: true }, p => p.send({ acks: -1, messages: [{ topic: t, value: 'hello' }] }))
  assert.deepEqual(texts(await consume(t, 1)), ['hello'])
})
