// The worker in which expressions run. It holds nothing that is not a copy: when an expression takes too long it is ended.

import type { FromSeeker, Piece, Query, Sought, ToSeeker } from "../worker/messages.ts";
import { expression, Hits, ranges } from "./hits.ts";

/** Marks in one row. */
const mostMarks = 500;

self.onmessage = (e: MessageEvent<ToSeeker>) => {
  const m = e.data;
  if (m.t === "find") return find(m.query, m.port);
  const re = expression(m.query);
  self.postMessage({ ask: m.ask, ranges: m.texts.map((t) => ranges(re, t, mostMarks)) } satisfies FromSeeker);
};

/** Takes pieces from the log's worker until one is the last. */
function find(query: Query, port: MessagePort): void {
  // Made with the first piece: what is no expression never gets that far.
  let hits: Hits | undefined;
  port.onmessage = (e: MessageEvent<Piece>) => {
    const p = e.data;
    if (p.t === "again") hits = undefined;
    hits ??= new Hits(query);
    if (p.t === "rows") hits.take(p.bytes, p.first);
    const end = p.t === "end";
    port.postMessage({ rows: end ? hits.rows : [], hits: hits.hits, more: hits.more } satisfies Sought);
    if (end) port.close();
  };
}
