// What an expression finds in text. Nothing here waits or pauses: an expression can take for ever, so it runs where it can be
// ended (seeker.ts), and nowhere else.

import { control, stored } from "../screen/spans.ts";
import type { Query } from "../worker/messages.ts";

/** Rows that are listed; hits beyond them are counted. */
export const foundRows = 200_000;

/** The expression for a query. It throws what RegExp throws. */
export function expression(q: Query): RegExp {
  if (q.regexp) return new RegExp(q.text, q.matchCase ? "gmu" : "gimu");
  const source = q.text.replace(/[.*+?^${}()|[\]\\/]/g, "\\$&");
  // Without the u flag V8 is a good deal faster, and for ASCII it is the same.
  const ascii = /^[\x20-\x7e]*$/.test(q.text);
  return new RegExp(source, (q.matchCase ? "g" : "gi") + (ascii ? "" : "u"));
}

/** What was found, block by block. */
export class Hits {
  readonly rows: number[] = [];
  hits = 0;
  /** There were more rows than are listed. */
  more = false;
  private readonly re: RegExp;
  private readonly decoder = new TextDecoder();

  constructor(q: Query) {
    this.re = expression(q);
  }

  /** Takes rows, each followed by a line feed. */
  take(bytes: Uint8Array, first: number): void {
    searchBlock(this.re, this.decoder.decode(bytes), first, (row, n) => {
      this.hits += n;
      if (this.rows.length < foundRows) this.rows.push(row);
      else this.more = true;
    });
  }
}

/** Finds the rows that match in text of many rows, each followed by a line feed. */
function searchBlock(re: RegExp, raw: string, first: number, add: (row: number, hits: number) => void): void {
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
        const n = ranges(re, rows[i]!).length;
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

/** Where the expression matches, up to `most` times. Empty matches do not count. */
export function ranges(re: RegExp, s: string, most = Infinity): [number, number][] {
  re.lastIndex = 0;
  const out: [number, number][] = [];
  for (let m = re.exec(s); m && out.length < most; m = re.exec(s)) {
    if (m[0] === "") re.lastIndex++;
    else out.push([m.index, m.index + m[0].length]);
  }
  return out;
}
