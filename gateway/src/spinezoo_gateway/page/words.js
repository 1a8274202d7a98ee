// @ts-check
/** What the page says: names of networks, reasons, and failures in words. */

/** @type {Record<string, string>} */
export const NETWORKS = {
  unet: 'U-Net',
  pspnet: 'PSPNet',
  deeplabv3: 'DeepLabV3',
  mask_rcnn: 'Mask R-CNN',
  yolact: 'YOLACT',
  fused: 'Fused',
  corrected: 'Corrected',
  loaded: 'Loaded file',
};

/** @param {string} name */
export const networkName = (name) => NETWORKS[name] ?? name;

/** @type {Record<string, string>} */
export const REASONS = {
  no_sacrum: 'the film is not an upright lateral one',
  sacrum_unsure: 'no name is likely enough',
  spacing: 'its distance to the others does not fit',
  duplicate: 'another outline of the same vertebra is better',
  off_column: 'it lies beside the column',
  fragment: 'it is far too small or too large',
  several: 'it covers more than one vertebra',
  beyond: 'it lies above T9 or below S2',
};

/** @type {Record<string, string>} */
export const VIEWS = {
  upside_down: 'This looks like a lateral film that stands upside down. No vertebra is named.',
  turned: 'This looks like a lateral film that is turned by 90 degrees. No vertebra is named.',
  no_lateral_column: 'This does not look like a lateral lumbar film. No vertebra is named.',
};

/** @type {Record<string, string>} */
export const CODES = {
  ok: 'answered',
  waiting: 'waiting',
  asked: 'at work',
  deadline_exceeded: 'too late',
  unavailable: 'not reachable',
  invalid_output: 'answered wrongly',
  resource_exhausted: 'queue full',
  invalid_argument: 'refused the film',
  internal: 'failed',
};

/** @type {Record<string, string>} */
export const PLANES = {
  detector: 'at the detector',
  patient: 'in the patient',
  unsaid: 'plane not said by the film',
  scanner: 'of the scanner, nominal',
};

/** @type {Record<string, string>} */
const TODO = {
  FilmError: 'Choose another file, or export the film again.',
  TooLargeError: 'Scale the film down: half the size is enough for every network.',
  QueueFullError: 'Many films are under way. Try again in a moment.',
  QuorumError: 'Too few networks answered. Try again; if it stays so, whoever runs the zoo can help.',
  NotServingError: 'The zoo is starting or stopping. Try again in a moment.',
  DeadlineError: 'The zoo had no time left. Try again.',
};

/** @param {number} bytes */
export const mebibytes = (bytes) => `${(bytes / 1048576).toFixed(bytes < 10485760 ? 1 : 0)} MiB`;

/** @type {Record<string, string>} */
const MANY = { vertebra: 'vertebrae' };

/** `1 outline`, `2 outlines`. @param {number} count @param {string} noun of one */
export const counted = (count, noun) => `${count.toLocaleString('en')} ${count === 1 ? noun : MANY[noun] ?? `${noun}s`}`;

/** A failure in words, with what to do.
 * @param {any} error a problem of the zoo (RFC 9457) or what a call threw
 * @returns {string}
 */
export function explain(error) {
  if (error && typeof error.detail === 'string') {
    const todo = TODO[error.error] ?? '';
    const detail = error.error === 'FilmError' ? `This film cannot be read: ${error.detail}` : error.detail;
    return `${detail.charAt(0).toUpperCase()}${detail.slice(1)}. ${todo}`.trim();
  }
  if (error instanceof TypeError || error?.name === 'NetworkError') {
    return 'The zoo cannot be reached: the connection is lost, or the zoo has stopped. '
      + 'Nothing on this page is lost. Try again when it is back.';
  }
  return `Something went wrong on this page (${error?.message ?? error}). Try again.`;
}
