// Search over a log that is held here: all of it, whether or not it was ever on the screen.

import type { Source } from "../log/source.ts";
import { plainText } from "../screen/spans.ts";
import type { Found, Query } from "../worker/messages.ts";

/** Rows that are listed; hits beyond them are counted. */
export const foundRows = 200_000;
/** Rows between two pauses, in which new output can be taken. */
const slice = 20_000;

/** The expression for a query. It throws what RegExp throws. */
export function expression(q: Query): RegExp {
  const source = q.regexp ? q.text : q.text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
  return new RegExp(source, q.matchCase ? "gu" : "giu");
}

export class Search {
  private current = 0;

  constructor(private readonly source: Source) {}

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
    const decoder = new TextDecoder();
    for (let i = s.first; i < s.count; ) {
      const stop = Math.min(s.count, i + slice);
      for (; i < stop; i++) {
        const r = s.get(i);
        if (!r || r.bytes.length === 0) continue;
        const n = count(re, plainText(r.bytes, decoder));
        if (n === 0) continue;
        found.hits += n;
        if (found.rows.length < foundRows) found.rows.push(i);
        else found.more = true;
      }
      found.upto = i;
      await new Promise((done) => setTimeout(done, 0));
      if (me !== this.current) return found;
    }
    return found;
  }
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
