// @ts-check
/** Outlines as files: VIA 2, COCO, CSV, JSON and a picture; and VIA files read back. */

import { area, bounds, centre, path2d } from './geometry.js';
import { mark } from './shapes.js';
import {
  CLASS_KEYS, CLASSES, CLOSING, LEVEL, LEVEL_KEYS, MOST_BYTES, MOST_POINTS, MOST_REGIONS, ROUND_VERTICES, SEPARATORS, STRUCTURES,
  TRUTH,
} from './terms.js';
import { counted } from './words.js';

/** @typedef {import('./shapes.js').Shape} Shape */

/** Outlines that a training set takes. @param {Shape[]} shapes */
export const forTraining = (shapes) => shapes.filter((one) => one.level === null || TRUTH.includes(one.level));

/** A file name without what a file system may trip over. @param {string} name */
export function stem(name) {
  const plain = name.replace(/\.[A-Za-z0-9]{1,5}$/, '').replace(/[^\p{L}\p{N}._-]+/gu, '_');
  return plain.replace(/^[._-]+|[._-]+$/g, '').slice(0, 100) || 'film';
}

const rounded = (/** @type {number} */ value) => Math.round(value * 100) / 100;

/** @param {Shape} one */
const attributes = (one) => ({
  structure: one.structure,
  ...(one.level ? { level: one.level } : {}),
  origin: one.origin,
});

/** A project that VIA 2 opens and `make train` reads. @param {any} film @param {Shape[]} shapes */
export function via(film, shapes) {
  const key = `${film.name}${film.file.size}`;
  const regions = forTraining(shapes).map((one) => ({
    shape_attributes: {
      name: 'polygon',
      all_points_x: one.rings[0].filter((_, i) => i % 2 === 0).map(rounded),
      all_points_y: one.rings[0].filter((_, i) => i % 2 === 1).map(rounded),
    },
    region_attributes: attributes(one),
  }));
  const options = Object.fromEntries(Object.keys(STRUCTURES).map((name) => [name, '']));
  const text = { type: 'text', description: '', default_value: '' };
  return JSON.stringify({
    _via_settings: {
      ui: {},
      core: { buffer_size: 18, filepath: {}, default_filepath: '' },
      project: { name: 'SpineZoo' },
    },
    _via_img_metadata: {
      [key]: { filename: film.name, size: film.file.size, regions, file_attributes: {} },
    },
    _via_attributes: {
      region: {
        structure: { type: 'dropdown', description: '', options, default_options: {} },
        level: text,
        origin: text,
      },
      file: {},
    },
    _via_data_format_version: '2.0.10',
    _via_image_id_list: [key],
  }, null, 1);
}

/** COCO instances. @param {any} film @param {Shape[]} shapes */
export function coco(film, shapes) {
  const names = Object.keys(STRUCTURES);
  return JSON.stringify({
    images: [{ id: 1, file_name: film.name, height: film.height, width: film.width }],
    categories: names.map((name, i) => ({ id: i + 1, name })),
    annotations: forTraining(shapes).map((one, i) => {
      const [left, top, right, bottom] = bounds(one.rings);
      const { structure, ...rest } = attributes(one);
      return {
        id: i + 1,
        image_id: 1,
        category_id: names.indexOf(structure) + 1,
        segmentation: [one.rings[0].map(rounded)],
        area: rounded(Math.abs(area(one.rings[0]))),
        bbox: [left, top, right - left, bottom - top].map(rounded),
        iscrowd: 0,
        attributes: rest,
      };
    }),
  }, null, 1);
}

/** Where areas hold, in the name of their column. @type {Record<string, string>} */
const AREAS = { detector: 'at_detector', patient: 'in_patient' };

/** A table, a row an outline; lengths in mm only where the film has a spacing. @param {any} film @param {Shape[]} shapes */
export function csv(film, shapes) {
  const spaced = film.rowSpacing && film.columnSpacing;
  const head = ['structure', 'level', 'origin', 'confidence', 'centre_x_px', 'centre_y_px', 'area_px2',
    ...(spaced ? [`area_mm2_${AREAS[film.plane] ?? 'plane_unsaid'}`] : []), 'points'];
  const rows = shapes.map((one) => {
    const [x, y] = centre(one.rings[0]).map(rounded);
    const size = Math.abs(area(one.rings[0]));
    return [one.structure, one.level ?? '', one.origin, one.origin === 'predicted' ? one.confidence ?? '' : '', x, y, rounded(size),
      ...(spaced ? [rounded(size * film.rowSpacing * film.columnSpacing)] : []), one.rings[0].length / 2];
  });
  return `${[head, ...rows].map((row) => row.join(',')).join('\r\n')}\r\n`;
}

