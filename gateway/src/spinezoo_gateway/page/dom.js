// @ts-check
/** Elements without markup: texts stay texts, whatever is in them. */

const SVG = 'http://www.w3.org/2000/svg';

/** @typedef {Record<string, string | number | boolean | null | undefined>} Attributes */
/** @typedef {Node | string | null | undefined | false} Child */

/** @param {Element} element @param {Attributes} attributes @param {Child[]} children */
function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    element.setAttribute(name, value === true ? '' : String(value));
  }
  for (const child of children) if (child) element.append(child);
  return element;
}

/** An HTML element.
 * @param {string} tag @param {Attributes} [attributes] @param {...Child} children
 * @returns {any}
 */
export function h(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** An SVG element.
 * @param {string} tag @param {Attributes} [attributes] @param {...Child} children
 * @returns {any}
 */
export function s(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

/** A button.
 * @param {string} text @param {() => void} act @param {Attributes} [attributes]
 * @returns {HTMLButtonElement}
 */
export function button(text, act, attributes = {}) {
  const made = h('button', { type: 'button', ...attributes }, text);
  made.addEventListener('click', act);
  return made;
}

/** A drop-down list with its label.
 * @param {string} label @param {[string, string][]} options value and text
 * @param {string} value @param {(value: string) => void} act @param {Attributes} [attributes]
 */
export function choice(label, options, value, act, attributes = {}) {
  const list = h('select', attributes, ...options.map(([key, text]) => h('option', { value: key }, text)));
  list.value = value;
  list.addEventListener('change', () => act(list.value));
  return h('label', { class: 'choice' }, h('span', {}, label), list);
}

/** Hands a file to the browser's downloads.
 * @param {Blob} blob @param {string} name
 */
export function download(blob, name) {
  const address = URL.createObjectURL(blob);
  const link = h('a', { href: address, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 60000);
}
