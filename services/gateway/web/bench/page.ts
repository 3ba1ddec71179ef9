// The page against xterm.js, both fed with the same bytes, in one run: how soon, how much memory, how smooth.
// Needs bin/tasktracer and Chromium. Prints a table; ends with 1 where a limit is broken.

import { build } from "esbuild";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import type { AddressInfo } from "node:net";
import type { Browser, Page } from "playwright-core";
import { openPage, Producer, Server, startBrowser } from "../e2e/harness.ts";

const lines = Number(process.env["BENCH_LINES"] ?? 1_000_000);
const liveSeconds = Number(process.env["BENCH_SECONDS"] ?? 30);
const liveRate = Number(process.env["BENCH_RATE"] ?? 20_000);

const results: { what: string; got: number; unit: string; limit: number }[] = [];

function result(what: string, got: number, unit: string, limit = Infinity): void {
  results.push({ what, got, unit, limit });
  console.log(`${got <= limit ? "ok  " : "OVER"}  ${what}: ${got.toFixed(got < 10 ? 2 : 0)} ${unit}${limit < Infinity ? ` (at most ${limit})` : ""}`);
}

function line(n: number): string {
  return `2024-01-01T00:00:00.000Z INFO  worker-${n % 16} handled request ${n} in ${n % 97} ms${n % 10 === 0 ? " \x1b[32mok\x1b[0m" : ""} ${"abcdefghijklmnopqrstuvwxyz".slice(0, n % 26)}\n`.padStart(96, ".");
}

/** Private memory of a page's process, in MB: of those that came with it the largest, as Chromium also keeps an empty one ready. */
async function memory(browser: Browser, before: Set<number>): Promise<number> {
  const cdp = await browser.newBrowserCDPSession();
  const { processInfo } = await cdp.send("SystemInfo.getProcessInfo");
  let most = 0;
  for (const p of processInfo) {
    if (p.type !== "renderer" || before.has(p.id)) continue;
    const text = readFileSync(`/proc/${p.id}/smaps_rollup`, "utf8");
    let kb = 0;
    for (const m of text.matchAll(/^Private_(?:Clean|Dirty):\s+(\d+) kB/gm)) kb += Number(m[1]);
    most = Math.max(most, kb);
  }
  return most / 1024;
}

async function renderers(browser: Browser): Promise<Set<number>> {
  const cdp = await browser.newBrowserCDPSession();
  const { processInfo } = await cdp.send("SystemInfo.getProcessInfo");
  return new Set(processInfo.filter((p) => p.type === "renderer").map((p) => p.id));
}

/** Waits in the page, frame by frame, so that no polling of ours is part of the figure. Returns ms since the page began. */
async function seen(page: Page, text: string, timeout = 120_000): Promise<number> {
  return page.evaluate(
    ([text, timeout]) =>
      new Promise<number>((done, fail) => {
        const look = () => {
          for (const e of document.querySelectorAll(".row .text")) if (e.textContent!.includes(text)) return done(performance.now());
          if (performance.now() > timeout) return fail(new Error(`${text} was never seen`));
          requestAnimationFrame(look);
        };
        look();
      }),
    [text, timeout] as const,
  );
}

