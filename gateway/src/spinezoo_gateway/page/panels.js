// @ts-check
/** Everything around the film: bars, switches, networks, notices. The list beside is in column.js. */

import { Column } from './column.js';
import { button, choice, h } from './dom.js';
import * as prefs from './prefs.js';
import { isWithheld } from './shapes.js';
import { STRUCTURES } from './terms.js';
import { CODES, counted, explain, networkName, PLANES } from './words.js';

/** @typedef {import('./app.js').App} App */
/** @typedef {[string, () => void]} Action */

/** @type {[string, string][]} */
const MODES = [
  ['fused', 'Fused'], ['network', 'One network'], ['pair', 'Side by side'], ['all', 'All'],
  ['disagreement', 'Disagreement'], ['correct', 'Correct'],
];

/** @type {[string, string][]} */
const PRESETS = [['auto', 'Auto'], ['full', 'Full'], ['bone', 'Bone'], ['soft', 'Soft'], ['metal', 'Metal']];

const KEYS = [
  ['O', 'open a film'], ['1 to 6', 'overlay'], ['Arrow keys', 'move the film'], ['+  −', 'zoom'],
  ['F or 0', 'fit'], ['I', 'invert'], ['[  ]', 'darker, brighter'], ['{  }', 'less, more contrast'],
  ['W', 'next window preset'], ['L', 'names on and off'], ['Tab', 'go through outlines'],
  ['Ctrl+Z, Ctrl+Y', 'undo, redo'], ['N  P', 'next, previous point of the outline'],
  ['Shift+arrow', 'move the point (in Correct); with Alt by 10 px'], ['A, Delete', 'add, delete a point'],
  ['X', 'mark a point to split at'],
];

export class Panels {
  /** @param {App} app */
  constructor(app) {
    this.app = app;
    this.column = new Column(app);
    this.rosterMembers = /** @type {any[]} */ ([]);
    this.live = h('p', { role: 'status', class: 'unseen', id: 'said' });
    this.notices = h('div', { class: 'notices' });
    this.grid = h('div', { class: 'panes', 'data-count': 0 });
    this.bar = h('div', { class: 'scale', hidden: true }, h('span', { class: 'rule' }), h('span', { class: 'length' }));
    this.heat = h('div', { class: 'legend', hidden: true });
    this.hint = this.#welcome();
    this.under = h('span', { class: 'under' });
    this.windowOut = h('span', { class: 'window' });
    this.agree = h('span', { class: 'agree' });
    this.stage = h('div', { class: 'stage', tabindex: 0, role: 'application', 'aria-label': 'Film', 'aria-describedby': 'keys' }, this.grid, this.hint, this.bar, this.heat);
    this.list = h('ul', { class: 'networks' });
    this.sourceRow = h('div', { class: 'sources' });
    this.root = h('div', { class: 'page' }, this.#top(), h('main', { class: 'work' },
      h('aside', { class: 'side left', 'aria-label': 'Networks and overlay' }, this.#networks(), this.#overlay(), this.#window()),
      h('section', { class: 'middle', 'aria-label': 'Film' }, this.#modes(), this.sourceRow, this.notices, this.stage,
        h('div', { class: 'status' }, this.under, this.agree, this.windowOut)),
      h('aside', { class: 'side right', 'aria-label': 'Column and corrections' }, this.column.root)), this.live);
  }

  // ------------------------------------------------------------------ parts

