// Tests with kafkajs.
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { after, before, test } from 'node:test'
import kafkajs from 'kafkajs'

const { CompressionTypes, ConfigResourceTypes, Kafka, logLevel } = kafkajs
const patience = 20_000
const kafka = new Kafka({ clientId: 'interop', brokers: [process.env.INTEROP_BOOTSTRAP], logLevel: logLevel.NOTHING })
const admin = kafka.admin()
const name = () => 'kafkajs-' + randomUUID().slice(0, 8)
const numbered = n => Array.from({ length: n }, (_, i) => `value-${i}`)

before(() => admin.connect())
after(() => admin.disconnect())

async function topic (numPartitions = 1, settings = {}) {
  const topic = name()
  const configEntries = Object.entries(settings).map(([name, value]) => ({ name, value }))
  await admin.createTopics({ waitForLeaders: true, topics: [{ topic, numPartitions, replicationFactor: 1, configEntries }] })
  return topic
}

async function producing (options, use) {
  const producer = kafka.producer(options)
  await producer.connect()
  try {
    return await use(producer)
  } finally {
    await producer.disconnect()
  }
}

const send = (topic, values, options = {}) =>
  producing({}, p => p.send({ topic, messages: values.map(value => ({ value })), ...options }))

function until (what, condition) {
  return new Promise((resolve, reject) => {
    const end = Date.now() + patience
    const look = () => condition() ? resolve() : Date.now() > end ? reject(new Error(`not after ${patience} ms: ${what}`)) : setTimeout(look, 50)
    look()
  })
}

// consume runs a group until it has n messages.
async function consume (topics, n, options = {}, run = {}) {
  const consumer = kafka.consumer({ groupId: name(), maxWaitTimeInMs: 200, ...options })
  const got = []
  await consumer.connect()
  try {
    await consumer.subscribe({ topics: [topics].flat(), fromBeginning: true })
    await consumer.run({ eachMessage: async m => { got.push(m) }, ...run })
    await until(`${n} messages`, () => got.length >= n)
    return got
  } finally {
    await consumer.disconnect()
  }
}

const texts = messages => messages.map(m => m.message.value.toString())

test('produce and consume', async () => {
  const t = await topic()
  const values = numbered(5000)
  const answer = await send(t, values)
  assert.equal(answer[0].baseOffset, '0')
  assert.deepEqual(texts(await consume(t, 5000)), values)
})

test('gzip', async () => {
  const t = await topic()
  await send(t, numbered(1000), { compression: CompressionTypes.GZIP })
  assert.deepEqual(texts(await consume(t, 1000)), numbered(1000))
})

for (const acks of [0, 1, -1]) {
  test(`acks ${acks}`, async () => {
    const t = await topic()
    await send(t, ['one', 'two'], { acks })
    assert.deepEqual(texts(await consume(t, 2)), ['one', 'two'])
  })
}

test('key, headers, timestamp, tombstone', async () => {
  const t = await topic()
  await producing({}, p => p.send({
    topic: t,
    messages: [
      { key: 'k', value: 'v', headers: { colour: 'grün', twice: ['1', '2'] }, timestamp: '1700000000000' },
      { key: 'k', value: null }
    ]
  }))
  const [first, second] = (await consume(t, 2)).map(m => m.message)
  assert.equal(first.key.toString(), 'k')
  assert.equal(first.value.toString(), 'v')
  assert.equal(first.timestamp, '1700000000000')
  assert.equal(first.headers.colour.toString(), 'grün')
  assert.deepEqual(first.headers.twice.map(String), ['1', '2'])
  assert.equal(second.value, null)
})

test('idempotent producer', async () => {
  const t = await topic()
  await producing({ idempotent: true, maxInFlightRequests: 1 }, async p => {
    for (const value of numbered(50)) await p.send({ topic: t, messages: [{ value }] })
  })
  assert.deepEqual(texts(await consume(t, 50)), numbered(50))
})

