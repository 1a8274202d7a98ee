// @ts-check
/** Answers as shapes: what is drawn, listed and corrected. */

import { bounds, centre, inside, largest, path2d } from './geometry.js';
import { STRUCTURES } from './terms.js';
import { counted, REASONS } from './words.js';

/** @typedef {import('./geometry.js').Ring} Ring */
/** @typedef {{
 *   id: string, structure: string, level: string | null, confidence: number | null,
 *   reason: string | null, rings: Ring[], seenBy: string[], origin: 'predicted' | 'corrected' | 'loaded',
 *   doubtful: boolean, score: number | null, levels: Record<string, number>, touches: string[], kind: string,
 * }} Shape */

/** A name below this confidence is doubtful: it is wrong in more than one of twenty. */
const DOUBTFUL = 0.95;

const ORDER = Object.keys(STRUCTURES);

/** @param {any} segment @param {string} id @returns {Shape} */
function shape(segment, id) {
  return {
    id,
    structure: segment.structure,
    level: segment.level ?? null,
    confidence: null,
    reason: null,
    doubtful: false,
    rings: segment.mask.rings,
    seenBy: [],
    origin: 'predicted',
    score: segment.score,
    levels: {},
    touches: [],
    kind: segment.kind,
  };
}

/** Shapes of one network. @param {any} member */
export const memberShapes = (member) => (member.segments ?? []).map(
  (/** @type {any} */ segment, /** @type {number} */ place) => shape(segment, `${member.name}-${place}`));

/** Shapes of the fused answer: vertebrae and implants as objects.
 * @param {any} fused @param {any[]} members
 * @returns {Shape[]}
 */
export function fusedShapes(fused, members) {
  const found = (fused.labelling?.vertebrae ?? []).map((/** @type {any} */ each, /** @type {number} */ place) => ({
    ...shape(each.segment, `vertebra-${place}`),
    confidence: each.confidence,
    reason: each.unnamed_reason ?? null,
    doubtful: each.segment.level !== undefined && each.confidence < DOUBTFUL,
    levels: each.level_probabilities,
    seenBy: seenBy(each.segment, members),
  }));
  fused.implants.forEach((/** @type {any} */ each, /** @type {number} */ place) => found.push({
    ...shape(each.segment, `implant-${place}`),
    touches: each.touches,
    seenBy: each.member_names,
  }));
  return found.sort((/** @type {Shape} */ a, /** @type {Shape} */ b) => {
    const group = Number(!isVertebra(a)) - Number(!isVertebra(b));
    return group || centre(largest(a.rings))[1] - centre(largest(b.rings))[1];
  });
}

/** Networks with an outline of a vertebra where this one is. @param {any} segment @param {any[]} members */
function seenBy(segment, members) {
  const [x, y] = centre(largest(segment.mask.rings));
  return members.filter((member) => (member.segments ?? []).some((/** @type {any} */ each) => (
    each.structure.endsWith('vertebra') && inside(each.mask.rings, x, y)))).map((member) => member.name);
}

/** @param {Shape} one */
export const isVertebra = (one) => one.structure.endsWith('vertebra');

/** @param {Shape} one */
export const isWithheld = (one) => isVertebra(one) && one.origin === 'predicted' && one.kind === 'instance'
  && !one.level && one.reason !== null;

/** @param {Shape} one */
export const isDoubtful = (one) => one.level !== null && one.origin === 'predicted' && one.doubtful;

/** Short text at a shape. @param {Shape} one */
export function mark(one) {
  if (!isVertebra(one)) return '';
  if (one.level) return isDoubtful(one) ? `${one.level} ?` : one.level;
  return isWithheld(one) ? '?' : '';
}

/** What a shape is called. @param {Shape} one */
export function title(one) {
  const what = STRUCTURES[one.structure] ?? one.structure;
  if (one.level) return one.level;
  return isWithheld(one) ? `${what}, name withheld` : what;
}

/** What is known of a shape, a line each. @param {Shape} one @param {number} asked networks
 * @returns {string[]}
 */
