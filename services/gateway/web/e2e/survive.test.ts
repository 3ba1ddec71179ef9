// What may not happen however bad it gets: a line lost or shown twice, a script that runs, a page that hangs.

import assert from "node:assert/strict";
import { connect, createServer, type AddressInfo, type Socket } from "node:net";
import { after, before, test } from "node:test";
import type { Browser } from "playwright-core";
import { copyAll, freePort, openPage, Process, Producer, row, Server, startBrowser } from "./harness.ts";

let server: Server;
let browser: Browser;
let nats = 0;

before(async () => {
  nats = await freePort();
  [server, browser] = await Promise.all([Server.start("--nats-listen", `127.0.0.1:${nats}`), startBrowser()]);
});
after(async () => {
  await browser?.close();
  await server?.close();
});

test("the gateway is killed 20 times under an open page, and nothing is missing or twice", { timeout: 180_000 }, async () => {
  const port = await freePort();
  const gateway = new Process(["gateway", "--listen", `127.0.0.1:${port}`, "--nats", `nats://127.0.0.1:${nats}`], /listening|serving|ready/i);
  await gateway.start();
  const c = new Producer(server, "killed", "c");
  let want = "";
  let line = 0;
  let over = false;
  const writing = (async () => {
    while (!over) {
      let s = "";
      for (let i = 0; i < 50; i++) s += `line ${++line} ${"#".repeat(line % 70)}\n`;
      want += s;
      await c.write(s);
      await new Promise((done) => setTimeout(done, 5));
    }
  })();
  const p = await openPage(browser, server.page("killed", "id=c", `http://127.0.0.1:${port}`));
  const { page } = p;
  try {
    await row(page, "line ");
    for (let i = 0; i < 20; i++) {
      await page.locator(".link.online").waitFor({ timeout: 20_000 });
      const seen = await page.locator(".foot .muted").textContent();
      // It is killed while output comes.
      await page.waitForFunction((s) => document.querySelector(".foot .muted")?.textContent !== s, seen);
      await gateway.stop("SIGKILL");
      await page.locator(".link.offline").waitFor();
      await gateway.start();
    }
    over = true;
    await writing;
    await c.end(0);
    await page.locator(".badge.passed").waitFor({ timeout: 20_000 });
    await page.waitForFunction((n) => document.querySelector(".foot .muted")?.textContent?.startsWith(n), line.toLocaleString("en"));
    const got = await copyAll(page);
    assert.equal(got.length, want.length);
    assert.ok(got === want);
    assert.deepEqual(p.trouble, []);
  } finally {
    over = true;
    await p.context.close();
    await gateway.stop("SIGKILL");
  }
});

test("a gateway that takes connections and does not answer is left, and nothing is missing", async () => {
  // What stands before the gateways: it passes everything on, or takes connections for one that is stopped.
  let stopped = false;
  let waiting = 0;
  const passed = new Set<Socket>();
  const door = createServer((from) => {
    from.on("error", () => undefined);
    if (stopped) {
      from.once("data", (b) => (waiting += Number(/^upgrade: websocket/im.test(b.toString()))));
      return;
    }
    const to = connect(server.port, "127.0.0.1");
    to.on("error", () => from.destroy());
    to.on("close", () => from.destroy());
    from.on("close", () => to.destroy());
    from.pipe(to).pipe(from);
    passed.add(from);
  });
  await new Promise<void>((done) => door.listen(0, "127.0.0.1", done));
  const c = new Producer(server, "stopped", "c");
  await c.write("before\n");
  const p = await openPage(browser, server.page("stopped", "id=c", `http://127.0.0.1:${(door.address() as AddressInfo).port}`));
  try {
    await row(p.page, "before");
    stopped = true;
    for (const s of passed) s.destroy();
    await p.page.locator(".link.offline").waitFor();
    while (waiting === 0) await new Promise((done) => setTimeout(done, 20));
    stopped = false;
    await c.write("meanwhile\n");
    // Left alone, a browser's connection would be waited for for 20 s.
    await row(p.page, "meanwhile", 18_000);
    await c.end(0);
    assert.equal(await copyAll(p.page), "before\nmeanwhile\n");
    assert.deepEqual(p.trouble, []);
  } finally {
    await p.context.close();
    door.close();
  }
});

