// Search over a whole log. What is here is handed to the seeker, a megabyte at a time; what is not is searched by the server,
// and so is what the seeker takes too long for: the server's expressions take time in proportion to the text, whatever they are.

import type { Source } from "../log/source.ts";
import { plainText } from "../screen/spans.ts";
import type { Found, Piece, Query, Sought } from "../worker/messages.ts";
import { expression } from "./hits.ts";

/** A piece of about a megabyte is searched in a few ms. One that takes longer than this, in ms, may take for ever. */
export const patience = 2000;
/** Rows of logs that have no megabytes to hand out are put together up to so many, and so many characters. */
const gatherRows = 5000;
const gatherText = 256 << 10;
/** Times that a search begins anew because rows got other numbers meanwhile. */
const restarts = 3;
/** Expressions that are remembered to be slow. */
const keptSlow = 20;

/** What looks for hits: takes rows, each followed by a line feed, and has counted them when the promise is kept. */
export interface Seeker {
  take(p: Piece): Promise<Sought>;
}

/** Says that an expression took too long. */
export class Slow extends Error {}

export interface RemoteFound {
  /** From 0 on. */
  lines: number[];
  hits: number;
  more: boolean;
}

export class Search {
  private current = 0;
  private readonly slow = new Set<string>();

  /** `remote` asks the server, which knows all lines. */
  constructor(
    private readonly source: Source,
    private readonly remote?: (q: Query) => Promise<RemoteFound>,
  ) {}

  /** Finds all rows that match. A later call ends an earlier one, which then answers with nothing. */
  async run(q: Query, seeker: Seeker): Promise<Found> {
    const me = ++this.current;
    const nothing: Found = { rows: [], hits: 0, more: false, slow: false };
    if (q.text === "") return nothing;
    const s = this.source;
    const key = JSON.stringify(q);
    try {
      expression(q);
    } catch {
      // The server's expressions know words that the browser's do not, such as [[:space:]] and (?i).
      return this.remote ? this.ask(q, true) : { ...nothing, error: "not a regular expression" };
    }
    if (s.complete === false && this.remote) return this.ask(q, false);
    if (this.slow.has(key)) return this.tooSlow(q);
    try {
      for (let k = 0; ; k++) {
        const { epoch } = s;
        const end = s.count;
        let again = false;
        for (let row = s.first; row < end && !again; ) {
          const piece = s.piece?.(row) ?? this.gather(row, end);
          row = piece.next;
          await seeker.take({ t: "rows", bytes: piece.bytes, first: piece.first });
          if (me !== this.current) return nothing;
          again = s.epoch !== epoch && k < restarts;
        }
        const found = await seeker.take({ t: again ? "again" : "end" });
        if (!again) return { ...found, slow: false };
      }
    } catch (e) {
      if (me !== this.current) return nothing;
      if (!(e instanceof Slow)) throw e;
      if (this.slow.size >= keptSlow) this.slow.clear();
      this.slow.add(key);
      return this.tooSlow(q);
    }
  }

  private tooSlow(q: Query): Promise<Found> {
    if (this.remote) return this.ask(q, true);
    return Promise.resolve({ rows: [], hits: 0, more: false, slow: true, error: "takes too long" });
  }

  private async ask(q: Query, slow: boolean): Promise<Found> {
    const { lines, hits, more } = await this.remote!(q);
    return { rows: [...new Set(lines.map((l) => this.source.rowOfLine(l)))], hits, more, slow };
  }

  /** Rows from this one on, as text. */
  private gather(row: number, end: number): { bytes: Uint8Array; first: number; next: number } {
    const decoder = new TextDecoder();
    const parts: string[] = [];
    let size = 0;
    let next = row;
    for (; next < end && next - row < gatherRows && size < gatherText; next++) {
      const r = this.source.get(next);
      const text = r ? plainText(r.bytes, decoder) : "";
      parts.push(text, "\n");
      size += text.length;
    }
    return { bytes: new TextEncoder().encode(parts.join("")), first: row, next };
  }
}
