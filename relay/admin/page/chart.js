// Charts of the last hour: a line with the ground below it filled, and in words for who can't see it.

import { h, s, say } from './dom.js'

const width = 240

// points spreads samples over the hour that ends now; a gap longer than a few steps breaks the line.
function points(samples, value, step, top, height) {
  const end = Date.now() / 1000
  const runs = []
  let before = -Infinity
  for (const sample of samples) {
    const v = value(sample)
    if (v === null || v === undefined) continue
    const at = Date.parse(sample.taken_at) / 1000
    const x = width * (1 - (end - at) / 3600)
    if (x < -1) continue
    if (at - before > step * 8) runs.push([])
    before = at
    runs.at(-1).push([Math.max(x, 0), height - (Math.min(v, top) / top) * (height - 2)])
  }
  return runs
}

const path = (run) => run.map(([x, y], i) => `${i ? 'L' : 'M'}${x.toFixed(1)} ${y.toFixed(1)}`).join('')
const area = (run, height) => `${path(run)}L${run.at(-1)[0].toFixed(1)} ${height}L${run[0][0].toFixed(1)} ${height}Z`

// Chart draws one quantity, or two on the same scale. show formats a value, what names it.
export class Chart {
  constructor({ what, show, value, second, height = 44, bad = false, axis = false }) {
    Object.assign(this, { what, show, value, second, height })
    this.area = s('path', { class: 'area' })
    this.trace = s('path', { class: 'trace' })
    this.other = s('path', { class: 'trace second' })
    this.svg = s('svg', { class: bad ? 'chart bad' : 'chart', viewBox: `0 0 ${width} ${height}`, height, preserveAspectRatio: 'none', role: 'img' },
      s('line', { class: 'base', x1: 0, x2: width, y1: height, y2: height }), this.area, this.other, this.trace)
    this.latest = h('b')
    this.most = h('span')
    this.node = h('figure', { class: axis ? 'plot' : 'spark' },
      h('figcaption', {}, h('span', {}, what), this.latest), this.svg,
      axis && h('div', { class: 'axis', 'aria-hidden': 'true' }, h('span', {}, '1 h ago'), this.most, h('span', {}, 'now')))
  }

  draw(samples, step, latest) {
    const { value, second, height } = this
    const all = samples.flatMap((one) => [value(one), second ? second(one) : null]).filter((v) => v !== null && v !== undefined)
    const top = Math.max(...all, 1e-9)
    const runs = points(samples, value, step, top, height)
    this.trace.setAttribute('d', runs.map(path).join(''))
    this.area.setAttribute('d', runs.map((run) => area(run, height)).join(''))
    if (second) this.other.setAttribute('d', points(samples, second, step, top, height).map(path).join(''))
    say(this.latest, latest)
    say(this.most, all.length && top > 1e-9 ? `at most ${this.show(top)}` : '')
    const words = all.length ? `${this.what} in the last hour: now ${latest}, at most ${this.show(top)}` : `${this.what}: nothing in the last hour`
    if (this.svg.getAttribute('aria-label') !== words) this.svg.setAttribute('aria-label', words)
  }
}
