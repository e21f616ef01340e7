// Failed deliveries: what failed and why, replaying it, discarding it.

import { at, count, h, once, plural, say, swap } from './dom.js'
import { ask, endpointPath, get, post } from './relay.js'
import { confirm } from './confirm.js'

// Replay is the progress of one.
class Replay {
  constructor(name, id) {
    this.words = h('span')
    this.bar = h('progress', { 'aria-label': 'Progress of the replay' })
    this.stop = h('button', { type: 'button', class: 'plain', onclick: () => ask('DELETE', endpointPath(name, `/replays/${encodeURIComponent(id)}`)).catch((error) => say(this.words, error.message)) }, 'Cancel')
    this.node = h('li', { class: 'replay' }, h('div', { class: 'row' }, this.words, this.stop), this.bar)
  }

  // update shows how far it is. What is not delivered, failed or left out yet is still to come.
  update(one) {
    const ended = one.delivered + one.failed + one.skipped
    const running = one.state === 'running'
    if (one.total !== undefined || !running) {
      const max = Math.max(one.total ?? ended, ended, 1)
      this.bar.max = max
      this.bar.value = running ? ended : max
    }
    const of = one.total !== undefined ? ` of ${count(one.total)}` : ''
    const parts = [`${count(one.delivered)}${of} delivered`]
    if (one.failed) parts.push(`${count(one.failed)} failed again`)
    if (one.retrying) parts.push(`${count(one.retrying)} retrying`)
    if (one.skipped) parts.push(`${count(one.skipped)} left out`)
    const word = { running: 'Replaying', done: 'Replayed', cancelled: 'Replay cancelled' }[one.state] ?? one.state
    say(this.words, `${word}: ${parts.join(', ')}`)
    this.stop.hidden = !running
  }
}

export class Failures {
  constructor(name) {
    this.name = name
    this.count = h('span', { class: 'quiet' })
    this.replays = h('ul', { 'aria-label': 'Replays' })
    this.shown = new Map()
    this.list = h('ul', { class: 'rows picks' })
    this.none = h('p', { class: 'none' }, 'None.')
    this.said = h('p', { class: 'quiet', role: 'status' })
    this.all = h('button', { type: 'button', class: 'main', onclick: once(() => this.replay({ failed: true })) }, 'Replay all')
    this.some = h('button', { type: 'button', onclick: once(() => this.replay({ ids: this.picked() })) }, 'Replay the selected')
    this.discard = h('button', { type: 'button', class: 'danger', onclick: () => this.discardAll() }, 'Discard all')
    this.more = h('button', { type: 'button', hidden: true, onclick: () => this.load(this.next) }, 'Show more')
    this.node = h('section', { 'aria-labelledby': 'failed' },
      h('div', { class: 'head' }, h('h2', { id: 'failed' }, 'Failed deliveries'), this.count),
      this.replays, h('div', { class: 'actions' }, this.all, this.some, this.discard), this.said, this.list, this.none, this.more)
    this.list.addEventListener('change', () => this.chosen())
    Object.assign(this, { known: -1, asked: 0, asking: false, next: '' })
  }

  picked() {
    return [...this.list.querySelectorAll('input:checked')].map((box) => box.value)
  }

  chosen() {
    const n = this.picked().length
    this.some.ariaDisabled = n === 0 ? 'true' : null // disabled, it would lose the focus
    say(this.some, n ? `Replay the ${n} selected` : 'Replay the selected')
  }

  update(one) {
    say(this.count, one.failed ? plural(one.failed, 'delivery', 'deliveries') : '')
    const orphaned = one.state === 'orphaned'
    // A button that has the focus stays until it is left.
    for (const [button, never] of [[this.all, orphaned], [this.some, orphaned], [this.discard, false]]) {
      button.hidden = never || (one.failed === 0 && button !== document.activeElement)
    }
    this.none.hidden = one.failed > 0
    const running = (one.replays ?? []).map((replay) => replay.id)
    for (const replay of one.replays ?? []) this.tell(replay)
    // Those that run are part of the news; what came of one that has ended has to be asked for.
    if (this.running === undefined || this.running.some((id) => !running.includes(id))) this.ended()
    this.running = running
    if (one.failed !== this.known && !this.asking && Date.now() - this.asked > 2000) {
      this.known = one.failed
      this.load('')
    }
  }

  // tell shows a replay, the latest at the top.
  tell(replay) {
    if (!this.shown.has(replay.id)) {
      const one = new Replay(this.name, replay.id)
      this.shown.set(replay.id, one)
      this.replays.prepend(one.node)
    }
    this.shown.get(replay.id).update(replay)
  }

  async ended() {
    try {
      const { replays } = await get(endpointPath(this.name, '/replays'))
      replays.sort((a, b) => new Date(a.began_at) - new Date(b.began_at)).slice(-4).forEach((replay) => this.tell(replay))
      this.known = -1 // the list has changed as well
    } catch (error) {
      say(this.said, error.message)
    }
  }

  async load(after) {
    this.asking = true
    const picked = new Set(this.picked())
    try {
      const found = await get(endpointPath(this.name, `/failed?limit=20${after ? `&after=${after}` : ''}`))
      const lines = found.deliveries.map((one) => this.line(one, picked))
      if (after) this.list.append(...lines)
      else swap(this.list, lines)
      this.next = found.next ?? ''
      this.more.hidden = !this.next
      this.chosen()
    } catch (error) {
      say(this.said, error.message)
    } finally {
      this.asking = false
      this.asked = Date.now()
    }
  }

  line(one, picked) {
    const label = `Select ${one.id}`
    return h('li', {}, h('input', { type: 'checkbox', value: one.id, 'aria-label': label, checked: picked.has(one.id) }),
      h('span', { class: 'quiet' }, at(one.failed_at)),
      h('span', {}, one.type, h('br'), h('a', { href: `#/events/${encodeURIComponent(one.id)}`, class: 'mono' }, one.id)),
      h('span', { class: 'reason quiet' }, `${one.reason} · ${plural(one.attempts, 'attempt')}`))
  }

  async replay(spec) {
    say(this.said, 'Starting …')
    try {
      const started = await post(endpointPath(this.name, '/replay'), spec)
      if (started.replay) this.tell(started.replay)
      this.running = started.replay ? [...(this.running ?? []), started.replay.id] : this.running
      say(this.said, started.replay ? '' : 'There is nothing to replay.')
      for (const box of this.list.querySelectorAll('input:checked')) box.checked = false
      this.chosen()
    } catch (error) {
      say(this.said, error.message)
    }
  }

  async discardAll() {
    if (!await confirm(`Discard what failed at ${this.name}?`, 'These deliveries can’t be replayed afterwards. The events stay for as long as they are kept.', 'Discard')) return
    try {
      await ask('DELETE', endpointPath(this.name, '/failed'))
      say(this.said, 'Discarded.')
    } catch (error) {
      say(this.said, error.message)
    }
  }
}
