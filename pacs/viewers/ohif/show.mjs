// Opens results in OHIF by a Chromium without a screen, takes pictures, says what the page says.
//
//   node show.mjs PAGE STUDY FOLDER CHROMIUM
//
// PAGE is where OHIF is served. A result is there when the page says words of it (the last column).
// Prints JSON: by result what was written on the page and its errors.

import { join } from "node:path";
import puppeteer from "puppeteer-core";

const [page, study, folder, chromium] = process.argv.slice(2);
const RESULTS = [
  ["seg", "SpineZoo outlines", /L[1-5] vertebra/],
  ["labelmap", "SpineZoo label map", /L[1-5] vertebra/],
  ["sr", "SpineZoo report", /Area: /],
  ["sc", "SpineZoo overlay", /SpineZoo overlay 1\/1/],
];
const wait = (ms) => new Promise((done) => setTimeout(done, ms));

const browser = await puppeteer.launch({
  executablePath: chromium,
  headless: true,
  protocolTimeout: 300000,
  args: [
    "--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist", "--window-size=1600,1000", "--disable-background-networking",
  ],
});
const tab = await browser.newPage();
await tab.setViewport({ width: 1600, height: 1000 });
let errors = [];
tab.on("pageerror", (error) => errors.push(String(error).slice(0, 300)));

const words = async () => (await tab.evaluate(() => document.body.innerText)).replace(/\s+/g, " ");

/** Clicks every button with such words, in one step of the page. */
const click = (pattern) =>
  tab.evaluate((source, flags) => {
    const wanted = new RegExp(source, flags);
    const buttons = [...document.querySelectorAll("button,a,div[role=button],span")];
    const found = buttons.filter((one) => wanted.test((one.innerText || "").trim()));
    found.forEach((one) => one.click());
    return found.length;
  }, pattern.source, pattern.flags);

/** Double-clicks the thumbnail of a result; says whether the list has it. */
async function choose(description) {
  const handle = await tab.evaluateHandle((wanted) => {
    const all = [...document.querySelectorAll('[data-cy^="study-browser-thumbnail"]')];
    return all.find((one) => one.innerText.includes(wanted)) ?? null;
  }, description);
  const element = handle.asElement();
  if (element === null) return false;
  await element.click({ count: 2 }).catch(() => {});
  return true;
}

/** Opens the panel that lists the segments by name; it is closed where a film is opened. */
const list = () =>
  tab.evaluate(() => {
    const button = document.querySelector('[data-cy^="panelSegmentation"]');
    button?.click();
    return [...document.querySelectorAll("[data-cy]")].map((one) => one.dataset.cy);
  });

/** Opens a result and waits until the page says something of it; a click may come too early. */
async function open(description, sign) {
  let opened = false;
  for (let attempt = 0; attempt < 6; attempt++) {
    opened = (await choose(description)) || opened;
    for (let look = 0; look < 5; look++) {
      await wait(2000);
      await click(/^(Confirm and hide|Skip all)$/);
      await click(/^(Yes|Load|Confirm)$/i);
      if (opened && (sign.test(await words()) || errors.length)) return true;
      if (opened && look === 2) await list();
    }
  }
  return opened;
}

const answer = {};
for (const [kind, description, sign] of RESULTS) {
  errors = [];
  await tab.goto(`${page}/viewer?StudyInstanceUIDs=${study}`, {
    waitUntil: "domcontentloaded", timeout: 120000,
  });
  const opened = await open(description, sign);
  await wait(4000);
  await tab.screenshot({ path: join(folder, `ohif-${kind}.png`) });
  answer[kind] = { opened, errors, words: await words() };
}
await browser.close();
console.log(JSON.stringify(answer));
