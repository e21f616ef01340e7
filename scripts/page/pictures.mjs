// The pictures of README and the manual, which scripts/page-test --pictures makes: a relay with three endpoints and people's traffic for
// twenty minutes, one of which refuses some of it.

import { mkdirSync } from 'node:fs'
import { launch, narrow } from './browser.mjs'
import { Receiver, Relay, patience, sleep } from './world.mjs'

const { RELAY_BINARY, RELAY_WORK, RELAY_SHOTS, RELAY_MINUTES } = process.env
const minutes = Number(RELAY_MINUTES || 20)
const token = `pictures-${Math.random().toString(36).slice(2)}-token`

// Slow answers after so many milliseconds, and fails a share of what it gets the first time.
class Slow extends Receiver {
  constructor(milliseconds, fails) {
    super()
    this.turn = setInterval(() => { this.status = Math.random() < fails ? 503 : 200 }, 20)
    this.milliseconds = milliseconds
  }

  async open() {
    const url = await super.open()
    const [answer] = this.server.listeners('request')
    this.server.removeAllListeners('request').on('request', (...all) => setTimeout(answer, this.milliseconds * (0.8 + Math.random() / 2), ...all))
    return url
  }

  close() {
    clearInterval(this.turn)
    super.close()
  }
}

const receivers = { crm: new Slow(14, 0), calendar: new Slow(38, 0), analytics: new Slow(5, 0.03) }
const wants = { crm: ['lead.*'], calendar: ['appointment.*'], analytics: ['*'] }
mkdirSync(`${RELAY_WORK}/relay`)
const endpoints = []
for (const [name, receiver] of Object.entries(receivers)) endpoints.push({ name, url: await receiver.open(), events: wants[name] })
const relay = new Relay(RELAY_BINARY, `${RELAY_WORK}/relay`, token, endpoints)
await relay.start()
const browser = await launch()
try {
  const types = ['lead.created', 'lead.scored', 'lead.qualified', 'appointment.scheduled', 'conversation.started', 'email.opened']
  let last = null
  for (let n = 0, end = Date.now() + minutes * 60000; Date.now() < end || !last; n++) {
    const event = { id: `evt_${(1795960000 + n).toString(36)}`, type: types[Math.floor(Math.random() ** 1.5 * types.length)], data: { score: Math.floor(Math.random() * 100) } }
    await relay.post(event)
    if (event.type === 'email.opened') last = await retried(event.id) ?? last
    // From one event in two seconds to three a second, and back, every eight minutes.
    await sleep(1000 / (0.5 + 2.5 * Math.sin(Date.now() / 153000) ** 2) * (0.5 + Math.random()))
  }
  for (const [name, hash, ready, colorScheme, viewport] of [
    ['now-light-wide', '/', 'All is well.', 'light', { width: 1120, height: 1000 }],
    ['now-dark-wide', '/', 'All is well.', 'dark', { width: 1120, height: 1000 }],
    ['endpoint-light-narrow', '/endpoints/crm', 'The last hour', 'light', narrow],
    ['event-dark-narrow', `/events/${last}`, 'Attempt 2', 'dark', narrow],
  ]) {
    const context = await browser.newContext({ viewport, colorScheme, deviceScaleFactor: 1.5 })
    context.setDefaultTimeout(patience)
    const page = await context.newPage()
    await page.goto(`http://${relay.admin}/#${hash}`)
    await page.getByLabel('Token').fill(token)
    await page.keyboard.press('Enter')
    await page.getByText(ready).first().waitFor()
    await page.getByText('live', { exact: true }).waitFor()
    await sleep(3000)
    await page.screenshot({ path: `${RELAY_SHOTS}/${name}.png` })
    await context.close()
    console.log(`made  ${name}`)
  }
} finally {
  await browser.close()
  await relay.stop()
  for (const receiver of Object.values(receivers)) receiver.close()
}

// retried is the id of an event whose first attempt failed, and whose second went well.
async function retried(id) {
  await sleep(600)
  const { deliveries } = await relay.ask('GET', `/events/${id}`)
  return deliveries.some((one) => one.state === 'delivered' && one.attempts?.length > 1) ? id : null
}
