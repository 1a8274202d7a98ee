// @ts-check
/** Calls to the zoo. Failures are thrown as the zoo's problem details, or as the browser's errors. */

/** @typedef {any} Json */

const MOST_HEAD = 1 << 20; // What a preview says of its film is shorter, in bytes.

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
    const response = await this.call('/v1/preview', {
      method: 'POST', body: form, signal, headers: { Accept: 'application/octet-stream' },
    });
    const bytes = await response.arrayBuffer();
    const head = new Uint8Array(bytes, 0, Math.min(bytes.byteLength, MOST_HEAD));
    const end = head.indexOf(10) + 1;
    if (!end) throw new TypeError('the preview was cut off');
    const found = JSON.parse(new TextDecoder().decode(head.subarray(0, end)));
    const pixels = found.levels.type === 'uint16' ? new Uint16Array(bytes, end) : new Uint8Array(bytes, end);
    if (pixels.length !== found.height * found.width) throw new TypeError('the preview was cut off');
    return { ...found, pixels };
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
