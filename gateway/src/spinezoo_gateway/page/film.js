// @ts-check
/** The film: its grey levels, and the picture of them through a window.
 *
 * Only what is seen is drawn, from a copy of the film with about as many pixels as the screen has
 * for it: a frame costs the screen's pixels, however large the film is.
 */

const MOST_PIXELS = 16_000_000; // A picture to save has at most so many.

/** @typedef {{low: number, high: number, invert: boolean}} Window */
/** A copy of the film whose pixels are `step` of the film's wide and high.
 * @typedef {{step: number, width: number, height: number, pixels: Uint8Array | Uint16Array}} Level
 */
/** A part of the film, in its pixels.
 * @typedef {{left: number, top: number, right: number, bottom: number}} Part
 */

export class Film {
  /** @param {File} file @param {any} preview of the zoo, with `pixels` */
  constructor(file, preview) {
    this.file = file;
    this.name = file.name;
    this.height = preview.height;
    this.width = preview.width;
    this.levels = preview.levels;
    /** @type {Uint8Array | Uint16Array} */
    this.pixels = preview.pixels;
    this.notes = preview.notes;
    this.rowSpacing = preview.row_spacing_mm ?? null;
    this.columnSpacing = preview.column_spacing_mm ?? null;
    this.plane = preview.spacing_plane ?? null;
    /** @type {Level[]} each half as wide and high as the one before */
    this.copies = [{ step: 1, width: this.width, height: this.height, pixels: this.pixels }];
    this.table = new Uint32Array(this.levels.type === 'uint16' ? 65536 : 256);
    /** @type {Window | null} the window that the table is of */
    this.tabled = null;
    this.presets = this.#presets();
    this.canvas = new OffscreenCanvas(1, 1);
    this.context = /** @type {OffscreenCanvasRenderingContext2D} */ (
      this.canvas.getContext('2d', { alpha: false }));
    this.image = new ImageData(1, 1);
    /** What the canvas holds from its corner on, in pixels of a copy. */
    this.drawn = { step: 0, left: 0, top: 0, right: 0, bottom: 0, rough: false };
  }

  /** Width of a pixel over its height: films are shown in their true proportions. */
  get ratio() { return this.rowSpacing && this.columnSpacing ? this.columnSpacing / this.rowSpacing : 1; }

