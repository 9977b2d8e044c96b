// Tests with @stomp/stompjs, the client of browsers, over WebSocket.
import { Client } from '@stomp/stompjs'
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { test } from 'node:test'
import { WebSocket } from 'ws'

Object.assign(globalThis, { WebSocket })
const url = `ws://${process.env.INTEROP_HTTP}/ws`
const name = () => 'stompjs-' + randomUUID().slice(0, 8)
const patience = 20_000

function within (promise, what) {
  let timer
  const late = new Promise((resolve, reject) => { timer = setTimeout(() => reject(new Error('waited for ' + what)), patience) })
  return Promise.race([promise, late]).finally(() => clearTimeout(timer))
}

async function connected (use, options = {}) {
  const client = new Client({ brokerURL: url, reconnectDelay: 0, ...options })
  const errors = []
  client.onStompError = frame => errors.push(frame)
  const open = new Promise((resolve, reject) => {
    client.onConnect = resolve
    client.onWebSocketError = reject
  })
  client.activate()
  await within(open, 'a connection')
  try {
    return await use(client, errors)
  } finally {
    await within(client.deactivate(), 'its end')
  }
}

function receipt (client, act) {
  const id = randomUUID()
  const came = new Promise(resolve => client.watchForReceipt(id, resolve))
  act(id)
  return within(came, 'a receipt')
}

const put = (client, destination, body, headers = {}) =>
  receipt(client, id => client.publish({ destination, body, headers: { ...headers, receipt: id } }))

// receiving takes n messages, and settles them as it is told.
async function receiving (client, destination, n, settle = m => m.ack(), headers = { ack: 'client-individual' }) {
  const got = []
  let subscription
  await within(new Promise(resolve => {
    subscription = client.subscribe(destination, m => {
      got.push(m)
      settle(m)
      if (got.length === n) resolve()
    }, headers)
  }), `${n} messages of ${destination}`)
  subscription.unsubscribe()
  return got
}

test('put and take', () => connected(async client => {
  const q = '/queue/' + name()
  for (let i = 0; i < 100; i++) await put(client, q, String(i))
  const got = await receiving(client, q, 100)
  assert.deepEqual(got.map(m => m.body), [...Array(100).keys()].map(String))
}))

test('bytes and large bodies', () => connected(async client => {
  const q = '/queue/' + name()
  const bytes = new Uint8Array(700_000).map((_, i) => i % 251)
  await receipt(client, id => client.publish({
    destination: q, binaryBody: bytes, headers: { receipt: id, 'content-type': 'application/octet-stream' }
  }))
  const [m] = await receiving(client, q, 1)
  assert.deepEqual(Buffer.from(m.binaryBody), Buffer.from(bytes))
}))

test('what is not acknowledged comes again', () => connected(async client => {
  const q = '/queue/' + name()
  await put(client, q, 'größe', { colour: 'grün' })
  const [first] = await receiving(client, q, 1, m => m.nack())
  const [again] = await receiving(client, q, 1)
  assert.equal(first.body, 'größe')
  assert.equal(again.headers.colour, 'grün')
  assert.equal(again.headers.redelivered, 'true')
}))

test('transactions', () => connected(async client => {
  const q = '/queue/' + name()
  const undone = client.begin()
  client.publish({ destination: q, body: 'undone', headers: { transaction: undone.id } })
  undone.abort()
  const done = client.begin()
  client.publish({ destination: q, body: 'done', headers: { transaction: done.id } })
  done.commit()
  const [m] = await receiving(client, q, 1)
  assert.equal(m.body, 'done')
}))

test('a topic has many listeners', () => connected(one => connected(async two => {
  const topic = '/topic/' + name()
  const both = [receiving(one, topic, 1, () => {}, { receipt: 'a' }), receiving(two, topic, 1, () => {}, { receipt: 'b' })]
  await put(one, '/queue/' + name(), 'so that the subscriptions are there')
  await put(two, '/queue/' + name(), 'so that the subscriptions are there')
  await put(one, topic, 'news')
  for (const got of await Promise.all(both)) assert.equal(got[0].body, 'news')
})))

test('heart-beats keep a quiet connection', () => connected(async client => {
  await new Promise(resolve => setTimeout(resolve, 5000))
  const q = '/queue/' + name()
  await put(client, q, 'still here')
  assert.equal((await receiving(client, q, 1))[0].body, 'still here')
}, { heartbeatIncoming: 1000, heartbeatOutgoing: 1000 }))

test('errors are told', () => connected(async (client, errors) => {
  const closed = new Promise(resolve => { client.onWebSocketClose = resolve })
  client.publish({ destination: 'nowhere', body: 'x' })
  await within(closed, 'the end')
  assert.match(errors[0].headers.message, /\/queue\/NAME/)
}))
