// @ts-check
/** Pointer, wheel and keys on the film. */

/** @typedef {import('./app.js').App} App */

const PRESET_ORDER = ['auto', 'full', 'bone', 'soft', 'metal'];

/** Listens for everything that moves the film or corrects an outline. @param {App} app */
export function listen(app) {
  const { stage } = app.panels;
  /** @type {Map<number, {x: number, y: number}>} */
  const fingers = new Map();
  /** @type {{kind: string, point?: number, x: number, y: number, moved: boolean} | null} */
  let drag = null;

  const paneOf = (/** @type {Event} */ event) => app.panes.find((pane) => pane.root.contains(/** @type {Node} */ (event.target)));

  stage.addEventListener('contextmenu', (/** @type {Event} */ event) => event.preventDefault());

  stage.addEventListener('pointerdown', (/** @type {PointerEvent} */ event) => {
    const pane = paneOf(event);
    if (!app.film || !pane) return;
    fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    const target = /** @type {Element} */ (event.target);
    const handle = target.closest('.handle');
    const id = target.closest('.shape')?.getAttribute('data-id') ?? null;
    let kind = event.button === 2 || event.ctrlKey ? 'window' : 'pan';
    let point;
    if (app.editor.on && event.button === 0 && !event.ctrlKey) {
      if (app.editor.drawing) kind = 'draw';
      else if (handle) {
        kind = 'point';
        point = Number(handle.getAttribute('data-point'));
      } else if (id && id === app.selected) kind = 'shape';
    }
    drag = { kind, point, x: event.clientX, y: event.clientY, moved: false };
    stage.setPointerCapture(event.pointerId);
  });

  stage.addEventListener('pointermove', (/** @type {PointerEvent} */ event) => {
    const pane = app.panes[0];
    if (!app.film || !pane) return;
    const over = drag ? pane : paneOf(event);
    app.panels.pointer(over ? over.toFilm(event.clientX, event.clientY) : null);
    const before = fingers.get(event.pointerId);
    if (!drag || !before) {
      hover(app, event);
      return;
    }
    const [dx, dy] = [event.clientX - before.x, event.clientY - before.y];
    if (Math.hypot(event.clientX - drag.x, event.clientY - drag.y) > 3) drag.moved = true;
    if (fingers.size === 2) {
      pinch(app, fingers, event, pane);
      drag.moved = true;
    } else if (drag.moved) {
      const [x, y] = pane.toFilm(event.clientX, event.clientY);
      if (drag.kind === 'window') {
        const { width, height } = pane.size;
        app.changeWindow(-dy / height, dx / width);
      } else if (drag.kind === 'point') app.editor.drag(/** @type {number} */ (drag.point), x, y);
      else if (drag.kind === 'shape') {
        const [fromX, fromY] = pane.toFilm(drag.x, drag.y);
        app.editor.shift(x - fromX, y - fromY);
      } else {
        app.view.pan(dx, dy);
        app.redraw();
      }
    }
    fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
  });

  const end = (/** @type {PointerEvent} */ event) => {
    fingers.delete(event.pointerId);
    if (!drag || fingers.size) return;
    const { kind, point, moved } = drag;
    drag = null;
    const pane = app.panes[0];
    if (event.type === 'pointercancel') {
      app.editor.dragged = null;
      app.render();
    } else if (kind === 'draw' && !moved) app.editor.drawPoint(...pane.toFilm(event.clientX, event.clientY));
    else if (kind === 'point' && !moved) app.editor.point(/** @type {number} */ (point));
    else if (moved && (kind === 'point' || kind === 'shape')) app.editor.drop();
    else if (!moved) {
      const hit = document.elementsFromPoint(event.clientX, event.clientY).map((each) => each.closest('.shape')).find(Boolean);
      const id = hit?.getAttribute('data-id') ?? null;
      if (id !== app.selected) app.select(id);
    }
  };
  stage.addEventListener('pointerup', end);
  stage.addEventListener('pointercancel', end);
  stage.addEventListener('pointerleave', () => app.panels.pointer(null));

  stage.addEventListener('dblclick', (/** @type {MouseEvent} */ event) => {
    const pane = paneOf(event);
    if (!app.film || !pane) return;
    if (app.editor.on && app.editor.shape && !app.editor.drawing) app.editor.addPointAt(...pane.toFilm(event.clientX, event.clientY));
    else if (!app.editor.on) app.fit();
  });

  stage.addEventListener('wheel', (/** @type {WheelEvent} */ event) => {
    const pane = paneOf(event);
    if (!app.film || !pane) return;
    event.preventDefault();
    const box = pane.canvas.getBoundingClientRect();
    const step = event.deltaMode === 0 ? event.deltaY / 100 : event.deltaY / 3;
    app.view.zoom(0.86 ** step, event.clientX - box.left, event.clientY - box.top);
    app.redraw();
  }, { passive: false });

  stage.addEventListener('focusin', (/** @type {FocusEvent} */ event) => {
    const id = /** @type {Element} */ (event.target).getAttribute('data-id');
    if (id) app.select(id);
  });

  document.addEventListener('keydown', (event) => key(app, event));

  for (const name of ['dragover', 'dragenter']) {
    document.addEventListener(name, (event) => {
      event.preventDefault();
      stage.classList.add('dropping');
    });
  }
  document.addEventListener('dragleave', (event) => {
    if (!event.relatedTarget) stage.classList.remove('dropping');
  });
  document.addEventListener('drop', (event) => {
    event.preventDefault();
    stage.classList.remove('dropping');
    const file = event.dataTransfer?.files[0];
    if (!file) return;
    if (app.film && /\.json$/i.test(file.name)) app.load(file);
    else app.open(file);
  });
}

