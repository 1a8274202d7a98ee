// @ts-check
/** One picture of the film with shapes over it. All panes share the view: zoom, place and window. */

import { h, s } from './dom.js';
import { centre, largest, pathText } from './geometry.js';
import { details, isDoubtful, isWithheld, mark, title } from './shapes.js';

/** @typedef {import('./shapes.js').Shape} Shape */

/** Where the film lies in every pane, and how large: film pixels to CSS pixels. */
export class View {
  scale = 1;
  x = 0;
  y = 0;
  fitted = true;

  /** The film as large as it goes into a box. @param {any} film @param {number} width @param {number} height */
  fit(film, width, height) {
    const [fw, fh] = [film.width * film.ratio, film.height];
    this.scale = Math.min(width / fw, height / fh) * 0.98;
    this.x = (width - fw * this.scale) / 2;
    this.y = (height - fh * this.scale) / 2;
    this.fitted = true;
  }

  /** @param {number} factor @param {number} atX @param {number} atY CSS pixels of the pane */
  zoom(factor, atX, atY) {
    const scale = Math.min(40, Math.max(0.02, this.scale * factor));
    this.x = atX - (atX - this.x) * (scale / this.scale);
    this.y = atY - (atY - this.y) * (scale / this.scale);
    this.scale = scale;
    this.fitted = false;
  }

  /** @param {number} dx @param {number} dy */
  pan(dx, dy) {
    this.x += dx;
    this.y += dy;
    this.fitted = false;
  }
}

export class Pane {
  /** @param {View} view @param {string} name */
  constructor(view, name) {
    this.view = view;
    this.canvas = h('canvas', { 'aria-hidden': 'true' });
    this.context = /** @type {CanvasRenderingContext2D} */ (this.canvas.getContext('2d', { alpha: false }));
    this.shapes = s('g', {});
    this.marks = s('g', { class: 'marks', 'aria-hidden': 'true' });
    this.handles = s('g', { class: 'handles' });
    this.svg = s('svg', { class: 'over', role: 'group', 'aria-label': name }, this.shapes, this.handles, this.marks);
    this.caption = h('figcaption', {}, name);
    this.root = h('figure', { class: 'pane' }, this.canvas, this.svg, this.caption);
    /** @type {any} */
    this.film = null;
    /** @type {OffscreenCanvas | null} */
    this.heat = null;
    this.opacity = 1;
    /** @type {[SVGTextElement, number, number][]} */
    this.texts = [];
    /** @type {[SVGElement, number, number][]} */
    this.points = [];
  }

  /** Size in CSS pixels. */
  get size() {
    return { width: this.root.clientWidth, height: this.root.clientHeight };
  }

  /** Film pixels of a place on the screen. @param {number} clientX @param {number} clientY @returns {[number, number]} */
  toFilm(clientX, clientY) {
    const box = this.canvas.getBoundingClientRect();
    const { x, y, scale } = this.view;
    const ratio = this.film?.ratio ?? 1;
    return [(clientX - box.left - x) / (scale * ratio), (clientY - box.top - y) / scale];
  }

  /** The part of the film that is seen, in its pixels. @returns {import('./film.js').Part} */
  get part() {
    const { width, height } = this.size;
    const { x, y, scale } = this.view;
    const wide = scale * this.film.ratio;
    return { left: -x / wide, top: -y / scale, right: (width - x) / wide, bottom: (height - y) / scale };
  }

  /** Draws the film where the view has it; cheap enough for every frame. */
  draw() {
    const { width, height } = this.size;
    const density = window.devicePixelRatio || 1;
    const [w, t] = [Math.round(width * density), Math.round(height * density)];
    if (this.canvas.width !== w || this.canvas.height !== t) {
      this.canvas.width = w;
      this.canvas.height = t;
    }
    const { context, film, view } = this;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.fillStyle = '#000';
    context.fillRect(0, 0, w, t);
    if (!film) return;
    const { ratio } = film;
    // From here on the picture's units are the film's pixels.
    context.setTransform(density * view.scale * ratio, 0, 0, density * view.scale, view.x * density, view.y * density);
    context.imageSmoothingEnabled = view.scale < 3;
    film.put(context);
    if (this.heat) {
      context.globalAlpha = this.opacity;
      context.imageSmoothingEnabled = true;
      context.drawImage(this.heat, 0, 0, film.width, film.height);
      context.globalAlpha = 1;
    }
    this.#place();
  }

  /** Moves what lies over the film. */
  #place() {
    const { view } = this;
    const wide = view.scale * this.film.ratio;
    const moved = `matrix(${wide} 0 0 ${view.scale} ${view.x} ${view.y})`;
    this.shapes.setAttribute('transform', moved);
    for (const [text, x, y] of this.texts) {
      text.setAttribute('transform', `translate(${x * wide + view.x} ${y * view.scale + view.y})`);
    }
    for (const [point, x, y] of this.points) {
      point.setAttribute('transform', `translate(${x * wide + view.x} ${y * view.scale + view.y})`);
    }
  }

  /** Shows shapes.
   * @param {Shape[]} shapes
   * @param {{fill: boolean, opacity: number, labels: boolean, asked: number, selected: string | null,
   *   focusable: boolean}} how
   */
  show(shapes, how) {
    this.texts = [];
    this.marks.replaceChildren();
    const paths = shapes.map((one) => {
      const state = isWithheld(one) ? ' withheld' : isDoubtful(one) ? ' doubtful' : '';
      const path = s('path', {
        d: pathText(one.rings),
        class: `shape ${one.structure} ${one.origin}${state}${how.fill ? ' filled' : ''}${one.id === how.selected ? ' selected' : ''}`,
        'fill-rule': 'evenodd',
        'data-id': one.id,
        ...(how.focusable ? {
          tabindex: 0,
          role: 'img',
          'aria-label': [title(one), ...details(one, how.asked)].join(', '),
        } : {}),
      });
      if (how.labels && mark(one)) {
        const [x, y] = centre(largest(one.rings));
        const text = s('text', { class: `mark ${one.origin}${state}` }, mark(one));
        this.marks.append(text);
        this.texts.push([text, x, y]);
      }
      return path;
    });
    this.shapes.replaceChildren(...paths);
    this.opacity = how.opacity;
    this.shapes.setAttribute('opacity', String(how.opacity));
    if (this.film) this.#place();
  }

  /** Shows the points of the shape that is corrected.
   * @param {number[] | null} ring @param {Set<number>} picked places of points
   * @param {number} active
   */
  showPoints(ring, picked, active) {
    this.points = [];
    this.handles.replaceChildren();
    if (!ring) return;
    for (let i = 0; i < ring.length; i += 2) {
      const place = i / 2;
      const handle = s('g', { class: `handle${picked.has(place) ? ' picked' : ''}${place === active ? ' active' : ''}`, 'data-point': place },
        s('circle', { r: 11, class: 'reach' }), s('circle', { r: 4.5, class: 'dot' }));
      this.points.push([handle, ring[i], ring[i + 1]]);
      this.handles.append(handle);
    }
    if (this.film) this.#place();
  }
}
