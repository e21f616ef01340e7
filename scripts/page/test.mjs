// The test that scripts/page-test runs.

import { mkdirSync } from 'node:fs'
import { launch, narrow, violations, watch, wide } from './browser.mjs'
import { eventually, patience, Proxy, Receiver, Relay } from './world.mjs'

const { RELAY_BINARY, RELAY_WORK, RELAY_SHOTS } = process.env
const token = `page-test-${Math.random().toString(36).slice(2)}-token`
const crm = new Receiver()
const calendar = new Receiver()
mkdirSync(`${RELAY_WORK}/relay`)
const relay = new Relay(RELAY_BINARY, `${RELAY_WORK}/relay`, token, [
  { name: 'crm', url: await crm.open(), events: ['lead.*', 'test'] },
  { name: 'calendar', url: await calendar.open(), events: ['*'] },
])
await relay.start()
const home = `http://${relay.admin}/`
const browser = await launch()
const context = await browser.newContext({ viewport: wide })
context.setDefaultTimeout(patience)
const page = await context.newPage()
const seen = watch(page, relay.admin)

let behaviour = ''
async function shows(what, does) {
  behaviour = what
  const began = Date.now()
  await does()
  console.log(`ok  ${((Date.now() - began) / 1000).toFixed(1).padStart(5)} s  ${what}`)
}
function must(is, text) {
  if (!is) throw new Error(text)
}
const heading = (text) => page.getByRole('heading', { name: text, level: 1 }).waitFor()
const button = (name, within = page) => within.getByRole('button', { name, exact: true })
const go = (hash) => page.evaluate((to) => { location.hash = to }, hash)
const event = (id, type = 'lead.created', data = { score: 75 }) => ({ id, type, data })

// stored is what the first page has of its session beside the cookie.
const stored = () => page.evaluate(() => ({ ...sessionStorage }))

// spills are the texts on a page that are wider than the box that they stand in.
const spills = () => [...document.querySelectorAll('main *')]
  .filter((one) => one.scrollWidth > one.clientWidth + 1 && one.clientWidth > 0 && getComputedStyle(one).overflowX === 'visible' && !one.children.length)
  .map((one) => `"${one.textContent}"`)

// inspect opens views anew with the session of the first page, every second one beside the others, and has each look at the reader in
// all four ways: axe-core sees each color scheme and each width once, the ruler all of them.
const inspect = async (views, inside) => {
  const other = await browser.newContext({ bypassCSP: true, storageState: await context.storageState() })
  try {
    const half = await stored()
    await Promise.all([0, 1].map(async (first) => {
      const mine = views.filter((_, n) => n % 2 === first)
      if (mine.length === 0) return
      const view = await other.newPage()
      await view.addInitScript((kept) => Object.entries(kept).forEach(([key, value]) => sessionStorage.setItem(key, value)), half)
      for (const [hash, ready] of mine) {
        await view.goto('about:blank') // to another # of the same page a browser goes without loading it
        await view.goto(hash[0] === '/' ? `${home}#${hash}` : home + hash)
        await view.getByText(ready).first().waitFor({ timeout: patience })
        for (const [colorScheme, viewport, whole] of [['light', wide, true], ['light', narrow], ['dark', narrow, true], ['dark', wide]]) {
          await view.emulateMedia({ colorScheme })
          await view.setViewportSize(viewport)
          const found = whole ? await violations(view) : []
          must(found.length === 0, `${hash} in ${colorScheme}, ${viewport.width} wide:\n${found.join('\n')}`)
          const beyond = await view.evaluate(() => document.scrollingElement.scrollWidth - innerWidth)
          must(beyond <= 0, `${hash} at ${viewport.width} is ${beyond} pixels too wide`)
          const over = await view.evaluate(spills)
          must(over.length === 0, `${hash} at ${viewport.width}: wider than where it stands, so that it lies over what is beside it: ${over.join(', ')}`)
          await inside?.(view, hash, colorScheme, viewport)
        }
      }
    }))
  } finally {
    await other.close()
  }
}

