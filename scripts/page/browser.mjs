// The browser: a page that writes down what must not happen, and what axe-core says of it.

import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'

const require = createRequire(`${process.env.RELAY_MODULES}/`)
const { chromium } = require('playwright-core')
const axe = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8')

// Nothing of this is for the page: a browser that phones home would be a request to another host.
const flags = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync']

export const wide = { width: 1200, height: 860 }
export const narrow = { width: 390, height: 844 }

export const launch = () => chromium.launch({ executablePath: process.env.RELAY_CHROMIUM, args: flags })

// watch writes down a page's console errors, failures and requests to hosts other than the relay's.
export function watch(page, host) {
  const seen = { errors: [], foreign: [], requests: 0, lenient: false }
  page.on('console', (said) => {
    if (said.type() !== 'error' && said.type() !== 'warning') return
    // Chromium itself writes a line for each answer that is an error, and for each connection that is refused.
    if (seen.lenient && said.text().startsWith('Failed to load resource')) return
    seen.errors.push(said.text())
  })
  page.on('pageerror', (error) => seen.errors.push(error.message))
  page.on('request', (request) => {
    const url = new URL(request.url())
    seen.requests++
    if (url.protocol !== 'data:' && url.host !== host) seen.foreign.push(request.url())
  })
  return seen
}

// violations has axe-core look at a page. It has to be one that may take scripts: one of a context with bypassCSP.
export async function violations(page) {
  await page.evaluate(axe)
  // Only violations are worked out in full, and no style sheet is fetched again: the rule that needs it is not among these.
  const found = await page.evaluate(() => globalThis.axe.run(document, {
    runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'], resultTypes: ['violations'], preload: false,
  }))
  return found.violations.map((one) => `${one.id}: ${one.help}: ${one.nodes.map((node) => node.html).slice(0, 3).join(' ')}`)
}
