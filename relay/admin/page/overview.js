// Now: is all well, and if not, what isn't.

import { bytes, count, h, millis, plural, rate, say, share, span, state, swap } from './dom.js'
import { Chart } from './chart.js'
import { now } from './relay.js'
import { Latest } from './events.js'

const verdicts = { ok: 'All is well.', degraded: 'Something needs a look.', failing: 'Events are refused.' }

// Lane is one endpoint in the list.
class Lane {
  constructor(name) {
    this.state = h('span')
    this.why = h('p', { class: 'why', hidden: true })
    this.rate = new Chart({ what: 'delivered', show: (v) => `${rate(v)}/s`, value: (one) => one.delivered_per_second })
    this.took = new Chart({ what: 'attempts took', show: millis, value: (one) => one.attempt_ms_p50 })
    this.counts = Object.fromEntries(['well', 'lag', 'pending', 'retrying', 'failed'].map((what) => [what, h('dd')]))
    this.node = h('li', { class: 'lane' },
      h('div', { class: 'who' }, h('h3', {}, h('a', { href: `#/endpoints/${encodeURIComponent(name)}` }, name)), this.state),
      this.rate.node, this.took.node,
      h('dl', { class: 'counts' }, Object.entries(this.counts).map(([what, dd]) => h('div', {}, h('dt', {}, what), dd))),
      this.why)
  }

  update(endpoint) {
    if (this.state.textContent.slice(-endpoint.state.length) !== endpoint.state) swap(this.state, state(endpoint.state))
    const why = endpoint.reason ?? (endpoint.lagging ? 'It lags: it takes less than comes in.' : '')
    say(this.why, why)
    this.why.hidden = !why
    const samples = now.history.get(endpoint.name) ?? []
    this.rate.draw(samples, now.step, `${rate(endpoint.delivered_per_second)}/s`)
    this.took.draw(samples, now.step, millis(endpoint.attempt_ms?.p50))
    say(this.counts.well, share(endpoint.success_rate))
    say(this.counts.lag, span(endpoint.lag_seconds))
    for (const what of ['pending', 'retrying', 'failed']) say(this.counts[what], count(endpoint[what]))
    this.counts.lag.className = endpoint.lagging ? 'care' : ''
    this.counts.failed.className = endpoint.failed > 0 ? 'ill' : ''
    this.counts.retrying.className = endpoint.retrying > 0 ? 'care' : ''
  }
}

// figure is a number with its name, and what it is measured in.
function figure(name) {
  const value = h('span')
  const unit = h('small')
  return { node: h('div', {}, h('dt', {}, name), h('dd', {}, value, ' ', unit)), set: (v, u = '') => (say(value, v), say(unit, u)) }
}

export function overview() {
  const heading = h('h1', {}, 'Asking the relay …')
  const reasons = h('ul', { class: 'reasons', hidden: true })
  const runbook = h('p', { class: 'under', hidden: true }, h('a', { href: 'manual/runbook' }, 'What to do: the runbook'))
  const under = h('p', { class: 'under' })
  const figures = {
    accepted: figure('accepted'), delivered: figure('delivered'), waiting: figure('waiting'), failed: figure('failed'),
    oldest: figure('oldest waiting'), disk: figure('disk free'),
  }
  const list = h('ul')
  const lanes = new Map()
  const latest = new Latest(10)
  const node = h('div', {},
    h('div', { class: 'verdict', role: 'status' }, heading, under, reasons), runbook,
    h('dl', { class: 'figures' }, Object.values(figures).map((one) => one.node)),
    h('section', { 'aria-labelledby': 'endpoints' }, h('div', { class: 'head' }, h('h2', { id: 'endpoints' }, 'Endpoints'),
      h('span', { class: 'quiet' }, 'charts, and how much went well: the last hour')), list),
    h('section', { 'aria-labelledby': 'latest' }, h('div', { class: 'head' }, h('h2', { id: 'latest' }, 'Latest events'),
      h('a', { href: '#/events' }, 'Find an event')), latest.node))

  // The relay tells totals; how fast they grow is seen here, over the last ten seconds.
  const seen = []
  function accepted(total) {
    const t = Date.now()
    if (seen.length && total < seen.at(-1).total) seen.length = 0
    if (!seen.length || t - seen.at(-1).t > 900) seen.push({ t, total })
    while (seen.length > 2 && t - seen[0].t > 10000) seen.shift()
    const passed = (seen.at(-1).t - seen[0].t) / 1000
    return passed > 0 ? (seen.at(-1).total - seen[0].total) / passed : 0
  }

  let told = ''
  function update() {
    const stats = now.stats
    if (!stats) return
    const { health, queue, totals, endpoints } = stats
    say(heading, verdicts[health.status] ?? health.status)
    heading.className = health.status === 'ok' ? '' : health.status === 'failing' ? 'ill' : 'care'
    const kept = queue.failed > 0 ? ` ${plural(queue.failed, 'delivery', 'deliveries')} failed and can be replayed.` : ''
    const up = endpoints.filter((one) => one.state === 'up').length
    say(under, health.status === 'failing' ? 'The relay answers 503 until this is put right. What it accepted before is safe and goes on being delivered.'
      : endpoints.length === 0 ? 'No endpoint is configured: events are kept, and delivered to nobody.'
        : up === endpoints.length ? `${endpoints.length === 1 ? 'The endpoint is' : `All ${endpoints.length} endpoints are`} up, and events are accepted.${kept}`
          : `Events are accepted. ${up} of ${plural(endpoints.length, 'endpoint')} ${up === 1 ? 'is' : 'are'} up.${kept}`)
    const words = JSON.stringify(health.reasons ?? [])
    if (words !== told) {
      told = words
      swap(reasons, (health.reasons ?? []).map((reason) => h('li', {}, reason)))
      reasons.hidden = runbook.hidden = !health.reasons?.length
      reasons.className = health.status === 'failing' ? 'reasons bad' : 'reasons'
    }
    figures.accepted.set(rate(accepted(totals.accepted)), 'a second')
    figures.delivered.set(rate(endpoints.reduce((sum, one) => sum + one.delivered_per_second, 0)), 'a second')
    figures.waiting.set(count(queue.pending + queue.retrying), queue.retrying ? `${count(queue.retrying)} retrying` : '')
    figures.failed.set(count(queue.failed))
    figures.failed.node.className = queue.failed > 0 ? 'ill' : ''
    figures.oldest.set(queue.oldest_pending_seconds > 0 ? span(queue.oldest_pending_seconds) : 'none')
    figures.disk.set(...bytes(queue.disk_free_bytes).split(' '))

    for (const endpoint of endpoints) {
      if (!lanes.has(endpoint.name)) lanes.set(endpoint.name, new Lane(endpoint.name))
      lanes.get(endpoint.name).update(endpoint)
    }
    for (const name of [...lanes.keys()]) if (!endpoints.some((one) => one.name === name)) lanes.delete(name)
    const wanted = endpoints.map((one) => lanes.get(one.name).node)
    if (wanted.length !== list.children.length || wanted.some((one, i) => list.children[i] !== one)) swap(list, wanted)
    latest.update(totals.accepted)
  }
  return { title: 'All well', node, update }
}