try {
  await shows('a wrong token is refused, the right one signs in', async () => {
    await page.goto(home)
    await heading('Sign in')
    await inspect([['/', 'Sign in']])
    seen.lenient = true
    await page.getByLabel('Token').fill('wrong')
    await button('Sign in').click()
    await page.getByText('this is not admin.token').waitFor()
    seen.lenient = false
    await page.getByLabel('Token').fill(token)
    await page.keyboard.press('Enter')
    await heading('All is well.')
    must(await page.evaluate(() => document.cookie) === '', 'a script can read the session’s cookie')
    await page.reload()
    await heading('All is well.') // still signed in
    const other = await context.newPage() // which has the cookie, and not the other half
    await other.goto(home)
    await other.getByRole('heading', { name: 'Sign in' }).waitFor()
    await other.close()
  })

  await shows('real traffic shows without a reload', async () => {
    for (let i = 0; i < 40; i++) await relay.post(event(`evt_${i}`), event(`evt_bot_${i}`, 'bot.created'))
    await page.getByRole('link', { name: 'evt_bot_39', exact: true }).waitFor()
    await page.getByText('All 2 endpoints are up').waitFor()
    await eventually('both endpoints have it', () => crm.got >= 40 && calendar.got >= 80)
  })

  await shows('a test webhook shows its answer, and how the receiver does', async () => {
    crm.body = '<script>window.hit = 1</script><img src=x onerror="window.hit = 2">'
    await page.getByRole('link', { name: 'crm', exact: true }).click()
    await heading('crm')
    await page.getByLabel('also check the receiver').check()
    await button('Test webhook').click()
    await page.getByText('Delivered. It answered 200').waitFor()
    await page.getByText('accepts what is rightly signed').waitFor()
    await page.getByText('✗ fail').first().waitFor() // this receiver accepts whatever comes
    must(await page.locator('pre', { hasText: 'window.hit = 2' }).count() > 0, 'the answer isn’t shown as it came')
    crm.body = 'noted'
  })

  await shows('an endpoint is seen to go down', async () => {
    crm.status = 500
    // Two fail for good before it is down: probes of one that is down are charged to no delivery.
    for (let i = 0; i < 2; i++) await relay.post(event(`evt_bad_${i}`))
    await eventually('something has failed for good', async () => (await relay.endpoint('crm')).failed >= 2)
    for (let i = 2; i < 12; i++) await relay.post(event(`evt_bad_${i}`))
    await page.locator('.title').getByText('down').waitFor()
    await go('/events/evt_bad_11')
    await page.getByText(/^Next: waits until the endpoint is back/).waitFor()
    await go('/')
    await heading('Something needs a look.')
    await page.getByText('endpoint "crm" is down').waitFor()
    await inspect([['/', 'Something needs a look.']])
  })

  await shows('and to come back, at the press of a button', async () => {
    crm.status = 200
    await go('/endpoints/crm')
    await button('Resume').click()
    await page.locator('.title').getByText('up', { exact: true }).waitFor()
    await go('/')
    await heading('All is well.')
    await eventually('nothing waits', async () => {
      const { pending, retrying } = await relay.endpoint('crm')
      return pending + retrying === 0
    })
  })

  await shows('failed deliveries are replayed, with their progress', async () => {
    const before = (await relay.endpoint('crm')).failed
    must(before >= 2, `only ${before} have failed`)
    await go('/endpoints/crm')
    const section = page.getByRole('region', { name: 'Failed deliveries' })
    await section.getByRole('checkbox').first().check()
    // The latest stands at the top. With two failed deliveries both replays say the same, so each is waited for by its place.
    const replays = section.getByRole('list', { name: 'Replays' }).getByRole('listitem')
    const replayed = (n) => replays.first().getByText(`Replayed: ${n} of ${n} delivered`).waitFor()
    await button('Replay the 1 selected', section).click()
    await replayed(1)
    await button('Replay all', section).click()
    await replays.nth(1).waitFor()
    await replayed(before - 1)
    must(await replays.getByRole('progressbar').count() === 2, 'the progress isn’t a progress bar')
    await section.getByText('None.').waitFor()
    must((await relay.endpoint('crm')).failed === 0, 'something is still failed')
  })

  await shows('failed deliveries are discarded, but not without a question', async () => {
    crm.status = 410
    await relay.post(event('evt_gone'))
    await page.locator('.title').getByText('paused').waitFor()
    crm.status = 400
    await button('Resume').click()
    const section = page.getByRole('region', { name: 'Failed deliveries' })
    await button('Discard all', section).click()
    await button('Leave it', page.getByRole('dialog')).click()
    must((await relay.endpoint('crm')).failed > 0, 'it was discarded all the same')
    await button('Discard all', section).click()
    await button('Discard', page.getByRole('dialog')).click()
    await section.getByText('Discarded.').waitFor()
    await section.getByText('None.').waitFor()
    crm.status = 200
  })

  await shows('events are found by type, state and id, and tell their story', async () => {
    await page.getByRole('link', { name: 'Events', exact: true }).click()
    await page.getByLabel('Type').fill('bot.*')
    await button('Find').click()
    await page.getByText('40 events').waitFor()
    must(await page.getByRole('link', { name: 'evt_0', exact: true }).count() === 0, 'another type is found as well')
    await page.getByLabel('Id').fill('evt_bad_0')
    await button('Find').click()
    await heading('lead.created')
    await page.getByText('Attempt 1: answered 500').waitFor()
    await page.getByText('answered 200').first().waitFor()
    seen.lenient = true
    await go('/events/evt_none')
    await heading('No such event is kept.')
    seen.lenient = false
  })

  await shows('events are found by what a member is, and where one would go is told', async () => {
    await go('/events')
    await page.getByLabel('Match').fill('id=evt_bad_0')
    await button('Find').click()
    await page.getByText('1 events').waitFor()
    await page.getByRole('link', { name: 'evt_bad_0', exact: true }).waitFor()
    await page.getByText('Where would an event go?').click()
    await page.getByLabel('The event, as it would be posted').fill('{"type": "bot.created", "data": {"n": 1e400}}')
    await button('Ask').click()
    await page.getByText('bot.created goes to 1 endpoint: calendar').waitFor()
    await page.getByText('it subscribes to lead.*, test').waitFor()
    must((await violations(page)).length === 0, 'the form is not accessible')
  })

  await shows('an endpoint is paused and resumed with the keyboard alone', async () => {
    await go('/endpoints/calendar')
    await heading('calendar')
    for (const [name, state] of [['Pause', 'paused'], ['Resume', 'up']]) {
      for (let i = 0; ; i++) {
        if (await page.evaluate(() => document.activeElement.textContent) === name) break
        must(i < 60, `Tab never comes to ${name}`)
        await page.keyboard.press('Tab')
      }
      await page.keyboard.press('Enter')
      await page.locator('.title').getByText(state, { exact: true }).waitFor()
      await page.locator('body').evaluate(() => document.activeElement.blur())
    }
  })

  await shows('the focus stays where it was', async () => {
    const focused = () => page.evaluate(() => document.activeElement.textContent)
    const stays = async (what) => must(await focused() === what, `the focus is on "${await focused()}" and not on "${what}"`)
    await go('/endpoints/calendar')
    await heading('calendar')
    await button('Test webhook').focus()
    await page.keyboard.press('Enter')
    await page.getByText('Delivered. It answered 200').waitFor()
    await stays('Test webhook')
    await button('Pause').focus()
    await page.keyboard.press('Enter')
    await page.locator('.title').getByText('paused', { exact: true }).waitFor()
    await button('Pause').waitFor({ state: 'hidden' })
    await stays('Resume') // which stands in its place
    await page.keyboard.press('Enter')
    await page.locator('.title').getByText('up', { exact: true }).waitFor()
    await button('Resume').waitFor({ state: 'hidden' })
    await stays('Pause')
    await go('/events/evt_bot_1')
    await button('Replay to calendar').focus()
    await page.keyboard.press('Enter')
    await page.getByText('of a replay').waitFor()
    await stays('Replay to calendar')
    calendar.status = 400
    await relay.post(event('evt_focus', 'bot.created'))
    await go('/endpoints/calendar')
    const section = page.getByRole('region', { name: 'Failed deliveries' })
    await button('Replay all', section).waitFor()
    calendar.status = 200
    await button('Replay all', section).focus()
    await page.keyboard.press('Enter')
    await section.getByText('Replayed: 1 of 1 delivered').waitFor()
    await section.getByText('None.').waitFor()
    await stays('Replay all')
  })

  await shows('controls that turn the direction of text are shown by name', async () => {
    await relay.post(event('evt_bidi', 'lead.created', { note: 'a\u202Egnp.exe\u2066' }))
    await go('/events/evt_bidi')
    await page.getByText('a‹U+202E›gnp.exe‹U+2066›').waitFor()
  })

  await shows('it works at a prefix that a proxy gives it, and where the proxy holds /live back', async () => {
    await Promise.all([false, true].map(async (hold) => {
      const proxy = new Proxy(relay.admin, '/relay', hold)
      const at = await proxy.open()
      const other = await browser.newContext({ viewport: wide })
      other.setDefaultTimeout(patience)
      try {
        const view = await other.newPage()
        if (hold) await view.clock.install()
        await view.goto(`http://${at}/relay/`)
        await view.getByLabel('Token').fill(token)
        await view.keyboard.press('Enter')
        if (hold) {
          await eventually('the proxy holds /live back', () => proxy.held > 0)
          await view.clock.fastForward(7000) // for so long the page hears nothing
        }
        await view.getByRole('heading', { name: 'All is well.' }).waitFor()
        const id = `evt_behind_${hold}`
        await relay.post(event(id))
        await view.getByRole('link', { name: id, exact: true }).waitFor()
        await view.getByText('live', { exact: true }).waitFor()
        await view.getByRole('link', { name: 'The manual', exact: true }).click()
        await view.getByRole('link', { name: /^Runbook/ }).click()
        await view.getByRole('heading', { name: /^Runbook/ }).waitFor()
        must(proxy.beside === 0, `${proxy.beside} requests went beside the prefix`)
      } finally {
        await other.close()
        proxy.close()
      }
    }))
  })

  await shows('signing in where a proxy changes the Host says so', async () => {
    const proxy = new Proxy(relay.admin, '', false, { host: relay.admin })
    const at = await proxy.open()
    const other = await browser.newContext()
    other.setDefaultTimeout(patience)
    try {
      const view = await other.newPage()
      await view.goto(`http://${at}/`)
      await view.getByLabel('Token').fill(token)
      await view.keyboard.press('Enter')
      await view.getByText('have it pass on the Host header').waitFor()
    } finally {
      await other.close()
      proxy.close()
    }
  })

  await shows('what events hold is text and never HTML', async () => {
    await relay.post(event('evt_html', 'lead.created', { '<b>': '</pre><script>window.hit = 3</script><img src=x onerror="window.hit = 4">' }))
    await go('/events/evt_html')
    await page.getByText('window.hit = 4').waitFor()
    must(await page.evaluate(() => window.hit) === undefined, 'a script of an event ran')
    must(await page.locator('main img, main script').count() === 0, 'an event’s text became elements')
  })

  await shows('an event is found whatever its id holds', async () => {
    const ids = ['"', '\\', '/', '..', '.', 'a//b/../c', '?x=1', '#top', '%', '%2F', '100%', 'a&b', "'", '<script>window.hit=5</script>', 'a+b', 'urn:x;y', 'x'.repeat(255)]
    for (let n = 0; n < ids.length; n += 9) { // of ten that the first view shows
      const some = ids.slice(n, n + 9)
      await relay.post(...some.map((id) => event(id, 'lead.created')))
      for (const id of some) {
        await go('/')
        await page.getByRole('link', { name: id, exact: true }).first().click()
        await heading('lead.created')
        must(await page.locator('main p.mono').textContent() === id, `the page of ${id} shows another`)
        await go('/events')
        await page.getByLabel('Id').fill(id)
        await button('Find').click()
        await heading('lead.created')
        must(await page.locator('main p.mono').textContent() === id, `who looks for ${id} is shown another`)
      }
    }
    must(await page.evaluate(() => window.hit) === undefined, 'a script in an id ran')
    for (const hash of ['/events', `/events/${'x'.repeat(255)}`]) {
      await go(hash)
      await page.getByText('x'.repeat(255)).first().waitFor()
      must((await page.evaluate(spills)).length === 0, `the longest id is too wide at ${hash}`)
    }
  })

  await shows('the configuration is shown without secrets', async () => {
    await page.getByRole('link', { name: 'Configuration', exact: true }).click()
    await page.getByText('endpoint calendar').waitFor()
    await button('What would a reload change?').click()
    await page.getByText('The file says what the relay does already.').waitFor()
    must(!(await page.content()).includes(token), 'a secret is shown')
  })

  await shows('no view has an accessibility violation or is too wide, light and dark, wide and narrow', () =>
    inspect([['/', 'All is well.'], ['/endpoints/crm', 'The last hour'], ['/events', 'Find'], ['/events/evt_bad_0', 'Attempt 1'], ['/configuration', 'endpoint calendar']],
      async (view, hash, scheme, viewport) => {
        if (!RELAY_SHOTS) return
        const name = { '/': 'now', '/endpoints/crm': 'endpoint', '/events/evt_bad_0': 'event' }[hash]
        if (name) await view.screenshot({ path: `${RELAY_SHOTS}/${name}-${scheme}-${viewport === wide ? 'wide' : 'narrow'}.png`, fullPage: viewport === wide })
      }))

  await shows('the manual is a step away, reads well in every look, and leads back', async () => {
    await go('/endpoints/crm')
    await page.getByRole('link', { name: 'What a state means' }).click()
    await page.getByRole('heading', { name: 'What a state means', level: 2 }).waitFor()
    must(await page.evaluate(() => Math.abs(document.getElementById('what-a-state-means').getBoundingClientRect().top)) < 50, 'the link leads beside its heading')
    await page.getByRole('link', { name: 'The manual', exact: true }).click()
    await page.getByRole('link', { name: /^Runbook/ }).click()
    await heading(/^Runbook/)
    await page.getByRole('link', { name: 'Realtor Bot Relay', exact: true }).click()
    await heading('All is well.')
    await page.getByRole('link', { name: 'The manual', exact: true }).click()
    await heading('The manual')
    const pages = await page.locator('main a').evaluateAll((all) => all.map((one) => one.getAttribute('href')))
    must(pages.length > 15, `the manual has ${pages.length} pages`)
    await inspect(['', 'operate', 'receive', 'measured'].map((one) => [`manual/${one}`, 'Realtor Bot Relay'])) // lists, code, wide tables
    await page.goto(home)
    await heading('All is well.')
  })

  await shows('a relay that is gone is missed, and one that is back is found', async () => {
    await go('/')
    await heading('All is well.')
    seen.lenient = true
    await relay.stop()
    await page.getByText('The connection to the relay is gone.').waitFor()
    await relay.start()
    await heading('Sign in') // sessions are in memory
    await page.getByLabel('Token').fill(token)
    await button('Sign in').click()
    await heading('All is well.')
    must(!await page.getByText('The connection to the relay is gone.').isVisible(), 'it still says that the relay is gone')
    seen.lenient = false
    await button('Sign out').click()
    await heading('Sign in')
  })

  await shows('no console error, and no request to another host', async () => {
    must(seen.errors.length === 0, `the console says:\n${seen.errors.join('\n')}`)
    must(seen.foreign.length === 0, `requests went to\n${seen.foreign.join('\n')}`)
    must(seen.requests > 50, `only ${seen.requests} requests were seen`)
  })

  await shows('the checks would have found each of these (control)', async () => {
    const open = await browser.newContext({ viewport: wide, bypassCSP: true })
    const bad = await open.newPage()
    await bad.goto(home)
    await bad.getByText('Sign in').first().waitFor()
    await bad.evaluate(() => {
      const image = document.createElement('img')
      document.querySelector('main').append(image)
    })
    must((await violations(bad)).some((one) => one.startsWith('image-alt')), 'axe-core misses an image without a text')
    await bad.evaluate(() => {
      const narrow = document.createElement('p')
      narrow.append('1,234,567')
      narrow.style.width = '1rem'
      document.querySelector('main').append(narrow)
    })
    must((await bad.evaluate(spills)).join() === '"1,234,567"', 'a text that is wider than its place isn’t seen')
    await page.evaluate(() => fetch('http://127.0.0.2:9/').catch(() => {}))
    must(seen.errors.length > 0, 'a request that the policy forbids leaves no trace')
    const before = seen.errors.length
    await page.evaluate(() => { try { document.body.innerHTML = '<p>' } catch (error) { console.error(error) } })
    must(seen.errors.length > before, 'HTML made of text leaves no trace')
    const strange = watch(bad, relay.admin)
    await bad.evaluate(() => fetch('http://127.0.0.2:9/').catch(() => {}))
    must(strange.foreign.length === 1, 'a request to another host isn’t seen')
    await open.close()
  })
} catch (error) {
  console.error(`FAIL  ${behaviour}: ${error.message}`)
  console.error(`      the console said: ${JSON.stringify(seen.errors)}`)
  console.error((await page.locator('main').innerText({ timeout: 1000 }).catch(() => '')).split('\n').slice(0, 40).map((line) => `      | ${line}`).join('\n'))
  console.error(relay.log.split('\n').slice(-12).map((line) => `      ${line}`).join('\n'))
  process.exitCode = 1
} finally {
  await browser.close()
  await relay.stop()
  crm.close()
  calendar.close()
}
