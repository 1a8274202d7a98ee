// @ts-check
/** Correcting outlines: what the tools and keys of Correct do. */

import { download } from './dom.js';
import { coco, csv, forTraining, json, picture, stem, via } from './files.js';
import { area } from './geometry.js';
import { title } from './shapes.js';
import { TRUTH } from './terms.js';
import { counted } from './words.js';

/** @typedef {import('./app.js').App} App */

export class Editor {
  /** @param {App} app */
  constructor(app) {
    this.app = app;
    this.active = -1;
    this.picking = false;
    /** @type {Set<number>} */
    this.picked = new Set();
    /** @type {number[] | null} points of an outline that is being drawn */
    this.drawing = null;
    this.hint = '';
    /** @type {number[] | null} the ring while a point is dragged */
    this.dragged = null;
  }

  get on() { return this.app.mode === 'correct'; }

  /** The outline that is corrected. */
  get shape() { return this.on ? this.app.corrections.find(this.app.selected) : null; }

  /** Ends whatever was begun. */
  stop() {
    this.active = -1;
    this.picking = false;
    this.picked.clear();
    this.drawing = null;
    this.dragged = null;
    this.hint = '';
  }

  /** Another outline was chosen. */
  forget() {
    this.active = -1;
    this.picked.clear();
    this.picking = false;
    if (!this.drawing) this.hint = '';
  }

  update() {
    if (!this.on) return;
    this.points();
    this.app.panels.column.showTools();
  }

  /** Shows the points of what is corrected or drawn. */
  points() {
    const pane = this.app.panes[0];
    pane?.showPoints(this.drawing ?? this.dragged ?? this.shape?.rings[0] ?? null, this.picked, this.active);
  }

  /** Does one step, which can be undone. @param {() => unknown} step */
  apply(step) {
    step();
    this.app.render();
  }

  undo() {
    if (!this.on) return;
    this.stop();
    this.apply(() => this.app.corrections.undo());
    this.app.panels.say('Undone');
  }

  redo() {
    if (!this.on) return;
    this.stop();
    this.apply(() => this.app.corrections.redo());
    this.app.panels.say('Done again');
  }

  // ------------------------------------------------------------------ points

  /** @param {number} place */
  point(place) {
    const ring = this.shape?.rings[0];
    if (!ring) return;
    const count = ring.length / 2;
    this.active = ((place % count) + count) % count;
    if (this.picking) this.pick(this.active);
    else this.update();
    this.app.panels.say(`Point ${this.active + 1} of ${count}`);
  }

  /** @param {number} dx @param {number} dy film pixels */
  nudge(dx, dy) {
    const one = this.shape;
    if (!one || this.active < 0) return;
    const [x, y] = one.rings[0].slice(2 * this.active, 2 * this.active + 2);
    this.apply(() => this.app.corrections.movePoint(one.id, this.active, x + dx, y + dy));
  }

  /** While a point is dragged only the picture follows. @param {number} place @param {number} x @param {number} y */
  drag(place, x, y) {
    const one = this.shape;
    if (!one) return;
    this.active = place;
    this.dragged ??= one.rings[0].slice();
    [this.dragged[2 * place], this.dragged[2 * place + 1]] = [x, y];
    const pane = this.app.panes[0];
    const path = [...pane.shapes.children].find((each) => each.dataset.id === one.id);
    path?.setAttribute('d', `M${this.dragged.map((value) => value.toFixed(2)).join(' ')}Z`);
    this.points();
  }

  /** A whole outline is dragged. @param {number} dx @param {number} dy */
  shift(dx, dy) {
    const one = this.shape;
    if (!one) return;
    this.dragged = one.rings[0].map((value, i) => value + (i % 2 ? dy : dx));
    const pane = this.app.panes[0];
    const path = [...pane.shapes.children].find((each) => each.dataset.id === one.id);
    path?.setAttribute('d', `M${this.dragged.map((value) => value.toFixed(2)).join(' ')}Z`);
    this.points();
  }

  drop() {
    const [one, ring] = [this.shape, this.dragged];
    this.dragged = null;
    if (one && ring) this.apply(() => this.app.corrections.reshape(one.id, ring));
  }

  addPoint() {
    const one = this.shape;
    if (!one || this.active < 0) return;
    const ring = one.rings[0];
    const next = ((this.active + 1) % (ring.length / 2)) * 2;
    const x = (ring[2 * this.active] + ring[next]) / 2;
    const y = (ring[2 * this.active + 1] + ring[next + 1]) / 2;
    this.app.corrections.addPoint(one.id, this.active, x, y);
    this.active += 1;
    this.app.render();
  }

