// The test webhook: sent now and once, past the queue, and what the endpoint said.

import { at, h, millis, once, swap } from './dom.js'
import { endpointPath, post } from './relay.js'

const results = { pass: ['✓ pass', 'well'], fail: ['✗ fail', 'ill'], skipped: ['– skipped', 'quiet'] }
const checks = {
  accepts_signed: 'accepts what is rightly signed', answers_fast: 'answers fast', accepts_repeat: 'accepts a repeat',
  refuses_wrong_signature: 'refuses a wrong signature', refuses_unsigned: 'refuses what is unsigned',
}

function told(said) {
  const what = said.status ? `It answered ${said.status}` : `No answer: ${said.error || said.class}`
  return [
    h('p', {}, h('b', { class: said.delivered ? 'well' : 'ill' }, said.delivered ? 'Delivered. ' : 'Not delivered. '), `${what} in ${millis(said.duration_ms)}.`),
    said.status && said.error && !said.error.startsWith('answered') ? h('p', {}, said.error) : null,
    h('p', { class: 'quiet' }, 'Sent ', at(said.began_at), ' as ', h('span', { class: 'mono' }, said.id)),
    said.excerpt ? h('pre', { tabindex: '0', 'aria-label': 'The answer' }, said.excerpt) : null,
    said.checks ? h('ul', { class: 'checks' }, said.checks.map((one) => {
      const [word, tone] = results[one.result] ?? [one.result, 'quiet']
      return h('li', {}, h('span', { class: tone }, word), h('span', {}, checks[one.check] ?? one.check, one.note ? h('span', { class: 'quiet' }, ` · ${one.note}`) : null))
    })) : null,
  ]
}

export function trial(name) {
  const conformance = h('input', { type: 'checkbox' })
  const label = h('label', { class: 'check' }, conformance, 'also check the receiver')
  const answer = h('div', { class: 'said', role: 'status', hidden: true })
  const button = h('button', {
    type: 'button',
    onclick: once(async () => {
      answer.hidden = false
      answer.className = 'said'
      swap(answer, h('p', {}, 'Sending …'))
      try {
        const said = await post(endpointPath(name, `/test${conformance.checked ? '?conformance=1' : ''}`))
        answer.className = said.delivered && said.conforms !== false ? 'said well-edge' : 'said ill-edge'
        swap(answer, told(said))
      } catch (error) {
        swap(answer, h('p', { class: 'ill' }, error.message))
      }
    }),
  }, 'Test webhook')
  return {
    nodes: [button, label], answer,
    update: (word) => { button.hidden = label.hidden = word === 'orphaned' },
  }
}
