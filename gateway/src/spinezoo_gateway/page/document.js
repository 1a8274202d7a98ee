// @ts-check
/** The outlines that a person corrects: every step is kept, so that each can be undone. */

import { joined, largest, simplified, split } from './geometry.js';
import { isVertebra } from './shapes.js';

/** @typedef {import('./shapes.js').Shape} Shape */

/** How exactly an outline's points follow the networks' mask, in px of the film. */
const TOLERANCE = 1.5;

export class Corrections {
  /** @type {Shape[][]} */
  #past = [];
  /** @type {Shape[][]} */
  #future = [];
  /** @type {Shape[]} */
  shapes = [];
  #saved = /** @type {Shape[] | null} */ (null);
  #count = 0;

  /** Begins anew with shapes of an answer. @param {Shape[]} shapes */
  begin(shapes) {
    this.#past = [];
    this.#future = [];
    this.shapes = shapes.map((one) => ({ ...one, id: `o${this.#count++}`, rings: [simplified(largest(one.rings), TOLERANCE)] }));
    this.#saved = this.shapes;
  }

  get canUndo() { return this.#past.length > 0; }

  get canRedo() { return this.#future.length > 0; }

  /** Whether something was corrected that no file holds. */
  get unsaved() { return this.#saved !== null && this.shapes !== this.#saved; }

  saved() { this.#saved = this.shapes; }

  undo() {
    const before = this.#past.pop();
    if (!before) return;
    this.#future.push(this.shapes);
    this.shapes = before;
  }

  redo() {
    const after = this.#future.pop();
    if (!after) return;
    this.#past.push(this.shapes);
    this.shapes = after;
  }

  /** @param {Shape[]} shapes */
  #commit(shapes) {
    this.#past.push(this.shapes);
    this.#future = [];
    this.shapes = shapes;
  }

  /** @param {string | null} id */
  find(id) { return this.shapes.find((one) => one.id === id) ?? null; }

  /** @param {string} id @param {Partial<Shape>} change */
  #change(id, change) {
    this.#commit(this.shapes.map((one) => (one.id === id ? { ...one, origin: 'corrected', ...change } : one)));
  }

  /** @param {string} id @param {number[]} ring */
  reshape(id, ring) { this.#change(id, { rings: [ring] }); }

  /** @param {string} id @param {string | null} level */
  rename(id, level) {
    const one = this.find(id);
    if (!one || one.level === level) return;
    const structure = level === null ? one.structure : level.startsWith('S') ? 'sacral_vertebra' : 'lumbar_vertebra';
    this.#change(id, { level, structure, reason: null, doubtful: false });
  }

  /** @param {string} id @param {string} structure */
  restructure(id, structure) {
    const one = this.find(id);
    if (!one || one.structure === structure) return;
    const stays = structure.endsWith('vertebra') && one.level
      && one.level.startsWith('S') === (structure === 'sacral_vertebra');
    this.#change(id, { structure, level: stays ? one.level : null, reason: null });
  }

  /** @param {string} id */
  remove(id) { this.#commit(this.shapes.filter((one) => one.id !== id)); }

  /** @param {number[]} ring @param {string} structure @returns {string} its id */
  add(ring, structure) {
    const id = `o${this.#count++}`;
    this.#commit([...this.shapes, {
      id, structure, level: null, confidence: null, reason: null, doubtful: false, rings: [ring], seenBy: [],
      origin: 'corrected', score: null, levels: {}, touches: [], kind: 'instance',
    }]);
    return id;
  }

  /** Cuts a shape in two; both are without a name. @param {string} id @param {number} first @param {number} second */
  split(id, first, second) {
    const one = this.find(id);
    const parts = one && split(one.rings[0], first, second);
    if (!one || !parts) return false;
    const made = parts.map((ring) => /** @type {Shape} */ ({
      ...one, id: `o${this.#count++}`, rings: [ring], origin: 'corrected',
      level: isVertebra(one) ? null : one.level, reason: null,
    }));
    this.#commit(this.shapes.flatMap((each) => (each.id === id ? made : [each])));
    return true;
  }

  /** Makes one shape of two; it keeps the first one's name. @param {string} id @param {string} other */
  join(id, other) {
    const [one, two] = [this.find(id), this.find(other)];
    const ring = one && two && joined(one.rings[0], two.rings[0]);
    if (!ring) return false;
    this.#commit(this.shapes.filter((each) => each.id !== other)
      .map((each) => (each.id === id ? { ...each, rings: [ring], origin: 'corrected', level: one.level ?? two.level } : each)));
    return true;
  }

  /** Moves, adds and deletes points.
   * @param {string} id @param {number} place @param {number} x @param {number} y
   */
  movePoint(id, place, x, y) {
    const ring = this.find(id)?.rings[0].slice();
    if (!ring) return;
    [ring[2 * place], ring[2 * place + 1]] = [x, y];
    this.reshape(id, ring);
  }

  /** @param {string} id @param {number} after @param {number} x @param {number} y */
  addPoint(id, after, x, y) {
    const ring = this.find(id)?.rings[0].slice();
    if (!ring) return;
    ring.splice(2 * after + 2, 0, x, y);
    this.reshape(id, ring);
  }

  /** @param {string} id @param {number} place @returns {boolean} false where too few would be left */
  deletePoint(id, place) {
    const ring = this.find(id)?.rings[0].slice();
    if (!ring || ring.length <= 6) return false;
    ring.splice(2 * place, 2);
    this.reshape(id, ring);
    return true;
  }

  /** Names that stand twice. */
  doubles() {
    const seen = new Set();
    const twice = new Set();
    for (const { level } of this.shapes) {
      if (level && seen.has(level)) twice.add(level);
      if (level) seen.add(level);
    }
    return [...twice];
  }
}
