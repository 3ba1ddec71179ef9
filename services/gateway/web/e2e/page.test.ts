// The page in a real browser, against the real services: what a person would notice.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import type { Browser, Page } from "playwright-core";
import { copyAll, countShifts, openPage, Producer, root, row, rows, Server, startBrowser } from "./harness.ts";

let server: Server;
let browser: Browser;

before(async () => {
  [server, browser] = await Promise.all([Server.start(), startBrowser()]);
});
after(async () => {
  await browser?.close();
  await server?.close();
});

/** Ends the page, and the test where anything went wrong on it. */
async function done(p: { page: Page; context: { close(): Promise<void> }; trouble: string[] }): Promise<void> {
  await p.context.close();
  assert.deepEqual(p.trouble, []);
}

/** What axe-core finds serious, in light and in dark. */
async function axe(page: Page): Promise<void> {
  for (const colorScheme of ["light", "dark"] as const) {
    await page.emulateMedia({ colorScheme });
    await page.waitForFunction((t) => document.documentElement.dataset["theme"] === t, colorScheme);
    // Through the debugger, as the page's policy lets no foreign script in.
    if (!(await page.evaluate("'axe' in window"))) await page.evaluate(axeSource);
    const bad = await page.evaluate(
      `axe.run(document, {resultTypes: ["violations"]}).then(r => r.violations.filter(v => v.impact === "serious" || v.impact === "critical").map(v => v.id + ": " + v.nodes.slice(0, 3).map(n => n.html + " " + n.failureSummary).join(" | ")))`,
    );
    assert.deepEqual(bad, [], colorScheme);
  }
}
const axeSource = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

test("output appears as it is written, stderr is marked, the end is shown, the token is gone", async () => {
  const c = new Producer(server, "first", "host-1", "./deploy.sh --all");
  await c.write("one\n");
  const p = await openPage(browser, server.page("first", "id=host-1"));
  const { page } = p;
  await row(page, "one");
  assert.ok(!page.url().includes(server.browserToken) && !page.url().includes("accessToken"));
  await page.locator(".badge", { hasText: "running" }).waitFor();
  await page.waitForFunction(() => document.title.startsWith("running · first · host-1"));
  await c.writeAll([
    ["two\n", "STDOUT"],
    ["oops\n", "STDERR"],
    ["<img src=x onerror=alert(1)>\n", "STDOUT"],
    ["see http://a.example/x, ftp://b.example, javascript:alert(2) and \x1b]8;;https://c.example/\x07here\x1b]8;;\x07 \x1b]8;;file:///etc/passwd\x07there\x1b]8;;\x07\n", "STDOUT"],
  ]);
  await row(page, "<img src=x onerror=alert(1)>");
  assert.equal(await page.locator(".row.stderr .text").textContent(), "oops");
  await row(page, "see ");
  assert.deepEqual(await page.$$eval(".log .text a", (l) => l.map((a) => [a.textContent, (a as HTMLAnchorElement).href])), [["http://a.example/x", "http://a.example/x"], ["here", "https://c.example/"]]);
  assert.equal(await page.locator(".log img").count(), 0);
  assert.equal(await page.locator(".cmd").textContent().then((s) => s?.includes("./deploy.sh --all")), true);
  await c.end(3);
  await page.locator(".badge.failed", { hasText: "exit 3" }).waitFor();
  const tab = (title: string, colour: string) =>
    page.waitForFunction(([title, colour]) => document.title.startsWith(title!) && decodeURIComponent(document.querySelector<HTMLLinkElement>("link[rel~=icon]")!.href).includes(colour!), [title, colour]);
  await tab("exit 3 · first · host-1", "#cf222e");
  await page.reload();
  await row(page, "<img src=x onerror=alert(1)>");
  await row(page, "see ");
  assert.deepEqual((await rows(page)).slice(0, 4), ["one", "two", "oops", "<img src=x onerror=alert(1)>"]);
  assert.equal(await page.evaluate((t) => document.documentElement.outerHTML.includes(t), server.browserToken), false);
  await done(p);
});

test("a second tab opened from a link has the token too", async () => {
  const p = await openPage(browser, server.page("first", "id=host-1"));
  await row(p.page, "one");
  const other = await p.context.newPage();
  await other.goto(`${server.url}/tasks/first/?id=host-1#L2`);
  await row(other, "two");
  await other.locator(".row.chosen", { hasText: "two" }).waitFor();
  await done(p);
});

test("without a token, with a bad and with an expired one, the page says what to do", async () => {
  const p = await openPage(browser, `${server.url}/tasks/first/?id=host-1`);
  await p.page.getByText("needs an access token").waitFor();
  await p.page.goto(`${server.url}/tasks/first/?accessToken=rubbish&id=host-1`);
  await p.page.getByText(/not accept|not accepted|invalid/i).first().waitFor();
  await p.context.close();
});

