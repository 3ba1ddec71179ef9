import assert from "node:assert/strict";
import test from "node:test";
import { address, hash, parseRoute } from "../src/route.ts";
import { contrast, css as cssColours, paper, parse, readable, rgbOf, sixteen, type Theme } from "../src/rows/colour.ts";
import { maxHeight, Scroll } from "../src/rows/scroll.ts";
import { duration, timeText } from "../src/rows/time.ts";
import { safe, spans } from "../src/screen/spans.ts";
import { PLAIN } from "../src/screen/style.ts";
import { parseJump } from "../src/views/jump.ts";
import { bytesText } from "../src/words.ts";
import { readFileSync } from "node:fs";

test("all 16 colours can be read on the paper of their theme", () => {
  for (const theme of ["light", "dark"] as Theme[])
    sixteen[theme].forEach((c, i) => {
      const k = contrast(parse(c), parse(paper[theme].bg));
      assert.ok(k >= 4.5, `${theme} ${i} ${c}: ${k.toFixed(2)}`);
    });
});

const sheet = readFileSync(new URL("../../src/page.css", import.meta.url), "utf8");

/** A colour of the style sheet, by its name. */
function named(theme: Theme, name: string): string {
  const block = sheet.slice(sheet.indexOf(`:root[data-theme="${theme}"] {`));
  return new RegExp(`--${name}: (#[0-9a-f]{6});`).exec(block)![1]!;
}

test("all 16 colours, and our own, can be read wherever a row puts them, dim ones too", () => {
  for (const theme of ["light", "dark"] as Theme[]) {
    assert.deepEqual([named(theme, "paper"), named(theme, "text")], [paper[theme].bg, paper[theme].fg]);
    // The paper, a row of stderr, one that was chosen, one under the mouse.
    for (const ground of ["paper", "bad-bg", "chosen", "hover"]) {
      const bg = parse(named(theme, ground));
      for (const [i, c] of [...sixteen[theme], paper[theme].fg].entries()) {
        const k = contrast(parse(c), bg);
        assert.ok(k >= 4.5, `${theme} ${i} ${c} on ${ground}: ${k.toFixed(2)}`);
      }
    }
    for (let i = -1; i < 256; i++)
      for (const dim of [false, true]) {
        if (i >= 0 && i < 16 && !dim) continue;
        const [r, g, b] = cssColours(i, -1, false, dim, theme).fg.match(/\d+/g)!.map(Number) as [number, number, number];
        for (const ground of ["paper", "bad-bg", "chosen", "hover"]) {
          const k = contrast([r, g, b], parse(named(theme, ground)));
          assert.ok(k >= 4.5, `${theme}: ${i}${dim ? ", dim," : ""} on ${ground}: ${k.toFixed(2)}`);
        }
        if (i < 0 && dim) assert.notDeepEqual([r, g, b], parse(paper[theme].fg), "dim is seen");
      }
    for (const [fg, bg] of [["muted", "paper"], ["muted", "panel"], ["muted", "raised"], ["muted", "bad-bg"], ["muted", "chosen"], ["accent", "paper"], ["accent", "panel"], ["accent", "accent-bg"], ["good", "panel"], ["bad", "panel"], ["warn", "panel"], ["warn", "warn-bg"], ["bad", "accent-bg"], ["good", "accent-bg"], ["warn", "accent-bg"], ["muted", "accent-bg"], ["mark-text", "mark"]]) {
      const k = contrast(parse(named(theme, fg!)), parse(named(theme, bg!)));
      assert.ok(k >= 4.5, `${theme}: ${fg} on ${bg}: ${k.toFixed(2)}`);
    }
  }
});

test("the style sheet has the same 16 colours", () => {
  for (let i = 0; i < 16; i++) {
    assert.ok(sheet.includes(`\n.c${i} {\n  color: ${sixteen.dark[i]};`), `dark ${i}`);
    assert.ok(sheet.includes(`\n[data-theme="light"] .c${i} {\n  color: ${sixteen.light[i]};`), `light ${i}`);
  }
});

test("every palette colour is made readable on every other", () => {
  for (const theme of ["light", "dark"] as Theme[])
    for (let f = 0; f < 256; f += 5)
      for (let b = 0; b < 256; b += 5) {
        const bg = rgbOf(b, theme);
        assert.ok(contrast(readable(rgbOf(f, theme), bg), bg) >= 4.5, `${theme} ${f} on ${b}`);
      }
});

test("only web addresses become links", () => {
  for (const bad of ["javascript:alert(1)", "data:text/html,x", "JavaScript:alert(1)", " javascript:x", "//evil", "file:///etc/passwd", "http://[", "vbscript:x", "blob:http://x"]) assert.equal(safe(bad), undefined, bad);
  assert.equal(safe("https://example.com/a"), "https://example.com/a");
  const row = (s: string) => spans(new TextEncoder().encode(s), PLAIN, 4000).spans.map((x) => [x.text, x.href]);
  assert.deepEqual(row("see https://a.example/x?y=1. or (http://b.example)"), [
    ["see ", undefined],
    ["https://a.example/x?y=1", "https://a.example/x?y=1"],
    [". or (", undefined],
    ["http://b.example", "http://b.example/"],
    [")", undefined],
  ]);
  assert.deepEqual(row("\x1b]8;;javascript:alert(1)\x07click\x1b]8;;\x07"), [["click", undefined]]);
  assert.deepEqual(row("\x1b]8;;https://a.example/\x1b\\click\x1b]8;;\x1b\\ on"), [
    ["click", "https://a.example/"],
    [" on", undefined],
  ]);
  assert.deepEqual(row("<img src=x onerror=alert(1)>"), [["<img src=x onerror=alert(1)>", undefined]]);
});

