// @ts-check
/** The page: what is shown of which film. Panels, gestures and corrections are in their own modules. */

import { Zoo } from './api.js';
import { Corrections } from './document.js';
import { Editor } from './editor.js';
import { FileError, readVia } from './files.js';
import { Film } from './film.js';
import { overlap } from './geometry.js';
import { listen } from './gestures.js';
import { Pane, View } from './pane.js';
import { Panels } from './panels.js';
import * as prefs from './prefs.js';
import { disagreement, fusedShapes, memberShapes, percent } from './shapes.js';
import { STRUCTURES } from './terms.js';
import { counted, explain, mebibytes, networkName, VIEWS } from './words.js';

/** @typedef {import('./shapes.js').Shape} Shape */
/** @typedef {'fused' | 'network' | 'pair' | 'all' | 'disagreement' | 'correct'} Mode */

/** Notes of a film that say that the networks know no such film. */
const FOREIGN = new Set(['not_lateral', 'not_lumbar', 'not_radiograph', 'not_upright']);

export class App {
  /** @param {any} session @param {HTMLElement} root */
  constructor(session, root) {
    this.session = session;
    this.zoo = new Zoo(session);
    this.view = new View();
    this.corrections = new Corrections();
    /** @type {Film | null} */
    this.film = null;
    this.window = { low: 0, high: 255, invert: false };
    /** @type {string[]} names of the networks, as the zoo has them */
    this.networks = [];
    this.answer = App.noAnswer();
    /** @type {Mode} */
    this.mode = 'fused';
    this.first = 'fused';
    this.second = 'unet';
    this.one = 'unet';
    this.structures = new Set(Object.keys(STRUCTURES));
    this.fill = prefs.get('fill') === '1';
    this.opacity = Number(prefs.get('opacity') ?? 0.9) || 0.9;
    this.labels = true;
    this.foreign = false; // the film is none that the networks know
    this.accepted = false; // and the person wants to see outlines nevertheless
    /** @type {string | null} */
    this.selected = null;
    /** @type {Shape[]} */
    this.loaded = [];
    /** @type {Pane[]} */
    this.panes = [];
    this.shownPanes = '';
    this.frame = 0;
    /** @type {AbortController | null} */
    this.task = null;
    this.editor = new Editor(this);
    this.panels = new Panels(this);
    root.replaceChildren(this.panels.root);
    listen(this);
    window.addEventListener('beforeunload', (event) => {
      if (this.corrections.unsaved) event.preventDefault();
    });
    new ResizeObserver(() => this.#resized()).observe(this.panels.stage);
    this.render();
    this.#learn();
  }

  static noAnswer() {
    return {
      running: false,
      /** @type {Map<string, any>} */
      byName: new Map(),
      /** @type {any} */
      summary: null,
      /** @type {Shape[]} */
      fused: [],
      get members() { return [...this.byName.values()]; },
    };
  }

  async #learn() {
    try {
      const { members } = await this.zoo.models();
      this.networks = members.map((/** @type {any} */ each) => each.name);
      this.panels.members(members);
      if (!this.networks.includes(this.one)) this.one = this.networks[0] ?? 'fused';
      if (!this.networks.includes(this.second)) this.second = this.networks[0] ?? 'fused';
    } catch (error) {
      this.panels.notice('zoo', 'error', explain(error), [['Try again', () => this.#learn()]]);
      return;
    }
    this.panels.notice('zoo');
    this.render();
  }

  // ------------------------------------------------------------------ a film

  /** Opens a film: its picture, then what the networks make of it. @param {File} file */
  async open(file) {
    if (this.corrections.unsaved && !window.confirm('Corrections of the film that is open are not saved. Open another film?')) return;
    this.task?.abort();
    this.task = new AbortController();
    const { signal } = this.task;
    this.panels.clearNotices();
    this.film = null;
    this.answer = App.noAnswer();
    this.corrections = new Corrections();
    this.loaded = [];
    this.selected = null;
    this.foreign = false;
    this.accepted = false;
    if (this.mode === 'correct') this.mode = 'fused';
    this.panels.fileName(file.name);
    const { max_bytes: most } = this.session.access;
    if (file.size > most) {
      this.panels.notice('film', 'error', `${file.name} has ${mebibytes(file.size)}; this zoo takes at most ${mebibytes(most)}. Scale the film down: half the size is enough for every network.`);
      this.render();
      return;
    }
    this.answer.running = true;
    this.render();
    // It is sent twice, and again after a failure: what becomes of it on the disk must not matter.
    let held;
    try {
      held = new File([await file.arrayBuffer()], file.name);
    } catch {
      if (signal.aborted) return;
      this.answer.running = false;
      this.panels.notice('film', 'error', `${file.name} cannot be read: it is a folder, or was moved or changed just now. Choose the film again.`);
      this.render();
      return;
    }
    if (signal.aborted) return;
    await this.#show(held, signal);
  }

  /** @param {File} file in memory @param {AbortSignal} signal */
  async #show(file, signal) {
    // The picture first: the networks take every processor there is.
    if (await this.#preview(file, signal)) this.#ask(file, signal);
    else if (!signal.aborted) {
      this.answer.running = false;
      this.render();
    }
  }

  /** @param {File} file @param {AbortSignal} signal */
  async #preview(file, signal) {
    const began = performance.now();
    try {
      const preview = await this.zoo.preview(file, signal);
      performance.measure('zoo', { start: began, end: performance.now() });
      const film = new Film(file, preview);
      if (signal.aborted) return false;
      this.film = film;
      const [low, high] = film.presets.auto;
      this.window = { low, high, invert: this.window.invert };
      for (const note of film.notes) {
        if (FOREIGN.has(note.code)) this.#isForeign(note.text);
      }
      this.shownPanes = '';
      this.render();
      this.fit();
      requestAnimationFrame(() => requestAnimationFrame((now) => performance.measure('first drawing', { start: began, end: now })));
      return true;
    } catch (error) {
      if (!signal.aborted) this.#failed(file, error);
      return false;
    }
  }

  /** @param {File} file @param {AbortSignal} signal */
  async #ask(file, signal) {
    this.answer.running = true;
    const { answer } = this;
    try {
      await this.zoo.segment(file, signal, (event, value) => {
        if (signal.aborted) return;
        if (event === 'member') this.#heard(value);
        else answer.summary = value;
        if (event === 'member') this.render();
      });
      if (signal.aborted) return;
      answer.running = false;
      answer.fused = fusedShapes(answer.summary.fused, answer.members);
      const view = answer.summary.fused.labelling?.film?.view;
      if (view && view !== 'lateral' && VIEWS[view]) this.#isForeign(VIEWS[view]);
      this.corrections.begin(answer.fused);
      this.panels.say(`Fused answer: ${this.panels.summary()}`);
      this.render();
    } catch (error) {
      answer.running = false;
      if (signal.aborted) return;
      for (const each of /** @type {any} */ (error)?.members ?? []) {
        const code = each.code.toLowerCase();
        if (code !== 'ok') answer.byName.set(each.member_name, { name: each.member_name, code, message: each.message, latency_ms: each.latency_ms });
      }
      this.#failed(file, error);
      this.render();
    }
  }

  /** @param {any} member */
  #heard(member) {
    this.answer.byName.set(member.name, member);
    const text = member.code === 'ok' ? `answered with ${counted(member.segments.length, 'outline')}` : `failed: ${member.message}`;
    this.panels.say(`${networkName(member.name)} ${text}`);
  }

