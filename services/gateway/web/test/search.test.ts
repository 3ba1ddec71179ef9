import assert from "node:assert/strict";
import test from "node:test";
import { Layout } from "../src/log/layout.ts";
import { Merged } from "../src/log/merged.ts";
import { RunLog } from "../src/log/run.ts";
import { Sparse } from "../src/log/sparse.ts";
import { Hits } from "../src/search/hits.ts";
import { Search, Slow, type Seeker } from "../src/search/search.ts";
import type { Query } from "../src/worker/messages.ts";

const encoder = new TextEncoder();
const q = (text: string, o: Partial<Query> = {}): Query => ({ text, matchCase: false, regexp: false, ...o });
/** The seeker, without a worker of its own. */
const seeker = (query: Query): Seeker => {
  let hits = new Hits(query);
  return {
    take: async (p) => {
      if (p.t === "rows") hits.take(p.bytes, p.first);
      if (p.t === "again") hits = new Hits(query);
      return { rows: hits.rows, hits: hits.hits, more: hits.more };
    },
  };
};
const unused: Seeker = { take: () => Promise.reject(new Error("nothing is to be searched here")) };
const none = () => Promise.reject(new Error("nothing is to be fetched here"));

function whole(text: string): Sparse {
  const log = new RunLog("c", "r");
  log.layout.feed(encoder.encode(text), false, 1);
  log.live = true;
  log.version++;
  return new Sparse(log, none, () => undefined);
}

const cases: { name: string; text: string; query: Query; rows: number[]; hits: number }[] = [
  { name: "text", text: "a\nfoo\nb foo foo\n", query: q("foo"), rows: [1, 2], hits: 3 },
  { name: "in the last, unfinished line", text: "a\nfoo", query: q("foo"), rows: [1], hits: 1 },
  { name: "case", text: "Foo\nfoo\n", query: q("Foo", { matchCase: true }), rows: [0], hits: 1 },
  { name: "no expression", text: "a.c\nabc\n", query: q("a.c"), rows: [0], hits: 1 },
  { name: "an expression", text: "a.c\nabc\nac\n", query: q("a.c", { regexp: true }), rows: [0, 1], hits: 2 },
  { name: "anchors are of the line", text: "ab\nba\nab\n", query: q("^a.$", { regexp: true }), rows: [0, 2], hits: 2 },
  { name: "an expression that likes line feeds", text: "a \n b\nx y\n", query: q("\\s+", { regexp: true }), rows: [0, 1, 2], hits: 3 },
  { name: "over colours", text: "er\x1b[31mror\x1b[0m\nerror\n", query: q("error"), rows: [0, 1], hits: 2 },
  { name: "after a progress bar", text: "1%\r100%\nfoo\n", query: q("100%"), rows: [0], hits: 1 },
  { name: "what was drawn over is not there", text: "12%\r100%\nfoo\n", query: q("12%"), rows: [], hits: 0 },
  { name: "not ASCII", text: "ÄÖÜ\nstraße 日本\näöü\n", query: q("äöü"), rows: [0, 2], hits: 2 },
  { name: "nothing", text: "a\n", query: q(""), rows: [], hits: 0 },
];

test("search", async (t) => {
  for (const c of cases)
    await t.test(c.name, async () => {
      const found = await new Search(whole(c.text)).run(c.query, c.query.text === "" ? unused : seeker(c.query));
      assert.equal(found.error, undefined);
      assert.deepEqual(found.rows, c.rows);
      assert.equal(found.hits, c.hits);
    });
});

test("a bad expression is said to be one", async () => {
  const found = await new Search(whole("a\n")).run(q("(", { regexp: true }), unused);
  assert.ok(found.error);
});

test("what is not here is searched by the server", async () => {
  const s = whole("a\nb\n");
  s.total = 0;
  const log = new RunLog("c", "r");
  const sparse = new Sparse(log, none, () => undefined);
  sparse.total = 1000;
  const found = await new Search(sparse, async () => ({ lines: [10, 10, 500], hits: 3, more: false })).run(q("x"), unused);
  assert.deepEqual(found.rows, [10, 500]);
  assert.equal(found.hits, 3);
});

test("what takes too long is searched by the server, and is not tried again", async () => {
  const slow: Seeker = { take: () => Promise.reject(new Slow()) };
  const search = new Search(whole("a\nb\n"), async () => ({ lines: [1], hits: 1, more: false }));
  assert.deepEqual(await search.run(q("(a+)+$", { regexp: true }), slow), { rows: [1], hits: 1, more: false, slow: true });
  assert.deepEqual(await search.run(q("(a+)+$", { regexp: true }), unused), { rows: [1], hits: 1, more: false, slow: true });
  const alone = await new Search(whole("a\nb\n")).run(q("(a+)+$", { regexp: true }), slow);
  assert.equal(alone.error, "takes too long");
});

test("output that comes during a search is taken, and rows that get other numbers are searched anew", async () => {
  const log = new RunLog("c", "r");
  const line = "x".repeat(1000) + "\n";
  log.layout.feed(encoder.encode(line.repeat(3000)), false, 1);
  log.live = true;
  log.version++;
  const s = new Sparse(log, none, () => undefined);
  const query = q("x{3}", { regexp: true });
  const inner = seeker(query);
  let pieces = 0;
  let anew = 0;
  const found = await new Search(s).run(query, {
    take: (p) => {
      if (p.t === "again") anew++;
      if (p.t === "rows" && ++pieces === 2) {
        log.layout.feed(encoder.encode(line), false, 1);
        log.version++;
        s.epoch++;
      }
      return inner.take(p);
    },
  });
  assert.equal(anew, 1);
  assert.equal(found.rows.length, 3001);
  assert.deepEqual([found.rows[0], found.rows[3000]], [0, 3000]);
});