  /** Makes the copies down to the one whose pixels are so many of the film's wide and high.
   * @param {number} step a power of two
   */
  #halve(step) {
    while (this.copies[this.copies.length - 1].step < step) this.copies.push(halved(this.copies[this.copies.length - 1]));
  }

  /** Whether single pixels were drawn for want of a copy; `refine` makes the copy. */
  get rough() { return this.drawn.rough; }

  refine() { this.#halve(this.drawn.step); }

  /** Windows by name, from the film's own levels. @returns {Record<string, [number, number]>} */
  #presets() {
    const step = Math.max(1, Math.floor(this.pixels.length / 60000));
    const sample = this.pixels.slice(0, Math.floor((this.pixels.length - 1) / step) + 1);
    for (let i = 0; i < sample.length; i += 1) sample[i] = this.pixels[i * step];
    sample.sort();
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

  /** Makes the table from level to grey; whether the window is another than before. @param {Window} window */
  #tabulate(window) {
    const old = this.tabled;
    if (old && old.low === window.low && old.high === window.high && old.invert === window.invert) return false;
    this.tabled = { ...window };
    const factor = 255 / Math.max(1e-6, window.high - window.low);
    const { minimum, maximum } = this.levels;
    for (let level = minimum; level <= maximum; level += 1) {
      const share = Math.min(255, Math.max(0, (level - window.low) * factor));
      const grey = (window.invert ? 255 - share : share) + 0.5 & 255;
      this.table[level] = 0xff000000 | (grey << 16) | (grey << 8) | grey;
    }
    return true;
  }

  /** Makes a part of the film ready for `put`, where it is not yet.
   * @param {Window} window @param {Part} part @param {number} scale pixels of the screen for one of the film
   */
  draw(window, part, scale) {
    const most = 2 ** Math.floor(Math.log2(Math.max(1, Math.min(this.width, this.height))));
    const step = Math.min(most, 2 ** Math.max(0, Math.floor(Math.log2(1 / scale))));
    const [width, height] = [Math.ceil(this.width / step), Math.ceil(this.height / step)];
    const copy = this.copies.find((each) => each.step === step);
    const other = this.#tabulate(window);
    const near = (/** @type {number} */ value, /** @type {number} */ end) => Math.min(end, Math.max(0, value));
    let left = near(Math.floor(part.left / step), width);
    let top = near(Math.floor(part.top / step), height);
    let right = near(Math.ceil(part.right / step), width);
    let bottom = near(Math.ceil(part.bottom / step), height);
    const old = this.drawn;
    const good = !other && old.step === step && (!old.rough || !copy);
    if (good && old.left <= left && old.top <= top && old.right >= right && old.bottom >= bottom) return;
    if (!other) {
      // Somebody moves the film: a little more than is seen lasts some frames.
      const [wide, high] = [Math.ceil((right - left) / 8), Math.ceil((bottom - top) / 8)];
      [left, top] = [near(left - wide, width), near(top - high, height)];
      [right, bottom] = [near(right + wide, width), near(bottom + high, height)];
    }
    this.drawn = { step, left, top, right, bottom, rough: !copy };
    const [across, down] = [right - left, bottom - top];
    if (!across || !down) return;
    if (this.image.width !== across || this.image.height !== down) this.image = new ImageData(across, down);
    if (this.canvas.width < across) this.canvas.width = across;
    if (this.canvas.height < down) this.canvas.height = down;
    // The picture does not wait for a copy: one pixel stands for its neighbours until there is one.
    const { pixels } = copy ?? this;
    const stride = copy ? 1 : step;
    const wide = copy ? width : this.width;
    const last = (copy ? height : this.height) - 1;
    const words = new Uint32Array(this.image.data.buffer);
    const { table } = this;
    let place = 0;
    for (let y = top; y < bottom; y += 1) {
      const row = Math.min(last, y * stride) * wide;
      const end = row + right * stride;
      for (let x = row + left * stride; x < end; x += stride) words[place++] = table[pixels[x]];
    }
    this.context.putImageData(this.image, 0, 0);
  }

  /** Puts what is ready onto a picture whose units are the film's pixels.
   * @param {CanvasRenderingContext2D | OffscreenCanvasRenderingContext2D} context
   */
  put(context) {
    const { step, left, top, right, bottom } = this.drawn;
    const [across, down] = [right - left, bottom - top];
    if (across && down) context.drawImage(this.canvas, 0, 0, across, down, left * step, top * step, across * step, down * step);
  }

  /** The whole film through a window in square pixels, and how many of them one of the film is wide and high.
   * @param {Window} window
   * @returns {{canvas: OffscreenCanvas, wide: number, high: number}}
   */
  picture(window) {
    const [across, down] = [this.width * Math.max(1, this.ratio), this.height * Math.max(1, 1 / this.ratio)];
    let step = 1;
    while ((across * down) / step ** 2 > MOST_PIXELS) step *= 2;
    const canvas = new OffscreenCanvas(Math.round(across / step), Math.round(down / step));
    // The film ends with the picture: 3.0000000000000004 times its width leaves no empty column.
    const [wide, high] = [canvas.width / this.width, canvas.height / this.height];
    const context = /** @type {OffscreenCanvasRenderingContext2D} */ (canvas.getContext('2d'));
    this.#halve(step);
    this.draw(window, { left: 0, top: 0, right: this.width, bottom: this.height }, 1 / step);
    context.scale(wide, high);
    this.put(context);
    context.setTransform(1, 0, 0, 1, 0, 0);
    return { canvas, wide, high };
  }
}

/** A copy with half the pixels a side, each the mean of four. @param {Level} level @returns {Level} */
function halved({ step, width, height, pixels }) {
  const [across, down] = [Math.ceil(width / 2), Math.ceil(height / 2)];
  const made = pixels instanceof Uint16Array ? new Uint16Array(across * down) : new Uint8Array(across * down);
  let place = 0;
  for (let y = 0; y < height; y += 2) {
    const row = y * width;
    const next = y + 1 < height ? row + width : row;
    const even = width & ~1;
    for (let x = 0; x < even; x += 2) {
      made[place++] = (pixels[row + x] + pixels[row + x + 1] + pixels[next + x] + pixels[next + x + 1] + 2) >> 2;
    }
    if (even < width) made[place++] = (pixels[row + even] + pixels[next + even] + 1) >> 1;
  }
  return { step: step * 2, width: across, height: down, pixels: made };
}
