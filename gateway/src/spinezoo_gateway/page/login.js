// @ts-check
/** The first module: asks for a token where the zoo wants one, then loads the page itself.
 *
 * The token lives in this module's memory alone. Nothing is stored in the browser.
 */

import { explain } from './words.js';

/** @typedef {{file: string, title: string}} PhantomEntry */
/** @typedef {{page: string, caller: string, max_bytes: number, max_pixels: number,
 *   phantoms: PhantomEntry[]}} Access */

const byId = (/** @type {string} */ id) => /** @type {HTMLElement} */ (document.getElementById(id));

/** Who talks to the zoo: the token, and what the zoo said of it. */
class Session {
  /** @type {string} */
  #token = '';
  /** @type {Promise<void> | null} */
  #asking = null;
  /** @type {Access | null} */
  access = null;

  /** Headers of a call. @returns {Record<string, string>} */
  get headers() {
    return this.#token ? { Authorization: `Bearer ${this.#token}` } : {};
  }

  /** Asks the zoo who we are; false where it wants another token. */
  async enter() {
    const response = await fetch('/v1/access', { headers: this.headers });
    if (response.status === 401) {
      byId('login-why').textContent = this.#token ? (await response.json()).detail : '';
      return false;
    }
    if (!response.ok) throw await response.json();
    this.access = await response.json();
    return true;
  }

  /** Shows the login until a token is taken. What the page holds stays as it is. */
  async login() {
    this.#asking ??= this.#ask().finally(() => { this.#asking = null; });
    return this.#asking;
  }

  async #ask() {
    const dialog = /** @type {HTMLDialogElement} */ (byId('login'));
    const field = /** @type {HTMLInputElement} */ (byId('token'));
    dialog.addEventListener('cancel', (event) => event.preventDefault());
    for (;;) {
      field.value = '';
      if (!dialog.open) dialog.showModal();
      field.focus();
      await new Promise((done) => {
        byId('login-form').addEventListener('submit', (event) => {
          event.preventDefault();
          done(null);
        }, { once: true });
      });
      this.#token = field.value.trim();
      try {
        if (await this.enter()) break;
      } catch (error) {
        byId('login-why').textContent = explain(error);
      }
    }
    dialog.close();
  }
}

async function begin() {
  const session = new Session();
  try {
    if (!(await session.enter())) await session.login();
    const page = /** @type {Access} */ (session.access).page;
    const { start } = await import(`${page}app.js`);
    start(session, byId('app'));
  } catch (error) {
    const text = document.createElement('p');
    text.className = 'failure';
    text.setAttribute('role', 'alert');
    text.textContent = explain(error);
    const again = document.createElement('button');
    again.textContent = 'Try again';
    again.addEventListener('click', () => location.reload());
    byId('app').replaceChildren(text, again);
  }
}

try {
  const theme = localStorage.getItem('spinezoo.theme');
  if (theme === 'light' || theme === 'dark') document.documentElement.dataset.theme = theme;
} catch { /* a browser that keeps nothing shows the dark page */ }
begin();
