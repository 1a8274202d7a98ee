// Opens results in OHIF by a Chromium without a screen, takes pictures, says what the page says.
//
//   node show.mjs PAGE STUDY FOLDER CHROMIUM
//
// PAGE is where OHIF is served. Prints JSON: by result what was written on the page and its errors.

import { join } from "node:path";
import puppeteer from "puppeteer-core";

const [page, study, folder, chromium] = process.argv.slice(2);
const RESULTS = [
  ["seg", "SpineZoo outlines"],
  ["labelmap", "SpineZoo label map"],
  ["sr", "SpineZoo report"],
  ["sc", "SpineZoo overlay"],
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

/** Clicks the first element with such words; says whether there was one. */
async function click(pattern, count = 1) {
  for (const each of await tab.$$("button,a,div[role=button],span")) {
    const text = (await each.evaluate((one) => one.innerText || "")).trim();
    if (pattern.test(text)) {
      await each.click({ count }).catch(() => {});
      await wait(1500);
      return true;
    }
  }
  return false;
}

/** Opens a result by its thumbnail; waits until the list of thumbnails has it. */
async function open(description) {
  for (let attempt = 0; attempt < 120; attempt++) {
    for (const each of await tab.$$('[data-cy^="study-browser-thumbnail"]')) {
      if ((await each.evaluate((one) => one.innerText)).includes(description)) {
        await each.click({ count: 2 });
        return true;
      }
    }
    await click(/^(Confirm and hide|Skip all)$/);
    await wait(500);
  }
  return false;
}

const answer = {};
for (const [kind, description] of RESULTS) {
  errors = [];
  await tab.goto(`${page}/viewer?StudyInstanceUIDs=${study}`, {
    waitUntil: "domcontentloaded", timeout: 120000,
  });
  const opened = await open(description);
  await wait(6000);
  await click(/^(Confirm and hide|Skip all)$/);
  await click(/^(Yes|Load|Confirm)$/i);
  await wait(6000);
  await tab.screenshot({ path: join(folder, `ohif-${kind}.png`) });
  answer[kind] = { opened, errors, words: await words() };
}
await browser.close();
console.log(JSON.stringify(answer));