async function finished(server: Server, browser: Browser): Promise<number> {
  const before = await renderers(browser);
  const p = await openPage(browser, server.page("bench", "id=c"));
  const { page } = p;
  result("first readable screen", await seen(page, "request 1 in"), "ms", 500);
  const t = await page.evaluate(() => {
    const log = document.querySelector<HTMLElement>(".log")!;
    log.focus();
    log.dispatchEvent(new KeyboardEvent("keydown", { key: "End", bubbles: true }));
    return performance.now();
  });
  result("end of the log after a jump", (await seen(page, `request ${lines} in`)) - t, "ms", 1000);
  await page.waitForFunction(() => !/loading/.test(document.querySelector(".foot")!.textContent!), undefined, { timeout: 120_000 });
  result("all of it here", await page.evaluate(() => performance.now()), "ms after the page began");
  const search = await page.evaluate(
    (want) =>
      new Promise<number>((done) => {
        const input = document.querySelector<HTMLInputElement>(".search input")!;
        input.focus();
        const t = performance.now();
        input.value = "worker-7 handled request 7";
        input.dispatchEvent(new Event("input", { bubbles: true }));
        const look = () => (/[1-9][\d,]* hits?/.test(document.querySelector(".hits")!.textContent!) ? done(performance.now() - t) : requestAnimationFrame(look));
        look();
        void want;
      }),
    lines,
  );
  result("search of the whole log", search, "ms", 1000);
  await page.evaluate(() => {
    const input = document.querySelector<HTMLInputElement>(".search input")!;
    input.value = "";
    input.dispatchEvent(new Event("input", { bubbles: true }));
    document.querySelector<HTMLElement>(".log")!.focus();
  });
  const frames = await page.evaluate(
    () =>
      new Promise<number[]>((done) => {
        const log = document.querySelector<HTMLElement>(".log")!;
        const way = log.scrollHeight - log.clientHeight;
        const out: number[] = [];
        let last = performance.now();
        let n = 0;
        // Half of it as a wheel does, half as somebody who drags the bar.
        const step = () => {
          const now = performance.now();
          out.push(now - last);
          last = now;
          n++;
          if (n < 300) log.scrollTop -= 137;
          else if (n < 600) log.scrollTop = way * Math.abs(Math.sin(n / 40));
          else return done(out);
          requestAnimationFrame(step);
        };
        requestAnimationFrame(step);
      }),
  );
  frames.sort((a, b) => a - b);
  result("scrolling, frame at the 99th percentile", frames[Math.floor(frames.length * 0.99)]!, "ms", 50);
  const mb = await memory(browser, before);
  result("memory of the tab", mb, "MB", 300);
  if (p.trouble.length > 0) throw new Error(p.trouble.join("\n"));
  await p.context.close();
  return mb;
}

async function xterm(browser: Browser, bytes: Uint8Array): Promise<number> {
  const require = createRequire(import.meta.url);
  const css = readFileSync(require.resolve("@xterm/xterm/css/xterm.css"), "utf8");
  const js = await build({
    stdin: {
      contents: `import { Terminal } from "@xterm/xterm";
        const term = new Terminal({ scrollback: 2000000, cols: 160, rows: 40 });
        term.open(document.body);
        (async () => {
          const reader = (await fetch("/log")).body.getReader();
          for (;;) {
            const { done, value } = await reader.read();
            if (done) break;
            await new Promise((f) => term.write(value, f));
          }
          window.took = performance.now();
        })();`,
      resolveDir: process.cwd(),
    },
    bundle: true,
    write: false,
    format: "iife",
  });
  const http = createServer((q, s) => {
    if (q.url === "/log") s.end(bytes);
    else s.setHeader("content-type", "text/html").end(`<!doctype html><style>${css}</style><body><script>${js.outputFiles[0]!.text.replace(/<\/script/g, "<\\/script")}</script>`);
  });
  await new Promise<void>((done) => http.listen(0, "127.0.0.1", done));
  const before = await renderers(browser);
  const page = await browser.newPage({ viewport: { width: 1200, height: 760 } });
  await page.goto(`http://127.0.0.1:${(http.address() as AddressInfo).port}/`);
  await page.waitForFunction(() => "took" in window, undefined, { timeout: 300_000, polling: 200 });
  result("xterm.js: all of it parsed", await page.evaluate(() => (window as unknown as { took: number }).took), "ms");
  const mb = await memory(browser, before);
  result("xterm.js: memory of the tab", mb, "MB");
  await page.close();
  http.close();
  return mb;
}

async function live(server: Server, browser: Browser): Promise<void> {
  const c = new Producer(server, "bench", "live");
  await c.write("begin\n");
  const p = await openPage(browser, server.page("bench", "id=live"));
  const { page } = p;
  await seen(page, "begin");
  await page.evaluate(() => {
    const w = window as unknown as { tasks: number[]; lag: number[] };
    w.tasks = [];
    w.lag = [];
    new PerformanceObserver((l) => w.tasks.push(...l.getEntries().map((e) => e.duration))).observe({ entryTypes: ["longtask"] });
    setInterval(() => {
      const all = document.querySelectorAll(".row .text");
      const at = /^\d+ (\d+) /.exec(all[all.length - 1]?.textContent ?? "");
      if (at) w.lag.push(Date.now() - Number(at[1]));
    }, 100);
  });
  const every = 10;
  const begin = Date.now();
  let n = 0;
  let slowest = 0;
  for (let k = 1; Date.now() - begin < liveSeconds * 1000; k++) {
    const due = Math.floor(((Date.now() - begin) / 1000) * liveRate);
    let s = "";
    for (; n < due; n++) s += `${n} ${Date.now()} ${"abcdefghijklmnopqrstuvwxyz ".repeat(3).slice(0, 70)}\n`;
    const t = Date.now();
    // Far behind after a pause of the machine's, it is more than one record may hold.
    for (let i = 0; i < s.length; i += 200_000) await c.write(s.slice(i, i + 200_000));
    slowest = Math.max(slowest, Date.now() - t);
    const wait = begin + k * every - Date.now();
    if (wait > 0) await new Promise((done) => setTimeout(done, wait));
  }
  const { tasks, lag } = await page.evaluate(() => {
    const w = window as unknown as { tasks: number[]; lag: number[] };
    return { tasks: w.tasks, lag: w.lag };
  });
  await c.end(0);
  lag.sort((a, b) => a - b);
  result("live: lines written a second", n / liveSeconds, "lines/s");
  result("live: slowest acknowledgement to the writer", slowest, "ms");
  result("live: longest task", Math.max(0, ...tasks), "ms", 100);
  result("live: behind, median", lag[Math.floor(lag.length / 2)] ?? NaN, "ms");
  result("live: behind, 99th percentile", lag[Math.floor(lag.length * 0.99)] ?? NaN, "ms", 250);
  if (p.trouble.length > 0) throw new Error(p.trouble.join("\n"));
  await p.context.close();
}

