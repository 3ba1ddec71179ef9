// Lines of a run that are fetched because somebody looks at them: ahead of what has come live, or let go to save memory.

import type { WireRecord } from "../wire.ts";
import { Layout } from "./layout.ts";
import { addRecord } from "./run.ts";

/** Lines fetched at once, lines before them that are read for their colours, and the most bytes a window may take. */
export const windowLines = 2000;
const context = 100;
const windowBytes = 4 << 20;

/** Lines [from, to) of a run, counted from 0, laid out. */
export interface Window {
  from: number;
  to: number;
  layout: Layout;
  /** The first row that shows line `from`. */
  row: number;
  used: number;
}

/** Says that lines cannot be had any more. */
export class Gone extends Error {}

interface LogRecord extends WireRecord {
  line?: number;
  raw?: unknown;
  note?: { text?: string; lostFrom?: number; lostTo?: number; lostBytes?: number };
  fromSeq?: number;
  toSeq?: number;
  bytes?: number | null;
}

/**
 * Fetches lines from the read API, from `from` on. It may read fewer than asked for, where lines are very long, and throws
 * Gone where there are none.
 */
export async function fetchWindow(get: (query: string) => Promise<Response>, from: number, lines = windowLines): Promise<Window> {
  const start = Math.max(0, from - context);
  const r = await get(`format=ndjson&lines=${start + 1}-${from + lines}`);
  if (r.status === 410) throw new Gone();
  if (!r.ok) throw new Error(`the log could not be read: ${r.status}`);
  const layout = new Layout(start);
  let size = 0;
  let first = true;
  let cut = false;
  await eachLine(r, (text) => {
    const m = JSON.parse(text) as LogRecord;
    if (first && typeof m.line === "number" && m.line - 1 > start) layout.lines = m.line - 1;
    if (typeof m.line === "number") first = false;
    if (m.type === "START" || m.type === "EXIT" || m.type === "LOST") return true;
    if (m.type === "RAW") m.data = m.raw;
    if (m.note) m.data = m.note.text ?? "";
    addRecord(layout, m);
    size += text.length;
    if (size <= windowBytes) return true;
    cut = true;
    return false;
  });
  const to = cut ? Math.max(layout.lines, start + 1) : Math.max(layout.lines, from + lines);
  const begin = Math.max(from, layout.count > 0 ? layout.get(layout.first)!.line : from);
  return { from: begin, to, layout, row: layout.rowOfLine(begin), used: 0 };
}

/** Calls f for each line of a streamed answer until it returns false. */
export async function eachLine(r: Response, f: (line: string) => boolean): Promise<void> {
  const reader = r.body!.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    rest += done ? decoder.decode() : decoder.decode(value, { stream: true });
    let from = 0;
    for (let lf = rest.indexOf("\n"); lf >= 0; lf = rest.indexOf("\n", from)) {
      const line = rest.slice(from, lf);
      from = lf + 1;
      if (line !== "" && !f(line)) {
        await reader.cancel();
        return;
      }
    }
    rest = rest.slice(from);
    if (done) {
      if (rest !== "") f(rest);
      return;
    }
  }
}
