// One endpoint: how it is, what to do about it, the last hour, what failed, and what it is told to be.

import { at, count, h, millis, once, rate, say, share, span, state, swap } from './dom.js'
import { Chart } from './chart.js'
import { ask, endpointPath, get, now, post } from './relay.js'
import { confirm } from './confirm.js'
import { Failures } from './failed.js'
import { Latest } from './events.js'
import { trial } from './trial.js'

const meanings = {
  up: 'It works.',
  down: 'Five attempts in a row failed. All else waits while one delivery at a time tries whether it is back.',
  limited: 'It asked to wait (429, or 503 with a time). No attempt is charged meanwhile.',
  offline: 'It can\u2019t be reached: this machine seems to be without network. No attempt is charged meanwhile.',
  paused: 'Everything is held until it is resumed.',
  disabled: 'The configuration says enabled = false. What it holds is kept for queue.unserved_retention, and then becomes failed.',
  orphaned: 'No endpoint of this name is configured. What is left is kept until the name comes back or you discard it, and becomes failed after queue.unserved_retention.',
}

// duties are the buttons: pausing, resuming, and discarding what is left of an orphan.
function duties(name, said) {
  const does = (method, path, done) => once(async () => {
    try {
      await ask(method, endpointPath(name, path))
      swap(said, done)
    } catch (error) {
      swap(said, error.message)
    }
  })
  const pause = h('button', { type: 'button', onclick: does('POST', '/pause', 'Paused. Events are accepted for it and wait.') }, 'Pause')
  const resume = h('button', { type: 'button', class: 'main', onclick: does('POST', '/resume', 'Resumed. What waits is attempted now.') }, 'Resume')
  const discard = h('button', {
    type: 'button', class: 'danger',
    async onclick(event) {
      const { currentTarget } = event
      if (await confirm(`Discard what is left of ${name}?`, 'All its pending, retrying and failed deliveries are deleted for good. The events stay for the other endpoints.', 'Discard')) {
        await does('DELETE', '', 'Discarded.')({ currentTarget })
      }
    },
  }, 'Discard')
  return {
    nodes: [resume, pause, discard],
    update(word) {
      const waits = word === 'paused' || word === 'down' || word === 'limited' || word === 'offline'
      const wanted = [[pause, word !== 'paused' && word !== 'disabled' && word !== 'orphaned'], [resume, waits], [discard, word === 'orphaned']]
      for (const [button, shown] of wanted) if (shown) button.hidden = false
      for (const [button, shown] of wanted) {
        const had = button === document.activeElement
        button.hidden = !shown
        // What takes its place takes the focus, too.
        if (had && !shown) [resume, pause].find((other) => other !== button && !other.hidden)?.focus()
      }
    },
  }
}

const plots = () => [
  [new Chart({ what: 'delivered', show: (v) => `${rate(v)}/s`, value: (one) => one.delivered_per_second, height: 90, axis: true }),
    (one) => `${rate(one.delivered_per_second)}/s`],
  [new Chart({ what: 'failed attempts', show: (v) => `${rate(v)}/s`, value: (one) => one.failed_attempts_per_second, height: 90, axis: true, bad: true }),
    (one) => `${rate(one.failed_attempts_per_second)}/s`],
  [new Chart({ what: 'attempts took, half and 99 %', show: millis, value: (one) => one.attempt_ms_p50, second: (one) => one.attempt_ms_p99, height: 90, axis: true }),
    (one) => (one.attempt_ms ? `${millis(one.attempt_ms.p50)}, ${millis(one.attempt_ms.p99)}` : '–')],
  [new Chart({ what: 'waiting', show: count, value: (one) => one.pending + one.retrying, height: 90, axis: true }),
    (one) => count(one.pending + one.retrying)],
]

