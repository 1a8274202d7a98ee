// @ts-check
/** The film: its grey levels, and the picture of them through a window. */

const MOST_PIXELS = 8_000_000; // Larger films are shown at half, a third, ... of their pixels.

/** @typedef {{low: number, high: number, invert: boolean}} Window */

export class Film {
  /** @param {File} file @param {any} preview of the zoo, with `pixels` */
  constructor(file, preview) {
    this.file = file;
    this.name = file.name;
    this.height = preview.height;
    this.width = preview.width;
    this.levels = preview.levels;
    this.pixels = preview.pixels;
    this.notes = preview.notes;
    this.rowSpacing = preview.row_spacing_mm ?? null;
    this.columnSpacing = preview.column_spacing_mm ?? null;
    this.plane = preview.spacing_plane ?? null;
    this.step = Math.ceil(Math.sqrt((this.width * this.height) / MOST_PIXELS));
    this.shownWidth = Math.ceil(this.width / this.step);
    this.shownHeight = Math.ceil(this.height / this.step);
    this.shown = this.step === 1 ? this.pixels : this.#thinned();
    this.canvas = new OffscreenCanvas(this.shownWidth, this.shownHeight);
    this.context = /** @type {OffscreenCanvasRenderingContext2D} */ (
      this.canvas.getContext('2d', { alpha: false }));
    this.image = new ImageData(this.shownWidth, this.shownHeight);
    this.words = new Uint32Array(this.image.data.buffer);
    this.table = new Uint32Array(this.levels.type === 'uint16' ? 65536 : 256);
    this.presets = this.#presets();
    /** @type {Window | null} */
    this.drawn = null;
  }

  #thinned() {
    const found = new this.pixels.constructor(this.shownWidth * this.shownHeight);
    let place = 0;
    for (let y = 0; y < this.height; y += this.step) {
      for (let x = 0; x < this.width; x += this.step) found[place++] = this.pixels[y * this.width + x];
    }
    return found;
  }

  /** Windows by name, from the film's own levels. @returns {Record<string, [number, number]>} */
  #presets() {
    const step = Math.max(1, Math.floor(this.shown.length / 60000));
    const sample = [];
    for (let i = 0; i < this.shown.length; i += step) sample.push(this.shown[i]);
    sample.sort((a, b) => a - b);
    const at = (/** @type {number} */ share) => sample[Math.min(sample.length - 1, Math.floor(share * sample.length))];
    const { minimum, maximum, low, high } = this.levels;
    const fit = (/** @type {number} */ a, /** @type {number} */ b) => /** @type {[number, number]} */ ([a, Math.max(b, a + 1)]);
    return {
      auto: fit(low, high),
      full: fit(minimum, maximum),
      bone: fit(at(0.35), at(0.995)),
      soft: fit(at(0.02), at(0.7)),
      metal: fit(at(0.8), maximum),
    };
  }

  /** The film's own value of a level. @param {number} x @param {number} y */
  valueAt(x, y) {
    const [column, row] = [Math.floor(x), Math.floor(y)];
    if (column < 0 || row < 0 || column >= this.width || row >= this.height) return null;
    const value = this.pixels[row * this.width + column] * this.levels.scale + this.levels.offset;
    return Math.round(value * 1000) / 1000;
  }

  /** Draws the film through a window, if that has changed. @param {Window} window */
  draw(window) {
    const old = this.drawn;
    if (old && old.low === window.low && old.high === window.high && old.invert === window.invert) return;
    this.drawn = { ...window };
    const range = Math.max(1e-6, window.high - window.low);
    for (let level = 0; level < this.table.length; level += 1) {
      const share = Math.min(1, Math.max(0, (level - window.low) / range));
      const grey = Math.round(255 * (window.invert ? 1 - share : share));
      this.table[level] = 0xff000000 | (grey << 16) | (grey << 8) | grey;
    }
    const { words, table, shown } = this;
    for (let i = 0; i < words.length; i += 1) words[i] = table[shown[i]];
    this.context.putImageData(this.image, 0, 0);
  }
}
