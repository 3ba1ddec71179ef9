// The worker: holds the connection and the logs, and answers the page's questions about rows.

import { Connection } from "../connection/connection.ts";
import { Merged } from "../log/merged.ts";
import { RunLog } from "../log/run.ts";
import { show, StderrSource, textOfLines, type Source } from "../log/source.ts";
import { Sparse } from "../log/sparse.ts";
import { HOLE, STDERR } from "../log/table.ts";
import { eachLine } from "../log/window.ts";
import { SeekerLine } from "../search/line.ts";
import { Search, type RemoteFound } from "../search/search.ts";
import type { Found, FromWorker, Query, Row, Spec, ToWorker } from "./messages.ts";
import { plainText } from "../screen/spans.ts";

/** Memory for all logs together, in bytes; then the oldest output of the largest log nobody looks at is let go first. */
const budget = 192 << 20;
/** Time between two looks at what changed, in ms: what came in between is shown together. */
const tick = 50;

/** Rows that go with the first status, so that nobody has to ask for them. */
const firstRows = 100;

interface View {
  id: number;
  spec: Spec;
  sparse: Sparse | undefined;
  source: Source;
  log: RunLog | undefined;
  follow: number;
  /** Rows of the log have been shown. */
  begun: boolean;
  shown: string;
  search: Search;
}

const logs = new Map<string, RunLog>();
const views = new Map<number, View>();
const changed = new Set<RunLog>();
const merged = new Merged(() => [...logs.values()].filter((l) => connection?.has(l.info.from)));
const totals = new Map<string, number>();
let connection: Connection | undefined;
/** The search under way: there is one seeker. */
let seeking: SeekerLine | undefined;
let access = { url: "", token: "", task: "" };
let scheduled = 0;
let flushed = 0;

const post = (m: FromWorker) => self.postMessage(m);

function log(from: string, run: string): RunLog {
  let l = logs.get(run);
  if (!l) logs.set(run, (l = new RunLog(from, run)));
  return l;
}

function touched(l: RunLog): void {
  changed.add(l);
  // What somebody waits for is shown at once; the rest of a flood would come before any timer.
  for (const v of views.values()) if (v.log === l && !v.begun && l.layout.count > 0) return flush();
  schedule();
}

function schedule(): void {
  if (scheduled) return;
  // After a quiet time at once: one line is shown as it comes, a flood twenty times a second.
  scheduled = self.setTimeout(flush, Math.max(0, flushed + tick - performance.now()));
}

function flush(): void {
  clearTimeout(scheduled);
  scheduled = 0;
  flushed = performance.now();
  trim();
  if (changed.size > 0) {
    const last: { [run: string]: string } = Object.create(null);
    for (const l of changed) last[l.info.run] = lastLine(l);
    post({ t: "runs", runs: [...changed].map((l) => ({ ...l.info })), last });
    changed.clear();
  }
  for (const id of views.keys()) status(id);
}

/** The last line that shows anything. */
function lastLine(l: RunLog): string {
  const { layout } = l;
  for (let i = layout.count - 1; i >= Math.max(layout.first, layout.count - 5); i--) {
    const r = layout.get(i, 300);
    if (!r) continue;
    const s = plainText(r.bytes).trim();
    if (s !== "") return s;
  }
  return "";
}

function status(id: number): void {
  const v = views.get(id);
  if (!v) return;
  if (v.spec.kind === "merged") merged.update();
  const { source, log: l } = v;
  const version = l ? l.version : 0;
  const count = source.count;
  if (v.follow > 0) source.want?.(count - v.follow, count);
  const key = `${source.first} ${count} ${source.epoch} ${version} ${l?.live} ${v.follow}`;
  if (key === v.shown && l) return;
  v.shown = key;
  let tail: Row[] = [];
  if (v.follow > 0) tail = show(source, count - v.follow, count);
  else if (!v.begun && l && l.layout.count > 0) tail = show(source, source.first, source.first + firstRows).filter((r) => !(r.flags & HOLE));
  if (l && l.layout.count > 0) v.begun = true;
  post({
    t: "status",
    status: {
      view: id,
      first: source.first,
      count,
      stable: source.stable,
      epoch: source.epoch,
      bytes: l?.bytes ?? 0,
      lines: Math.max(l?.layout.lines ?? 0, l?.live ? 0 : (v.sparse?.total ?? 0)),
      held: (l?.layout.held ?? 0) + (v.sparse?.held ?? 0),
      loaded: l?.layout.lines ?? 0,
      live: l?.live ?? true,
      startedAt: l?.info.startedAt ?? 0,
      tail,
    },
  });
}

function trim(): void {
  let held = 0;
  for (const l of logs.values()) held += l.layout.held;
  if (held <= budget) return;
  const watched = new Set([...views.values()].map((v) => v.log));
  const order = [...logs.values()].sort((a, b) => Number(watched.has(a)) - Number(watched.has(b)) || b.layout.held - a.layout.held);
  for (const l of order) {
    if (held <= budget) return;
    const before = l.layout.held;
    const share = Math.max(before - (held - budget), watched.has(l) ? 4 << 20 : 1 << 20);
    if (share >= before) continue;
    if (l.layout.trim(share) > 0) touched(l);
    held -= before - l.layout.held;
  }
}