test("a hostile log: nothing runs, nothing hangs", { timeout: 120_000 }, async () => {
  const c = new Producer(server, "hostile", "c");
  await c.write("<script>alert(1)</script><img src=x onerror=alert(2)><svg onload=alert(3)>\n");
  await c.write('javascript:alert(4) data:text/html,<script>alert(5)</script> https://ok.example/"onmouseover=alert(6)\n');
  await c.write("\x1b]8;;javascript:alert(7)\x07click me\x1b]8;;\x07 \x1b]0;title\x07\x1b]52;c;aGk=\x07\x1b[5n\x1b[c\x1bP+q544e\x1b\\\n");
  await c.write("\u202eright to left \u2066isolated \u0000\u0001\u0007\u000b\u007f\u0085 ok\nplain abc def\n");
  await c.write(`\u202e${"abc ".repeat(1200)}\n`);
  await c.write(new Uint8Array([0xff, 0xfe, 0xc3, 0x28, 0xf0, 0x80, 0x80, 0x0a]));
  await c.write("\x1b[999999999999A\x1b[999999;999999H\x1b[99999L\x1b[99999M\x1b[99999@\x1b[99999P\x1b[99999S\x1b[99999T\x1b[99999b\x1b[?1049h\x1b[?1049l\n");
  // A few bytes that ask for much.
  for (const greedy of ["\x1b[9999Cx\n", "x\x1b[9999@\x1b[9999Gy\n", "x\x1b[9999b", "\x1b[9999S", "x\n\x1b[60A\x1b[?1049h\x1b[?1049l", "\x1b7", "\x1b]0;"]) await c.write(greedy.repeat(Math.floor(200_000 / greedy.length)) + "\n");
  for (let i = 0; i < 40; i++) await c.write("long ".repeat(50_000));
  await c.write("\nafter the 10 MB line\n");
  for (let i = 0; i < 4; i++) await c.write("\n".repeat(250_000));
  let colours = "";
  for (let i = 0; i < 100_000; i++) {
    colours += `\x1b[38;2;${i & 255};${(i >> 8) & 255};9mx`;
    if (colours.length > 200_000 || i === 99_999) {
      await c.write(colours);
      colours = "";
    }
  }
  await c.write("\x1b[0m\nthe end\n");
  await c.end(0);
  const p = await openPage(browser, server.page("hostile", "id=c"));
  const { page } = p;
  await row(page, "<script>alert(1)</script>");
  // An override of the direction turns its own row round, and nothing else: not the number before it, the button behind it,
  // the row below it.
  await row(page, "abc abc abc");
  const places = await page.evaluate(() => {
    const rows = [...document.querySelectorAll<HTMLElement>(".row")];
    const find = (s: string) => rows.find((r) => r.querySelector(".text")!.textContent!.includes(s))!;
    const place = (r: HTMLElement, from: number, to: number) => {
      const range = document.createRange();
      range.setStart(r.querySelector(".text")!.firstChild!, from);
      range.setEnd(r.querySelector(".text")!.firstChild!, to);
      return range.getBoundingClientRect().left;
    };
    const turned = find("right to left");
    const below = find("plain abc def");
    const clipped = find("abc abc");
    const box = (r: HTMLElement, s: string) => r.querySelector(s)!.getBoundingClientRect();
    return {
      turned: place(turned, 1, 2) > place(turned, 5, 6),
      below: place(below, 0, 1) < place(below, 6, 7),
      numbers: [turned, below, clipped].map((r) => box(r, ".line").right <= box(r, ".text").left + 1),
      button: box(clipped, ".more").left >= box(clipped, ".text").right - 1,
    };
  });
  assert.deepEqual(places, { turned: true, below: true, numbers: [true, true, true], button: true });
  await page.locator(".log").focus();
  await page.keyboard.press("End");
  await row(page, "the end", 20_000);
  await page.getByLabel("Search the log").fill("after the 10 MB line");
  await page.locator(".hits", { hasText: "1 hit" }).waitFor();
  await page.getByLabel("Search the log").press("Enter");
  await row(page, "after the 10 MB line");
  await page.getByLabel("Search the log").press("Escape");
  await page.locator(".log").focus();
  await page.keyboard.press("w");
  await page.keyboard.press("Home");
  await row(page, "<script>alert(1)</script>");
  for (let i = 0; i < 20; i++) await page.keyboard.press("PageDown");
  await page.locator(".row:not(.loading) .text").first().waitFor();
  const links = await page.$$eval(".log a.out", (l) => l.map((a) => (a as HTMLAnchorElement).href));
  assert.ok(links.every((h) => /^https?:/.test(h)), links.join(" "));
  // The page still answers at once.
  const t = Date.now();
  await page.evaluate(() => new Promise((f) => requestAnimationFrame(() => f(0))));
  assert.ok(Date.now() - t < 1000);
  await p.context.close();
  assert.deepEqual(p.trouble, []);
});

