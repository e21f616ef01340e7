// The frame: who may look, where to look, and whether the relay is still there.

import { at, h, say, swap } from './dom.js'
import { follow, hear, now, session, signIn, signOut, unfollow } from './relay.js'
import { overview } from './overview.js'
import { endpointView } from './endpoint.js'
import { eventsView } from './events.js'
import { eventView } from './event.js'
import { configurationView } from './configuration.js'

const main = document.getElementById('main')
const line = document.getElementById('line')
const gone = document.getElementById('gone')
const out = document.getElementById('sign-out')
const find = (id) => document.getElementById(id)

// The part of an address behind #, as it was before it was escaped; somebody may have written it by hand.
const plain = (part) => {
  try {
    return decodeURIComponent(part)
  } catch {
    return part
  }
}

// A view is a node, a title, what to do with each news of the relay, and what to do when it is left.
let view = null
let open = false

const routes = [
  [/^\/$/, overview],
  [/^\/events(?:\?(.*))?$/, eventsView],
  [/^\/events\/(.+)$/, eventView],
  [/^\/endpoints\/(.+)$/, endpointView],
  [/^\/configuration$/, configurationView],
]

function show(next, focus) {
  view?.leave?.()
  view = next
  swap(main, view.node)
  update()
  if (focus) {
    main.focus({ preventScroll: true })
    scrollTo(0, 0)
  }
}

function route(focus) {
  if (!open) return
  const path = location.hash.slice(1) || '/'
  for (const link of document.querySelectorAll('.top nav a')) {
    const to = link.getAttribute('href').slice(1)
    if (to === '/' ? path === '/' || path.startsWith('/endpoints/') : path.startsWith(to)) link.setAttribute('aria-current', 'page')
    else link.removeAttribute('aria-current')
  }
  for (const [pattern, make] of routes) {
    const match = path.match(pattern)
    if (match) return show(make(plain(match[1] ?? '')), focus)
  }
  show({ title: 'Nothing here', node: h('div', {}, h('h1', {}, 'There is nothing here.'), h('p', {}, h('a', { href: '#/' }, 'How the relay is now'))) }, focus)
}

// update tells the view the news, and the reader whether they are new.
function update() {
  if (!open) return
  const lost = now.heard > 0 && !now.connected
  document.body.classList.toggle('stale', lost)
  line.className = now.connected ? 'line on' : lost ? 'line off' : 'line'
  say(find('line-text'), now.connected ? 'live' : lost ? 'no connection' : 'connecting')
  if (lost && gone.hidden) {
    swap(gone, 'The connection to the relay is gone. What you see is as it was at ', at(now.heard), '. Trying again.')
  }
  gone.hidden = !lost
  view?.update?.()
  const health = now.stats?.health.status
  const title = lost ? 'No connection' : health === 'failing' ? 'Failing' : health === 'degraded' ? 'Needs a look' : view?.title
  document.title = `${title ? `${title} · ` : ''}Realtor Bot Relay`
}

function signInView() {
  open = false
  unfollow()
  now.stats = null
  now.heard = 0
  view?.leave?.()
  view = null
  line.className = 'line'
  say(find('line-text'), 'signed out')
  gone.hidden = out.hidden = true
  document.body.classList.remove('stale')
  document.title = 'Sign in · Realtor Bot Relay'
  const field = h('input', { id: 'token', type: 'password', autocomplete: 'current-password', required: true, 'aria-describedby': 'refusal' })
  const refusal = h('p', { id: 'refusal', class: 'ill', role: 'alert' })
  const button = h('button', { class: 'main' }, 'Sign in')
  const form = h('form', {
    class: 'sign-in',
    async onsubmit(event) {
      event.preventDefault()
      button.disabled = true
      say(refusal, '')
      try {
        begin(await signIn(field.value))
      } catch (error) {
        say(refusal, error.message)
        button.disabled = false
        field.select()
        field.focus()
      }
    },
  }, h('h1', {}, 'Sign in'), h('p', { class: 'quiet' }, 'With the relay’s ', h('code', {}, 'admin.token'), '. You stay signed in for twelve hours, or until the relay restarts.'),
  h('div', {}, h('label', { for: 'token' }, 'Token'), field), refusal, button)
  swap(main, form)
  field.focus()
}

function begin(said) {
  open = true
  out.hidden = !said.signed_in
  say(find('version'), said.version ? `Realtor Bot Relay ${said.version}` : '')
  follow()
  route(false)
}

out.addEventListener('click', async () => {
  await signOut().catch(() => {})
  signInView()
})
addEventListener('signed-out', () => open && signInView())
addEventListener('hashchange', () => route(true))
document.querySelector('.skip').addEventListener('click', (event) => {
  event.preventDefault()
  main.focus()
})
hear(update)

async function start() {
  try {
    const said = await session()
    if (said.token_needed) signInView()
    else begin(said)
  } catch (error) {
    swap(main, h('h1', { class: 'ill' }, error.status ? 'The relay is not ready.' : 'The relay does not answer.'), h('p', { class: 'under quiet' }, error.status ? `It says: ${error.message}. ` : '', 'Trying again.'))
    setTimeout(start, 2000)
  }
}
start()
