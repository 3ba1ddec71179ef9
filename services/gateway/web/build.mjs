// Builds the page into dist/: index.html and assets whose names change with their content.

import { build } from "esbuild";
import { readFile, rm, writeFile, mkdir, readdir } from "node:fs/promises";
import path from "node:path";
import { gzipSync } from "node:zlib";

const dist = new URL("./dist/", import.meta.url).pathname;
const src = new URL("./src/", import.meta.url).pathname;

for (const f of await readdir(dist)) if (f !== ".gitkeep") await rm(path.join(dist, f), { recursive: true });
await mkdir(path.join(dist, "assets"), { recursive: true });

const common = {
  bundle: true,
  minify: true,
  format: "esm",
  target: ["chrome100", "firefox100", "safari15.4"],
  outdir: path.join(dist, "assets"),
  entryNames: "[name]-[hash]",
  assetNames: "[name]-[hash]",
  metafile: true,
  legalComments: "none",
  logLevel: "warning",
  loader: { ".svg": "file" },
  jsx: "automatic",
  jsxImportSource: "preact",
};

const name = (result, ext) => path.basename(Object.keys(result.metafile.outputs).find((f) => f.endsWith(ext)));

const worker = await build({ ...common, entryPoints: { worker: path.join(src, "worker/worker.ts") } });
const seeker = await build({ ...common, entryPoints: { seeker: path.join(src, "search/seeker.ts") } });
const page = await build({
  ...common,
  entryPoints: { page: path.join(src, "main.tsx") },
  publicPath: "/assets",
  define: { WORKER: JSON.stringify(`/assets/${name(worker, ".js")}`), SEEKER: JSON.stringify(`/assets/${name(seeker, ".js")}`) },
});

const html = await readFile(path.join(src, "index.html"), "utf8");
await writeFile(
  path.join(dist, "index.html"),
  html.replace("{{css}}", `/assets/${name(page, ".css")}`).replace("{{worker}}", `/assets/${name(worker, ".js")}`).replace("{{js}}", `/assets/${name(page, ".js")}`),
);

// Compressed once here, so that the gateway need not do it for everybody.
for (const f of await readdir(common.outdir)) {
  const file = path.join(common.outdir, f);
  await writeFile(`${file}.gz`, gzipSync(await readFile(file), { level: 9 }));
}