test('transactions: commit and abort', async () => {
  const t = await topic()
  await producing({ idempotent: true, maxInFlightRequests: 1, transactionalId: name() }, async p => {
    for (const [value, commit] of [['a', true], ['b', false], ['c', true]]) {
      const transaction = await p.transaction()
      await transaction.send({ topic: t, messages: [{ value }] })
      await (commit ? transaction.commit() : transaction.abort())
    }
  })
  assert.deepEqual(texts(await consume(t, 2)), ['a', 'c'])
  assert.deepEqual(texts(await consume(t, 3, { readUncommitted: true })), ['a', 'b', 'c'])
})

test('transactions: offsets', async () => {
  const t = await topic()
  const groupId = name()
  await send(t, numbered(10))
  await producing({ idempotent: true, maxInFlightRequests: 1, transactionalId: name() }, async p => {
    const transaction = await p.transaction()
    await transaction.sendOffsets({ consumerGroupId: groupId, topics: [{ topic: t, partitions: [{ partition: 0, offset: '7' }] }] })
    await transaction.commit()
  })
  // The transaction's end is confirmed before it has reached the group.
  for (const end = Date.now() + patience; ;) {
    const [fetched] = await admin.fetchOffsets({ groupId, topics: [t] })
    if (fetched.partitions[0].offset === '7') break
    assert(Date.now() < end, `offset ${fetched.partitions[0].offset}`)
  }
  assert.deepEqual(texts(await consume(t, 3, { groupId })), numbered(10).slice(7))
})

test('a fenced producer', async () => {
  const t = await topic()
  const options = { idempotent: true, maxInFlightRequests: 1, transactionalId: name(), retry: { retries: 1 } }
  await producing(options, async old => {
    const transaction = await old.transaction()
    await transaction.send({ topic: t, messages: [{ value: 'old' }] })
    await producing(options, async p => {
      const transaction = await p.transaction()
      await transaction.send({ topic: t, messages: [{ value: 'new' }] })
      await transaction.commit()
    })
    await assert.rejects(transaction.commit())
  })
  assert.deepEqual(texts(await consume(t, 1)), ['new'])
})

test('a group resumes', async () => {
  const t = await topic(2)
  const groupId = name()
  const messages = numbered(100).map((value, i) => ({ value, partition: i % 2 }))
  await producing({}, p => p.send({ topic: t, messages: messages.slice(0, 60) }))
  const first = texts(await consume(t, 60, { groupId }))
  await producing({}, p => p.send({ topic: t, messages: messages.slice(60) }))
  const second = texts(await consume(t, 40, { groupId }))
  assert.deepEqual([...first, ...second].sort(), numbered(100).sort())
})

test('a group shares partitions', async () => {
  const t = await topic(4)
  const groupId = name()
  const members = [0, 1].map(() => kafka.consumer({ groupId, maxWaitTimeInMs: 200 }))
  const assigned = [[], []]
  members.forEach((m, i) => m.on(m.events.GROUP_JOIN, e => { assigned[i] = e.payload.memberAssignment[t] ?? [] }))
  try {
    for (const m of members) {
      await m.connect()
      await m.subscribe({ topics: [t] })
      await m.run({ eachMessage: async () => {} })
    }
    await until('two partitions for each', () => assigned[0].length === 2 && assigned[1].length === 2)
    assert.deepEqual(assigned.flat().sort(), [0, 1, 2, 3])
    const { groups: [g] } = await admin.describeGroups([groupId])
    assert.equal(g.state, 'Stable')
    assert.equal(g.members.length, 2)
  } finally {
    await Promise.all(members.map(m => m.disconnect()))
  }
  assert((await admin.listGroups()).groups.some(g => g.groupId === groupId))
  await admin.deleteGroups([groupId])
  assert(!(await admin.listGroups()).groups.some(g => g.groupId === groupId))
})

