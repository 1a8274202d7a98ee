// @ts-check
/** Rings of points: x1, y1, x2, y2, ... in pixels of the film, closed by themselves. */

/** @typedef {number[]} Ring */

/** Twice the signed area is what the shoelace formula sums. @param {Ring} ring */
export function area(ring) {
  let sum = 0;
  for (let i = 0, j = ring.length - 2; i < ring.length; j = i, i += 2) {
    sum += ring[j] * ring[i + 1] - ring[i] * ring[j + 1];
  }
  return sum / 2;
}

/** Centre of a ring's area. @param {Ring} ring @returns {[number, number]} */
export function centre(ring) {
  let sum = 0;
  let x = 0;
  let y = 0;
  for (let i = 0, j = ring.length - 2; i < ring.length; j = i, i += 2) {
    const cross = ring[j] * ring[i + 1] - ring[i] * ring[j + 1];
    sum += cross;
    x += (ring[j] + ring[i]) * cross;
    y += (ring[j + 1] + ring[i + 1]) * cross;
  }
  if (Math.abs(sum) < 1e-9) return [ring[0], ring[1]];
  return [x / (3 * sum), y / (3 * sum)];
}

/** Left, top, right and bottom of rings. @param {Ring[]} rings */
export function bounds(rings) {
  const box = [Infinity, Infinity, -Infinity, -Infinity];
  for (const ring of rings) {
    for (let i = 0; i < ring.length; i += 2) {
      box[0] = Math.min(box[0], ring[i]);
      box[1] = Math.min(box[1], ring[i + 1]);
      box[2] = Math.max(box[2], ring[i]);
      box[3] = Math.max(box[3], ring[i + 1]);
    }
  }
  return box;
}

/** Whether a point lies inside by the even-odd rule.
 * @param {Ring[]} rings @param {number} x @param {number} y
 */
export function inside(rings, x, y) {
  let is = false;
  for (const ring of rings) {
    for (let i = 0, j = ring.length - 2; i < ring.length; j = i, i += 2) {
      const above = ring[i + 1] > y;
      if (above !== ring[j + 1] > y) {
        const cut = ring[i] + ((y - ring[i + 1]) / (ring[j + 1] - ring[i + 1])) * (ring[j] - ring[i]);
        if (x < cut) is = !is;
      }
    }
  }
  return is;
}

/** The largest ring. @param {Ring[]} rings */
export function largest(rings) {
  return rings.reduce((best, ring) => (Math.abs(area(ring)) > Math.abs(area(best)) ? ring : best));
}

/** The ring without points that lie within a tolerance of the line (Douglas and Peucker).
 * @param {Ring} ring @param {number} tolerance in px
 * @returns {Ring}
 */
export function simplified(ring, tolerance) {
  const count = ring.length / 2;
  if (count <= 4) return ring.slice();
  let far = 0;
  let most = -1;
  for (let i = 1; i < count; i += 1) {
    const d = Math.hypot(ring[2 * i] - ring[0], ring[2 * i + 1] - ring[1]);
    if (d > most) [most, far] = [d, i];
  }
  const kept = new Set([0, far]);
  /** @param {number} from @param {number} to */
  const look = (from, to) => {
    const x = ring[2 * from];
    const y = ring[2 * from + 1];
    const end = to % count;
    const dx = ring[2 * end] - x;
    const dy = ring[2 * end + 1] - y;
    const length = Math.hypot(dx, dy) || 1;
    let worst = tolerance;
    let place = -1;
    for (let i = from + 1; i < to; i += 1) {
      const d = Math.abs((ring[2 * i] - x) * dy - (ring[2 * i + 1] - y) * dx) / length;
      if (d > worst) [worst, place] = [d, i];
    }
    if (place < 0) return;
    kept.add(place);
    look(from, place);
    look(place, to);
  };
  look(0, far);
  look(far, count);
  const places = [...kept].sort((a, b) => a - b);
  return places.length < 3 ? ring.slice() : places.flatMap((i) => [ring[2 * i], ring[2 * i + 1]]);
}

/** Two halves of a ring, cut along the line between two of its points.
 * @param {Ring} ring @param {number} first @param {number} second places of points
 * @returns {[Ring, Ring] | null} null where the cut leaves no area
 */
export function split(ring, first, second) {
  const [a, b] = first < second ? [first, second] : [second, first];
  const one = ring.slice(2 * a, 2 * b + 2);
  const other = [...ring.slice(2 * b), ...ring.slice(0, 2 * a + 2)];
  if (one.length < 6 || other.length < 6) return null;
  return Math.min(Math.abs(area(one)), Math.abs(area(other))) < 1 ? null : [one, other];
}

/** Pixels of rings on a canvas of their own. @param {Ring[]} rings @param {number[]} box @param {number} scale */
export function raster(rings, box, scale = 1) {
  const width = Math.max(1, Math.ceil((box[2] - box[0]) * scale));
  const height = Math.max(1, Math.ceil((box[3] - box[1]) * scale));
  const canvas = new OffscreenCanvas(width, height);
  const context = /** @type {OffscreenCanvasRenderingContext2D} */ (
    canvas.getContext('2d', { willReadFrequently: true }));
  context.setTransform(scale, 0, 0, scale, -box[0] * scale, -box[1] * scale);
  context.fill(path2d(rings), 'evenodd');
  const { data } = context.getImageData(0, 0, width, height);
  const mask = new Uint8Array(width * height);
  for (let i = 0; i < mask.length; i += 1) mask[i] = data[4 * i + 3] > 127 ? 1 : 0;
  return { mask, width, height };
}

