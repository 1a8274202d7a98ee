// Unpacks the built pages of @ohif/app, of one version and digest, into a folder.
//
//   node fetch.mjs FOLDER
//
// npm would also install everything that the pages were built from; only the pages are needed here.

import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";

const VERSION = "3.13.2";
const SHA512 = "5997719a9986eeba85816f5924b71b82bdd70ad2e2d4a0cd3e831a798e4f3deea3e06e1f8c48e393271933a0ba664d85f3b04ac457e9abe8dde715d907d13c10";

const folder = process.argv[2];
if (!existsSync(join(folder, "package", "dist", "index.html"))) {
  mkdirSync(folder, { recursive: true });
  const work = mkdtempSync(join(folder, "fetch-"));
  const command = ["pack", `@ohif/app@${VERSION}`, "--silent", "--pack-destination", work];
  const name = execFileSync("npm", command, { encoding: "utf-8" }).trim();
  const archive = readFileSync(join(work, name));
  const digest = createHash("sha512").update(archive).digest("hex");
  if (digest !== SHA512) throw new Error(`@ohif/app ${VERSION} has another digest: ${digest}`);
  execFileSync("tar", ["-xzf", join(work, name), "-C", folder]);
  rmSync(work, { recursive: true });
}
console.log(join(folder, "package", "dist"));