test("an expression that would take for ever stops nothing, and the server searches in its place", { timeout: 60_000 }, async () => {
  const c = new Producer(server, "forever", "c");
  await c.write("begin\n" + "a".repeat(3000) + "b\naaa\nthe end\n");
  const p = await openPage(browser, server.page("forever", "id=c"));
  const { page } = p;
  await row(page, "the end");
  await page.getByRole("button", { name: ".*", exact: true }).click();
  await page.getByLabel("Search the log").fill("(a+)+$");
  await page.locator(".hits", { hasText: "searching" }).waitFor();
  // The log lives on while the expression runs, and the page answers.
  await c.write("while it runs\n");
  await row(page, "while it runs", 5000);
  await page.locator(".hits", { hasText: "1 hit" }).waitFor();
  await page.getByLabel("Search the log").press("Enter");
  await page.locator(".row.current", { hasText: /^3?aaa$/ }).waitFor();
  // Another search, and the same again in a view that no server knows.
  await page.getByLabel("Search the log").fill("b$");
  await page.locator(".hits", { hasText: "1 hit" }).waitFor();
  await page.locator(".row mark", { hasText: "b" }).waitFor();
  await page.getByLabel("Search the log").press("Escape");
  await page.keyboard.press("3");
  await row(page, "the end");
  await page.getByRole("button", { name: ".*", exact: true }).click();
  await page.getByLabel("Search the log").fill("(a+)+$");
  await page.locator(".hits", { hasText: "takes too long" }).waitFor({ timeout: 10_000 });
  await c.write("and after it\n");
  await row(page, "and after it");
  await c.end(0);
  await p.context.close();
  assert.deepEqual(p.trouble, []);
});

test("five hundred clients: overview, the failed first, one key to the first failure", { timeout: 180_000 }, async () => {
  const n = 500;
  for (let i = 0; i < n; i += 20)
    await Promise.all(
      Array.from({ length: 20 }, async (_, k) => {
        const id = `host-${String(i + k).padStart(3, "0")}`;
        const c = new Producer(server, "fleet", id, "uname -a");
        await c.write(`hello from ${id}\n`);
        await c.write(`second line of ${id}\n`, i + k === 250 || i + k === 77 ? "STDERR" : "STDOUT");
        await c.end(i + k === 250 ? 2 : i + k === 77 ? 1 : 0);
      }),
    );
  const p = await openPage(browser, server.page("fleet", "all=1&view=grid"));
  const { page } = p;
  await page.locator(".overview", { hasText: "2 failed" }).waitFor();
  await page.locator(".overview", { hasText: "498 passed" }).waitFor();
  assert.equal(await page.locator(".tile").count(), n);
  assert.match((await page.locator(".tile").first().textContent()) ?? "", /host-077.*exit 1/);
  await page.locator(".tile", { hasText: "second line of host-499" }).waitFor({ state: "attached", timeout: 20_000 });
  await page.keyboard.press("3");
  await page.waitForFunction(() => document.querySelectorAll(".row .who").length > 10);
  await page.getByLabel("Search the log").fill("second line of host-250");
  await page.locator(".hits", { hasText: "1 hit" }).waitFor({ timeout: 20_000 });
  await page.getByLabel("Search the log").press("Escape");
  await page.keyboard.press("!");
  await page.locator(".run h1", { hasText: "host-077" }).waitFor();
  await row(page, "second line of host-077");
  await p.context.close();
  assert.deepEqual(p.trouble, []);
});
