// Tests with rhea, a client of AMQP 1.0.
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { test } from 'node:test'
import rhea from 'rhea'

const [host, port] = process.env.INTEROP_AMQP.split(':')
const name = () => 'rhea-' + randomUUID().slice(0, 8)
const patience = 20_000

function within (promise, what) {
  let timer
  const late = new Promise((resolve, reject) => { timer = setTimeout(() => reject(new Error('waited for ' + what)), patience) })
  return Promise.race([promise, late]).finally(() => clearTimeout(timer))
}

async function connected (use, options = {}) {
  const container = rhea.create_container()
  container.on('connection_error', () => {})
  container.on('error', () => {})
  const connection = container.connect({ host, port, reconnect: false, ...options })
  await within(once(connection, 'connection_open'), 'a connection')
  try {
    return await use(connection)
  } finally {
    connection.close()
    await within(once(connection, 'connection_close'), 'its end')
  }
}

async function sending (connection, target, messages) {
  const sender = connection.open_sender({ target })
  await within(once(sender, 'sendable'), 'credit')
  const outcomes = []
  const all = new Promise(resolve => {
    for (const outcome of ['accepted', 'released', 'rejected', 'modified']) {
      sender.on(outcome, () => { if (outcomes.push(outcome) === messages.length) resolve() })
    }
  })
  for (const m of messages) sender.send(m)
  await within(all, 'outcomes')
  sender.close()
  return outcomes
}

// receiving takes n messages, and settles them as it is told.
async function receiving (connection, source, n, settle = d => d.accept(), options = {}) {
  const receiver = connection.open_receiver({ source, autoaccept: false, credit_window: 0, ...options })
  const got = []
  const all = new Promise((resolve, reject) => {
    receiver.on('message', context => {
      settle(context.delivery, got.length)
      if (got.push(context.message) === n) resolve()
    })
    receiver.on('receiver_error', () => reject(receiver.error))
  })
  receiver.add_credit(n)
  await within(all, n + ' messages')
  receiver.close()
  return got
}

test('put and take', () => connected(async c => {
  const q = name()
  const bodies = Array.from({ length: 300 }, (_, i) => `body ${i}`)
  assert.deepEqual(new Set(await sending(c, q, bodies.map(body => ({ body })))), new Set(['accepted']))
  assert.deepEqual((await receiving(c, q, 300)).map(m => m.body), bodies)
}))

test('properties and bodies of every kind', () => connected(async c => {
  const q = name()
  const sent = [
    { body: true, durable: true, priority: 8, ttl: 60_000 }, // is delivered first
    { body: 'text', subject: 's', correlation_id: 'c', message_id: 'm', reply_to: 'r', group_id: 'g', group_sequence: 3, application_properties: { a: 1, b: 'x', c: true } },
    { body: { a: 1, nested: { b: [1, 2, 'x'] } } },
    { body: [1, 'two', null] },
    { body: rhea.message.data_section(Buffer.from([1, 2, 3])), content_type: 'application/x-mine' },
    { body: 42, message_annotations: { 'x-opt-mine': 'kept' }, footer: { sum: 'abc' } }
  ]
  await sending(c, q, sent)
  const got = await receiving(c, q, sent.length)
  for (const [i, m] of sent.entries()) {
    for (const key of Object.keys(m)) {
      if (key === 'body' && m.body.typecode) assert.deepEqual(got[i].body.content, m.body.content)
      else if (key === 'ttl') assert.ok(got[i].ttl > 0 && got[i].ttl <= 60_000)
      else assert.deepEqual(got[i][key], m[key], key)
    }
  }
}))

test('outcomes', () => connected(async c => {
  const q = name()
  await sending(c, q, [{ body: 'x' }])
  assert.equal((await receiving(c, q, 1, d => d.release()))[0].delivery_count ?? 0, 0)
  assert.equal((await receiving(c, q, 1, d => d.modified({ delivery_failed: true })))[0].delivery_count ?? 0, 0)
  assert.equal((await receiving(c, q, 1, d => d.reject({ condition: 'my:error', description: 'no good' })))[0].delivery_count, 1)
  const [dead] = await receiving(c, 'DLQ.' + q, 1)
  assert.equal(dead.application_properties.JMS_POLYLOG_DLQ_ORIGIN, q)
}))

