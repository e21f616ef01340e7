// Configuration: what the relay follows now. Secrets are stars.

import { h, swap } from './dom.js'
import { get, post } from './relay.js'

export function configurationView() {
  const text = h('pre', { tabindex: '0', 'aria-label': 'The configuration' }, 'Asking …')
  const plan = h('div', { class: 'said', hidden: true, role: 'status' })
  const load = () => get('/config').then((said) => swap(text, said.text), (error) => swap(text, error.message))

  async function reload(path) {
    plan.hidden = false
    swap(plan, h('p', {}, 'Reading the file …'))
    try {
      const said = await post(path)
      const changes = said.changes ?? []
      swap(plan,
        h('p', {}, h('b', {}, changes.length === 0 ? 'The file says what the relay does already.' : path.endsWith('dry_run=1') ? 'This would change:' : 'This was changed:')),
        changes.map((one) => h('p', {}, [[one.section, one.name].filter(Boolean).join(' '), one.change, one.keys?.join(', '),
          one.needs_restart && 'needs a restart', one.means].filter(Boolean).join(' · '))),
        (said.warnings ?? []).map((one) => h('p', { class: 'care' }, one)))
      load()
    } catch (error) {
      swap(plan, h('p', { class: 'ill' }, error.message),
        (error.faults ?? []).map((one) => h('p', {}, [one.line && `line ${one.line}`, one.key, one.message].filter(Boolean).join(' · '))))
    }
  }

  load()
  return {
    title: 'Configuration',
    node: h('div', {}, h('h1', {}, 'Configuration'),
      h('p', { class: 'under quiet' }, 'What the relay follows now, with stars for secrets. The file is changed with an editor.'),
      h('div', { class: 'actions' },
        h('button', { type: 'button', onclick: () => reload('/reload?dry_run=1') }, 'What would a reload change?'),
        h('button', { type: 'button', onclick: () => reload('/reload') }, 'Reload the file')),
      plan, h('section', {}, text)),
  }
}