test("clients are attached and detached by their boxes", async () => {
  const a = new Producer(server, "boxes", "a");
  const b = new Producer(server, "boxes", "b");
  await a.write("from a\n");
  await b.write("from b\n");
  const p = await openPage(browser, server.page("boxes", "id=a&view=merged"));
  const { page } = p;
  await row(page, "from a");
  assert.deepEqual(await rows(page), ["from a"]);
  await page.getByLabel("Attach b", { exact: true }).check();
  await row(page, "from b");
  await page.getByLabel("Attach a", { exact: true }).uncheck();
  await page.waitForFunction(() => document.querySelectorAll(".row .text").length === 1);
  assert.deepEqual(await rows(page), ["from b"]);
  await a.end(0);
  await page.locator(".clients li", { hasText: "exit 0" }).waitFor();
  await b.end(137, "SIGKILL");
  await page.locator(".clients li", { hasText: "ended by SIGKILL" }).waitFor();
  // One that leaves without a word may come back; the view is remembered by the address.
  const d = new Producer(server, "boxes", "d", "sleep 60");
  await d.write("from d\n");
  d.drop();
  await page.locator(".clients li", { hasText: "connection lost, waiting" }).waitFor();
  assert.match(page.url(), /view=merged/);
  await page.keyboard.press("2");
  await page.locator(".overview", { hasText: "1 failed" }).waitFor();
  await page.reload();
  await page.locator(".overview", { hasText: "1 waiting" }).waitFor();
  await page.goBack();
  await row(page, "from b");
  await page.keyboard.press("1");
  await page.getByLabel("Attach d", { exact: true }).check();
  await page.getByText("The connection to this client is lost. Its command may still run").waitFor();
  await row(page, "from d");
  await done(p);
});

test("following stops when scrolled up and says how many lines came", async () => {
  const c = new Producer(server, "follow", "c");
  await c.write(Array.from({ length: 500 }, (_, i) => `line ${i + 1}\n`).join(""));
  const p = await openPage(browser, server.page("follow", "id=c"));
  const { page } = p;
  await row(page, "line 500");
  await page.locator(".log").hover();
  await page.mouse.wheel(0, -2000);
  await page.locator(".behind").waitFor();
  const before = await rows(page);
  await c.write(Array.from({ length: 20 }, (_, i) => `late ${i + 1}\n`).join(""));
  await page.locator(".behind", { hasText: "20 new lines" }).waitFor();
  assert.deepEqual(await rows(page), before, "what is read stays where it is");
  await page.locator(".behind").click();
  await row(page, "late 20");
  await c.write("one more\n");
  await row(page, "one more");
  assert.equal(await copyAll(page), Array.from({ length: 500 }, (_, i) => `line ${i + 1}\n`).join("") + Array.from({ length: 20 }, (_, i) => `late ${i + 1}\n`).join("") + "one more\n");
  await c.end();
  await done(p);
});

test("following goes on when the window or what stands around the log changes its height", async () => {
  const c = new Producer(server, "resized", "c");
  let line = 0;
  const lines = (n: number) => Array.from({ length: n }, () => `line ${++line}\n`).join("");
  await c.write(lines(500));
  const p = await openPage(browser, server.page("resized", "id=c"));
  const { page } = p;
  await row(page, "line 500");
  const following = async () => {
    await c.write(lines(40));
    await row(page, `line ${line}`);
    assert.equal(await page.locator(".foot .toggle").textContent(), "following");
  };
  for (const height of [600, 760]) {
    await page.setViewportSize({ width: 1200, height });
    await following();
  }
  // A message above it goes, and the browser, which has moved the rows, says so before anybody has measured.
  await page.evaluate(() => {
    const task = document.querySelector<HTMLElement>(".page")!;
    const log = document.querySelector<HTMLElement>(".log")!;
    return new Promise<void>((over) => {
      task.style.paddingTop = "60px";
      new ResizeObserver((_, self) => {
        self.disconnect();
        setTimeout(() => {
          const before = log.scrollTop;
          task.style.paddingTop = "0px";
          if (log.scrollTop === before) throw new Error("nothing was moved");
          log.dispatchEvent(new Event("scroll"));
          over();
        });
      }).observe(log);
    });
  });
  await following();
  await c.end();
  await done(p);
});

test("a notification when it ends, if it was asked for, and only for what ends under our eyes", async () => {
  const earlier = new Producer(server, "notify", "c");
  for (let i = 0; i < 4; i++) await earlier.write("an earlier run\n".repeat(10_000));
  await earlier.end(0);
  const c = new Producer(server, "notify", "c", "make all");
  await c.write("begin\n");
  const p = await openPage(browser, "about:blank");
  const { page } = p;
  await p.context.grantPermissions(["notifications"], { origin: server.url });
  await page.addInitScript(() => {
    const told: string[] = ((window as unknown as { told: string[] }).told = []);
    // A real one, listened to: in a browser without a screen nobody would see it.
    window.Notification = class extends Notification {
      constructor(title: string, o: NotificationOptions = {}) {
        super(title, o);
        this.addEventListener("show", () => told.push(`${title} | ${o.body}`));
      }
    };
  });
  await page.goto(server.page("notify", "id=c"));
  await row(page, "begin");
  const told = () => page.evaluate(() => (window as unknown as { told: string[] }).told);
  await page.getByRole("button", { name: "Notify" }).click();
  await page.locator("button[aria-pressed=true]", { hasText: "Notify" }).waitFor();
  await page.reload();
  await page.locator("button[aria-pressed=true]", { hasText: "Notify" }).waitFor();
  await row(page, "begin");
  await c.end(3);
  await page.locator(".badge.failed", { hasText: "exit 3" }).waitFor();
  await page.waitForFunction(() => (window as unknown as { told: string[] }).told.length > 0);
  assert.deepEqual(await told(), ["notify: exit 3 | c: make all"]);
  // Not when it is looked at later, and not when it is not wanted.
  await page.reload();
  await row(page, "begin");
  const next = new Producer(server, "notify", "c", "make again");
  await next.write("again\n");
  await row(page, "again");
  await page.getByRole("button", { name: "Notify" }).click();
  await next.end(0);
  await page.locator(".badge.passed").waitFor();
  assert.deepEqual(await told(), []);
  await done(p);
});

