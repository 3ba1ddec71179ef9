import assert from "node:assert/strict";
import test from "node:test";
import { Layout } from "../src/log/layout.ts";
import { GAP, STDERR, STDOUT } from "../src/log/table.ts";
import { plainText, spans } from "../src/screen/spans.ts";
import { BOLD, RGB } from "../src/screen/style.ts";

const encoder = new TextEncoder();

function rows(l: Layout): string[] {
  const out: string[] = [];
  for (let i = l.first; i < l.count; i++) out.push(plainText(l.get(i)!.bytes));
  return out;
}

const cases: { name: string; input: string; want: string[]; lines?: number[] }[] = [
  { name: "nothing", input: "", want: [] },
  { name: "lines", input: "a\nb\n", want: ["a", "b"], lines: [0, 1] },
  { name: "an unfinished line", input: "a\nb", want: ["a", "b"] },
  { name: "empty lines", input: "\n\n\n", want: ["", "", ""], lines: [0, 1, 2] },
  { name: "CRLF as a terminal makes it", input: "a\r\nb\r\r\nc", want: ["a", "b", "c"] },
  { name: "a progress bar", input: "1%\r20%\r100%\ndone\n", want: ["100%", "done"], lines: [0, 1] },
  { name: "a shorter text over a longer one", input: "abcdef\rxy\n", want: ["xycdef"] },
  { name: "erase to the end of the line", input: "abcdef\rxy\x1b[K\n", want: ["xy"] },
  { name: "erase the whole line", input: "abcdef\x1b[2K\rxy\n", want: ["xy"] },
  { name: "backspace", input: "abc\b\bX\n", want: ["aXc"] },
  { name: "a spinner", input: "|\b/\b-\b\\\bok\n", want: ["ok"] },
  { name: "cursor up redraws", input: "a\nb\nc\n\x1b[2AB\x1b[K\nC\n\nend\n", want: ["a", "B", "C", "", "end"] },
  { name: "docker-like progress", input: "1: 0%\n2: 0%\n\x1b[2A1: 50%\n2: 10%\n\x1b[2A1: done\x1b[K\n2: done\x1b[K\nnext\n", want: ["1: done", "2: done", "next"], lines: [0, 1, 6] },
  { name: "cursor up goes no further than the beginning", input: "a\n\x1b[99Ab\n\nc\n", want: ["b", "", "c"].slice(0, 1).concat(["", "c"]) },
  { name: "grep's colours", input: "x \x1b[01;31m\x1b[Kred\x1b[m\x1b[K y\n", want: ["x red y"] },
  { name: "titles and unknown sequences say nothing", input: "\x1b]0;title\x07a\x1b[?25l\x1b[?2004hb\x1b(B\x1b=c\n", want: ["abc"] },
  { name: "an unclosed title does not swallow the log", input: "\x1b]0;title\nb\n", want: ["", "b"] },
  { name: "a broken sequence", input: "a\x1b[12é;3mb\n", want: ["aé;3mb"] },
  { name: "a control character in a colour", input: "a\x1b[3\u00011mb\rc\n", want: ["cb"] },
  { name: "tabs stay", input: "a\tb\n", want: ["a\tb"] },
  { name: "tabs on the screen", input: "\ra\tb\n", want: ["a       b"] },
  { name: "a full-screen program", input: "before\n\x1b[?1049h\x1b[H\x1b[2Jtop\x1b[3;5Hthird\x1b[1;1HT\x1b[?1049lafter\n", want: ["before", "Top", "", "    third", "after"] },
  { name: "redraw from home", input: "before\n\x1b[Hone\x1b[K\ntwo\x1b[K\n\x1b[Hone!\x1b[K\ntwo!\x1b[K\n\x1b[J", want: ["before", "one!", "two!", ""].slice(0, 3) },
  { name: "clear keeps what was there", input: "a\nb\n\x1b[H\x1b[2Jc\n", want: ["a", "b", "c"] },
  { name: "wide characters", input: "\r日本\b\bX\n", want: ["日X"] },
  { name: "line drawing", input: "\x1b(0lqk\x1b(B\n", want: ["┌─┐"] },
  { name: "insert and delete characters", input: "abcd\x1b[3D\x1b[2@\x1b[C\x1b[C\x1b[P\n", want: ["a  cd"] },
];

test("layout", async (t) => {
  for (const c of cases) {
    await t.test(c.name, () => {
      const whole = new Layout();
      whole.feed(encoder.encode(c.input), false, 1);
      assert.deepEqual(rows(whole), c.want);
      if (c.lines) assert.deepEqual(c.lines.map((_, i) => whole.get(i)!.line), c.lines);
      // However the bytes are cut, the rows are the same.
      const cut = new Layout();
      for (const b of encoder.encode(c.input)) cut.feed(new Uint8Array([b]), false, 1);
      assert.deepEqual(rows(cut), c.want, "byte by byte");
    });
  }
});