  #top() {
    const { app } = this;
    const film = h('input', { type: 'file', id: 'film-file', class: 'unseen', 'aria-label': 'Film to open', accept: '.dcm,.dicom,.png,.jpg,.jpeg,.tif,.tiff,application/dicom,image/*' });
    film.addEventListener('change', () => {
      if (film.files?.[0]) app.open(film.files[0]);
      film.value = '';
    });
    this.chooser = film;
    this.name = h('h1', { class: 'film-name' }, 'No film');
    this.about = h('p', { class: 'film-about' });
    /** @type {[string, string][]} */
    const phantoms = app.session.access.phantoms.map((/** @type {any} */ each) => [each.file, each.title]);
    const shipped = choice('Example films', [['', 'Example…'], ...phantoms], '', (file) => {
      const list = shipped.querySelector('select');
      if (file) app.zoo.phantom(file).then((found) => app.open(found)).catch((error) => this.failed(error));
      list.value = '';
    }, { id: 'phantoms' });
    shipped.classList.add('bare');
    const theme = button('Light', () => {
      const next = document.documentElement.dataset.theme === 'dark' ? 'light' : 'dark';
      document.documentElement.dataset.theme = next;
      prefs.set('theme', next);
      theme.textContent = next === 'dark' ? 'Light' : 'Dark';
    }, { id: 'theme' });
    theme.textContent = document.documentElement.dataset.theme === 'dark' ? 'Light' : 'Dark';
    const help = h('dialog', { class: 'help', 'aria-label': 'Keys' }, h('h2', {}, 'Keys'),
      h('dl', { id: 'keys' }, ...KEYS.flatMap(([key, what]) => [h('dt', {}, key), h('dd', {}, what)])),
      h('p', { class: 'fine' }, 'Mouse: drag moves, right drag (or Ctrl and drag) sets the window, the wheel zooms. SpineZoo is no medical device.'));
    help.append(button('Close', () => help.close(), { class: 'primary' }));
    return h('header', { class: 'bar' },
      h('span', { class: 'brand' }, h('img', { src: '/icon.svg', alt: '', width: 22, height: 22 }), 'SpineZoo'),
      h('div', { class: 'film' }, this.name, this.about),
      film, button('Open film…', () => film.click(), { class: 'primary', id: 'open' }), shipped, theme,
      button('Keys', () => help.showModal(), { id: 'help' }), help);
  }

  #welcome() {
    const { app } = this;
    return h('div', { class: 'welcome' },
      h('p', { class: 'drop' }, 'Drop a lateral lumbar film here'),
      h('p', {}, 'DICOM, PNG, JPEG or TIFF. It goes to this zoo only and is kept nowhere.'),
      h('div', { class: 'row' }, button('Open film…', () => this.chooser.click(), { class: 'primary' }),
        ...app.session.access.phantoms.map((/** @type {any} */ each) => button(each.title, () => {
          app.zoo.phantom(each.file).then((file) => app.open(file)).catch((error) => this.failed(error));
        }))),
      h('p', { class: 'fine' }, 'Not a medical device. The shipped networks saw phantoms only.'));
  }

  #networks() {
    return h('section', {}, h('h2', {}, 'Networks'), this.list);
  }

  #modes() {
    this.tabs = MODES.map(([mode, text], place) => button(text, () => this.app.setMode(/** @type {any} */ (mode)), {
      'data-mode': mode, 'aria-pressed': 'false', title: `Key ${place + 1}`,
    }));
    return h('div', { class: 'modes', role: 'group', 'aria-label': 'Overlay' }, ...this.tabs);
  }

  #overlay() {
    const { app } = this;
    const boxes = Object.entries(STRUCTURES).map(([name, text]) => {
      const box = h('input', { type: 'checkbox', checked: true, 'data-structure': name });
      box.addEventListener('change', () => {
        if (box.checked) app.structures.add(name);
        else app.structures.delete(name);
        app.render();
      });
      return h('label', { class: 'tick' }, box, h('span', { class: `swatch ${name}`, 'aria-hidden': 'true' }), text);
    });
    const fill = h('input', { type: 'checkbox', id: 'fill', checked: app.fill });
    fill.addEventListener('change', () => {
      app.fill = fill.checked;
      prefs.set('fill', fill.checked ? '1' : '0');
      app.render();
    });
    this.labelBox = h('input', { type: 'checkbox', id: 'labels', checked: true });
    this.labelBox.addEventListener('change', () => {
      app.labels = this.labelBox.checked;
      app.render();
    });
    const opacity = h('input', { type: 'range', min: 0, max: 100, value: Math.round(app.opacity * 100), id: 'opacity' });
    opacity.addEventListener('input', () => {
      app.opacity = Number(opacity.value) / 100;
      prefs.set('opacity', String(app.opacity));
      app.render();
    });
    return h('section', {}, h('h2', {}, 'Structures'), h('div', { class: 'ticks' }, ...boxes),
      h('div', { class: 'ticks' }, h('label', { class: 'tick' }, fill, 'Fill'), h('label', { class: 'tick' }, this.labelBox, 'Names')),
      h('label', { class: 'slide' }, h('span', {}, 'Opacity'), opacity));
  }

  #window() {
    const { app } = this;
    this.invertButton = button('Invert', () => app.invert(), { 'aria-pressed': 'false', id: 'invert' });
    return h('section', {}, h('h2', {}, 'Grey levels'),
      h('div', { class: 'buttons' }, ...PRESETS.map(([name, text]) => button(text, () => app.preset(name), { 'data-preset': name }))),
      h('div', { class: 'buttons' }, this.invertButton, button('Fit', () => app.fit(), { id: 'fit' }),
        button('+', () => app.zoom(1.25), { 'aria-label': 'Zoom in' }), button('−', () => app.zoom(0.8), { 'aria-label': 'Zoom out' })));
  }

  // ------------------------------------------------------------------ what is said

  /** Says something to screen readers. @param {string} text */
  say(text) { this.live.textContent = text; }

  /** @param {unknown} error */
  failed(error) {
    this.notice('film', 'error', explain(error));
  }

  /** Shows a notice in place of the one of the same id; without a text it goes.
   * @param {string} id @param {'info' | 'warn' | 'error'} [kind] @param {string} [text] @param {Action[]} [actions]
   */
  notice(id, kind = 'info', text = '', actions = []) {
    this.notices.querySelector(`[data-notice="${id}"]`)?.remove();
    if (!text) return;
    const made = h('div', { class: `notice ${kind}`, role: kind === 'info' ? 'status' : 'alert', 'data-notice': id }, h('p', {}, text),
      ...actions.map(([name, act]) => button(name, act)));
    made.append(button('×', () => made.remove(), { class: 'close', 'aria-label': 'Close this notice' }));
    this.notices.append(made);
  }

  clearNotices() { this.notices.replaceChildren(); }

  /** @param {string} mode */
  modeName(mode) { return MODES.find(([name]) => name === mode)?.[1] ?? mode; }

  /** @param {any} member */
  codeOf(member) { return CODES[member.code] ?? member.code; }

  /** @param {string} name */
  fileName(name) { this.name.textContent = name; }

  /** The column in a sentence. */
  summary() {
    const { fused, summary } = this.app.answer;
    const vertebrae = fused.filter((one) => one.structure.endsWith('vertebra'));
    const named = vertebrae.filter((one) => one.level).length;
    const count = summary?.fused.labelling;
    const withheld = vertebrae.filter(isWithheld).length;
    const parts = [`${counted(vertebrae.length, 'vertebra')}, ${named} named${withheld ? `, ${counted(withheld, 'name')} withheld` : ''}`];
    const implants = fused.length - vertebrae.length;
    if (implants) parts.push(counted(implants, 'implant'));
    if (count?.lumbar_count) parts.push(`${count.lumbar_count} lumbar vertebrae`);
    else if (count && named) parts.push('number of lumbar vertebrae not read, the likeliest presumed');
    if (count?.suspected_lumbar_count) parts.push(`perhaps ${count.suspected_lumbar_count} lumbar vertebrae`);
    if (count?.missing_levels.length) parts.push(`no outline of ${count.missing_levels.join(', ')}`);
    return parts.join(' · ');
  }

  // ------------------------------------------------------------------ what follows the state

  /** @param {any[]} members of the roster */
  members(members) {
    this.rosterMembers = members;
    this.update();
  }

  /** @param {import('./pane.js').Pane[]} panes */
  showPanes(panes) {
    this.grid.dataset.count = String(panes.length);
    this.grid.replaceChildren(...panes.map((pane) => pane.root));
  }

  update() {
    const { app } = this;
    const { film } = app;
    this.hint.hidden = Boolean(film) || app.answer.running;
    this.grid.hidden = !film;
    for (const tab of this.tabs ?? []) {
      tab.setAttribute('aria-pressed', String(tab.dataset.mode === app.mode));
      tab.disabled = tab.dataset.mode === 'correct' && !app.corrections.shapes.length && !app.answer.summary;
    }
    this.about.textContent = film ? this.#aboutFilm(film) : '';
    this.#updateNetworks();
    this.#updateSources();
    this.labelBox.checked = app.labels;
    this.agree.textContent = app.agreement();
    this.windowText();
    this.column.update();
  }

  /** @param {any} film */
  #aboutFilm(film) {
    const size = `${film.width} × ${film.height} px`;
    if (!film.rowSpacing) return `${size} · no scale`;
    const spacing = film.rowSpacing === film.columnSpacing || !film.columnSpacing ? film.rowSpacing : `${film.rowSpacing} × ${film.columnSpacing}`;
    return `${size} · ${spacing} mm/px ${PLANES[film.plane] ?? ''}`;
  }

  #updateNetworks() {
    const { answer, networks } = this.app;
    this.list.replaceChildren(...networks.map((name) => {
      const member = answer.byName.get(name);
      const roster = this.rosterMembers.find((each) => each.name === name);
      const down = !answer.running && !member && roster?.status.code !== 'ok' ? roster?.status : null;
      const said = member ?? down;
      const code = said?.code ?? (answer.running ? 'asked' : '');
      const ok = code === 'ok';
      const time = member && ok ? `${member.latency_ms < 1000 ? `${Math.round(member.latency_ms)} ms` : `${(member.latency_ms / 1000).toFixed(1)} s`}` : '';
      return h('li', { class: `network ${code === '' ? 'idle' : code}`, 'data-network': name },
        h('span', { class: 'dot', 'aria-hidden': 'true' }),
        h('span', { class: 'who' }, networkName(name)),
        h('span', { class: 'what' }, ok && member ? h('span', { title: counted(member.segments.length, 'outline') }, `${member.segments.length} in ${time}`) : CODES[code] ?? ''),
        said && !ok && said.message ? h('span', { class: 'why' }, said.message.slice(0, 220)) : null);
    }));
  }

  #updateSources() {
    const { app } = this;
    /** @type {[string, string][]} */
    const options = app.sources.map((name) => [name, networkName(name)]);
    const row = [];
    if (app.mode === 'network') {
      row.push(choice('Network', options.filter(([name]) => app.networks.includes(name)), app.one, (value) => {
        app.one = value;
        app.render();
      }, { id: 'one' }));
    }
    if (app.mode === 'pair') {
      row.push(choice('Left', options, app.first, (value) => {
        app.first = value;
        app.render();
      }, { id: 'first' }), choice('Right', options, app.second, (value) => {
        app.second = value;
        app.render();
      }, { id: 'second' }));
    }
    // A list that is open in somebody's hand is left alone.
    const key = JSON.stringify([app.mode, options, app.one, app.first, app.second]);
    if (this.sourceRow.dataset.key === key) return;
    this.sourceRow.dataset.key = key;
    const held = this.sourceRow.contains(document.activeElement) ? document.activeElement?.id : null;
    this.sourceRow.replaceChildren(...row);
    if (held) document.getElementById(held)?.focus();
  }

  windowText() {
    const { film, window } = this.app;
    this.invertButton?.setAttribute('aria-pressed', String(window.invert));
    if (!film) {
      this.windowOut.textContent = '';
      return;
    }
    const { scale, offset } = film.levels;
    const centre = ((window.low + window.high) / 2) * scale + offset;
    const width = (window.high - window.low) * scale;
    const digits = scale === 1 ? 0 : 2;
    this.windowOut.textContent = `Window ${width.toFixed(digits)} · Level ${centre.toFixed(digits)}${window.invert ? ' · inverted' : ''} · ${Math.round(this.app.view.scale * 100)} %`;
  }

  /** What lies under the pointer. @param {[number, number] | null} place */
  pointer(place) {
    const { film } = this.app;
    const value = film && place ? film.valueAt(...place) : null;
    this.under.textContent = value === null || !place ? '' : `x ${Math.floor(place[0])} · y ${Math.floor(place[1])} · level ${value}`;
  }

  /** A length in mm, only where the film says how large its pixels are. */
  scaleBar() {
    const { film, view } = this.app;
    this.bar.hidden = !film || !film.rowSpacing;
    if (!film || !film.rowSpacing) return;
    const perMm = view.scale / film.rowSpacing;
    const length = [200, 100, 50, 20, 10, 5, 2, 1].find((mm) => mm * perMm <= 130) ?? 1;
    this.bar.querySelector('.rule').style.width = `${length * perMm}px`;
    this.bar.querySelector('.length').textContent = `${length} mm ${PLANES[film.plane] ?? ''}`;
    this.windowText();
  }

  /** @param {number} voters @param {number} share */
  legend(voters, share) {
    this.heat.hidden = voters < 2;
    if (voters < 2) return;
    this.heat.replaceChildren(h('span', {}, 'all agree'), h('span', { class: 'ramp', 'aria-hidden': 'true' }), h('span', {}, 'split'),
      h('span', { class: 'fine' }, `${voters} networks; they disagree on ${Math.round(100 * share)} % of what any of them outlines`));
  }

  details() { this.column.details(); }
}
