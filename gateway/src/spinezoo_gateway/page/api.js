// @ts-check
/** Calls to the zoo. Failures are thrown as the zoo's problem details, or as the browser's errors. */

/** @typedef {any} Json */

/** Waits before another try, in ms: of a line that broke off, and of a place in the zoo's queue. */
const LINE_WAITS = [300, 1200];
const PLACE_WAITS = [1000, 2000, 4000];

const MOST_HEAD = 1 << 20; // What a preview says of its film is shorter, in bytes.

export class Zoo {
  /** @param {any} session of login.js */
  constructor(session) {
    this.session = session;
  }

  /** A call. Where the token no longer counts, the login is shown and the call made again; so it is,
   * a few times, where the line broke off or every place is taken: no call changes anything.
   * @param {string} path @param {RequestInit} [init]
   * @returns {Promise<Response>}
   */
  async call(path, init = {}) {
    const [lines, places] = [[...LINE_WAITS], [...PLACE_WAITS]];
    for (;;) {
      const headers = { ...init.headers, ...this.session.headers };
      let response;
      try {
        response = await fetch(path, { ...init, headers });
      } catch (error) {
        if (!(error instanceof TypeError) || !lines.length) throw error;
        await pause(lines.shift(), init.signal);
        continue;
      }
      if (response.ok) return response;
      let problem;
      try {
        problem = await response.json();
      } catch {
        problem = { detail: `The zoo answered ${response.status}`, error: 'SpineZooError' };
      }
      if (problem.error === 'QueueFullError' && places.length) {
        // Not all at once again: others were refused at the same moment.
        await pause(Number(places.shift()) * (0.5 + Math.random()), init.signal);
        continue;
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

  /** Every network's answer as it comes, the fused one last. Where the line breaks off on the way,
   * everything is asked once more.
   * @param {File} file @param {AbortSignal} signal
   * @param {(event: string, value: Json) => void} heard
   */
  async segment(file, signal, heard) {
    try {
      await this.#segmentOnce(file, signal, heard);
    } catch (error) {
      if (!(error instanceof TypeError) || signal.aborted) throw error;
      await pause(LINE_WAITS[0], signal);
      await this.#segmentOnce(file, signal, heard);
    }
  }

  /** @param {File} file @param {AbortSignal} signal @param {(event: string, value: Json) => void} heard */
  async #segmentOnce(file, signal, heard) {
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

/** Waits, unless the caller gives up. @param {number | undefined} ms @param {AbortSignal | null} [signal] */
function pause(ms, signal) {
  return new Promise((done, fail) => {
    setTimeout(() => (signal?.aborted ? fail(signal.reason) : done(null)), ms);
  });
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
