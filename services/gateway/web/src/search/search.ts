// Search over a whole log. What is here is searched here, a megabyte of text at a time; what is not, by the server.

import type { Source } from "../log/source.ts";
import { control, plainText, stored } from "../screen/spans.ts";
import type { Found, Query } from "../worker/messages.ts";

/** Rows that are listed; hits beyond them are counted. */
export const foundRows = 200_000;
/** Time between two pauses in which new output can be taken, in ms. */
const slice = 40;

/** The expression for a query. It throws what RegExp throws. */
export function expression(q: Query): RegExp {
  if (q.regexp) return new RegExp(q.text, q.matchCase ? "gmu" : "gimu");
  const source = q.text.replace(/[.*+?^${}()|[\]\\/]/g, "\\$&");
  // Without the u flag V8 is a good deal faster, and for ASCII it is the same.
  const ascii = /^[\x20-\x7e]*$/.test(q.text);
  return new RegExp(source, (q.matchCase ? "g" : "gi") + (ascii ? "" : "u"));
}

export class Search {
  private current = 0;

  /** `remote` asks the server, which knows all lines; it answers lines, from 0 on. */
  constructor(
    private readonly source: Source,
    private readonly remote?: (q: Query) => Promise<{ lines: number[]; hits: number; more: boolean }>,
  ) {}

  /** Finds all rows that match. A later call ends an earlier one, which then answers with what it has. */
  async run(q: Query): Promise<Found> {
    const me = ++this.current;
    const found: Found = { rows: [], hits: 0, more: false, upto: 0 };
    if (q.text === "") return found;
    let re: RegExp;
    try {
      re = expression(q);
    } catch (e) {
      return { ...found, error: e instanceof Error ? e.message : String(e) };
    }
    const s = this.source;
    if (this.remote && s.complete === false) {
      const { lines, hits, more } = await this.remote(q);
      return { rows: [...new Set(lines.map((l) => s.rowOfLine(l)))], hits, more, upto: s.count };
    }
    const add = (row: number, n: number) => {
      found.hits += n;
      if (found.rows.length < foundRows) found.rows.push(row);
      else found.more = true;
    };
    let row = s.first;
    if (s.scan) {
      // In one go: 100 MB take about a third of a second, and rows that come or go meanwhile would have to be told apart.
      row = s.scan((text, first) => {
        searchBlock(re, text, first, add);
        return true;
      });
    }
    const decoder = new TextDecoder();
    let until = performance.now() + slice;
    for (; row < s.count; row++) {
      const r = s.get(row);
      if (r && r.bytes.length > 0) {
        const n = count(re, plainText(r.bytes, decoder));
        if (n > 0) add(row, n);
      }
      if ((row & 255) === 0 && performance.now() > until) {
        await new Promise((done) => setTimeout(done, 0));
        if (me !== this.current) return found;
        until = performance.now() + slice;
      }
    }
    found.upto = s.count;
    return found;
  }
}

/** Finds the rows that match in text of many rows, each followed by a line feed. */
export function searchBlock(re: RegExp, raw: string, first: number, add: (row: number, hits: number) => void): void {
  let text = raw;
  if (text.includes("\x1b")) text = text.replace(stored, "");
  if (control.test(text)) text = text.replace(control, "");
  control.lastIndex = 0;
  re.lastIndex = 0;
  const hits: [number, number][] = [];
  let row = first;
  let end = text.indexOf("\n");
  for (let m = re.exec(text); m; m = re.exec(text)) {
    if (m[0] === "") {
      re.lastIndex++;
      continue;
    }
    if (m[0].includes("\n")) {
      // An expression that matches line feeds is tried on each row alone.
      const rows = text.split("\n");
      for (let i = 0; i < rows.length - 1; i++) {
        const n = count(re, rows[i]!);
        if (n > 0) add(first + i, n);
      }
      return;
    }
    while (end >= 0 && end < m.index) {
      row++;
      end = text.indexOf("\n", end + 1);
    }
    const last = hits[hits.length - 1];
    if (last && last[0] === row) last[1]++;
    else hits.push([row, 1]);
  }
  for (const [r, n] of hits) add(r, n);
}

/** How often the expression matches. Empty matches do not count. */
function count(re: RegExp, s: string): number {
  re.lastIndex = 0;
  let n = 0;
  for (let m = re.exec(s); m; m = re.exec(s)) {
    if (m[0] === "") re.lastIndex++;
    else n++;
  }
  return n;
}
