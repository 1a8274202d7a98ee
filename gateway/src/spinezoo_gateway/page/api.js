// @ts-check
/** Calls to the zoo. Failures are thrown as the zoo's problem details, or as the browser's errors. */

/** @typedef {any} Json */

export class Zoo {
  /** @param {any} session of login.js */
  constructor(session) {
    this.session = session;
  }

  /** A call; where the token no longer counts, the login is shown and the call made again.
   * @param {string} path @param {RequestInit} [init]
   * @returns {Promise<Response>}
   */
  async call(path, init = {}) {
    for (;;) {
      const headers = { ...init.headers, ...this.session.headers };
      const response = await fetch(path, { ...init, headers });
      if (response.ok) return response;
      let problem;
      try {
        problem = await response.json();
      } catch {
        problem = { detail: `The zoo answered ${response.status}`, error: 'SpineZooError' };
      }
      if (response.status !== 401) throw problem;
      document.getElementById('login-why')?.replaceChildren(problem.detail);
      await this.session.login();
    }
  }

  /** @returns {Promise<Json>} */
  async models() {
    return (await this.call('/v1/models')).json();
  }

  /** A shipped film. @param {string} file @returns {Promise<File>} */
  async phantom(file) {
    // The path to the page's files counts for ten minutes only.
    await this.call('/v1/access').then(async (response) => { this.session.access = await response.json(); });
    const response = await this.call(`${this.session.access.page}phantoms/${file}`);
    return new File([await response.blob()], file);
  }

  /** The film as the networks get it, levels as an array.
   * @param {File} file @param {AbortSignal} signal
   */
  async preview(file, signal) {
    const form = new FormData();
    form.append('film', file, 'film');
    form.append('pixels', 'raw');
    const response = await this.call('/v1/preview', { method: 'POST', body: form, signal });
    const found = await response.json();
    const bytes = base64(found.raw);
    delete found.raw;
    const levels = found.levels.type === 'uint16'
      ? new Uint16Array(bytes.buffer, 0, bytes.byteLength >> 1)
      : bytes;
    return { ...found, pixels: levels };
  }

  /** Every network's answer as it comes, the fused one last.
   * @param {File} file @param {AbortSignal} signal
   * @param {(event: string, value: Json) => void} heard
   */
  async segment(file, signal, heard) {
    const form = new FormData();
    form.append('film', file, 'film');
    form.append('masks', 'polygons');
    form.append('tolerance_px', '0.75');
    const response = await this.call('/v1/segment', {
      method: 'POST', body: form, signal, headers: { Accept: 'text/event-stream' },
    });
    let last = '';
    for await (const [name, value] of events(response)) {
      last = name;
      if (name === 'problem') throw value;
      heard(name, value);
    }
    if (last !== 'fused') throw new TypeError('the stream was cut off');
  }
}

/** Server-sent events of an answer.
 * @param {Response} response
 * @returns {AsyncGenerator<[string, Json]>}
 */
async function* events(response) {
  const reader = /** @type {ReadableStream<Uint8Array>} */ (response.body).getReader();
  const decoder = new TextDecoder();
  let rest = '';
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    rest += decoder.decode(value, { stream: true });
    for (let end = rest.indexOf('\n\n'); end >= 0; end = rest.indexOf('\n\n')) {
      let name = 'message';
      let data = '';
      for (const line of rest.slice(0, end).split('\n')) {
        if (line.startsWith('event: ')) name = line.slice(7);
        else if (line.startsWith('data: ')) data += line.slice(6);
      }
      rest = rest.slice(end + 2);
      if (data) yield [name, JSON.parse(data)];
    }
  }
}

/** @param {string} text @returns {Uint8Array<ArrayBuffer>} */
function base64(text) {
  const made = /** @type {any} */ (Uint8Array);
  if (made.fromBase64) return made.fromBase64(text);
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let place = 0; place < binary.length; place += 1) bytes[place] = binary.charCodeAt(place);
  return bytes;
}
