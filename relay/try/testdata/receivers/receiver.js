// A receiver that verifies as Realtor Bot's documentation does. Start: PORT=3000 SECRET=… node receiver.js
const crypto = require('crypto')
const http = require('http')

const secret = process.env.SECRET
if (!secret) throw new Error('SECRET is not set') // an empty key would let anyone sign

function signed(req) {
  const expected = crypto.createHmac('sha256', secret).update(JSON.stringify(req.body)).digest('hex')
  const given = Buffer.from(req.headers['x-realtorbot-signature'] || '')
  return given.length === expected.length && crypto.timingSafeEqual(given, Buffer.from(expected))
}

const server = http.createServer(async (req, res) => {
  const chunks = []
  try {
    for await (const chunk of req) chunks.push(chunk)
    req.body = JSON.parse(Buffer.concat(chunks).toString())
  } catch {
    req.body = null // cut short, or not JSON
  }
  const ok = signed(req)
  console.log(ok ? `ok ${req.body.id}` : 'bad')
  res.writeHead(ok ? 200 : 401).end()
})

server.listen(process.env.PORT || 3000, '127.0.0.1', () => console.log(`listening on ${server.address().port}`))