/** Shows what is known of the shape under the pointer. @param {App} app @param {PointerEvent} event */
function hover(app, event) {
  const id = /** @type {Element} */ (event.target).closest?.('.shape')?.getAttribute('data-id');
  const one = id && app.listed.find((each) => each.id === id);
  app.panels.column.details(one || undefined);
}

/** Two fingers: zoom and move. @param {App} app @param {Map<number, {x: number, y: number}>} fingers @param {PointerEvent} event @param {any} pane */
function pinch(app, fingers, event, pane) {
  const other = [...fingers].find(([id]) => id !== event.pointerId)?.[1];
  const before = fingers.get(event.pointerId);
  if (!other || !before) return;
  const was = Math.hypot(before.x - other.x, before.y - other.y) || 1;
  const is = Math.hypot(event.clientX - other.x, event.clientY - other.y) || 1;
  const box = pane.canvas.getBoundingClientRect();
  app.view.pan((event.clientX - before.x) / 2, (event.clientY - before.y) / 2);
  app.view.zoom(is / was, (event.clientX + other.x) / 2 - box.left, (event.clientY + other.y) / 2 - box.top);
  app.redraw();
}

/** @type {Record<string, [number, number]>} */
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/** @param {App} app @param {KeyboardEvent} event */
function key(app, event) {
  const target = /** @type {HTMLElement} */ (event.target);
  if (target.closest('input:not([type=checkbox]), select, textarea, dialog')) return;
  const { editor } = app;
  if (event.ctrlKey || event.metaKey) {
    const letter = event.key.toLowerCase();
    if (letter === 'z' && !event.shiftKey) editor.undo();
    else if (letter === 'y' || (letter === 'z' && event.shiftKey)) editor.redo();
    else return;
    event.preventDefault();
    return;
  }
  if (editor.on && correct(app, event)) {
    event.preventDefault();
    return;
  }
  if (event.altKey) return;
  if (move(app, event)) event.preventDefault();
}

/** Keys of Correct; whether one was meant. @param {App} app @param {KeyboardEvent} event */
function correct(app, event) {
  const { editor } = app;
  const arrow = ARROWS[event.key];
  if (arrow && event.shiftKey) {
    const far = event.altKey ? 10 : 1;
    editor.nudge(arrow[0] * far, arrow[1] * far);
    return true;
  }
  if (event.altKey) return false;
  switch (event.key) {
    case 'n': editor.point(editor.active + 1); return true;
    case 'p': editor.point(editor.active - 1); return true;
    case 'a': editor.addPoint(); return true;
    case 'x': if (editor.active >= 0) editor.pick(editor.active); return true;
    case 'Delete': case 'Backspace':
      if (editor.active >= 0) editor.deletePoint();
      else editor.remove();
      return true;
    case 'Enter':
      if (!editor.drawing) return false;
      editor.close();
      return true;
    case 'Escape':
      editor.stop();
      app.render();
      return true;
    default: return false;
  }
}

/** Keys that move the film or change the overlay; whether one was meant. @param {App} app @param {KeyboardEvent} event */
function move(app, event) {
  const arrow = ARROWS[event.key];
  if (event.key === 'o') {
    document.getElementById('film-file')?.click();
    return true;
  }
  if (!app.film) return false;
  if (arrow) {
    app.view.pan(-arrow[0] * 40, -arrow[1] * 40);
    app.redraw();
    return true;
  }
  const modes = /** @type {import('./app.js').Mode[]} */ (['fused', 'network', 'pair', 'all', 'disagreement', 'correct']);
  if (/^[1-6]$/.test(event.key)) {
    app.panels.tabs?.[Number(event.key) - 1]?.disabled || app.setMode(modes[Number(event.key) - 1]);
    return true;
  }
  switch (event.key) {
    case '+': case '=': app.zoom(1.2); return true;
    case '-': app.zoom(1 / 1.2); return true;
    case 'f': case '0': app.fit(); return true;
    case 'i': app.invert(); return true;
    case '[': app.changeWindow(0.02, 0); return true;
    case ']': app.changeWindow(-0.02, 0); return true;
    case '{': app.changeWindow(0, 0.04); return true;
    case '}': app.changeWindow(0, -0.04); return true;
    case 'l':
      app.labels = !app.labels;
      app.render();
      return true;
    case 'w': {
      const { low, high } = app.window;
      const now = PRESET_ORDER.findIndex((name) => app.film?.presets[name][0] === low && app.film?.presets[name][1] === high);
      app.preset(PRESET_ORDER[(now + 1) % PRESET_ORDER.length]);
      return true;
    }
    default: return false;
  }
}