/** Everything: what the zoo answered, and what became of it. @param {any} film @param {Shape[]} shapes @param {any} answer */
export function json(film, shapes, answer) {
  return JSON.stringify({
    film: {
      name: film.name, height: film.height, width: film.width, row_spacing_mm: film.rowSpacing,
      column_spacing_mm: film.columnSpacing, spacing_plane: film.plane, notes: film.notes,
    },
    outlines: shapes.map(({ structure, level, origin, confidence, reason, rings, seenBy, touches }) => ({
      structure, level, origin, confidence: origin === 'predicted' ? confidence : null,
      unnamed_reason: reason, rings, seen_by: seenBy, touches,
    })),
    answer: { members: answer.members, ...answer.summary },
  }, null, 1);
}

/** A picture of the film through a window with outlines.
 * @param {any} film @param {import('./film.js').Window} window @param {Shape[]} shapes @param {(one: Shape) => string} colour
 */
export async function picture(film, window, shapes, colour) {
  const { canvas, wide, high } = film.picture(window);
  const context = /** @type {OffscreenCanvasRenderingContext2D} */ (canvas.getContext('2d'));
  const placed = new DOMMatrix([wide, 0, 0, high, 0, 0]);
  const unit = canvas.height / 900;
  context.lineWidth = 2.2 * unit;
  context.font = `600 ${17 * unit}px system-ui, sans-serif`;
  context.textAlign = 'center';
  context.textBaseline = 'middle';
  for (const one of shapes) {
    context.strokeStyle = colour(one);
    context.setLineDash(mark(one).includes('?') ? [7 * unit, 5 * unit] : []);
    const path = new Path2D();
    path.addPath(path2d(one.rings), placed);
    context.stroke(path);
    const { x, y } = placed.transformPoint(new DOMPoint(...centre(one.rings[0])));
    context.setLineDash([]);
    context.strokeStyle = '#000';
    context.strokeText(mark(one), x, y);
    context.fillStyle = '#fff';
    context.fillText(mark(one), x, y);
  }
  return canvas.convertToBlob({ type: 'image/png' });
}

/** A failure to say to the person. */
export class FileError extends Error {}

/** Outlines of a VIA 1 or 2 file for a film.
 * @param {File} file @param {any} film
 * @returns {Promise<{shapes: Shape[], skipped: number, of: string}>} `of` names the film that the
 *   file speaks of, where it is another one
 */
export async function readVia(file, film) {
  if (file.size > MOST_BYTES) throw new FileError(`${file.name} has more than ${MOST_BYTES / 1048576} MiB; export the outlines of this film alone.`);
  let value;
  try {
    value = JSON.parse(await file.text());
  } catch {
    throw new FileError(`${file.name} is no JSON file; save the project in VIA 2 (Project, Save) and load that.`);
  }
  const entries = Object.values(value?._via_img_metadata ?? value ?? {})
    .filter((entry) => entry && typeof entry === 'object' && 'filename' in entry && 'regions' in entry);
  if (!entries.length) throw new FileError(`${file.name} is no VIA 2 file; save the project in VIA 2 and load that.`);
  const names = (/** @type {any} */ entry) => [entry.filename, entry.file_attributes?.film]; // `make annotate` writes the film beside its picture
  const own = entries.find((entry) => names(entry).includes(film.name))
    ?? entries.find((entry) => names(entry).some((name) => spelling(name) === spelling(film.name)));
  if (!own && entries.length > 1) {
    throw new FileError(`${file.name} has outlines of ${entries.length} films, and none of them is called ${film.name}.`);
  }
  const entry = own ?? entries[0];
  for (const [side, pixels] of [['width', film.width], ['height', film.height]]) {
    const stated = Number(said(entry.file_attributes ?? {}, side) || pixels);
    if (stated !== pixels) throw new FileError(`${file.name} was drawn on a film of ${side} ${stated}, this one has ${pixels}; save film and outlines at the same size.`);
  }
  const regions = Object.values(entry.regions ?? {});
  if (regions.length > MOST_REGIONS) {
    throw new FileError(`${file.name} has ${counted(regions.length, 'outline')} of this film; at most ${MOST_REGIONS.toLocaleString('en')} are shown. Remove what is no single structure.`);
  }
  /** @type {Shape[]} */
  const shapes = [];
  let skipped = 0;
  for (const region of regions) {
    const ring = ringOf(region?.shape_attributes);
    const given = region?.region_attributes ?? {};
    const structure = structureOf(given);
    if (!ring || !structure) {
      skipped += 1;
      continue;
    }
    shapes.push({
      id: `loaded-${shapes.length}`, structure, level: levelOf(given), confidence: null, reason: null, doubtful: false,
      rings: [ring], seenBy: [], origin: 'loaded', score: null, levels: {}, touches: [], kind: 'instance',
    });
  }
  if (!shapes.length) throw new FileError(`${file.name} holds no outline that is understood (${counted(skipped, 'outline')} ${skipped === 1 ? 'was' : 'were'} not).`);
  return { shapes, skipped, of: own ? '' : String(entry.filename) };
}

