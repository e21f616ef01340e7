// The relay as the page knows it: what it says by itself, and what it answers.

let csrf = ''

export class Refused extends Error {
  constructor(status, code, message, faults) {
    super(message)
    Object.assign(this, { status, code, faults })
  }
}

// ask makes one request and returns the answer's JSON. What is refused is thrown, with the relay's own words.
export async function ask(method, path, body) {
  const headers = {}
  if (method !== 'GET' && csrf) headers['X-CSRF-Token'] = csrf
  if (body !== undefined) headers['Content-Type'] = 'application/json'
  let answer
  try {
    answer = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body), cache: 'no-store' })
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

// session says whether a token is needed, and remembers what changes have to be sent with.
export async function session() {
  const said = await get('/session')
  csrf = said.csrf ?? ''
  return said
}

export async function signIn(token) {
  const said = await post('/session', { token })
  csrf = said.csrf
  return said
}

export async function signOut() {
  await ask('DELETE', '/session')
  csrf = ''
}

// silence is how long the relay, which speaks every second, may say nothing until it counts as gone, in milliseconds.
const silence = 6000

// now is what is known: the latest statistics and the last hour of each endpoint. Listeners hear of every change.
export const now = { stats: null, heard: 0, connected: false, history: new Map(), step: 15 }

const listeners = new Set()
export function hear(listener) {
  listeners.add(listener)
  return () => listeners.delete(listener)
}
const tell = () => listeners.forEach((listener) => listener())

let source = null
let watch = 0

function connected(is) {
  if (now.connected === is) return
  now.connected = is
  tell()
}

function remember(tracks, most) {
  for (const { name, samples } of tracks) {
    const known = now.history.get(name) ?? []
    const last = known.at(-1)?.at ?? 0
    now.history.set(name, [...known, ...samples.filter((one) => one.at > last)].slice(-most))
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

// follow listens to the relay until the page is left, across restarts of it.
export function follow() {
  source?.close()
  source = new EventSource('/live')
  source.addEventListener('open', catchUp)
  source.addEventListener('stats', (event) => {
    now.stats = JSON.parse(event.data)
    now.heard = Date.now()
    now.connected = true
    tell()
  })
  source.addEventListener('sample', (event) => {
    remember(JSON.parse(event.data).endpoints, 3600 / now.step)
    tell()
  })
  source.addEventListener('error', () => {
    connected(false)
    if (source.readyState === EventSource.CLOSED) setTimeout(again, 2000)
  })
  clearInterval(watch)
  watch = setInterval(() => {
    if (now.connected && Date.now() - now.heard > silence) connected(false)
  }, 1000)
}

// again comes back after the relay has refused the stream: a restart ends all sessions.
async function again() {
  try {
    if ((await session()).token_needed) {
      dispatchEvent(new Event('signed-out'))
      return
    }
  } catch { /* still gone */ }
  follow()
}

export function unfollow() {
  source?.close()
  source = null
  clearInterval(watch)
  now.connected = false
}
