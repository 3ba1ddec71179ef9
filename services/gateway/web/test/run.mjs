// Bundles the *.test.ts of a directory and runs them with Node's own runner; further arguments are for it:
// npm run e2e -- --test-name-pattern=follow

import { build } from "esbuild";
import { spawn } from "node:child_process";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import path from "node:path";

// Which directory: test, or e2e.
const here = new URL(`../${process.argv[2] ?? "test"}/`, import.meta.url).pathname;
const tests = (await readdir(here)).filter((f) => f.endsWith(".test.ts"));
const out = await mkdtemp(path.join(here, ".out-"));
try {
  await build({ entryPoints: tests.map((f) => path.join(here, f)), bundle: true, platform: "node", format: "esm", outdir: out, outExtension: { ".js": ".mjs" }, sourcemap: "inline", logLevel: "warning", packages: "external" });
  const code = await new Promise((done) => {
    spawn(process.execPath, ["--enable-source-maps", "--test", "--test-concurrency=1", ...process.argv.slice(3), ...tests.map((f) => path.join(out, f.replace(/\.ts$/, ".mjs")))], { stdio: "inherit" }).on("exit", done);
  });
  process.exitCode = code ?? 1;
} finally {
  await rm(out, { recursive: true });
}