export function details(one, asked) {
  const lines = [STRUCTURES[one.structure] ?? one.structure];
  if (one.origin !== 'predicted') lines.push(one.origin === 'corrected' ? 'corrected by a person' : 'from the loaded file');
  if (one.level && one.confidence !== null && one.origin === 'predicted') {
    lines.push(`confidence of the name ${probability(one.confidence)}${isDoubtful(one) ? ', doubtful' : ''}`);
  }
  if (isWithheld(one)) {
    lines.push(`no name: ${REASONS[/** @type {string} */ (one.reason)] ?? one.reason}`);
    const likely = Object.entries(one.levels).slice(0, 3).map(([level, share]) => `${level} ${probability(share)}`);
    if (likely.length) lines.push(`possible: ${likely.join(', ')}`);
  }
  if (one.touches.length) lines.push(`touches ${one.touches.join(', ')}`);
  if (one.seenBy.length) lines.push(`seen by ${one.seenBy.length} of ${counted(asked, 'network')}`);
  else if (one.score !== null && one.confidence === null && one.origin === 'predicted') lines.push(`score ${percent(one.score)}`);
  return lines;
}

/** @param {number} share */
export function percent(share) {
  const text = (100 * share).toFixed(share > 0.9995 || share < 0.1 ? 1 : 0);
  return share < 1 && text === '100.0' ? '> 99.9 %' : `${text.replace('.0', '')} %`;
}

/** A probability; none is certain, also where the answer was rounded to 1.
 * @param {number} share */
export function probability(share) {
  return share > 0.9995 ? '> 99.9 %' : percent(share);
}

/** In how far networks disagree on each point: votes on a grid.
 * @param {Shape[][]} voters the shapes of each network @param {number} width @param {number} height
 * @returns {{canvas: OffscreenCanvas, share: number}} a picture the film's shape, and how much of the
 *   outlined area is disputed
 */
export function disagreement(voters, width, height) {
  const scale = Math.min(1, 1024 / Math.max(width, height));
  const [w, h] = [Math.max(1, Math.round(width * scale)), Math.max(1, Math.round(height * scale))];
  const votes = new Uint8Array(w * h);
  const canvas = new OffscreenCanvas(w, h);
  const context = /** @type {OffscreenCanvasRenderingContext2D} */ (canvas.getContext('2d', { willReadFrequently: true }));
  for (const shapes of voters) {
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, w, h);
    context.setTransform(scale, 0, 0, scale, 0, 0);
    for (const one of shapes) context.fill(path2d(one.rings), 'evenodd');
    const { data } = context.getImageData(0, 0, w, h);
    for (let i = 0; i < votes.length; i += 1) if (data[4 * i + 3] > 127) votes[i] += 1;
  }
  const picture = context.createImageData(w, h);
  let any = 0;
  let disputed = 0;
  for (let i = 0; i < votes.length; i += 1) {
    if (!votes[i]) continue;
    any += 1;
    const split = 1 - Math.abs((2 * votes[i]) / voters.length - 1);
    if (split > 0) disputed += 1;
    const [r, g, b] = heat(split);
    picture.data.set([r, g, b, split > 0 ? 235 : 70], 4 * i);
  }
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.putImageData(picture, 0, 0);
  return { canvas, share: any ? disputed / any : 0 };
}

/** Cividis, which colour-blind eyes see as others do, from 0 (agreed) to 1 (split).
 * @param {number} share @returns {[number, number, number]}
 */
export function heat(share) {
  const stops = [[0, 34, 78], [52, 71, 108], [102, 105, 112], [149, 143, 120], [200, 184, 102], [254, 232, 56]];
  const place = Math.min(stops.length - 1.0001, Math.max(0, share * (stops.length - 1)));
  const i = Math.floor(place);
  const mix = (/** @type {number} */ c) => Math.round(stops[i][c] + (place - i) * (stops[i + 1][c] - stops[i][c]));
  return [mix(0), mix(1), mix(2)];
}

/** Structures in their fixed order. @param {Shape[]} shapes */
export const inOrder = (shapes) => [...shapes].sort((a, b) => ORDER.indexOf(a.structure) - ORDER.indexOf(b.structure));

/** @param {Shape} one */
export const boxOf = (one) => bounds(one.rings);
