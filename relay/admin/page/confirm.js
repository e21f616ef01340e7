// A question before what can't be taken back.

import { h } from './dom.js'

// confirm asks and resolves to whether it may be done.
export function confirm(title, text, does) {
  return new Promise((resolve) => {
    const dialog = h('dialog', { 'aria-labelledby': 'question' },
      h('h2', { id: 'question' }, title), h('p', {}, text),
      h('div', { class: 'actions' },
        h('button', { type: 'button', class: 'danger', onclick: () => dialog.close('yes') }, does),
        h('button', { type: 'button', autofocus: true, onclick: () => dialog.close('no') }, 'Leave it')))
    dialog.addEventListener('close', () => {
      dialog.remove()
      resolve(dialog.returnValue === 'yes')
    })
    document.body.append(dialog)
    dialog.showModal()
  })
}