test('seek', async () => {
  const t = await topic()
  await send(t, numbered(100))
  const consumer = kafka.consumer({ groupId: name(), maxWaitTimeInMs: 200 })
  const got = []
  await consumer.connect()
  try {
    await consumer.subscribe({ topics: [t], fromBeginning: true })
    await consumer.run({ eachMessage: async ({ message }) => { got.push(message.offset) } })
    await until('all', () => got.length >= 100)
    consumer.seek({ topic: t, partition: 0, offset: '42' })
    await until('all from 42', () => got.length >= 158)
    assert.equal(got[100], '42')
  } finally {
    await consumer.disconnect()
  }
})

test('offsets by time', async () => {
  const t = await topic()
  const messages = numbered(10).map((value, i) => ({ value, timestamp: String(1700000000000 + i * 1000) }))
  await producing({}, p => p.send({ topic: t, messages }))
  const at = async ms => (await admin.fetchTopicOffsetsByTimestamp(t, ms))[0].offset
  assert.equal(await at(1700000000000), '0')
  assert.equal(await at(1700000004001), '5')
  assert.equal(await at(1700000009000), '9')
  assert.equal(await at(1700000009001), '10') // kafkajs asks for the end when there is none
  const [offsets] = await admin.fetchTopicOffsets(t)
  assert.deepEqual({ low: offsets.low, high: offsets.high }, { low: '0', high: '10' })
})

test('offsets of an unknown group', async () => {
  const t = await topic()
  const [fetched] = await admin.fetchOffsets({ groupId: name(), topics: [t] })
  assert.equal(fetched.partitions[0].offset, '-1')
})

test('set and reset offsets', async () => {
  const t = await topic()
  const groupId = name()
  await send(t, numbered(10))
  await admin.setOffsets({ groupId, topic: t, partitions: [{ partition: 0, offset: '8' }] })
  assert.deepEqual(texts(await consume(t, 2, { groupId })), numbered(10).slice(8))
  await admin.resetOffsets({ groupId, topic: t, earliest: true })
  assert.equal((await consume(t, 10, { groupId })).length, 10)
})

test('delete records', async () => {
  const t = await topic()
  await send(t, numbered(10))
  await admin.fetchTopicOffsets(t) // kafkajs looks for leaders among topics that it has met
  await admin.deleteTopicRecords({ topic: t, partitions: [{ partition: 0, offset: '4' }] })
  assert.equal((await admin.fetchTopicOffsets(t))[0].low, '4')
  assert.deepEqual(texts(await consume(t, 6)), numbered(10).slice(4))
})

test('admin: topics', async () => {
  const t = await topic(2)
  assert((await admin.listTopics()).includes(t))
  assert.equal(await admin.createTopics({ topics: [{ topic: t }] }), false) // it exists
  await assert.rejects(admin.createTopics({ topics: [{ topic: 'not/legal' }] }))
  await admin.createPartitions({ topicPartitions: [{ topic: t, count: 5 }] })
  const { topics: [m] } = await admin.fetchTopicMetadata({ topics: [t] })
  assert.equal(m.partitions.length, 5)
  await admin.deleteTopics({ topics: [t] })
  assert(!(await admin.listTopics()).includes(t))
})

test('admin: configs', async () => {
  const t = await topic(1, { 'retention.ms': '3600000' })
  const setting = async () => {
    const { resources: [r] } = await admin.describeConfigs({ includeSynonyms: false, resources: [{ type: ConfigResourceTypes.TOPIC, name: t }] })
    return r.configEntries.find(c => c.configName === 'retention.ms').configValue
  }
  assert.equal(await setting(), '3600000')
  await admin.alterConfigs({ resources: [{ type: ConfigResourceTypes.TOPIC, name: t, configEntries: [{ name: 'retention.ms', value: '7200000' }] }] })
  assert.equal(await setting(), '7200000')
})

test('admin: cluster', async () => {
  const cluster = await admin.describeCluster()
  assert.equal(cluster.brokers.length, 1)
  assert.equal(cluster.controller, cluster.brokers[0].nodeId)
})

test('auto-create', async () => {
  const t = name()
  await producing({ allowAutoTopicCreation: true }, p => p.send({ topic: t, messages: [{ value: 'hello' }] }))
  assert.deepEqual(texts(await consume(t, 1)), ['hello'])
})
