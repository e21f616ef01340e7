// The relay as the page knows it: what it says by itself, and what it answers.

// base is where the relay is: at the root of a host, or at a prefix that a proxy gives it.
const base = new URL('..', import.meta.url)
const url = (path) => new URL(`.${path}`, base)

// half is the part of a session that the browser does not send by itself, as it does the cookie: to every port of the host.
// It is this tab's, and survives a reload.
const place = `relay-session ${base.pathname}`
let half = sessionStorage.getItem(place) ?? ''
function keep(value) {
  half = value
  if (value) sessionStorage.setItem(place, value)
  else sessionStorage.removeItem(place)
}
const credentials = () => (half ? { 'X-CSRF-Token': half } : {})

export class Refused extends Error {
  constructor(status, code, message, faults) {
    super(message)
    Object.assign(this, { status, code, faults })
  }
}

// ask makes one request and returns the answer's JSON. A body that is a text is JSON already. What is refused is thrown, with the relay's own words.
export async function ask(method, path, body) {
  const headers = credentials()
  if (body !== undefined) headers['Content-Type'] = 'application/json'
  let answer
  try {
    answer = await fetch(url(path), { method, headers, body: body === undefined || typeof body === 'string' ? body : JSON.stringify(body), cache: 'no-store' })
  } catch {
    throw new Refused(0, 'unreachable', 'The relay does not answer.')
  }
  const said = await answer.json().catch(() => ({}))
  if (!answer.ok) {
    const { code = 'unknown', message = `It answered ${answer.status}.`, faults } = said.error ?? {}
    if (answer.status === 401 && path !== '/session') dispatchEvent(new Event('signed-out'))
    throw new Refused(answer.status, code, message, faults)
  }
  return said
}

export const get = (path) => ask('GET', path)
export const post = (path, body) => ask('POST', path, body)
export const endpointPath = (name, rest = '') => `/endpoints/${encodeURIComponent(name)}${rest}`

// session says whether a token is needed.
export async function session() {
  const said = await get('/session')
  if (!said.signed_in) keep('')
  return said
}

export async function signIn(token) {
  const said = await post('/session', { token })
  keep(said.csrf)
  return said
}

export async function signOut() {
  await ask('DELETE', '/session')
  keep('')
}

// silence is how long the relay, which speaks every second, may say nothing until it is asked instead, in milliseconds.
const silence = 6000

// now is what is known: the latest statistics and the last hour of each endpoint. Listeners hear of every change.
export const now = { stats: null, heard: 0, connected: false, history: new Map(), step: 15 }

const listeners = new Set()
export function hear(listener) {
  listeners.add(listener)
  return () => listeners.delete(listener)
}
const tell = () => listeners.forEach((listener) => listener())

function connected(is) {
  if (now.connected === is) return
  now.connected = is
  tell()
}

function remember(tracks, most) {
  for (const { name, samples } of tracks) {
    const known = now.history.get(name) ?? []
    const last = known.at(-1)?.taken_at ?? ''
    now.history.set(name, [...known, ...samples.filter((one) => one.taken_at > last)].slice(-most))
  }
}

async function catchUp() {
  try {
    const past = await get('/history')
    now.step = past.step_seconds
    now.history.clear()
    remember(past.endpoints, 3600 / now.step)
    tell()
  } catch { /* the charts begin with what comes next */ }
}

function learn(stats) {
  now.stats = stats
  now.heard = Date.now()
  now.connected = true
  tell()
}

// Following is one time of listening to the relay, from sign-in to sign-out.
let following = null

const wait = (ms, signal) => new Promise((resolve) => {
  const timer = setTimeout(resolve, ms)
  signal.addEventListener('abort', () => { clearTimeout(timer); resolve() })
})

// listen reads /live until it ends. It returns false when what should come every second does not come: something on the way
// holds it back.
async function listen(signal) {
  const stop = new AbortController()
  signal.addEventListener('abort', () => stop.abort())
  let starved = false
  let last = Date.now()
  const watch = setInterval(() => {
    if (Date.now() - last < silence) return
    starved = true
    stop.abort()
  }, 500)
  try {
    const answer = await fetch(url('/live'), { headers: credentials(), cache: 'no-store', signal: stop.signal })
    if (!answer.ok) throw new Refused(answer.status, 'refused', '')
    catchUp()
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader()
    for (let text = ''; ;) {
      const { done, value } = await reader.read()
      if (done) break
      last = Date.now()
      const parts = (text + value).split('\n\n')
      text = parts.pop()
      for (const part of parts) {
        const [, name, data] = part.match(/^event: (.*)\ndata: (.*)$/) ?? []
        if (name === 'stats') learn(JSON.parse(data))
        if (name === 'sample') {
          remember(JSON.parse(data).endpoints, 3600 / now.step)
          tell()
        }
      }
    }
  } catch { /* it ended, as those do that end well */ } finally {
    clearInterval(watch)
  }
  return !starved
}

// look asks for what /live would say, as long as the relay answers.
async function look(signal) {
  for (let round = 0; !signal.aborted; round++) {
    if (round % 8 === 0) await catchUp()
    try {
      learn(await get('/stats'))
    } catch {
      return
    }
    await wait(2000, signal)
  }
}

// follow listens to the relay until unfollow, across restarts of it, which end all sessions.
export async function follow() {
  unfollow()
  const { signal } = following = new AbortController()
  while (!signal.aborted) {
    if (!await listen(signal)) await look(signal)
    if (signal.aborted) return
    connected(false)
    await wait(2000, signal)
    if (signal.aborted) return
    try {
      if ((await session()).token_needed) dispatchEvent(new Event('signed-out'))
    } catch { /* still gone */ }
  }
}

export function unfollow() {
  following?.abort()
  following = null
  now.connected = false
}