test('selector', () => connected(async c => {
  const q = name()
  await sending(c, q, [1, 2, 3, 4].map(n => ({ body: n, application_properties: { n } })))
  const source = { address: q, filter: rhea.filter.selector('n > 2') }
  assert.deepEqual((await receiving(c, source, 2)).map(m => m.body), [3, 4])
}))

test('a bad selector', () => connected(async c => {
  const source = { address: name(), filter: rhea.filter.selector('n >') }
  await assert.rejects(receiving(c, source, 1), e => e.condition === 'amqp:invalid-field')
}))

test('topic', () => connected(async c => {
  const address = name()
  const source = { address, capabilities: ['topic'] }
  const both = [receiving(c, source, 2), receiving(c, source, 2)]
  await new Promise(resolve => setTimeout(resolve, 200)) // both are attached, as the broker has answered nothing else
  await sending(c, { address, capabilities: ['topic'] }, [{ body: 'a' }, { body: 'b' }])
  for (const got of await Promise.all(both)) assert.deepEqual(got.map(m => m.body), ['a', 'b'])
}))

test('durable subscription', async () => {
  const address = name()
  const id = name()
  const source = { address, capabilities: ['topic'], durable: 2, expiry_policy: 'never' }
  const attach = c => new Promise(resolve => {
    const receiver = c.open_receiver({ name: 'sub', source, credit_window: 0 })
    receiver.once('receiver_open', () => resolve(receiver))
  })
  await connected(async c => {
    const receiver = await within(attach(c), 'a subscription')
    receiver.detach()
  }, { container_id: id })
  await connected(c => sending(c, { address, capabilities: ['topic'] }, [{ body: 'meanwhile' }]))
  await connected(async c => {
    const receiver = await within(attach(c), 'a subscription')
    receiver.add_credit(1)
    const [context] = await within(once(receiver, 'message'), 'a message')
    assert.equal(context.message.body, 'meanwhile')
    receiver.close() // is the end of the subscription
    await within(once(receiver, 'receiver_close'), 'its end')
  }, { container_id: id })
})

test('request and reply', () => connected(async c => {
  const q = name()
  const server = c.open_receiver(q)
  const relay = c.open_sender({ target: {} })
  server.on('message', ({ message }) => relay.send({ to: message.reply_to, correlation_id: message.message_id, body: 're: ' + message.body }))
  const answers = c.open_receiver({ source: { dynamic: true } })
  await within(once(answers, 'receiver_open'), 'a temporary queue')
  const answer = once(answers, 'message')
  await sending(c, q, [{ body: 'question', message_id: 7, reply_to: answers.source.address }])
  const [{ message }] = await within(answer, 'an answer')
  assert.equal(message.body, 're: question')
  assert.equal(Number(message.correlation_id), 7)
}))

test('drain', () => connected(async c => {
  const q = name()
  await sending(c, q, [{ body: 'only' }])
  const receiver = c.open_receiver({ source: q, credit_window: 0 })
  const got = []
  receiver.on('message', ({ message }) => got.push(message.body))
  const drained = once(receiver, 'receiver_drained')
  receiver.add_credit(10)
  receiver.drain_credit()
  await within(drained, 'a drain')
  assert.deepEqual(got, ['only'])
}))

test('many links on one connection', () => connected(async c => {
  const names = Array.from({ length: 50 }, name)
  await Promise.all(names.map(q => sending(c, q, [{ body: q }])))
  const all = await Promise.all(names.map(q => receiving(c, q, 1)))
  assert.deepEqual(all.map(([m]) => m.body), names)
}))

test('a large message', () => connected(async c => {
  const q = name()
  const body = 'x'.repeat(700_000)
  await sending(c, q, [{ body }])
  assert.equal((await receiving(c, q, 1))[0].body, body)
}))
