// The official library as a filter: reads [{secret, id, timestamp, signature, body}, …] as JSON and writes, in order, for
// each "ok" or why it was refused, or without a signature the signature that the library makes.
const { Webhook } = require('standardwebhooks')

function judge({ secret, id, timestamp, signature, body }) {
  const webhook = new Webhook(secret)
  if (!signature) return webhook.sign(id, new Date(timestamp * 1000), body)
  try {
    webhook.verify(body, { 'webhook-id': id, 'webhook-timestamp': timestamp, 'webhook-signature': signature })
    return 'ok'
  } catch (error) {
    return error.message
  }
}

const chunks = []
process.stdin.on('data', (chunk) => chunks.push(chunk))
process.stdin.on('end', () => console.log(JSON.stringify(JSON.parse(Buffer.concat(chunks).toString()).map(judge))))