test("a long row is clipped between characters", () => {
  const b = new TextEncoder().encode("ä".repeat(10));
  assert.deepEqual(spans(b, PLAIN, 5), { spans: [{ text: "ää", style: PLAIN }], clipped: true });
});

function scroll(count: number): Scroll {
  const s = new Scroll(() => 20);
  s.count = count;
  s.window = 410;
  return s;
}

test("scrolling is exact where the bar is long enough", () => {
  const s = scroll(1000);
  assert.equal(s.height, 20_000);
  s.moved(30);
  assert.deepEqual(s.place, { row: 1, px: 10 });
  s.moved(10_000);
  assert.deepEqual(s.place.row, 500);
  s.moved(20_000 - 410);
  assert.deepEqual(s.place, s.last());
  assert.equal(s.atEnd, true);
  s.moved(0);
  assert.deepEqual(s.place, { row: 0, px: 0 });
});

test("scrolling is scaled past the browsers' limit, and every row can be reached", () => {
  const s = scroll(5_000_000);
  assert.equal(s.height, maxHeight);
  s.to(2_500_000);
  const bar = s.barTop();
  s.moved(bar + 60);
  assert.deepEqual(s.place, { row: 2_500_003, px: 0 }, "small movements go by pixels");
  s.moved(4_000_000);
  assert.ok(Math.abs(s.place.row - 2_500_000) < 200, String(s.place.row));
  s.moved(maxHeight - 410);
  assert.deepEqual(s.place, s.last());
  assert.equal(s.place.row, 5_000_000 - 21);
  // A wheel that turns up for ever reaches the first row, however short the bar's way is.
  s.to(300);
  let top = s.barTop();
  let turns = 0;
  while ((s.place.row > 0 || s.place.px > 0) && turns++ < 1000) {
    top = Math.max(0, top - 100);
    if (s.moved(top)) top = s.barTop();
    assert.ok(top > 0 || s.place.row === 0, "the bar is at its end, the rows are not");
  }
  assert.equal(s.place.row, 0);
});

test("a place shows the last row fully or the first", () => {
  const s = scroll(10);
  assert.deepEqual(s.last(), { row: 0, px: 0 });
  assert.equal(s.atEnd, true);
  s.to(5);
  assert.deepEqual(s.place, { row: 0, px: 0 });
});

test("addresses hold what is to be shown and never a token", () => {
  const cases = [
    "/tasks/test/?id=a&id=b",
    "/tasks/a%2Fb%20c/?id=*",
    "/tasks/test/?all=1&view=grid",
    "/tasks/test/?id=a&run=r1#L120-L140",
    "/tasks/test/?id=a&id=b&on=b#L7",
    "/tasks/test/?id=",
    "/",
  ];
  for (const c of cases) assert.equal(address(parseRoute("http://x" + c)), c);
  const r = parseRoute("http://x/tasks/t?accessToken=SECRET&id=a");
  assert.equal(address(r), "/tasks/t/?id=a");
  assert.deepEqual([r.from, r.to], [0, 0]);
  assert.deepEqual(parseRoute("http://x/tasks/t/#L9-3").from, 3);
  assert.equal(hash(3, 3), "#L3");
  assert.equal(parseRoute("http://x/tasks/%E0%A4%A/").task, "%E0%A4%A");
});

test("what can be jumped to", () => {
  const start = new Date(2024, 0, 1, 12, 0, 0).getTime();
  assert.deepEqual(parseJump("120", start), { line: 120 });
  assert.deepEqual(parseJump("#L120", start), { line: 120 });
  assert.deepEqual(parseJump("+90s", start), { at: start + 90_000 });
  assert.deepEqual(parseJump("+2m", start), { at: start + 120_000 });
  assert.deepEqual(parseJump("+1:00:01", start), { at: start + 3_601_000 });
  assert.deepEqual(parseJump("14:03", start), { at: new Date(2024, 0, 1, 14, 3).getTime() });
  assert.deepEqual(parseJump("02:00", start), { at: new Date(2024, 0, 2, 2, 0).getTime() });
  assert.equal(parseJump("x", start), undefined);
  assert.equal(parseJump("0", start), undefined);
});

test("words", () => {
  assert.equal(duration(850), "850 ms");
  assert.equal(duration(5_300), "5.3 s");
  assert.equal(duration(185_000), "3 min 5 s");
  assert.equal(duration(7_800_000), "2 h 10 min");
  assert.equal(bytesText(0), "0 bytes");
  assert.equal(bytesText(104_857_600), "105 MB");
  assert.equal(timeText(1_704_110_400_123, "utc", 0), "12:00:00.123Z");
  assert.equal(timeText(61_001, "start", 1_000), "+00:01:00.001");
});
