// Elements and words. Everything that comes from events, endpoints or the network becomes text, never HTML.

const SVG = 'http://www.w3.org/2000/svg'

// h makes an element: attributes by name, listeners as on…, and children: elements, text, or nothing.
export function h(tag, props = {}, ...children) {
  return fill(document.createElement(tag), props, children)
}

// s makes an element of SVG.
export function s(tag, props = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), props, children)
}

function fill(node, props, children) {
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value)
    else if (name in node && typeof value === 'boolean') node[name] = value
    else node.setAttribute(name, name === 'title' || name === 'aria-label' ? plain(value) : value)
  }
  node.append(...shown(children))
  return node
}

// Controls that turn the direction of what stands behind them could make a text look like another: they are shown by name.
const turns = /[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g
const plain = (text) => String(text).replace(turns, (c) => `‹U+${c.charCodeAt(0).toString(16).toUpperCase().padStart(4, '0')}›`)

const shown = (children) => children.flat().filter((child) => child !== null && child !== undefined && child !== false)
  .map((child) => (child instanceof Node ? child : plain(child)))

// say sets an element's text, and touches nothing when it is that already: a screen reader reads what changed.
export function say(node, text) {
  const said = plain(text)
  if (node.textContent !== said) node.textContent = said
}

// mark tells elements that take the focus from one another.
const mark = (node) => `${node.tagName} ${node.getAttribute('href') ?? node.getAttribute('aria-label') ?? node.textContent}`

// swap replaces all children. The focus stays where it was, on what stands there now.
export function swap(node, ...children) {
  const had = node.contains(document.activeElement) && node !== document.activeElement ? mark(document.activeElement) : null
  node.replaceChildren(...shown(children))
  if (had) [...node.querySelectorAll('a, button, input, pre, select')].find((one) => mark(one) === had)?.focus({ preventScroll: true })
}

// once is a listener that does nothing while what it did before goes on. The button keeps the focus, which one that is disabled
// loses, and tells that it is busy.
export const once = (work) => async ({ currentTarget: button }) => {
  if (button.ariaBusy === 'true' || button.ariaDisabled === 'true') return
  button.ariaBusy = 'true'
  try {
    await work()
  } finally {
    button.ariaBusy = null
  }
}

const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 })
const short = new Intl.NumberFormat('en', { maximumSignificantDigits: 3, notation: 'compact' })

export const count = (n) => (n < 100000 ? whole.format(n) : short.format(n))

export function rate(n) {
  if (n === 0) return '0'
  return n < 0.1 ? '<0.1' : n < 10 ? n.toFixed(1) : count(Math.round(n))
}

export function millis(ms) {
  if (ms === null || ms === undefined) return '–'
  if (ms < 1) return '<1 ms'
  if (ms < 1000) return `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`
  return `${(ms / 1000).toFixed(ms < 10000 ? 1 : 0)} s`
}

// share is a part of a whole in per cent, never rounded up: all is 100 %, and nothing else is.
export function share(part) {
  if (part === null || part === undefined) return '–'
  return `${Math.floor(part * 1000) / 10} %`
}

export function span(seconds) {
  if (seconds < 1) return seconds > 0 ? '<1 s' : '0 s'
  if (seconds < 120) return `${Math.round(seconds)} s`
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`
  if (seconds < 172800) return `${Math.round(seconds / 3600)} h`
  return `${Math.round(seconds / 86400)} days`
}

export function bytes(n) {
  if (n === undefined) return 'unknown'
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB']
  let unit = 0
  while (n >= 1024 && unit < units.length - 1) [n, unit] = [n / 1024, unit + 1]
  return `${n < 10 && unit ? n.toFixed(1) : Math.round(n)} ${units[unit]}`
}

export const plural = (n, one, many = one + 's') => `${count(n)} ${n === 1 ? one : many}`

const clock = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23' })
const exact = new Intl.DateTimeFormat(undefined, {
  hour: '2-digit', minute: '2-digit', second: '2-digit', fractionalSecondDigits: 3, hourCycle: 'h23',
})
const dated = new Intl.DateTimeFormat(undefined, {
  month: 'short', day: 'numeric', hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23',
})

// at is a moment: the time of day when it was today, else with its date.
export function at(moment, precise = false) {
  const date = new Date(moment)
  const today = date.toDateString() === new Date().toDateString()
  const text = today ? (precise ? exact : clock).format(date) : dated.format(date)
  return h('time', { datetime: date.toISOString(), title: date.toISOString() }, text)
}

const states = {
  up: ['●', 'well'], delivered: ['●', 'well'], down: ['▼', 'ill'], failed: ['▼', 'ill'], offline: ['▼', 'ill'], limited: ['◔', 'care'],
  paused: ['❚❚', 'care'], retrying: ['↻', 'care'], pending: ['○', 'quiet'], disabled: ['○', 'quiet'], orphaned: ['◌', 'care'],
  discarded: ['∅', 'quiet'],
}

// state is a word with a sign and a colour, so that none of the three has to carry it alone.
export function state(word) {
  const [sign, tone] = states[word] ?? ['○', 'quiet']
  return h('span', { class: `state ${tone}` }, h('span', { 'aria-hidden': 'true' }, sign), h('span', {}, word))
}
