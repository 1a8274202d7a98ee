// @ts-check
/** The only things that stay in the browser: how a person likes the page to look. */

const NAMES = new Set(['theme', 'fill', 'opacity']);

/** @param {string} name */
export function get(name) {
  try {
    return localStorage.getItem(`spinezoo.${name}`);
  } catch {
    return null;
  }
}

/** @param {string} name @param {string} value */
export function set(name, value) {
  if (!NAMES.has(name)) throw new Error(`${name} is no preference`);
  try {
    localStorage.setItem(`spinezoo.${name}`, value);
  } catch { /* a browser that keeps nothing */ }
}