  /** A point on the border where somebody double-clicked. @param {number} x @param {number} y */
  addPointAt(x, y) {
    const one = this.shape;
    if (!one) return;
    const ring = one.rings[0];
    let best = Infinity;
    let after = 0;
    for (let i = 0; i < ring.length; i += 2) {
      const j = (i + 2) % ring.length;
      const [ax, ay, dx, dy] = [ring[i], ring[i + 1], ring[j] - ring[i], ring[j + 1] - ring[i + 1]];
      const along = Math.min(1, Math.max(0, ((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy || 1)));
      const distance = Math.hypot(ax + along * dx - x, ay + along * dy - y);
      if (distance < best) [best, after] = [distance, i / 2];
    }
    this.app.corrections.addPoint(one.id, after, x, y);
    this.active = after + 1;
    this.app.render();
  }

  deletePoint() {
    const one = this.shape;
    if (!one || this.active < 0) return;
    if (!this.app.corrections.deletePoint(one.id, this.active)) this.hint = 'Three points are the fewest; remove the outline instead.';
    else this.active = Math.min(this.active, /** @type {any} */ (this.app.corrections.find(one.id)).rings[0].length / 2 - 1);
    this.app.render();
  }

  // ------------------------------------------------------------------ outlines

  split() {
    this.picking = !this.picking;
    this.picked.clear();
    this.hint = this.picking ? 'Choose the two points between which the outline is cut.' : '';
    this.update();
  }

  /** @param {number} place */
  pick(place) {
    const one = this.shape;
    if (!one) return;
    this.picking = true;
    if (this.picked.has(place)) this.picked.delete(place);
    else this.picked.add(place);
    this.hint = 'Choose the second point of the cut.';
    if (this.picked.size === 2) {
      const [first, second] = [...this.picked];
      this.stop();
      if (this.app.corrections.split(one.id, first, second)) {
        this.app.selected = this.app.corrections.shapes.find((each) => !each.level && each.origin === 'corrected')?.id ?? null;
        this.app.panels.say('The outline is cut in two; name both.');
      } else this.hint = 'These two points cut nothing off; choose points that face each other.';
      this.app.render();
      return;
    }
    this.update();
  }

  /** @param {string} other */
  join(other) {
    const one = this.shape;
    if (!one) return;
    this.stop();
    if (!this.app.corrections.join(one.id, other)) this.hint = 'The two lie too far apart to be one structure.';
    this.app.render();
  }

  remove() {
    const one = this.shape;
    if (!one) return;
    this.stop();
    this.app.selected = null;
    this.apply(() => this.app.corrections.remove(one.id));
    this.app.panels.say(`${title(one)} removed`);
  }

  draw() {
    const begun = this.drawing === null;
    this.stop();
    if (begun) {
      this.drawing = [];
      this.hint = 'Click point after point; Enter or a click on the first point closes the outline, Escape gives up.';
    }
    this.app.select(null);
    this.update();
  }

  /** @param {number} x @param {number} y */
  drawPoint(x, y) {
    if (!this.drawing) return;
    const { scale } = this.app.view;
    if (this.drawing.length >= 6 && Math.hypot(this.drawing[0] - x, this.drawing[1] - y) * scale < 9) this.close();
    else {
      this.drawing.push(x, y);
      this.points();
    }
  }

  /** Ends the outline that is being drawn. */
  close() {
    const ring = this.drawing;
    this.stop();
    if (ring && ring.length >= 6 && Math.abs(area(ring)) >= 1) this.#added(ring);
    else {
      this.hint = 'An outline has at least three points.';
      this.app.render();
    }
  }

  /** An octagon in the middle of what is seen, to be moved and shaped: needs no pointer. */
  addShape() {
    this.stop();
    const pane = this.app.panes[0];
    const box = pane.canvas.getBoundingClientRect();
    const [x, y] = pane.toFilm(box.left + box.width / 2, box.top + box.height / 2);
    const sizes = this.app.corrections.shapes.filter((one) => one.structure === 'lumbar_vertebra').map((one) => Math.sqrt(Math.abs(area(one.rings[0]))));
    const radius = sizes.length ? sizes.sort((a, b) => a - b)[sizes.length >> 1] / 1.7 : (this.app.film?.height ?? 900) / 30;
    this.#added(Array.from({ length: 8 }, (_, i) => (i + 0.5) * (Math.PI / 4)).flatMap((angle) => [x + radius * Math.cos(angle), y + radius * Math.sin(angle)]));
  }

  /** @param {number[]} ring */
  #added(ring) {
    this.app.selected = this.app.corrections.add(ring, 'lumbar_vertebra');
    this.active = 0;
    this.app.render();
    this.app.panels.say('Outline added; choose its structure and name.');
  }

  // ------------------------------------------------------------------ files

  /** @param {string} form */
  async save(form) {
    const { app } = this;
    const { film, corrections } = app;
    if (!film) return;
    const { shapes } = corrections;
    const name = stem(film.name);
    if (form === 'png') {
      const style = getComputedStyle(document.documentElement);
      download(await picture(film, this.app.window, shapes, (one) => style.getPropertyValue(`--${one.structure.replace('_', '-')}`).trim()), `${name}-outlines.png`);
    } else {
      const text = form === 'via' ? via(film, shapes) : form === 'coco' ? coco(film, shapes) : form === 'csv' ? csv(film, shapes) : json(film, shapes, app.answer);
      const endings = { via: 'via.json', coco: 'coco.json', csv: 'csv', json: 'json' };
      download(new Blob([text], { type: form === 'csv' ? 'text/csv' : 'application/json' }), `${name}.${/** @type {any} */ (endings)[form]}`);
    }
    if (form !== 'png' && form !== 'csv') corrections.saved();
    const left = form === 'via' || form === 'coco' ? shapes.length - forTraining(shapes).length : 0;
    app.panels.notice('saved', 'info', `Saved ${counted(shapes.length - left, 'outline')}.${left ? ` ${left} ${left === 1 ? 'is' : 'are'} left out: training sets hold ${TRUTH[0]} to ${TRUTH[TRUTH.length - 1]}.` : ''}`);
  }
}