test("a later search ends an earlier one", async () => {
  const search = new Search(whole("a\n".repeat(10)));
  let go = () => {};
  const held = new Promise<void>((f) => (go = f));
  const first = search.run(q("a"), { take: async () => (await held, { rows: [1], hits: 1, more: false }) });
  const second = await search.run(q("a"), seeker(q("a")));
  go();
  assert.equal(second.hits, 10);
  assert.equal((await first).hits, 0);
});

test("a hundred megabytes are searched in one go", { timeout: 60_000 }, async () => {
  const l = new RunLog("c", "r");
  const block = encoder.encode(Array.from({ length: 10_000 }, (_, i) => `2024-01-01T00:00:00 INFO  worker-${i % 16} handled request ${i} in ${i % 97} ms, all is well, more text here`).join("\n") + "\n");
  let bytes = 0;
  while (bytes < 100e6) {
    l.layout.feed(block, false, 1);
    bytes += block.length;
  }
  l.live = true;
  l.version++;
  const s = new Sparse(l, none, () => undefined);
  const t = performance.now();
  const query = q("worker-7 .* 96 ms", { regexp: true });
  const found = await new Search(s).run(query, seeker(query));
  const took = performance.now() - t;
  assert.equal(found.rows.length, found.hits);
  assert.ok(found.hits > 600);
  console.log(`# ${(bytes / 1e6).toFixed(0)} MB, ${l.layout.lines} lines, ${found.hits} hits in ${took.toFixed(0)} ms`);
});

test("rows are the same whether they came at once or in windows", async () => {
  const text = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => `line ${from + i}\n`).join("");
  const asked: string[] = [];
  const log = new RunLog("c", "r");
  log.layout = new Layout();
  let changes = 0;
  const sparse = new Sparse(
    log,
    async (query) => {
      asked.push(query);
      const [, a, b] = /lines=(\d+)-(\d+)/.exec(query)!;
      const from = Number(a) - 1;
      const to = Math.min(Number(b), 10_000);
      return new Response(JSON.stringify({ seq: from + 2, at: 1, type: "STDOUT", offset: 0, line: from + 1, data: text(from, to) }) + "\n");
    },
    () => changes++,
  );
  sparse.total = 10_000;
  assert.equal(sparse.count, 10_000);
  const show = (i: number) => new TextDecoder().decode(sparse.get(i)!.bytes);
  assert.equal(show(9_990), "");
  sparse.want(9_990, 10_000);
  while (changes === 0) await new Promise((done) => setTimeout(done, 1));
  assert.equal(show(9_990), "line 9990");
  assert.equal(sparse.get(9_990)!.line, 9990);
  assert.equal(sparse.count, 10_000);
  assert.equal(sparse.complete, false);
  assert.equal(asked.length, 1);
  // What comes over the connection takes the windows' place, and nothing moves.
  log.take({ from: "c", run: "r", cursor: "x", line: 0, data: [{ seq: 2, at: 1, type: "STDOUT", data: text(0, 9_995) }] });
  assert.equal(sparse.count, 10_000);
  assert.equal(show(9_990), "line 9990");
  log.take({ from: "c", run: "r", cursor: "x", line: 9_995, data: [{ seq: 3, at: 1, type: "STDOUT", data: text(9_995, 10_000) }] });
  log.live = true;
  log.version++;
  assert.equal(sparse.complete, true);
  assert.equal(sparse.count, 10_000);
  assert.equal(show(9_999), "line 9999");
});

test("records are taken once, and what is missing is said", () => {
  const log = new RunLog("c", "r");
  const rec = (seq: number) => ({ seq, at: 1, type: "STDOUT", data: `${seq}\n` });
  const take = (...seqs: number[]) => log.take({ from: "c", run: "r", cursor: "", data: seqs.map(rec) });
  log.start({ from: "c", run: "r", cursor: "", task: { cmd: "x" }, startedAt: 5 });
  take(2, 3, 4);
  take(3, 4, 5);
  assert.equal(log.duplicates, 2);
  assert.equal(log.layout.lines, 4);
  take(9);
  assert.equal(log.missing, 3);
  assert.equal(log.layout.count, 6);
  log.gap({ from: "c", run: "r", fromSeq: 10, toSeq: 20, bytes: 5000, reason: "retention", cursor: "" });
  take(21);
  assert.equal(log.missing, 3);
  log.eof({ from: "c", run: "r", cursor: "", code: 999, message: "lost" });
  assert.equal(log.info.state, "lost");
  take(23);
  assert.equal(log.missing, 3, "the end has a number of its own");
});

test("merged by time, and each log in its own order, whatever its clock did", () => {
  const a = new RunLog("a", "1");
  const b = new RunLog("b", "2");
  const rec = (log: RunLog, at: number, type: string, data: string) => log.take({ from: log.info.from, run: log.info.run, cursor: "", data: [{ seq: log.seq + 1, at, type, data }] });
  const merged = new Merged(() => [a, b]);
  rec(a, 100, "STDOUT", "a1\n");
  rec(a, 98, "STDERR", "a2\n");
  rec(b, 99, "STDOUT", "b1\n");
  rec(b, 101, "STDOUT", "b2\n");
  const shown = () => {
    merged.update();
    return Array.from({ length: merged.count }, (_, i) => new TextDecoder().decode(merged.get(i)!.bytes));
  };
  assert.deepEqual(shown(), ["b1", "a1", "a2", "b2"]);
  // In a later batch, too.
  rec(a, 97, "STDOUT", "a3\n");
  rec(b, 102, "STDOUT", "b3\n");
  assert.deepEqual(shown(), ["b1", "a1", "a2", "a3", "b2", "b3"]);
});