test("long progress scrolls off the screen and is final", () => {
  const l = new Layout();
  for (let i = 0; i < 500; i++) l.feed(encoder.encode(`step ${i}: 0%\n\x1b[1A\x1b[Kstep ${i}: ok\n`), false, i);
  const got = rows(l);
  assert.equal(got.length, 500);
  assert.ok(got.every((s, i) => s === `step ${i}: ok`));
  assert.ok(l.stable >= 400);
});

test("styles go on over lines", () => {
  const l = new Layout();
  l.feed(encoder.encode("\x1b[1;31mred\nstill\x1b[0m plain\nend\n"), false, 1);
  const look = (i: number) => {
    const r = l.get(i)!;
    return spans(r.bytes, r.style, 1000).spans.map((s) => [s.text, s.style.fg, s.style.flags]);
  };
  assert.deepEqual(look(0), [["red", 1, BOLD]]);
  assert.deepEqual(look(1), [
    ["still", 1, BOLD],
    [" plain", -1, 0],
  ]);
  assert.deepEqual(look(2), [["end", -1, 0]]);
});

test("colours of all kinds, also on the screen", () => {
  for (const prefix of ["", "x\r"]) {
    const l = new Layout();
    l.feed(encoder.encode(`${prefix}\x1b[38;5;208ma\x1b[38;2;1;2;3mb\x1b[48:2::4:5:6mc\x1b[97;49md\x1b[m\n`), false, 1);
    const r = l.get(0)!;
    const got = spans(r.bytes, r.style, 1000).spans.map((s) => [s.text, s.style.fg, s.style.bg]);
    assert.deepEqual(got, [
      ["a", 208, -1],
      ["b", RGB | 0x010203, -1],
      ["c", RGB | 0x010203, RGB | 0x040506],
      ["d", 15, -1],
    ]);
  }
});

test("stderr is known by row", () => {
  const l = new Layout();
  l.feed(encoder.encode("out\n"), false, 1);
  l.feed(encoder.encode("err\n"), true, 2);
  l.feed(encoder.encode("half "), false, 3);
  l.feed(encoder.encode("and half\n"), true, 4);
  assert.deepEqual([0, 1, 2].map((i) => l.get(i)!.flags), [STDOUT, STDERR, STDOUT | STDERR]);
  assert.deepEqual([0, 1, 2].map((i) => l.get(i)!.at), [1, 2, 3]);
});

test("a note breaks the line, takes no number, and is never drawn over", () => {
  const l = new Layout();
  l.feed(encoder.encode("a\nb"), false, 1);
  l.note("300 bytes are missing", true, 2);
  l.feed(encoder.encode("c\n\x1b[5Ad\n"), false, 3);
  assert.deepEqual(rows(l), ["a", "b", "300 bytes are missing", "d"]);
  assert.equal(l.get(2)!.flags, GAP);
  assert.equal(l.get(3)!.line, 1);
});

test("bytes that are no UTF-8 are shown, characters split over packets are whole", () => {
  const l = new Layout();
  const b = encoder.encode("€");
  l.feed(b.subarray(0, 1), false, 1);
  l.feed(b.subarray(1), false, 1);
  l.feed(new Uint8Array([0xff, 0x0a]), false, 1);
  assert.deepEqual(rows(l), ["€\ufffd"]);
});

test("a line of 10 MB, a million empty lines, 100,000 colours in a line", { timeout: 60_000 }, () => {
  const l = new Layout();
  l.feed(encoder.encode("x".repeat(10_000_000) + "\n"), false, 1);
  l.feed(encoder.encode("\n".repeat(1_000_000)), false, 1);
  let s = "";
  for (let i = 0; i < 100_000; i++) s += `\x1b[38;2;${i & 255};${(i >> 8) & 255};7mx`;
  l.feed(encoder.encode(s + "\n"), false, 1);
  l.feed(encoder.encode("y".repeat(10_000_000) + "\rz\n"), false, 1);
  assert.equal(l.count, 1_000_004);
  assert.equal(plainText(l.get(l.count - 1)!.bytes), "z");
  assert.equal(spans(l.get(1_000_001)!.bytes, l.get(1_000_001)!.style, 4000).clipped, true);
});

test("old pages are let go, rows keep their numbers", () => {
  const l = new Layout();
  for (let i = 0; i < 100; i++) l.feed(encoder.encode(`${"z".repeat(99)}\n`.repeat(1000)), false, i);
  assert.equal(l.count, 100_000);
  const gone = l.trim(4 << 20);
  assert.ok(gone > 50_000, String(gone));
  assert.equal(l.first, gone);
  assert.equal(l.get(gone - 1), undefined);
  assert.equal(l.get(99_999)!.line, 99_999);
  assert.equal(plainText(l.get(gone)!.bytes).length, 99);
  assert.ok(l.held <= 5 << 20, String(l.held));
});

test("rows are found by line and by time", () => {
  const l = new Layout();
  for (let i = 0; i < 1000; i++) l.feed(encoder.encode(`${i}\n`), false, i * 10);
  assert.equal(l.rowOfLine(0), 0);
  assert.equal(l.rowOfLine(777), 777);
  assert.equal(l.rowOfLine(5000), 999);
  assert.equal(l.rowOfTime(7775), 778);
});