  /** @param {File} file @param {unknown} error */
  #failed(file, error) {
    this.panels.notice('film', 'error', explain(error), [['Try again', () => {
      this.panels.notice('film');
      if (!this.film) { this.open(file); return; }
      this.task?.abort();
      this.task = new AbortController();
      this.answer = App.noAnswer();
      this.#ask(file, this.task.signal);
      this.render();
    }]]);
  }

  /** @param {string} why */
  #isForeign(why) {
    this.foreign = true;
    this.panels.notice('foreign', 'warn', why, [['Show outlines nevertheless', () => {
      this.accepted = true;
      this.panels.notice('foreign', 'warn', why);
      this.render();
    }]]);
  }

  /** Loads outlines of a VIA file beside the film. @param {File} file */
  async load(file) {
    if (!this.film) {
      this.panels.notice('loaded', 'error', 'Open the film first, then the file with its outlines.');
      return;
    }
    try {
      const { shapes, skipped, of } = await readVia(file, this.film);
      const compare = () => {
        this.loaded = shapes;
        this.first = this.corrections.shapes.length ? 'corrected' : 'fused';
        this.second = 'loaded';
        this.setMode('pair');
        const left = skipped ? ` ${counted(skipped, 'outline')} ${skipped === 1 ? 'is' : 'are'} not understood and left out.` : '';
        this.panels.notice('loaded', 'info', `${counted(shapes.length, 'outline')} of ${file.name} ${shapes.length === 1 ? 'is' : 'are'} shown beside.${left}`);
      };
      if (of) {
        this.panels.notice('loaded', 'warn', `${file.name} has outlines of another film (${of}), not of ${this.film.name}. Nothing was loaded.`, [['Compare nevertheless', compare]]);
      } else compare();
    } catch (error) {
      this.panels.notice('loaded', 'error', error instanceof FileError ? error.message : explain(error));
    }
  }

  // ------------------------------------------------------------------ what is shown

  /** @param {Mode} mode */
  setMode(mode) {
    this.mode = mode;
    this.editor.stop();
    this.render();
    this.panels.say(`Overlay: ${this.panels.modeName(mode)}`);
  }

  /** Sources that can be shown, by name. @returns {string[]} */
  get sources() {
    return ['fused', ...this.networks, ...(this.corrections.shapes.length ? ['corrected'] : []), ...(this.loaded.length ? ['loaded'] : [])];
  }

  /** @param {string} source @returns {Shape[]} */
  shapesOf(source) {
    if (source === 'fused') return this.answer.fused;
    if (source === 'corrected') return this.corrections.shapes;
    if (source === 'loaded') return this.loaded;
    const member = this.answer.byName.get(source);
    return member?.segments ? memberShapes(member) : [];
  }

  /** The shapes of the list beside the film. */
  get listed() {
    if (this.mode === 'correct') return this.corrections.shapes;
    if (this.mode === 'network') return this.shapesOf(this.one);
    if (this.mode === 'pair') return this.shapesOf(this.first);
    return this.answer.fused;
  }

  /** @returns {string[]} the source of each pane */
  #wanted() {
    if (this.mode === 'network') return [this.one];
    if (this.mode === 'pair') return [this.first, this.second];
    if (this.mode === 'all') return [...this.networks, 'fused'];
    if (this.mode === 'correct') return ['corrected'];
    return [this.mode];
  }

  render() {
    const wanted = this.#wanted();
    const key = wanted.join('|');
    if (key !== this.shownPanes || this.panes[0]?.film !== this.film) {
      const count = this.panes.length;
      this.panes = wanted.map((source) => new Pane(this.view, source === 'disagreement' ? 'Disagreement' : networkName(source)));
      for (const pane of this.panes) pane.film = this.film;
      this.shownPanes = key;
      this.panels.showPanes(this.panes);
      if (this.film && (this.view.fitted || count !== this.panes.length)) this.fit();
    }
    const hidden = this.foreign && !this.accepted;
    wanted.forEach((source, place) => this.#fillPane(this.panes[place], source, hidden, place === 0));
    this.panels.update();
    this.editor.update();
    this.redraw();
  }

  /** @param {Pane} pane @param {string} source @param {boolean} hidden @param {boolean} main */
  #fillPane(pane, source, hidden, main) {
    let shapes = hidden ? [] : source === 'disagreement' ? [] : this.shapesOf(source);
    const running = this.answer.running && source === 'fused';
    // While networks work, what has come is shown as it is.
    if (running && !hidden) shapes = this.networks.flatMap((name) => this.shapesOf(name));
    shapes = shapes.filter((one) => this.structures.has(one.structure));
    pane.root.classList.toggle('provisional', running);
    pane.heat = null;
    if (source === 'disagreement' && this.film && !hidden) {
      const voters = this.answer.members.filter((each) => each.code === 'ok')
        .map((each) => memberShapes(each).filter((/** @type {Shape} */ one) => this.structures.has(one.structure)));
      if (voters.length > 1) {
        const { canvas, share } = disagreement(voters, this.film.width, this.film.height);
        pane.heat = canvas;
        this.panels.legend(voters.length, share);
      }
    } else if (main) this.panels.legend(0, 0);
    const member = this.answer.byName.get(source);
    pane.caption.textContent = (source === 'disagreement' ? 'Disagreement' : networkName(source))
      + (member && member.code !== 'ok' ? `: ${this.panels.codeOf(member)}` : '');
    pane.caption.classList.toggle('failed', Boolean(member && member.code !== 'ok'));
    pane.show(shapes, {
      fill: this.fill,
      opacity: this.opacity,
      labels: this.labels && !running,
      asked: this.networks.length,
      selected: this.selected,
      focusable: main && !running,
    });
  }

  /** How well the two sources of a pair agree, in words. */
  agreement() {
    if (this.mode !== 'pair' || !this.film) return '';
    const [one, two] = [this.first, this.second].map((source) => this.shapesOf(source));
    if (!one.length || !two.length) return '';
    const parts = Object.entries(STRUCTURES).filter(([name]) => this.structures.has(name)).map(([name, text]) => {
      const of = (/** @type {Shape[]} */ shapes) => shapes.filter((each) => each.structure === name).map((each) => each.rings);
      const value = overlap(of(one), of(two));
      return Number.isNaN(value) ? '' : `${text} ${percent(value)}`;
    }).filter(Boolean);
    return parts.length ? `Overlap (IoU): ${parts.join(' · ')}` : '';
  }

  /** @param {string | null} id */
  select(id) {
    if (this.selected === id) return;
    this.selected = id;
    this.editor.forget();
    for (const pane of this.panes) {
      for (const path of pane.shapes.children) path.classList.toggle('selected', path.dataset.id === id);
    }
    this.panels.details();
    this.editor.update();
  }

  // ------------------------------------------------------------------ the picture

  fit() {
    const pane = this.panes[0];
    if (!this.film || !pane) return;
    const { width, height } = pane.size;
    if (width && height) this.view.fit(this.film, width, height);
    this.redraw();
  }

  #resized() {
    if (this.view.fitted) this.fit();
    else this.redraw();
  }

  /** Draws with the next frame. */
  redraw() {
    if (this.frame) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      this.#ready();
      for (const pane of this.panes) pane.draw();
      this.panels.scaleBar();
    });
  }

  /** Makes the film's picture ready, as far as any pane shows it. */
  #ready() {
    if (!this.film || !this.panes.length) return;
    // All panes share the view, and are of one size but for a pixel.
    const parts = this.panes.map((pane) => pane.part);
    const most = (/** @type {'left' | 'top' | 'right' | 'bottom'} */ side, /** @type {(...all: number[]) => number} */ of) => of(...parts.map((each) => each[side]));
    const part = { left: most('left', Math.min), top: most('top', Math.min), right: most('right', Math.max), bottom: most('bottom', Math.max) };
    const { film } = this;
    film.draw(this.window, part, this.view.scale * (window.devicePixelRatio || 1));
    if (!film.rough) return;
    setTimeout(() => {
      film.refine();
      this.redraw();
    });
  }

  /** @param {number} dCentre share of the range @param {number} dWidth */
  changeWindow(dCentre, dWidth) {
    if (!this.film) return;
    const { minimum, maximum } = this.film.levels;
    const range = Math.max(1, maximum - minimum);
    const centre = (this.window.low + this.window.high) / 2 + dCentre * range;
    const width = Math.max(range / 256, (this.window.high - this.window.low) + dWidth * range);
    this.window.low = centre - width / 2;
    this.window.high = centre + width / 2;
    this.panels.windowText();
    this.redraw();
  }

  /** @param {string} name */
  preset(name) {
    const found = this.film?.presets[name];
    if (!found) return;
    [this.window.low, this.window.high] = found;
    this.panels.windowText();
    this.redraw();
  }

  invert() {
    this.window.invert = !this.window.invert;
    this.panels.windowText();
    this.redraw();
  }

  /** @param {number} factor */
  zoom(factor) {
    const { width, height } = this.panes[0].size;
    this.view.zoom(factor, width / 2, height / 2);
    this.redraw();
  }
}

/** Called by login.js once the zoo lets the caller in. @param {any} session @param {HTMLElement} root */
export function start(session, root) {
  const app = new App(session, root);
  root.dataset.ready = app.networks.length ? 'again' : 'once';
}
