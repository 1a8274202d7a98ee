// @ts-check
/** The list beside the film: the column from above, implants, details, notes, and the tools of Correct. */

import { button, choice, h } from './dom.js';
import { details, isDoubtful, isVertebra, isWithheld, mark, percent, probability, title } from './shapes.js';
import { LEVELS, STRUCTURES } from './terms.js';
import { networkName } from './words.js';

/** @typedef {import('./app.js').App} App */
/** @typedef {import('./shapes.js').Shape} Shape */

export class Column {
  /** @param {App} app */
  constructor(app) {
    this.app = app;
    this.head = h('h2', {}, 'Column');
    this.count = h('p', { class: 'count' });
    this.list = h('ul', { class: 'column' });
    this.box = h('div', { class: 'details', role: 'region', 'aria-label': 'Details', 'aria-live': 'polite' });
    this.tools = h('section', { class: 'tools', hidden: true });
    this.saving = this.#saving();
    this.notes = h('ul', { class: 'notes' });
    this.notesPart = h('section', {}, h('h2', {}, 'How the film was read'), this.notes);
    this.root = h('div', { class: 'beside' }, this.tools, h('section', {}, this.head, this.count, this.list, this.box), this.saving, this.notesPart);
  }

  #saving() {
    const { app } = this;
    const file = h('input', { type: 'file', id: 'via-file', class: 'unseen', accept: '.json,application/json', 'aria-label': 'File with outlines to load' });
    file.addEventListener('change', () => {
      if (file.files?.[0]) app.load(file.files[0]);
      file.value = '';
    });
    return h('section', { class: 'saving' }, h('h2', {}, 'Files'),
      h('div', { class: 'buttons' }, ...[['via', 'VIA 2'], ['coco', 'COCO'], ['png', 'PNG'], ['csv', 'CSV'], ['json', 'JSON']].map(
        ([form, text]) => button(text, () => app.editor.save(form), { 'data-save': form, 'aria-label': `Save as ${text}` }))),
      file, button('Load VIA file to compare…', () => file.click(), { id: 'load' }));
  }

  update() {
    const { app } = this;
    const shapes = app.foreign && !app.accepted ? [] : app.listed;
    this.head.textContent = app.mode === 'correct' ? 'Outlines' : app.mode === 'network' ? networkName(app.one) : app.mode === 'pair' ? networkName(app.first) : 'Column';
    this.count.textContent = app.answer.summary && app.mode !== 'network' && app.mode !== 'pair' && app.mode !== 'correct' ? app.panels.summary()
      : app.answer.running ? 'The networks are at work.' : '';
    const held = this.list.contains(document.activeElement) ? /** @type {HTMLElement} */ (document.activeElement).dataset.id : null;
    this.list.replaceChildren(...shapes.map((one) => h('li', {}, this.#row(one))));
    if (held) this.list.querySelector(`[data-id="${held}"]`)?.focus();
    this.tools.hidden = app.mode !== 'correct';
    const ready = Boolean(app.film && (app.corrections.shapes.length || app.answer.summary));
    for (const each of this.saving.querySelectorAll('[data-save]')) each.disabled = !ready;
    this.saving.querySelector('#load').disabled = !app.film;
    const notes = app.film?.notes ?? [];
    const reason = app.answer.summary?.fused.labelling?.count_reason;
    this.notesPart.hidden = !notes.length && !reason;
    this.notes.replaceChildren(...notes.map((/** @type {any} */ note) => h('li', { 'data-note': note.code }, note.text)));
    if (reason) this.notes.append(h('li', {}, reason));
    this.details();
  }

  /** @param {Shape} one */
  #row(one) {
    const { app } = this;
    const state = isWithheld(one) ? ' withheld' : isDoubtful(one) ? ' doubtful' : '';
    const sure = one.origin !== 'predicted' ? one.origin : one.confidence !== null && isVertebra(one)
      ? (one.level ? probability(one.confidence) : 'withheld') : one.score !== null ? percent(one.score) : '';
    const row = button('', () => app.select(one.id), { class: `row${state}`, 'data-id': one.id, 'aria-pressed': String(app.selected === one.id) });
    row.append(h('span', { class: `swatch ${one.structure}`, 'aria-hidden': 'true' }), h('span', { class: 'name' }, isVertebra(one) ? mark(one) || title(one) : title(one)),
      h('span', { class: 'sure' }, sure), one.seenBy.length ? h('span', { class: 'seen' }, `${one.seenBy.length}/${app.networks.length}`) : '');
    row.setAttribute('aria-label', [title(one), ...details(one, app.networks.length)].join(', '));
    row.addEventListener('focus', () => app.select(one.id));
    row.addEventListener('pointerenter', () => this.details(one));
    row.addEventListener('pointerleave', () => this.details());
    return row;
  }

  /** Details of a shape, or of the selected one. @param {Shape} [shown] */
  details(shown) {
    const { app } = this;
    for (const row of this.list.querySelectorAll('.row')) row.setAttribute('aria-pressed', String(row.dataset.id === app.selected));
    const one = shown ?? app.listed.find((each) => each.id === app.selected);
    if (!one || (app.foreign && !app.accepted)) {
      this.box.replaceChildren();
      return;
    }
    const lines = details(one, app.networks.length).map((line) => h('li', {}, line));
    if (one.seenBy.length) {
      const missing = app.networks.filter((name) => !one.seenBy.includes(name));
      if (missing.length) lines.push(h('li', { class: 'fine' }, `by ${one.seenBy.map(networkName).join(', ')}; not by ${missing.map(networkName).join(', ')}`));
    }
    const bars = Object.entries(one.levels).filter(([, share]) => share >= 0.005).slice(0, 4).map(([level, share]) => h('li', {},
      h('span', {}, level), h('meter', { min: 0, max: 1, value: share, 'aria-label': `Probability of ${level}` }), h('span', {}, probability(share))));
    this.box.replaceChildren(h('h3', {}, title(one)), h('ul', {}, ...lines), bars.length > 0 && one.origin === 'predicted' ? h('ul', { class: 'bars' }, ...bars) : '');
  }

  /** The tools of Correct, for what is selected. */
  showTools() {
    const { app } = this;
    const { editor, corrections } = app;
    const one = corrections.find(app.selected);
    const others = corrections.shapes.filter((each) => each.id !== app.selected);
    const point = one && editor.active >= 0;
    const held = this.tools.contains(document.activeElement) ? document.activeElement?.id : null;
    const history = h('div', { class: 'buttons' }, button('Undo', () => editor.undo(), { id: 'undo', disabled: !corrections.canUndo }),
      button('Redo', () => editor.redo(), { id: 'redo', disabled: !corrections.canRedo }),
      button('Draw outline', () => editor.draw(), { id: 'draw', 'aria-pressed': String(editor.drawing !== null) }),
      button('Add shape', () => editor.addShape(), { id: 'add' }));
    const parts = [h('h2', {}, 'Correct'), history];
    if (editor.hint) parts.push(h('p', { class: 'hint', role: 'status' }, editor.hint));
    const twice = corrections.doubles();
    if (twice.length) parts.push(h('p', { class: 'hint warn', role: 'alert' }, `${twice.join(', ')} ${twice.length > 1 ? 'stand' : 'stands'} twice; give each name once.`));
    if (one) {
      /** @type {[string, string][]} */
      const levels = [['', 'no name'], ...LEVELS.map((level) => /** @type {[string, string]} */ ([level, level]))];
      parts.push(
        choice('Structure', Object.entries(STRUCTURES), one.structure, (value) => editor.apply(() => corrections.restructure(one.id, value)), { id: 'structure' }),
        isVertebra(one) ? choice('Name', levels, one.level ?? '', (value) => editor.apply(() => corrections.rename(one.id, value || null)), { id: 'level' }) : '',
        h('div', { class: 'buttons' },
          button('Add point', () => editor.addPoint(), { id: 'add-point', disabled: !point }),
          button('Delete point', () => editor.deletePoint(), { id: 'delete-point', disabled: !point }),
          button('Split', () => editor.split(), { id: 'split', 'aria-pressed': String(editor.picking) }),
          button('Remove', () => editor.remove(), { id: 'remove' })));
      if (others.length) {
        /** @type {[string, string][]} */
        const options = [['', 'choose…'], ...others.map((each, place) => /** @type {[string, string]} */ ([each.id, `${title(each)}${each.level ? '' : ` (${place + 1})`}`]))];
        parts.push(choice('Join with', options, '', (value) => value && editor.join(value), { id: 'join' }));
      }
    } else parts.push(h('p', { class: 'fine' }, 'Choose an outline on the film or in the list.'));
    this.tools.replaceChildren(...parts);
    if (held) document.getElementById(held)?.focus();
  }
}
