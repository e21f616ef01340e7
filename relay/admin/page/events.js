// Events: the latest, and those that are looked for.

import { at, h, once, plural, say, state, swap } from './dom.js'
import { get, now, post } from './relay.js'

// line is one event of a list.
export function line(event) {
  return h('li', {},
    h('span', { class: 'quiet' }, at(event.accepted_at)),
    h('span', {}, event.type),
    h('a', { href: `#/events/${encodeURIComponent(event.id)}`, class: 'mono' }, event.id),
    h('span', { class: 'to' }, event.deliveries.length
      ? event.deliveries.map((one) => h('span', {}, h('span', { class: 'quiet' }, one.endpoint), ' ', state(one.state)))
      : h('span', { class: 'quiet' }, 'for no endpoint')))
}

// Latest keeps the newest events on show. It asks when there are new ones or some are still on their way, but not while an
// answer is awaited, and at most every two seconds.
export class Latest {
  constructor(limit, query = '') {
    Object.assign(this, { limit, query, total: -1, unsettled: false, asked: 0, asking: false })
    this.list = h('ul', { class: 'rows' })
    this.none = h('p', { class: 'none' }, 'No event yet.')
    this.node = h('div', {}, this.list, this.none)
  }

  async update(total) {
    if (this.asking || Date.now() - this.asked < 2000 || (total === this.total && !this.unsettled)) return
    this.asking = true
    try {
      const found = await get(`/events?limit=${this.limit}${this.query}`)
      this.total = total
      this.unsettled = found.events.some((event) => event.deliveries.some((one) => one.state === 'pending' || one.state === 'retrying'))
      const shape = JSON.stringify(found.events)
      if (shape !== this.shape && !this.list.contains(document.activeElement)) {
        this.shape = shape
        swap(this.list, found.events.map(line))
      }
      this.none.hidden = found.events.length > 0
    } catch (error) {
      say(this.none, error.message)
      this.none.hidden = false
    } finally {
      this.asked = Date.now()
      this.asking = false
    }
  }
}

const option = (value, text, chosen) => h('option', { value, selected: value === chosen }, text)

// whereTo asks where an event would go, and why not elsewhere. Nothing is sent.
function whereTo() {
  const text = h('textarea', { id: 'route-event', rows: '6', spellcheck: 'false', placeholder: '{"type": "lead.created", "data": {"accountId": "acct_42"}}' })
  const answer = h('div', { class: 'said', role: 'status', hidden: true })
  const button = h('button', {
    type: 'button',
    onclick: once(async () => {
      answer.hidden = false
      try {
        const { events } = await post('/route', text.value)
        swap(answer, events.map((one) => [
          h('p', {}, h('b', {}, one.endpoints.length ? `${one.type} goes to ${plural(one.endpoints.length, 'endpoint')}: ` : `${one.type} goes to no endpoint.`), one.endpoints.join(', ')),
          one.unmatched.length ? h('dl', { class: 'facts' }, one.unmatched.flatMap((not) => [h('dt', {}, not.endpoint), h('dd', {}, not.note)])) : null,
        ]).flat())
      } catch (error) {
        swap(answer, h('p', { class: 'ill' }, error.message))
      }
    }),
  }, 'Ask')
  return h('details', { class: 'route' }, h('summary', {}, 'Where would an event go?'),
    h('div', {}, h('label', { for: 'route-event' }, 'The event, as it would be posted'), text), h('div', { class: 'actions' }, button), answer)
}

export function eventsView(text = '') {
  const asked = new URLSearchParams(text)
  const names = (now.stats?.endpoints ?? []).map((one) => one.name)
  const given = asked.get('endpoint') ?? ''
  const id = h('input', { id: 'by-id', name: 'id', autocomplete: 'off', spellcheck: 'false', placeholder: 'evt_…' })
  const type = h('input', { id: 'by-type', name: 'type', autocomplete: 'off', spellcheck: 'false', placeholder: 'lead.*', value: asked.get('type') ?? '' })
  const match = h('input', { id: 'by-match', name: 'match', autocomplete: 'off', spellcheck: 'false', placeholder: 'data.accountId=acct_42', value: asked.get('match') ?? '' })
  const status = h('select', { id: 'by-state', name: 'status' }, option('', 'any', ''),
    ['pending', 'retrying', 'delivered', 'failed', 'discarded'].map((word) => option(word, word, asked.get('status'))))
  const endpoint = h('select', { id: 'by-endpoint', name: 'endpoint' }, option('', 'any', ''),
    [...new Set([...names, given].filter(Boolean))].map((name) => option(name, name, given)))
  const field = (label, input) => h('div', {}, h('label', { for: input.id }, label), input)
  const list = h('ul', { class: 'rows' })
  const outcome = h('p', { class: 'none', role: 'status' })
  const more = h('button', { type: 'button', hidden: true, onclick: once(() => load(next)) }, 'Show older events')
  let next = ''

  async function load(after) {
    say(outcome, 'Looking …')
    outcome.hidden = false
    try {
      const query = new URLSearchParams(asked)
      query.set('limit', '50')
      if (after) query.set('after', after)
      const found = await get(`/events?${query}`)
      const lines = found.events.map(line)
      if (after) list.append(...lines)
      else swap(list, lines)
      next = found.next ?? ''
      more.hidden = !next
      say(outcome, list.children.length ? `${list.children.length} events${next ? ', and there are older ones' : ''}` : next ? 'None among the newest; there are older ones.' : 'There is no such event.')
      if (after) lines[0]?.querySelector('a').focus()
    } catch (error) {
      say(outcome, error.message)
    }
  }

  const node = h('div', {}, h('h1', {}, 'Events'),
    h('form', {
      class: 'filters', role: 'search',
      onsubmit(event) {
        event.preventDefault()
        if (id.value.trim()) {
          location.hash = `#/events/${encodeURIComponent(id.value.trim())}`
          return
        }
        const query = new URLSearchParams()
        for (const input of [type, match, status, endpoint]) if (input.value.trim()) query.set(input.name, input.value.trim())
        const hash = query.size ? `#/events?${query}` : '#/events'
        if (hash === location.hash) load('')
        else location.hash = hash
      },
    }, field('Id', id), field('Type', type), field('Match', match), field('State', status), field('Endpoint', endpoint), h('button', { class: 'main' }, 'Find')),
    whereTo(), list, outcome, more)
  load('')
  return { title: 'Events', node }
}