/** The list of a thousand tasks: what a person does with it, and that it is read anew meanwhile. */
async function tasks(browser: Browser): Promise<void> {
  const server = await Server.start();
  for (let i = 0; i < 1000; i += 50) await Promise.all(Array.from({ length: 50 }, (_, k) => new Producer(server, `task-${i + k}`, "c").end(k % 7)));
  const p = await openPage(browser, `${server.url}/?accessToken=${server.browserToken}`);
  const { page } = p;
  await page.locator(".tools [role=status]", { hasText: "1000 tasks" }).waitFor();
  const { longest, frames } = await page.evaluate(async () => {
    let longest = 0;
    new PerformanceObserver((l) => l.getEntries().forEach((e) => (longest = Math.max(longest, e.duration)))).observe({ entryTypes: ["longtask"] });
    const frames: number[] = [];
    let last = performance.now();
    const input = document.querySelector<HTMLInputElement>(".tools input")!;
    const heads = [...document.querySelectorAll<HTMLElement>("th button")];
    const begin = last;
    for (let n = 0; last - begin < 10_000; n++) {
      await new Promise((f) => requestAnimationFrame(f));
      const now = performance.now();
      frames.push(now - last);
      last = now;
      if (n % 20 === 0) {
        input.value = ["t", "ta", "task-1", "task-12", ""][(n / 20) % 5]!;
        input.dispatchEvent(new Event("input", { bubbles: true }));
      }
      if (n % 20 === 10) heads[(n / 10) % heads.length]!.click();
      document.querySelector<HTMLElement>(".tasks main")!.scrollTop += 40;
    }
    return { longest, frames: frames.sort((a, b) => a - b) };
  });
  result("a thousand tasks, filtered, sorted, scrolled: frame at the 99th percentile", frames[Math.floor(frames.length * 0.99)]!, "ms", 50);
  result("a thousand tasks: longest task", longest, "ms", 100);
  if (p.trouble.length > 0) throw new Error(p.trouble.join("\n"));
  await p.context.close();
  await server.close();
}

const server = await Server.start();
const browser = await startBrowser();
try {
  const c = new Producer(server, "bench", "c", "seq");
  const parts: string[] = [];
  for (let i = 1; i <= lines; ) {
    const list: [string, "STDOUT"][] = [];
    for (let k = 0; k < 10 && i <= lines; k++) {
      let s = "";
      for (; i <= lines && s.length < 60_000; i++) s += line(i);
      list.push([s, "STDOUT"]);
      parts.push(s);
    }
    await c.writeAll(list);
  }
  await c.end(0);
  const bytes = new TextEncoder().encode(parts.join(""));
  parts.length = 0;
  console.log(`${lines} lines, ${(bytes.length / 1e6).toFixed(0)} MB`);
  const ours = await finished(server, browser);
  const theirs = await xterm(browser, bytes);
  result("memory, ours / xterm.js", ours / theirs, "", 0.25);
  await live(server, browser);
  await tasks(browser);
} finally {
  await browser.close();
  await server.close();
}
console.log("\n| what | figure | limit |\n|---|---|---|");
for (const r of results) console.log(`| ${r.what} | ${r.got.toFixed(r.got < 10 ? 2 : 0)} ${r.unit} | ${r.limit < Infinity ? r.limit : ""} |`);
if (results.some((r) => !(r.got <= r.limit))) process.exitCode = 1;