/** @param {Ring[]} rings */
export function path2d(rings) {
  const path = new Path2D();
  for (const ring of rings) {
    for (let i = 0; i < ring.length; i += 2) {
      if (i === 0) path.moveTo(ring[0], ring[1]);
      else path.lineTo(ring[i], ring[i + 1]);
    }
    path.closePath();
  }
  return path;
}

/** Rings as an SVG path. @param {Ring[]} rings */
export function pathText(rings) {
  return rings.map((ring) => {
    let text = '';
    for (let i = 0; i < ring.length; i += 2) text += `${i ? 'L' : 'M'}${+ring[i].toFixed(2)} ${+ring[i + 1].toFixed(2)}`;
    return `${text}Z`;
  }).join('');
}

/** Two rings as one: their pixels together, with the gap between them closed where there is one.
 * @param {Ring} one @param {Ring} other
 * @returns {Ring | null} null where they lie too far apart to be one structure
 */
export function joined(one, other) {
  const whole = bounds([one, other]);
  const reach = Math.max(whole[2] - whole[0], whole[3] - whole[1]);
  const box = [Math.floor(whole[0]) - 2, Math.floor(whole[1]) - 2, Math.ceil(whole[2]) + 2, Math.ceil(whole[3]) + 2];
  for (let gap = 0; gap <= reach / 4; gap = gap ? gap * 2 : 2) {
    const parts = gap ? [bridge(one, other, gap)] : [];
    const first = raster([one], box);
    const { mask } = raster([other], box);
    const more = parts[0] ? raster([parts[0]], box).mask : null;
    for (let i = 0; i < mask.length; i += 1) if (mask[i] || more?.[i]) first.mask[i] = 1;
    const traced = outlines(first.mask, first.width, first.height);
    const big = traced.filter((ring) => Math.abs(area(ring)) > 4);
    if (big.length === 1) {
      const moved = big[0].map((value, i) => value + box[i % 2]);
      return simplified(moved, 0.75);
    }
    if (gap > reach / 4) break;
  }
  return null;
}

/** A band between the two closest points of two rings. @param {Ring} one @param {Ring} other @param {number} width */
function bridge(one, other, width) {
  let best = Infinity;
  let [x1, y1, x2, y2] = [0, 0, 0, 0];
  for (let i = 0; i < one.length; i += 2) {
    for (let j = 0; j < other.length; j += 2) {
      const d = Math.hypot(one[i] - other[j], one[i + 1] - other[j + 1]);
      if (d < best) [best, x1, y1, x2, y2] = [d, one[i], one[i + 1], other[j], other[j + 1]];
    }
  }
  const length = best || 1;
  const [ux, uy] = [(x2 - x1) / length, (y2 - y1) / length];
  const [nx, ny] = [-uy * width, ux * width];
  const [ax, ay, bx, by] = [x1 - ux * 2, y1 - uy * 2, x2 + ux * 2, y2 + uy * 2];
  return [ax + nx, ay + ny, bx + nx, by + ny, bx - nx, by - ny, ax - nx, ay - ny];
}

/** Outer borders of a mask's parts, along pixel borders.
 * @param {Uint8Array} mask @param {number} width @param {number} height
 * @returns {Ring[]}
 */
export function outlines(mask, width, height) {
  const at = (/** @type {number} */ x, /** @type {number} */ y) => (
    x >= 0 && y >= 0 && x < width && y < height ? mask[y * width + x] : 0);
  const seen = new Uint8Array(width * height);
  /** @type {Ring[]} */
  const rings = [];
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      if (!at(x, y) || at(x, y - 1) || seen[y * width + x]) continue;
      const ring = walk(at, seen, width, x, y);
      // A hole is walked the other way round.
      if (area(ring) > 0) rings.push(ring);
    }
  }
  return rings;
}

/** Walks a border clockwise with the foreground to the right.
 * @param {(x: number, y: number) => number} at @param {Uint8Array} seen @param {number} width
 * @param {number} startX @param {number} startY
 */
function walk(at, seen, width, startX, startY) {
  /** @type {Ring} */
  const ring = [];
  let [x, y] = [startX, startY];
  let [dx, dy] = [1, 0];
  do {
    if (dx === 1) seen[y * width + x] = 1;
    // Ahead of the corner: the pixel on the left hand and the one on the right hand.
    const [ahead, left] = dx === 1 ? [at(x + 1, y), at(x + 1, y - 1)]
      : dx === -1 ? [at(x - 2, y - 1), at(x - 2, y)]
        : dy === 1 ? [at(x - 1, y + 1), at(x, y + 1)]
          : [at(x, y - 2), at(x - 1, y - 2)];
    x += dx;
    y += dy;
    if (ahead && left) [dx, dy] = [dy, -dx];
    else if (!ahead) [dx, dy] = [-dy, dx];
    else continue;
    ring.push(x, y);
  } while (x !== startX || y !== startY || dx !== 1);
  return ring;
}

/** Intersection over union of two sets of rings. @param {Ring[][]} one @param {Ring[][]} other */
export function overlap(one, other) {
  const all = [...one, ...other].flat();
  if (!all.length) return NaN;
  const box = bounds(all);
  const scale = Math.min(1, 700 / Math.max(box[2] - box[0], box[3] - box[1]));
  const mask = (/** @type {Ring[][]} */ shapes) => {
    const sum = raster([], box, scale).mask;
    for (const rings of shapes) {
      const own = raster(rings, box, scale).mask;
      for (let i = 0; i < sum.length; i += 1) sum[i] |= own[i];
    }
    return sum;
  };
  const [a, b] = [mask(one), mask(other)];
  let both = 0;
  let any = 0;
  for (let i = 0; i < a.length; i += 1) {
    both += a[i] & b[i];
    any += a[i] | b[i];
  }
  return any ? both / any : NaN;
}