function figures() {
  const cells = {}
  const node = h('dl', { class: 'figures' }, ['went well', 'lag', 'pending', 'retrying', 'failed', 'delivered', 'under way'].map((what) =>
    h('div', {}, h('dt', {}, what), cells[what] = h('dd'))))
  return {
    node,
    update(one) {
      say(cells['went well'], share(one.success_rate))
      say(cells.lag, span(one.lag_seconds))
      for (const what of ['pending', 'retrying', 'failed', 'delivered']) say(cells[what], count(one[what]))
      say(cells['under way'], count(one.in_flight))
      cells.lag.className = one.lagging ? 'care' : ''
      cells.failed.className = one.failed > 0 ? 'ill' : ''
    },
  }
}

const words = (value) => Array.isArray(value) ? value.join(', ')
  : value && typeof value === 'object' ? Object.entries(value).map(([key, text]) => `${key}: ${words(text)}`).join(', ') : String(value ?? '')

function configuration(name) {
  const facts = h('dl', { class: 'facts' })
  get(endpointPath(name)).then(({ config }) => swap(facts, config
    ? Object.entries(config).filter(([, value]) => words(value)).flatMap(([key, value]) => [h('dt', {}, key), h('dd', { class: 'mono' }, words(value))])
    : h('dd', {}, 'It is not configured any more.')), (error) => swap(facts, h('dd', {}, error.message)))
  return h('section', { 'aria-labelledby': 'configured' }, h('div', { class: 'head' }, h('h2', { id: 'configured' }, 'Configuration'),
    h('span', { class: 'quiet' }, 'what is set; secrets are stars')), facts)
}

export function endpointView(name) {
  const word = h('span')
  const meaning = h('p', { class: 'under quiet' })
  const why = h('p', { class: 'under' })
  const said = h('p', { role: 'status', class: 'quiet' })
  const buttons = duties(name, said)
  const numbers = figures()
  const charts = plots()
  const failures = new Failures(name)
  const latest = new Latest(10, `&endpoint=${encodeURIComponent(name)}`)
  const test = trial(name)
  const node = h('div', {},
    h('p', { class: 'crumb' }, h('a', { href: '#/' }, 'All endpoints'), ' · ', h('a', { href: 'manual/operate#what-a-state-means' }, 'What a state means')),
    h('div', { class: 'title' }, h('h1', {}, name), word),
    meaning, why,
    h('div', { class: 'actions' }, buttons.nodes, test.nodes, said), test.answer,
    numbers.node,
    h('section', { 'aria-labelledby': 'hour' }, h('div', { class: 'head' }, h('h2', { id: 'hour' }, 'The last hour')),
      h('div', { class: 'plots' }, charts.map(([chart]) => chart.node))),
    failures.node,
    h('section', { 'aria-labelledby': 'its-events' }, h('div', { class: 'head' }, h('h2', { id: 'its-events' }, 'Its latest events'),
      h('a', { href: `#/events?endpoint=${encodeURIComponent(name)}` }, 'All of them')), latest.node),
    configuration(name))

  function update() {
    if (!now.stats) return
    const one = now.stats.endpoints.find((endpoint) => endpoint.name === name)
    if (!one) {
      say(meaning, 'There is no endpoint of this name, and nothing is left of one.')
      swap(word)
      return
    }
    if (word.firstChild?.lastChild?.textContent !== one.state) swap(word, state(one.state))
    say(meaning, one.lagging && one.state === 'up' ? 'It works and lags: it takes less than comes in.' : meanings[one.state] ?? '')
    const reason = one.reason || (one.last_error ? `Last error: ${one.last_error}` : '')
    const since = one.state_began_at ?? (one.reason ? null : one.last_error_at)
    const told = reason + since
    if (why.told !== told) {
      why.told = told
      swap(why, reason, since && h('span', { class: 'quiet' }, one.state_began_at ? ' · since ' : ' · at ', at(since)))
    }
    buttons.update(one.state)
    test.update(one.state)
    numbers.update(one)
    const samples = now.history.get(name) ?? []
    for (const [chart, now_] of charts) chart.draw(samples, now.step, now_(one))
    failures.update(one)
    latest.update(now.stats.totals.accepted)
  }
  return { title: name, node, update }
}
