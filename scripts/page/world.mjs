// The world around the page: a relay, receivers whose health the test turns, and who posts events.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer, request as ask } from 'node:http'
import { writeFileSync } from 'node:fs'

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

// patience is how long anything may take on a machine that has much else to do.
export const patience = 30000

export async function eventually(what, is) {
  const end = Date.now() + patience
  for (;;) {
    const got = await is()
    if (got) return got
    if (Date.now() > end) throw new Error(`not so within ${patience / 1000} s: ${what}`)
    await sleep(50)
  }
}

// Receiver answers with status, and body as text.
export class Receiver {
  constructor() {
    this.status = 200
    this.body = 'noted'
    this.got = 0
  }

  async open() {
    this.server = createServer((request, response) => {
      request.resume().on('end', () => {
        this.got++
        response.writeHead(this.status, { 'Content-Type': 'text/html' }).end(this.body)
      })
    })
    this.server.listen(0, '127.0.0.1')
    await once(this.server, 'listening')
    return `http://127.0.0.1:${this.server.address().port}/hook`
  }

  close() {
    this.server.close()
    this.server.closeAllConnections()
  }
}

// Relay is a process that serves in a directory. It comes back on the ports that it had.
export class Relay {
  constructor(binary, dir, token, endpoints) {
    Object.assign(this, { binary, dir, token, endpoints, intake: '127.0.0.1:0', admin: '127.0.0.1:0' })
  }

  async start() {
    const config = `
[server]
listen = "${this.intake}"
[admin]
listen = "${this.admin}"
token = "${this.token}"
[queue]
min_free = "0B"
[delivery]
retry = ["200ms"]
${this.endpoints.map(({ name, url, events }) => `[[endpoint]]\nname = "${name}"\nurl = "${url}"\nevents = ${JSON.stringify(events)}\nsecret = "${this.token}-${name}"`).join('\n')}
`
    writeFileSync(`${this.dir}/config.toml`, config, { mode: 0o600 })
    this.process = spawn(this.binary, ['-config', 'config.toml'], { cwd: this.dir, stdio: ['ignore', 'ignore', 'pipe'] })
    this.log = ''
    this.process.stderr.on('data', (text) => { this.log += text })
    const line = await eventually('the relay serves', () => this.log.split('\n').find((one) => one.includes('"message":"serving"')))
    Object.assign(this, (({ intake, admin }) => ({ intake, admin }))(JSON.parse(line)))
  }

  async stop() {
    if (this.process.exitCode === null) {
      this.process.kill('SIGTERM')
      await once(this.process, 'exit')
    }
  }

  // post posts events, of which each must be accepted.
  async post(...events) {
    const answer = await fetch(`http://${this.intake}/events`, {
      method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(events),
    })
    if (answer.status !== 200) throw new Error(`posting is answered ${answer.status} ${await answer.text()}`)
  }

  async ask(method, path) {
    const answer = await fetch(`http://${this.admin}${path}`, { method, headers: { Authorization: `Bearer ${this.token}` } })
    return answer.json()
  }

  async endpoint(name) {
    return (await this.ask('GET', '/stats')).endpoints.find((one) => one.name === name)
  }
}

// Proxy stands before a relay: at a prefix that it takes away, holding server-sent events back as one that compresses them does,
// with headers of its own.
export class Proxy {
  constructor(to, prefix, hold, headers = {}) {
    Object.assign(this, { to, prefix, hold, headers, beside: 0, held: 0 })
  }

  async open() {
    const [host, port] = this.to.split(':')
    this.server = createServer((request, response) => {
      if (!request.url.startsWith(`${this.prefix}/`)) {
        this.beside++
        response.writeHead(404).end()
        return
      }
      const onward = ask({ host, port, method: request.method, path: request.url.slice(this.prefix.length), headers: { ...request.headers, ...this.headers } }, (answer) => {
        response.writeHead(answer.statusCode, answer.headers)
        response.flushHeaders()
        if (this.hold && answer.headers['content-type'] === 'text/event-stream') {
          this.held++
          answer.resume()
        } else answer.pipe(response)
      })
      onward.on('error', () => response.destroy())
      response.on('close', () => onward.destroy())
      request.pipe(onward)
    })
    this.server.listen(0, '127.0.0.1')
    await once(this.server, 'listening')
    return `127.0.0.1:${this.server.address().port}`
  }

  close() {
    this.server.close()
    this.server.closeAllConnections()
  }
}
