// What a log may hold to do harm: the screen model never throws, never grows beyond what was written, and shows the same
// however the bytes were cut.

import assert from "node:assert/strict";
import test from "node:test";
import { readFileSync } from "node:fs";
import { Layout } from "../src/log/layout.ts";
import { maxRows } from "../src/screen/screen.ts";
import { plainText, spans } from "../src/screen/spans.ts";

const encoder = new TextEncoder();

/** Numbers from 0 on, the same for the same seed. */
function random(seed: number): (below: number) => number {
  let a = seed;
  return (below) => {
    a = (a + 0x6d2b79f5) | 0;
    let t = Math.imul(a ^ (a >>> 15), 1 | a);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % below;
  };
}

const texts = ["a", "word ", "0123456789".repeat(20), "日本語", "ü", "e\u0301\u0301", "👩‍👩‍👧", "\u202eabc\u202c", "\ufeff", "\u0085\u009b31m", " ", "\t", "\n", "\n", "\n", "\r\n", "\r", "\r\r\n", "\b", "\b\b\b", "\0", "\x07", "\x18", "\x1a", "\x7f", "\x0b"];
const finals = [..."@ABCDEFGHIJKLMPSTXZ`abcdefghlmnqrstux~"];
const strings = ["\x1b]0;title", "\x1b]8;;https://a.example/", "\x1bPq", "\x1bX", "\x1b^", "\x1b_"];
const ends = ["\x07", "\x1b\\", "\n", "\x18", "\x1b[1m", ""];

/** Output that is made of everything a terminal knows, and of what it does not. */
function output(next: (below: number) => number, pieces: number): Uint8Array[] {
  const pick = <T>(list: readonly T[]): T => list[next(list.length)]!;
  const number = () => pick(["", "0", "1", "2", "3", "7", "38;5;208", "48;2;1;2;3", "4:3", "60", "99999", ";;", "?25", "?1049", "1 "]);
  return Array.from({ length: pieces }, () => {
    switch (next(8)) {
      case 0:
        return Uint8Array.from({ length: 1 + next(12) }, () => next(256));
      case 1:
      case 2:
        return encoder.encode(`\x1b[${number()}${pick(finals)}`);
      case 3:
        return encoder.encode(`\x1b[${pick(["?1049h", "?1049l", "H", "2J", "J", "2;5r", "r", "1A", "3A", "K", "1K", "2K", "L", "M", "4;9H"])}`);
      case 4:
        return encoder.encode(pick(strings) + pick(texts) + pick(ends));
      case 5:
        return encoder.encode(pick(["\x1b", "\x1b7", "\x1b8", "\x1bc", "\x1bD", "\x1bE", "\x1bM", "\x1b(0", "\x1b(B", "\x1b#8", "\x1b[", "\x1b[3", "\x1b[\x01m"]));
      default:
        return encoder.encode(pick(texts));
    }
  });
}

/** All that a view shows of a log. */
function seen(l: Layout): unknown[] {
  const out: unknown[] = [l.lines];
  for (let i = l.first; i < l.count; i++) {
    const r = l.get(i)!;
    out.push([r.line, r.flags, spans(r.bytes, r.style, 1 << 20).spans, plainText(r.bytes)]);
  }
  return out;
}

function joined(list: Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(list));
}

test("whatever comes, and however it is cut, the rows are the same and nothing throws", () => {
  for (let seed = 1; seed <= 400; seed++) {
    const next = random(seed);
    const parts: { bytes: Uint8Array; stderr: boolean }[] = [];
    for (let k = 0; k < 6; k++) parts.push({ bytes: joined(output(next, 1 + next(40))), stderr: next(4) === 0 });
    const whole = new Layout();
    const cut = new Layout();
    for (const { bytes, stderr } of parts) {
      whole.feed(bytes, stderr, 1);
      for (let i = 0; i < bytes.length; ) {
        const n = 1 + next(next(3) === 0 ? 40 : 3);
        cut.feed(bytes.subarray(i, i + n), stderr, 1);
        i += n;
      }
    }
    assert.deepEqual(seen(cut), seen(whole), `seed ${seed}: ${JSON.stringify(parts.map((p) => [p.stderr, Buffer.from(p.bytes).toString("latin1")]))}`);
    const lf = parts.reduce((n, p) => n + p.bytes.filter((c) => c === 10).length, 0);
    assert.equal(whole.lines, lf, `seed ${seed}`);
    let line = 0;
    for (let i = 0; i < whole.count - maxRows; i++) {
      const r = whole.get(i)!;
      assert.ok(r.line >= line, `seed ${seed}: row ${i} has line ${r.line} below ${line}`);
      line = r.line;
    }
  }
});

