// Open an account, put money in, take some out: with @platformatic/kafka, nothing of Ledgerline.
//
//   cd examples/node && npm install && node send_request.mjs localhost:9092 [PREFIX [REPLY_TOPIC]]
//
// Needs Node 22.22 or newer. With REPLY_TOPIC the answers are read there instead of in `outcomes`.
//
// What it leaves out: new clients after fatal errors, many requests at once.

import {
  Admin,
  compatibilityPartitioner,
  Consumer,
  ProduceAcks,
  Producer,
  stringDeserializers,
  stringSerializers
} from '@platformatic/kafka'
import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'

const RESEND_AFTER_MS = 5_000
const GIVE_UP_AFTER_MS = 60_000

const [kafka, prefix = 'ledgerline.', replyTopic] = process.argv.slice(2)
const requests = `${prefix}requests`
const answersTopic = replyTopic ?? `${prefix}outcomes`
const client = { clientId: 'payments', bootstrapBrokers: [kafka] }

if (replyTopic !== undefined) await createTopic(replyTopic)

const producer = new Producer({
  ...client,
  serializers: stringSerializers,
  acks: ProduceAcks.ALL,
  idempotent: true,
  // Its own default keeps the sign bit of murmur2: right for 8 or 64 partitions, wrong for 12 or 50.
  partitioner: compatibilityPartitioner
})
const consumer = new Consumer({ ...client, deserializers: stringDeserializers, groupId: `payments-${randomUUID()}` })
const waiting = new Map() // correlation id -> { partition, resolve }
const answers = await listen()

try {
  const account = `demo-${randomUUID().slice(0, 8)}`
  for (const fields of [
    { type: 'open_account', currency: 'EUR' },
    { type: 'deposit', amount_minor: 10_000, currency: 'EUR', rail: 'sepa' },
    { type: 'withdraw', amount_minor: 1_250, currency: 'EUR', rail: 'sepa' }
  ]) {
    const value = JSON.stringify({
      v: 1,
      request_id: randomUUID(),
      account_id: account,
      requested_at: new Date().toISOString(),
      ...fields
    })
    const outcome = await ask(account, value)
    console.log(outcome.transaction, outcome.type, outcome.status, outcome.balance_minor, 'cents')
  }
} finally {
  await answers.close()
  await consumer.close(true)
  await producer.close()
}

// Send a request until its outcome comes; every copy has the same bytes, so it has its effect once.
async function ask (account, value) {
  const correlation = randomUUID()
  const headers = { 'correlation-id': correlation }
  if (replyTopic !== undefined) headers['reply-to'] = replyTopic
  const entry = { partition: undefined, early: [] }
  const answered = new Promise(resolve => { entry.resolve = resolve })
  waiting.set(correlation, entry)
  const deadline = Date.now() + GIVE_UP_AFTER_MS
  while (Date.now() < deadline) {
    // The key is the account: it decides the partition.
    const { offsets } = await producer.send({ messages: [{ topic: requests, key: account, value, headers }] })
    entry.partition = offsets[0].partition
    entry.early.splice(0).forEach(outcome => accept(correlation, outcome))
    const outcome = await Promise.race([answered, sleep(RESEND_AFTER_MS, undefined, { ref: false })])
    if (outcome !== undefined) return outcome
  }
  throw new Error('no outcome; it may have been decided: send the same bytes again later')
}

// Stand at the end before anything is sent: then no answer can be missed.
async function listen () {
  const ends = await consumer.listOffsets({ topics: [answersTopic] })
  const offsets = ends.get(answersTopic).map((offset, partition) => ({ topic: answersTopic, partition, offset }))
  const stream = await consumer.consume({ topics: [answersTopic], mode: 'manual', offsets, autocommit: false })
  stream.on('data', record => {
    const correlation = record.headers.get('correlation-id')
    if (waiting.has(correlation)) accept(correlation, parse(record.value))
  })
  stream.on('error', error => { throw error })
  return stream
}

// The outcome with our correlation id, from the partition that the request went to: no other can be its answer.
function accept (correlation, outcome) {
  const entry = waiting.get(correlation)
  if (entry === undefined) return
  if (entry.partition === undefined) {
    entry.early.push(outcome) // it came before the producer was told the partition
  } else if (outcome.partition === entry.partition) {
    waiting.delete(correlation)
    entry.resolve(outcome)
  }
}

// Integers above 2^53 as BigInt: a Number would silently be another balance.
function parse (text) {
  return JSON.parse(text, (_, value, { source }) =>
    typeof value === 'number' && !Number.isSafeInteger(value) ? BigInt(source) : value)
}

// In production whoever owns the topics does this once; the ledger never does it.
async function createTopic (name) {
  const admin = new Admin(client)
  try {
    if (!(await admin.listTopics()).includes(name)) await admin.createTopics({ topics: [name], partitions: 1, replicas: -1 })
  } finally {
    await admin.close()
  }
}