test("progress bars, colours and full-screen programs look as on a terminal", async () => {
  const c = new Producer(server, "terminal", "c");
  for (let i = 0; i <= 100; i += 10) await c.write(`download ${i}%\r`);
  await c.write("\n");
  await c.write("layer 1: waiting\nlayer 2: waiting\n");
  await c.write("\x1b[2A\x1b[Klayer 1: done\n\x1b[Klayer 2: \x1b[32mdone\x1b[0m\n");
  await c.write("\x1b[?1049h\x1b[H\x1b[2J\x1b[2;3Hmenu\x1b[?1049l");
  await c.write("\x1b[1;31mbold red\x1b[0m \x1b[38;5;208morange\x1b[0m \x1b[48;2;0;90;200mblue ground\x1b[0m \x1b[3mit\x1b[4mun\x1b[0m\n");
  await c.end(0);
  const p = await openPage(browser, server.page("terminal", "id=c"));
  const { page } = p;
  await row(page, "bold red");
  const got = await rows(page);
  assert.deepEqual(got, ["download 100%", "layer 1: done", "layer 2: done", "", "  menu", "bold red orange blue ground itun"]);
  assert.equal(await page.locator(".c1.b").textContent(), "bold red");
  assert.match(await page.locator(".text span", { hasText: "orange" }).getAttribute("style").then((s) => s ?? ""), /color: rgb\(255, 135, 0\)/);
  await done(p);
});

