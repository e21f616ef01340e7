// One event: its story with each endpoint as a timeline, and its body.

import { at, h, millis, once, plural, state, swap } from './dom.js'
import { endpointPath, get, now, post } from './relay.js'

function step(tone, ...children) {
  return h('li', { class: tone ? `${tone}-step` : '' }, ...children)
}

const phases = { dns: 'name', connect: 'connection', tls: 'TLS', first_byte: 'first byte' }

function attempt(one) {
  const well = !one.class && one.status >= 200 && one.status < 300
  const timing = Object.entries(phases).filter(([key]) => one.timing_ms?.[key]).map(([key, name]) => `${name} ${millis(one.timing_ms[key])}`)
  return step(well ? 'well' : 'ill',
    h('p', {}, h('b', {}, `Attempt ${one.number}${one.replay ? ' of a replay' : ''}: ${one.status ? `answered ${one.status}` : one.error || one.class || 'no answer'}`)),
    h('p', { class: 'quiet' }, at(one.began_at, true), ` · took ${millis(one.duration_ms)}`, timing.length ? ` · ${timing.join(' · ')}` : ''),
    one.status && one.error && !one.error.startsWith('answered') ? h('p', {}, one.error) : null,
    one.excerpt ? h('pre', { tabindex: '0', 'aria-label': 'The answer' }, one.excerpt) : null)
}

// delivery tells the story of an event and one endpoint, from the acceptance to what comes next.
function delivery(event, one, again) {
  const said = h('p', { class: 'quiet', role: 'status' })
  const button = h('button', {
    type: 'button',
    onclick: once(async () => {
      try {
        await post(endpointPath(one.endpoint, '/replay'), { ids: [event.id] })
        swap(said, 'It is replayed; what comes of it shows here.')
        again()
      } catch (error) {
        swap(said, error.message)
      }
    }),
  }, `Replay to ${one.endpoint}`)
  const settled = ['delivered', 'failed', 'discarded'].includes(one.state)
  const pressed = document.activeElement?.textContent === button.textContent // it keeps the focus
  return h('section', { 'aria-label': `To ${one.endpoint}` },
    h('div', { class: 'head' }, h('h2', {}, h('a', { href: `#/endpoints/${encodeURIComponent(one.endpoint)}` }, one.endpoint)), state(one.state)),
    h('ol', { class: 'timeline' },
      one.dead_letter
        ? step('', h('p', {}, h('b', {}, `Failed at ${one.dead_letter.endpoint}`)), h('p', { class: 'quiet' }, one.dead_letter.reason))
        : step('', h('p', {}, h('b', {}, `Accepted from ${event.source}`)), h('p', { class: 'quiet' }, at(event.accepted_at, true))),
      one.attempts.map(attempt),
      one.failed_at && step('ill', h('p', {}, h('b', {}, 'Failed')), h('p', { class: 'quiet' }, at(one.failed_at, true), one.reason ? ` · ${one.reason}` : '')),
      one.state !== 'delivered' && step('next', h('p', {}, 'Next: ', one.note), one.next_attempt_at && h('p', { class: 'quiet' }, 'at ', at(one.next_attempt_at)))),
    (settled || pressed) && h('div', { class: 'actions' }, button, said))
}

function pretty(text) {
  // Numbers that no double holds keep their text: the body is indented as it is, never parsed and written again.
  let out = ''
  let depth = 0
  let inside = false
  for (let i = 0; i < text.length; i++) {
    const c = text[i]
    if (inside) {
      out += c
      if (c === '\\') out += text[++i] ?? ''
      else if (c === '"') inside = false
    } else if (c === '"') {
      inside = true
      out += c
    } else if ((c === '{' || c === '[') && text[i + 1] !== '}' && text[i + 1] !== ']') out += `${c}\n${'  '.repeat(++depth)}`
    else if ((c === '}' || c === ']') && text[i - 1] !== '{' && text[i - 1] !== '[') out += `\n${'  '.repeat(--depth)}${c}`
    else if (c === ',') out += `,\n${'  '.repeat(depth)}`
    else out += c === ':' ? ': ' : c
  }
  return out
}

export function eventView(id) {
  const node = h('div', {}, h('p', { class: 'crumb' }, h('a', { href: '#/events' }, 'Events')), h('h1', { class: 'quiet' }, 'Looking …'))
  let left = false
  let shape = ''
  let timer = 0

  async function load() {
    clearTimeout(timer)
    try {
      const event = await get(`/events/?id=${encodeURIComponent(id)}`)
      if (left) return
      const said = JSON.stringify(event)
      if (said !== shape) {
        shape = said
        show(event)
      }
      if (event.deliveries.some((one) => one.state !== 'delivered' && one.state !== 'discarded') && now.connected) timer = setTimeout(load, 2500)
    } catch (error) {
      if (!left && !shape) swap(node, node.firstChild, h('h1', {}, error.code === 'no_event' ? 'No such event is kept.' : 'The event can’t be shown.'), h('p', { class: 'quiet' }, error.message))
      else timer = setTimeout(load, 5000)
    }
  }

  function show(event) {
    swap(node, node.firstChild,
      h('h1', {}, event.type),
      h('p', { class: 'mono quiet' }, event.id),
      event.deliveries.map((one) => delivery(event, one, () => { timer = setTimeout(load, 700) })),
      event.deliveries.length === 0 && h('p', { class: 'none' }, 'It is for no endpoint: none subscribed to its type when it was accepted.'),
      event.unmatched?.length > 0 && h('section', {}, h('div', { class: 'head' }, h('h2', {}, `Not for ${plural(event.unmatched.length, 'endpoint')}`)),
        h('dl', { class: 'facts' }, event.unmatched.flatMap((one) => [h('dt', {}, one.endpoint), h('dd', {}, one.note)]))),
      h('section', { 'aria-labelledby': 'body' }, h('div', { class: 'head' }, h('h2', { id: 'body' }, 'Body'), h('span', { class: 'quiet' }, `${event.body.length} characters, as signed and sent, indented`)),
        h('pre', { tabindex: '0', 'aria-labelledby': 'body' }, pretty(event.body))))
  }

  load()
  return { title: id, node, leave: () => { left = true; clearTimeout(timer) } }
}
