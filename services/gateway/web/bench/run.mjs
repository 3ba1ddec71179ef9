// Bundles a TypeScript program of this directory and runs it: node bench/run.mjs page

import { build } from "esbuild";
import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import path from "node:path";

const here = new URL("./", import.meta.url).pathname;
const out = await mkdtemp(path.join(here, ".out-"));
try {
  const file = path.join(out, "main.mjs");
  await build({ entryPoints: [path.join(here, `${process.argv[2]}.ts`)], bundle: true, platform: "node", format: "esm", outfile: file, sourcemap: "inline", logLevel: "warning", packages: "external" });
  process.exitCode = await new Promise((done) => spawn(process.execPath, ["--enable-source-maps", file], { stdio: "inherit", cwd: path.join(here, "..") }).on("exit", (code) => done(code ?? 1)));
} finally {
  await rm(out, { recursive: true });
}