test("search, jumps, permalinks, filter, times, wrap, copy", async () => {
  const c = new Producer(server, "find", "c");
  const list: [string, "STDOUT" | "STDERR", number][] = [];
  const t0 = Math.ceil(Date.now() / 1000) * 1000;
  for (let i = 1; i <= 20_000; i++) list.push([i % 5000 === 0 ? `error ${i}: \x1b[31mneedle\x1b[0m\n` : `line ${i}\n`, i % 5000 === 0 ? "STDERR" : "STDOUT", t0 + i]);
  for (let i = 0; i < list.length; i += 5000) await c.writeAll(list.slice(i, i + 5000));
  await c.write("x".repeat(300_000).slice(0, 200_000) + "\n");
  await c.end(1);
  const p = await openPage(browser, server.page("find", "id=c"));
  const { page } = p;
  await row(page, "line 1");
  await page.keyboard.press("Control+f");
  await page.keyboard.type("needle");
  await page.locator(".hits", { hasText: "4 hits" }).waitFor();
  await page.keyboard.press("Enter");
  await page.locator(".hits", { hasText: "1 of 4" }).waitFor();
  await page.locator(".row.current mark", { hasText: "needle" }).waitFor();
  assert.ok(await page.locator("canvas.marks").evaluate((e) => (e as HTMLCanvasElement).getContext("2d")!.getImageData(0, 0, 10, (e as HTMLCanvasElement).height).data.some((v) => v > 0)), "marked beside the bar");
  await page.keyboard.press("Shift+Enter");
  await page.locator(".hits", { hasText: "4 of 4" }).waitFor();
  await row(page, "error 20000");
  await page.getByTitle("Regular expression").click();
  await page.getByLabel("Search the log").fill("line 1999\\d$");
  await page.locator(".hits", { hasText: "10 hits" }).waitFor();
  await page.getByLabel("Search the log").fill("(");
  await page.locator(".hits", { hasText: "not a regular expression" }).waitFor();
  await page.getByLabel("Search the log").press("Escape");
  // A line by number, its permalink, a range by Shift, and all of it again after a reload.
  await page.keyboard.press("g");
  await page.keyboard.type("12000");
  await page.keyboard.press("Enter");
  await page.locator(".row.chosen", { hasText: "line 12000" }).waitFor();
  await page.locator("a.line[data-line='12003']").click({ modifiers: ["Shift"] });
  assert.match(page.url(), /#L12000-L12003$/);
  await page.keyboard.press("c");
  await page.locator(".foot", { hasText: "Lines 12000 to 12003 copied" }).waitFor();
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), "line 12000\nline 12001\nline 12002\nline 12003\n");
  await page.reload();
  await page.locator(".row.chosen", { hasText: "line 12003" }).waitFor();
  assert.equal(await page.locator(".row.chosen").count(), 4);
  await page.keyboard.press("Escape");
  // The first that was written to stderr, and nothing else than that.
  await page.locator(".log").focus();
  await page.keyboard.press("Home");
  await row(page, "line 1");
  await page.keyboard.press("e");
  await row(page, "error 5000");
  await page.keyboard.press("s");
  await page.waitForFunction(() => document.querySelectorAll(".row .text").length === 4);
  assert.equal((await rows(page))[0], "error 5000: needle");
  await page.keyboard.press("s");
  // Times.
  await page.getByLabel("Times").selectOption("utc");
  assert.equal(await page.locator(".row time").first().textContent(), `${new Date(t0 + Number(await page.locator(".row .line").first().textContent())).toISOString().slice(11)}`);
  await page.getByLabel("Times").selectOption("local");
  const local = (ms: number) => page.evaluate((ms) => new Date(ms).toTimeString().slice(0, 8), ms);
  assert.ok((await page.locator(".row time").first().textContent())!.startsWith(`${await local(t0)}.`));
  await page.getByLabel("Times").selectOption("start");
  await page.locator("time", { hasText: /^\+\d\d:\d\d:\d\d\.\d{3}$/ }).first().waitFor();
  // A time: the first line that is not older.
  await page.getByLabel("Times").selectOption("utc");
  await page.keyboard.press("g");
  await page.keyboard.type(await local(t0 + 15_000));
  await page.keyboard.press("Enter");
  await page.locator("a.line[data-line='15000']").waitFor();
  await page.getByLabel("Times").selectOption("off");
  // What is marked with the mouse is copied without numbers and times.
  await page.evaluate(() => {
    const rows = [...document.querySelectorAll(".row")].filter((r) => ["14999", "15001"].includes(r.querySelector(".line")!.textContent!));
    getSelection()!.setBaseAndExtent(rows[0]!.querySelector(".gutter")!, 0, rows[1]!.querySelector(".text")!, 1);
  });
  await page.keyboard.press("Control+c");
  assert.equal((await page.evaluate(() => navigator.clipboard.readText())).trim().replaceAll("\r", ""), "line 14999\nerror 15000: needle\nline 15001");
  await page.evaluate(() => getSelection()!.empty());
  // A long line is clipped, and shown when asked for.
  await page.locator(".log").focus();
  await page.keyboard.press("End");
  await page.getByText("show all 200 kB").click();
  await page.waitForFunction(() => [...document.querySelectorAll(".row .text")].some((e) => e.textContent!.length === 200_000));
  await page.keyboard.press("w");
  await page.locator(".log.wrap").waitFor();
  await page.keyboard.press("w");
  const download = page.waitForEvent("download");
  await page.getByLabel("Download the log").selectOption("raw");
  const file = await (await download).path();
  assert.match(readFileSync(file, "utf8"), /error 5000: \x1b\[31mneedle/);
  const plain = page.waitForEvent("download");
  await page.getByLabel("Download the log").selectOption("plain");
  assert.equal(readFileSync(await (await plain).path(), "utf8"), list.map(([l]) => l.replace(/\x1b\[\d*m/g, "")).join("") + "x".repeat(200_000) + "\n");
  await done(p);
});

test("the browser and the server find the same", async () => {
  const c = new Producer(server, "parity", "c");
  const words = ["alpha", "Beta", "gamma=12", "\x1b[1;31mError\x1b[0m: no such file", "straße ÄÖÜ", "日本 語", "a.b(c)[d]", "\ttab\tbed", "", "  two  spaces ", "x\u00a0y", "kelvin \u212a ſ"];
  let text = "";
  for (let i = 0; i < 3000; i++) text += `${words[i % words.length]} ${i} ${words[(i * 7) % words.length]}\n`;
  await c.write(text);
  const shared = JSON.parse(readFileSync(path.join(root, "services/gateway/testdata/strip.json"), "utf8")) as { in: string; want: string }[];
  // In pieces, as a pipe gives it.
  const bytes = Buffer.from(shared.map((s) => s.in + "\n").join(""));
  await c.writeAll(Array.from({ length: Math.ceil(bytes.length / 5) }, (_, i) => [bytes.subarray(i * 5, i * 5 + 5), "STDOUT"]));
  await c.end(0);
  const p = await openPage(browser, server.page("parity", "id=c"));
  const { page } = p;
  await row(page, "alpha 0 alpha");
  await page.waitForFunction(() => !/loading/.test(document.querySelector(".foot")!.textContent!));
  const queries: [text: string, regexp: boolean, matchCase: boolean][] = [
    ["error: no", false, false],
    ["Error: no", false, true],
    ["a.b(c)[d]", false, false],
    ["straße äöü", false, false],
    ["^alpha \\d+", true, true],
    ["beta$", true, false],
    ["(alpha|beta) [0-9]{3,4} ", true, false],
    ["\\bgamma=(?:12)\\b.*file$", true, true],
    ["日.\\s語", true, false],
    ["[[:space:]]", true, false],
    ["\\s\\s+", true, false],
    ["(?:a+)+$", true, false],
    ["(\\d+)*7$", true, false],
    ["\\t", true, false],
    ["x*", true, false],
    ["[^a-z0-9 ]+", true, true],
    ["\\p{Lu}", true, true],
  ];
  // The same text, the same lines under the same numbers.
  const stripped = await fetch(`${server.url}/api/v1/runs/${c.runId}/log?task=parity&client=c&ansi=strip`, { headers: { Authorization: `Bearer ${server.browserToken}` } });
  const lines = (await stripped.text()).split("\n");
  assert.deepEqual((await copyAll(page)).split("\n"), lines);
  await page.keyboard.press("Escape");
  const differ: string[] = [];
  for (const [q, regexp, matchCase] of queries) {
    const params = new URLSearchParams({ task: "parity", client: "c", q, limit: "10000" });
    if (regexp) params.set("regex", "1");
    if (matchCase) params.set("case", "1");
    const r = await fetch(`${server.url}/api/v1/runs/${c.runId}/search?${params}`, { headers: { Authorization: `Bearer ${server.browserToken}` } });
    const found = (await r.text()).split("\n").filter((l) => l !== "").map((l) => JSON.parse(l) as { line?: number; text: string; matches?: unknown[] }).filter((m) => m.line !== undefined);
    const theirs = `${found.length} rows, ${found.reduce((n, m) => n + m.matches!.length, 0)} hits`;
    const pressed = async (name: string, on: boolean) => {
      const b = page.getByRole("button", { name, exact: true });
      if (((await b.getAttribute("aria-pressed")) === "true") !== on) await b.click();
    };
    await page.getByLabel("Search the log").fill("");
    await pressed("Aa", matchCase);
    await pressed(".*", regexp);
    await page.getByLabel("Search the log").fill(q);
    const answer = await page.waitForFunction(() => /^(?:[\d,]+ hits?|no hit|not .*|takes .*|the s.*)$/.exec(document.querySelector(".hits")!.textContent!)?.[0]);
    const said = (await answer.jsonValue())!;
    const ours = Number(/^([\d,]+) hits?/.exec(said)?.[1]?.replaceAll(",", "") ?? 0);
    if (!theirs.endsWith(`, ${ours} hits`)) differ.push(`${q}: ${said} here, ${theirs} on the server`);
    // The first of them and the last are in the same lines, and read the same.
    if (found.length === 0) continue;
    await page.locator(".log").press("Home");
    await page.locator("a.line[data-line='1']").waitFor();
    for (const [key, m] of [["Enter", found[0]!], ["Shift+Enter", found[found.length - 1]!]] as const) {
      await page.getByLabel("Search the log").press(key);
      await page.locator(".hits", { hasText: key === "Enter" ? /^1 of / : new RegExp(`^${found.length} of `) }).waitFor();
      const current = page.locator(".row.current", { has: page.locator(`a.line[data-line='${m.line}']`) }).locator(".text");
      await current.waitFor({ timeout: 10_000 }).catch(() => differ.push(`${q}: line ${m.line} is not the one that ${key} shows`));
      const shown = await current.textContent();
      if (shown !== m.text) differ.push(`${q}: line ${m.line} is ${JSON.stringify(shown)} here, ${JSON.stringify(m.text)} on the server`);
    }
  }
  assert.deepEqual(differ, []);
  await done(p);
});

test("earlier runs are there, whole", async () => {
  for (const [text, code] of [
    ["first run", 4],
    ["second run", 0],
  ] as const) {
    const c = new Producer(server, "again", "c", text);
    await c.write(Array.from({ length: 3000 }, (_, i) => `${text}, line ${i + 1}\n`).join(""));
    await c.end(code);
  }
  const p = await openPage(browser, server.page("again", "id=c"));
  const { page } = p;
  await row(page, "second run, line 1");
  await page.getByLabel("Run", { exact: true }).focus();
  await page.locator("select[aria-label=Run] option", { hasText: "exit 4" }).waitFor({ state: "attached" });
  await page.getByLabel("Run", { exact: true }).selectOption({ index: 1 });
  await row(page, "first run, line 1");
  await page.locator(".badge", { hasText: "exit 4" }).waitFor();
  await page.getByText("This is an earlier run").waitFor();
  await page.locator(".log").focus();
  await page.keyboard.press("End");
  await row(page, "first run, line 3000");
  await page.getByLabel("Search the log").fill("line 2999");
  await page.locator(".hits", { hasText: "1 hit" }).waitFor();
  await page.getByLabel("Search the log").press("Enter");
  await page.locator(".row.current", { hasText: "first run, line 2999" }).waitFor();
  await page.getByLabel("Search the log").press("Escape");
  assert.equal(await copyAll(page), Array.from({ length: 3000 }, (_, i) => `first run, line ${i + 1}\n`).join(""));
  await page.getByRole("button", { name: "Show the latest" }).click();
  await row(page, "second run, line 1");
  await done(p);
});

test("of a log whose end alone was fetched, the rest is there when it is looked at", async () => {
  const text = (id: string) => Array.from({ length: 5000 }, (_, i) => `${id}, line ${i + 1}\n`).join("");
  await Promise.all(
    Array.from({ length: 24 }, async (_, i) => {
      const c = new Producer(server, "many", `m-${i}`);
      await c.write(text(`m-${i}`));
      await c.end(0);
    }),
  );
  const p = await openPage(browser, server.page("many", "all=1&view=grid"));
  const { page } = p;
  await page.locator(".tile", { hasText: "m-7, line 5000" }).waitFor();
  await page.locator(".tile", { hasText: "m-7, line 5000" }).click();
  await row(page, "m-7, line 1");
  await page.locator("a.line[data-line='1']").waitFor();
  await page.keyboard.press("g");
  await page.keyboard.type("2500");
  await page.keyboard.press("Enter");
  await page.locator(".row.chosen", { hasText: "m-7, line 2500" }).waitFor();
  assert.equal(await page.locator(".row.chosen .line").textContent(), "2500");
  assert.equal(await copyAll(page), text("m-7"));
  await done(p);
});

test("what the client dropped is said where it is missing", async () => {
  const c = new Producer(server, "dropped", "c");
  await c.write("before\n");
  await c.lose(7, 4_200_000);
  await c.write("after\n");
  await c.end(0);
  const p = await openPage(browser, server.page("dropped", "id=c"));
  await row(p.page, "after");
  const got = await rows(p.page);
  assert.equal(got.length, 3);
  assert.match(got[1]!, /4\.2 MB.*dropped by the client/);
  await p.page.locator("a.line[data-line='2']").waitFor();
  await done(p);
});

test("a run that is deleted disappears, and the page says so", async () => {
  const c = new Producer(server, "deleted", "c");
  await c.write("soon gone\n");
  await c.end(0);
  const p = await openPage(browser, server.page("deleted", "id=c"));
  await row(p.page, "soon gone");
  const r = await fetch(`${server.url}/api/v1/runs/${c.runId}`, { method: "DELETE", headers: { Authorization: `Bearer ${server.token("1 hour", "base_token")}` } });
  assert.equal(r.status, 204);
  await p.page.getByText(/has not run anything yet|Nothing has run under this name yet/).waitFor();
  assert.equal(await p.page.getByText("soon gone").count(), 0);
  await done(p);
});

test("the list of tasks: live, filtered, sorted, clean for screen readers", async () => {
  const old = new Producer(server, "been-here", "c");
  await old.write("x\n");
  await old.end(0);
  const p = await openPage(browser, `${server.url}/?accessToken=${server.browserToken}`);
  const { page } = p;
  await page.getByRole("link", { name: "been-here", exact: true }).waitFor();
  const c = new Producer(server, "brand-new", "c");
  await c.write("x\n");
  await page.getByRole("link", { name: "brand-new" }).waitFor();
  await page.keyboard.press("/");
  await page.keyboard.type("brand");
  await page.waitForFunction(() => document.querySelectorAll("tbody tr").length === 1);
  await c.end(7);
  await page.locator("tbody tr", { hasText: "exit 7" }).waitFor();
  await page.getByRole("link", { name: "brand-new" }).click();
  await row(page, "x");
  assert.ok(!page.url().includes("accessToken"));
  await done(p);
});

test("ids and names of all kinds are text", async () => {
  const id = '"><img src=x onerror=alert(1)> * > ü';
  const c = new Producer(server, "a/b <i>c", id);
  await c.write("here\n");
  await c.end(0);
  const p = await openPage(browser, server.page("a/b <i>c", `id=${encodeURIComponent(id)}`));
  await row(p.page, "here");
  assert.equal(await p.page.locator(".run h1").textContent(), id);
  assert.equal(await p.page.locator("img").count(), 0);
  await done(p);
});

test("a phone's width", async () => {
  const p = await openPage(browser, server.page("terminal", "id=c"), { viewport: { width: 390, height: 780 } });
  const { page } = p;
  await row(page, "bold red");
  const fits = async () => {
    const over = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    assert.ok(over <= 0, `${over} px too wide`);
  };
  await fits();
  await axe(page);
  await page.getByRole("button", { name: /^Clients/ }).click();
  await page.getByLabel("Attach c", { exact: true }).waitFor();
  await fits();
  await page.goto(`${server.url}/`);
  await page.getByRole("link", { name: "terminal", exact: true }).waitFor();
  await fits();
  await done(p);
});

test("every view is clean for screen readers and in contrast, in light and in dark", async () => {
  const failed = new Producer(server, "views", "host-failed", "./deploy.sh");
  await failed.writeAll([
    ["\x1b[1mstep\x1b[0m \x1b[2mdim\x1b[0m " + Array.from({ length: 16 }, (_, i) => `\x1b[${i < 8 ? 30 + i : 82 + i}mc${i} \x1b[2mdim\x1b[22m`).join(" ") + "\n", "STDOUT"],
    [Array.from({ length: 16 }, (_, i) => `\x1b[${i < 8 ? 30 + i : 82 + i}mc${i}\x1b[0m`).join(" ") + " to stderr\n", "STDERR"],
    [Array.from({ length: 16 }, (_, i) => `\x1b[${i < 8 ? 40 + i : 92 + i}m on ${i} \x1b[0m`).join("") + "\x1b[7minverse\x1b[0m\n", "STDOUT"],
    ["see https://a.example/ needle\n" + "x".repeat(5000) + "\n", "STDOUT"],
  ]);
  await failed.lose(7, 4_200_000);
  await failed.write("deploy failed\n", "STDERR");
  await failed.end(2);
  const running = new Producer(server, "views", "host-running", "sleep 1000");
  await running.write("it runs\n");
  const passed = new Producer(server, "views", "host-passed", "true");
  await passed.write("all is well\n");
  await passed.end(0);
  const p = await openPage(browser, "about:blank");
  const { page } = p;
  const shifts = await countShifts(page);
  const still = async (what: string) => {
    const n = await shifts();
    assert.ok(n < 0.01, `${what}: what was shown has jumped by itself, ${n}`);
  };
  await page.goto(`${server.url}/?accessToken=${server.browserToken}`);
  // What a first visit transfers, page, scripts, style and all, the answers of the API left out.
  await page.getByRole("link", { name: "views", exact: true }).waitFor();
  await still("tasks");
  await axe(page);
  await page.goto(server.page("views", "id=host-running"));
  await row(page, "it runs");
  const sizes = await page.evaluate(() => [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")].map((e) => [(e as PerformanceResourceTiming).name, (e as PerformanceResourceTiming).encodedBodySize] as const));
  const load = sizes.filter(([name]) => !name.includes("/api/"));
  assert.ok(load.length >= 4, JSON.stringify(load));
  const sum = load.reduce((n, [, size]) => n + size, 0);
  assert.ok(sum > 20_000 && sum < 120_000, `the first load is ${sum} bytes: ${JSON.stringify(load)}`);
  await page.locator(".badge.running").waitFor();
  await running.write("more\n".repeat(5));
  await page.waitForFunction(() => document.querySelectorAll(".row .text").length === 6);
  await still("one client");
  await axe(page);
  // A failure, a search, a chosen line, times, wrap.
  await page.goto(`${server.url}/tasks/views/?id=host-failed`);
  await row(page, "deploy failed");
  await still("a failure");
  await axe(page);
  await page.keyboard.press("/");
  await page.keyboard.type("needle");
  await page.locator(".hits", { hasText: "1 hit" }).waitFor();
  await page.keyboard.press("Enter");
  await page.locator(".row.current mark").waitFor();
  await page.getByLabel("Times").selectOption("utc");
  for (const line of ["1", "2"]) {
    await page.locator(`a.line[data-line='${line}']`).click();
    await page.locator(".row.chosen").waitFor();
    await page.mouse.move(0, 0);
    await axe(page);
  }
  await page.getByLabel("Times").selectOption("off");
  await page.getByLabel("Search the log").press("Escape");
  await page.keyboard.press("?");
  await page.getByRole("heading", { name: "Keyboard" }).waitFor();
  await axe(page);
  await page.keyboard.press("Escape");
  await page.goto(`${server.url}/tasks/views/?all=1&view=grid`);
  await page.locator(".tile", { hasText: "all is well" }).waitFor();
  await still("grid");
  await axe(page);
  await page.goto(`${server.url}/tasks/views/?all=1&view=merged`);
  await row(page, "all is well");
  await still("merged");
  await axe(page);
  // Nothing there yet, and no token.
  await page.goto(`${server.url}/tasks/nothing-yet/`);
  await page.getByText("Nothing has run under this name yet").waitFor();
  await still("nothing yet");
  await axe(page);
  await page.evaluate(() => sessionStorage.clear());
  await page.goto(`${server.url}/`);
  await page.getByText("needs an access token").waitFor();
  await axe(page);
  await running.end(0);
  await done(p);
});

// Each of these mostly waits for something that takes its time.
describe("in the course of time", { concurrency: true }, () => {
  test("a server that has a bad time is said to have one, and what is read stays where it is", async () => {
    const c = new Producer(server, "badtime", "c");
    await c.write(Array.from({ length: 500 }, (_, i) => `line ${i + 1}\n`).join(""));
    const p = await openPage(browser, server.page("badtime", "id=c"));
    const { page } = p;
    await row(page, "line 500");
    await page.keyboard.press("g");
    await page.keyboard.type("200");
    await page.keyboard.press("Enter");
    await page.locator(".row.chosen", { hasText: "line 200" }).waitFor();
    await page.getByLabel("Search the log").fill("line 20");
    await page.locator(".hits", { hasText: "11 hits" }).waitFor();
    const log = (await page.$(".log"))!;
    const before = await rows(page);
    await page.route("**/clients*", (r) => r.fulfill({ status: 503, contentType: "application/problem+json", body: JSON.stringify({ detail: "the log does not answer" }) }));
    await page.locator(".warn", { hasText: "The log does not answer. Trying again…" }).waitFor();
    await page.unroute("**/clients*");
    await page.locator(".warn").waitFor({ state: "detached" });
    assert.equal(await log.evaluate((e) => e.isConnected), true, "the log was made anew");
    assert.deepEqual(await rows(page), before);
    assert.equal(await page.getByLabel("Search the log").inputValue(), "line 20");
    await c.end();
    await done(p);
  });

  test("an expired token is explained, and what was read stays", async () => {
    const c = new Producer(server, "expires", "c");
    await c.write("still here\n");
    const p = await openPage(browser, `${server.url}/tasks/expires/?accessToken=${server.token("10 seconds")}&id=c`);
    await row(p.page, "still here");
    await p.page.getByText("The access token has expired").waitFor({ timeout: 20_000 });
    assert.deepEqual(await rows(p.page), ["still here"]);
    await p.page.reload();
    await p.page.getByRole("heading", { name: "The access token has expired" }).waitFor();
    await c.end(0);
    await done(p);
  });

  test("a thousand tasks: all there, filtered, sorted, live", { timeout: 120_000 }, async () => {
    const n = 1000;
    const many = await Server.start();
    const p = await openPage(browser, `${many.url}/?accessToken=${many.browserToken}`);
    try {
      const { page } = p;
      await page.getByText("Nothing has run yet.").waitFor();
      for (let i = 0; i < n; i += 50)
        await Promise.all(
          Array.from({ length: 50 }, async (_, k) => {
            const c = new Producer(many, `task-${String(i + k).padStart(4, "0")}`, "c");
            await c.end((i + k) % 100 === 7 ? 1 : 0);
          }),
        );
      const count = page.locator(".tools [role=status]");
      await count.filter({ hasText: /^1000 tasks$/ }).waitFor();
      const first = () => page.locator("tbody tr .col-task").first().textContent();
      await page.getByRole("button", { name: "Task" }).click();
      assert.equal(await first(), "task-0000");
      await page.getByRole("button", { name: "Task" }).click();
      assert.equal(await first(), "task-0999");
      // All are reached by scrolling.
      const last = page.getByRole("link", { name: "task-0000" });
      while ((await last.count()) === 0) {
        await page.locator("tbody tr").last().scrollIntoViewIfNeeded();
        await page.evaluate(() => new Promise((f) => requestAnimationFrame(f)));
      }
      await page.getByLabel("Show").selectOption("failed");
      await count.filter({ hasText: /^10 of 1000 tasks$/ }).waitFor();
      assert.equal(await first(), "task-0907");
      await page.getByLabel("Show").selectOption("all");
      await page.keyboard.press("Escape");
      await page.getByLabel("Filter tasks by name").fill("task-05");
      await count.filter({ hasText: /^100 of 1000 tasks$/ }).waitFor();
      // One of them begins again, under our eyes.
      const again = new Producer(many, "task-0555", "c");
      await page.locator("tr", { hasText: "task-0555" }).getByText("running").waitFor();
      await page.getByRole("button", { name: "Last run" }).click();
      assert.equal(await first(), "task-0555");
      await again.end(9);
      await page.locator("tr", { hasText: "task-0555" }).getByText("exit 9").waitFor();
      await done(p);
    } finally {
      await p.context.close();
      await many.close();
    }
  });

  test("what retention deleted is said, and lines keep their numbers and links", { timeout: 120_000 }, async () => {
    const small = await Server.start("--run-max-bytes", "1048576");
    const p = await openPage(browser, "about:blank");
    try {
      const { page } = p;
      const c = new Producer(small, "cut", "c");
      const n = 20_000;
      const text = (i: number) => `line ${i} ${"abcdefghij".repeat(8)}`;
      for (let i = 1; i <= n; i += 500) await c.write(Array.from({ length: 500 }, (_, k) => text(i + k) + "\n").join(""));
      // The janitor comes by itself.
      const get = (query: string) => fetch(`${small.url}/api/v1/runs/${c.runId}/log?task=cut&client=c&${query}`, { headers: { Authorization: `Bearer ${small.browserToken}` } });
      let status = 0;
      for (const end = Date.now() + 60_000; status !== 410 && Date.now() < end; await new Promise((f) => setTimeout(f, 200))) status = (await get("lines=1-1")).status;
      assert.equal(status, 410);
      const kept = JSON.parse((await (await get("format=ndjson&lines=1-20000")).text()).split("\n").find((l) => l.includes('"line"'))!) as { line: number };
      const begin = kept.line + 100;
      assert.ok(begin > 1000 && begin < n, String(begin));
      await page.goto(small.page("cut", "id=c"));
      await row(page, text(n));
      await page.locator(".log").focus();
      await page.keyboard.press("Home");
      await page.locator(".row.note", { hasText: /past the retention limit and was deleted/ }).first().waitFor();
      await c.write("the last one\n");
      // A link to a line that is still there, after a reload and beside one that is not.
      const number = (k: number) => page.locator(".row", { has: page.locator(`a.line[data-line='${k}']`) }).locator(".text");
      await page.goto(`${small.url}/tasks/cut/?id=c#L${begin}-L${begin + 3}`);
      await page.reload();
      await number(begin).waitFor();
      assert.equal(await number(begin).textContent(), text(begin));
      assert.equal(await page.locator(".row.chosen").count(), 4);
      await page.keyboard.press("c");
      await page.locator(".foot", { hasText: /^Lines \d+ to \d+ copied/ }).waitFor();
      assert.equal(await page.evaluate(() => navigator.clipboard.readText()), [0, 1, 2, 3].map((k) => text(begin + k) + "\n").join(""));
      await page.goto(`${small.url}/tasks/cut/?id=c#L5`);
      await page.reload();
      await page.locator(".row.note", { hasText: /past the retention limit and was deleted/ }).first().waitFor();
      await page.locator(".log").focus();
      await page.keyboard.press("End");
      await row(page, "the last one");
      assert.equal(await page.locator(".row .line").last().textContent(), String(n + 1));
      await c.end(0);
      await done(p);
    } finally {
      await p.context.close();
      await small.close();
    }
  });
});