/** A few bytes that ask for much, again and again. */
const greedy: [name: string, text: string][] = [
  ["the cursor far to the right", "\x1b[9999Cx\n"],
  ["a column far to the right", "\x1b[9999Gx\r\n"],
  ["a place far to the right", "\x1b[1;9999Hx\x1b[2J"],
  ["blanks put in", "x\x1b[9999@\x1b[9999Gy\n"],
  ["the last character again", "x\x1b[9999b"],
  ["scrolling", "\x1b[9999S"],
  ["rows put in", "\x1b[1;1Hx\x1b[9999L"],
  ["rows taken out", "\x1b[1;1Hx\x1b[9999M\n"],
  ["up and final again", "x\n\x1b[60A\x1b[?1049h\x1b[?1049l"],
  ["a screen that is begun and left", "abc\x1b7"],
  ["the alternate screen", "\x1b[?1049h\x1b[60;1000Hx\x1b[?1049l"],
  ["erased to the left", "x\x1b[1000Gy\x1b[1K"],
  ["tabs", "\r" + "\t".repeat(100) + "x"],
];

test("a few bytes never become many", { timeout: 120_000 }, async (t) => {
  for (const [name, text] of greedy)
    await t.test(name, () => {
      const l = new Layout();
      const block = encoder.encode(text.repeat(Math.ceil(100_000 / text.length)));
      let bytes = 0;
      for (let i = 0; i < 3; i++) {
        l.feed(block, false, 1);
        bytes += block.length;
      }
      const times = l.held / bytes;
      assert.ok(times < 40, `${bytes} bytes became ${l.held}`);
    });
});

test("a sequence on a long line is not paid for again and again", { timeout: 30_000 }, () => {
  // Each of these reads and stores the line of 30 kB that it stands in, which would be 60 GB in all.
  const l = new Layout();
  l.feed(encoder.encode("x".repeat(30_000)), false, 1);
  l.feed(encoder.encode("\x1b7".repeat(1_000_000)), false, 1);
  l.feed(encoder.encode("\nend\n"), false, 1);
  assert.equal(plainText(l.get(l.count - 1)!.bytes), "end");
});

test("strings and sequences that never end are not gathered", { timeout: 30_000 }, () => {
  for (const begin of ["\x1b]0;", "\x1bP", "\x1b[", "\x1b("]) {
    const l = new Layout();
    l.feed(encoder.encode(begin), false, 1);
    const block = encoder.encode((begin === "\x1b[" ? "1;" : begin === "\x1b(" ? "(" : "no end ").repeat(1000));
    for (let i = 0; i < 2000; i++) l.feed(block, false, 1);
    l.feed(encoder.encode("\nnext\n"), false, 1);
    assert.equal(plainText(l.get(l.count - 1)!.bytes), "next", JSON.stringify(begin));
  }
});

test("what an expression of one stream leaves open is not closed by the other", () => {
  const l = new Layout();
  l.feed(encoder.encode("a\x1b[3"), false, 1);
  l.feed(encoder.encode("oops\n"), true, 1);
  l.feed(encoder.encode("1mb\n"), false, 1);
  assert.deepEqual([0, 1].map((i) => plainText(l.get(i)!.bytes)), ["aoops", "b"]);
});

test("sequences end where the server says that they end", async (t) => {
  const cases = JSON.parse(readFileSync(new URL("../../../testdata/strip.json", import.meta.url), "utf8")) as { name: string; in: string; want: string }[];
  cases.push(
    { name: "a title of 40 kB", in: "a\x1b]0;" + "t".repeat(40_000) + "\x07b", want: "ab" },
    { name: "a device string of 40 kB", in: "a\x1bP" + "t".repeat(40_000) + "\x1b\\b", want: "ab" },
    { name: "an image that never ends", in: "a\x1b]1337;File=:" + "QUJD".repeat(10_000) + "\nb", want: "a\nb" },
  );
  for (const c of cases)
    await t.test(c.name, () => {
      const bytes = encoder.encode(c.in);
      for (const size of [bytes.length, 7, 1]) {
        const l = new Layout();
        for (let i = 0; i < bytes.length; i += size) l.feed(bytes.subarray(i, i + size), false, 1);
        const got = Array.from({ length: l.count }, (_, i) => plainText(l.get(i)!.bytes)).join("\n");
        assert.equal(got, c.want, `in pieces of ${size}`);
      }
    });
});