function connect(url: string, token: string, task: string): void {
  connection?.close();
  access = { url, token, task };
  connection = new Connection(url, token, task, {
    online: () => post({ t: "online" }),
    offline: (why) => post({ t: "offline", why }),
    refused: (code, message) => post({ t: "refused", code, message }),
    workerIn: (from) => post({ t: "in", from }),
    workerOut: (from) => post({ t: "out", from }),
    problem: (problem) => post({ t: "problem", problem }),
    start: (e) => on(e, (l) => l.start(e)),
    data: (e) => on(e, (l) => l.take(e)),
    gap: (e) => on(e, (l) => l.gap(e)),
    eof: (e) => on(e, (l) => l.eof(e)),
    state: (e) => {
      const { state } = e;
      if (state === "deleted") forget(e.from, e.run);
      else on(e, (l) => l.state(state, e.code, e.signal));
    },
    live: (e) =>
      on(e, (l) => {
        l.live = true;
        l.version++;
      }),
  });
}

function forget(from: string, run: string): void {
  const l = logs.get(run);
  if (l) changed.delete(l);
  logs.delete(run);
  connection?.forget(from, run);
  post({ t: "deleted", from, run });
  schedule();
}

function on(e: { from: string; run: string }, f: (l: RunLog) => void): void {
  const l = log(e.from, e.run);
  f(l);
  touched(l);
}

function open(id: number, spec: Spec): void {
  const l = spec.kind === "run" ? log(spec.from, spec.run) : undefined;
  const sparse = l && new Sparse(l, (query) => readLog(l, query), schedule);
  if (sparse) sparse.total = totals.get(l.info.run) ?? 0;
  let source: Source = sparse ?? merged;
  if (spec.stderr) source = new StderrSource(source);
  const search = new Search(source, l && !spec.stderr ? (q) => searchRemotely(l, q) : undefined);
  views.set(id, { id, spec, sparse, source, log: l, follow: 0, begun: false, shown: "", search });
  status(id);
}

function readLog(l: RunLog, query: string, what = "log"): Promise<Response> {
  const q = new URLSearchParams({ task: access.task, client: l.info.from });
  return fetch(`${access.url}/api/v1/runs/${encodeURIComponent(l.info.run)}/${what}?${q}&${query}`, { headers: { Authorization: `Bearer ${access.token}` }, cache: "no-store" });
}

async function searchRemotely(l: RunLog, q: Query): Promise<RemoteFound> {
  const p = new URLSearchParams({ q: q.text, limit: "10000" });
  if (q.regexp) p.set("regex", "1");
  if (q.matchCase) p.set("case", "1");
  const r = await readLog(l, p.toString(), "search");
  const out: RemoteFound = { lines: [], hits: 0, more: false };
  if (!r.ok) throw new Error(r.status === 400 ? "not a regular expression" : r.status === 503 || r.status === 429 ? "the server is busy, try again" : `the search failed (${r.status})`);
  await eachLine(r, (line) => {
    const m = JSON.parse(line) as { line?: number; matches?: unknown[]; done?: boolean; more?: boolean };
    if (m.done) out.more = m.more === true;
    else if (typeof m.line === "number") {
      out.lines.push(m.line - 1);
      out.hits += m.matches?.length ?? 1;
    }
    return true;
  });
  return out;
}

async function answer(m: Extract<ToWorker, { ask: number }>): Promise<unknown> {
  const v = views.get(m.view);
  if (!v) return undefined;
  switch (m.t) {
    case "rows":
      v.source.want?.(m.from, m.to);
      return show(v.source, m.from, m.to, m.whole);
    case "lines":
      return lines(v, m.from, m.to);
    case "line":
      return v.source.rowOfLine(m.line);
    case "time":
      return v.source.rowOfTime(m.at);
    case "stderr":
      return firstStderr(v.source, m.after);
    case "find": {
      seeking?.close();
      const line = new SeekerLine(m.port, () => post({ t: "slow" }));
      seeking = line;
      try {
        return await v.search.run(m.query, line);
      } catch (e) {
        return { rows: [], hits: 0, more: false, slow: false, error: e instanceof Error ? e.message : String(e) } satisfies Found;
      } finally {
        line.close();
      }
    }
  }
}

/** Lines as clean text: from here, or from the server where some are not here. */
async function lines(v: View, from: number, to: number): Promise<string> {
  const here = textOfLines(v.source, from - 1, to);
  if (here !== undefined || !v.log) return here ?? "";
  const r = await readLog(v.log, `lines=${from}-${to}&ansi=strip`);
  if (!r.ok) throw new Error(`The lines could not be read: ${r.status}.`);
  return r.text();
}

function firstStderr(s: Source, after: number): number {
  for (let i = Math.max(s.first, after); i < s.count; i++) if ((s.get(i, 0)?.flags ?? 0) & STDERR) return i;
  return -1;
}

self.onmessage = (e: MessageEvent<ToWorker>) => {
  const m = e.data;
  switch (m.t) {
    case "connect":
      return connect(m.url, m.token, m.task);
    case "attach":
      return connection?.attach(m.ids, m.history);
    case "detach":
      connection?.detach(m.ids);
      return schedule();
    case "open":
      return open(m.view, m.spec);
    case "close":
      views.delete(m.view);
      return;
    case "total":
      totals.set(m.run, m.lines);
      for (const v of views.values()) {
        if (v.log?.info.run !== m.run || !v.sparse) continue;
        v.sparse.total = m.lines;
        schedule();
      }
      return;
    case "follow": {
      const v = views.get(m.view);
      if (v) v.follow = Math.min(m.rows, 400);
      return status(m.view);
    }
    default:
      void answer(m).then(
        (value) => post({ t: "answer", ask: m.ask, value }),
        (e: unknown) => post({ t: "answer", ask: m.ask, value: undefined, error: e instanceof Error ? e.message : String(e) }),
      );
  }
};