/** A film's name without folders, case and Unicode form. @param {unknown} name */
const spelling = (name) => String(name ?? '').normalize('NFC').toLowerCase().split(/[\\/]/).pop();

/** What an attribute says: text, a number, the one box that is ticked; else nothing. @param {unknown} value @returns {string} */
function textOf(value) {
  if (Array.isArray(value)) return value.length === 1 ? textOf(value[0]) : '';
  if (value && typeof value === 'object') {
    const ticked = Object.entries(value).filter(([, on]) => on === true || on === 'true' || on === '1' || on === 1);
    return ticked.length === 1 ? ticked[0][0].trim() : '';
  }
  return typeof value === 'string' || typeof value === 'number' ? String(value).trim() : '';
}

/** What the attribute of a name says, without regard to case. @param {Record<string, unknown>} given @param {string} name */
function said(given, name) {
  return Object.entries(given).filter(([key]) => key.trim().toLowerCase() === name).map(([, value]) => textOf(value)).find(Boolean) ?? '';
}

/** A class name without case and separators. @param {string} text */
const classKey = (text) => text.trim().toLowerCase().split(SEPARATORS).join(' ').trim();

/** The level of a region: by its own attributes, else by its class; none where two are said.
 * @param {Record<string, unknown>} given @returns {string | null}
 */
function levelOf(given) {
  const levels = (/** @type {string[]} */ keys) => new Set(keys.map((key) => said(given, key).toUpperCase().replace(/\s/g, '').replace('TH', 'T'))
    .filter((text) => LEVEL.test(text)));
  const own = levels(LEVEL_KEYS);
  const [level, other] = own.size ? own : levels(CLASS_KEYS);
  return level === undefined || other !== undefined || level.includes('/') ? null : level;
}

/** @param {Record<string, unknown>} given */
function structureOf(given) {
  for (const key of CLASS_KEYS) {
    const name = classKey(said(given, key));
    if (Object.hasOwn(CLASSES, name)) return CLASSES[name];
  }
  return null;
}

/** @param {any} shape @returns {number[] | null} */
function ringOf(shape) {
  const number = (/** @type {unknown} */ value) => typeof value === 'number' && Number.isFinite(value) && Math.abs(value) < 1e6;
  const { name } = shape ?? {};
  if (name === 'polygon' || name === 'polyline') {
    const [xs, ys] = [shape.all_points_x, shape.all_points_y];
    if (!Array.isArray(xs) || !Array.isArray(ys) || xs.length !== ys.length || xs.length < 3 || xs.length > MOST_POINTS) return null;
    const ring = xs.flatMap((x, i) => [x, ys[i]]);
    if (!ring.every(number) || Math.abs(area(ring)) < 1) return null;
    if (name === 'polygon') return ring;
    const closed = xs.length > 3 && Math.hypot(ring[0] - ring[ring.length - 2], ring[1] - ring[ring.length - 1]) <= CLOSING;
    return closed ? ring.slice(0, -2) : null;
  }
  if (name === 'rect') {
    const { x, y, width, height } = shape;
    if (![x, y, width, height].every(number)) return null;
    return [x, y, x + width, y, x + width, y + height, x, y + height];
  }
  if (name === 'circle' || name === 'ellipse') {
    const [rx, ry] = name === 'circle' ? [shape.r, shape.r] : [shape.rx, shape.ry];
    const turn = shape.theta ?? 0;
    if (![shape.cx, shape.cy, rx, ry, turn].every(number) || rx <= 0 || ry <= 0 || Math.abs(turn) > 2 * Math.PI) return null;
    return Array.from({ length: ROUND_VERTICES }, (_, i) => (2 * Math.PI * i) / ROUND_VERTICES).flatMap((angle) => {
      const [a, b] = [rx * Math.cos(angle), ry * Math.sin(angle)];
      return [shape.cx + a * Math.cos(turn) - b * Math.sin(turn), shape.cy + a * Math.sin(turn) + b * Math.cos(turn)];
    });
  }
  return null;
}
