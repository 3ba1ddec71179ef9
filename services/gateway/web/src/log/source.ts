// What can be shown as rows: a run's log, or the part of it that was written to stderr.

import { spans, plainText } from "../screen/spans.ts";
import type { Row, RowSpan } from "../worker/messages.ts";
import type { StoredRow } from "./layout.ts";
import { BROKEN, GAP, HOLE, NOTE, STDERR } from "./table.ts";

/** Bytes of a row that are shown at first, and at most. */
export const clipAt = 4000;
export const wholeAt = 1 << 20;

/** Rows as bytes, a line feed behind each: from `first` up to `next`. */
export interface Bytes {
  bytes: Uint8Array;
  first: number;
  next: number;
}

export interface Source {
  readonly first: number;
  readonly count: number;
  readonly stable: number;
  readonly epoch: number;
  /** A row, or its first `most` bytes. */
  get(row: number, most?: number): StoredRow | undefined;
  /** Whose row it is, in a log of several clients. */
  from?(row: number): string;
  /** The row of a line (line feeds before it), or the nearest. */
  rowOfLine(line: number): number;
  rowOfTime(at: number): number;
  /** Fetches rows that are not here. */
  want?(from: number, to: number): void;
  /** The first row from this one on that is here. */
  next?(row: number): number;
  /** Whether every row is here; true where it is not said. */
  readonly complete?: boolean;
  /** A copy of the rows from this one on, about a megabyte, a line feed behind each; undefined where there are no final rows. */
  piece?(row: number): Bytes | undefined;
}

/** The rows of another source that hold stderr, notes included. */
export class StderrSource implements Source {
  readonly first = 0;
  private rows: number[] = [];
  private seen = 0;
  private version = -1;

  constructor(private readonly of: Source) {}

  private update(): void {
    if (this.version !== this.of.epoch) {
      this.version = this.of.epoch;
      this.rows = [];
      this.seen = this.of.first;
    }
    while (this.rows.length > 0 && this.rows[this.rows.length - 1]! >= this.of.stable) this.rows.pop();
    let i = Math.min(this.seen, Math.max(this.of.first, this.of.stable));
    for (; i < this.of.count; i++) {
      if (this.of.next) {
        i = this.of.next(i);
        if (i >= this.of.count) break;
      }
      const r = this.of.get(i, 0);
      if (r && r.flags & (STDERR | NOTE | GAP)) {
        const last = this.rows[this.rows.length - 1];
        if (last === undefined || last < i) this.rows.push(i);
      }
    }
    this.seen = this.of.stable;
  }

  get count() {
    this.update();
    return this.rows.length;
  }
  get stable() {
    this.update();
    return Math.max(0, this.rows.length - 64);
  }
  get epoch() {
    return this.of.epoch;
  }
  get(row: number, most?: number) {
    const r = this.rows[row];
    return r === undefined ? undefined : this.of.get(r, most);
  }
  from(row: number): string {
    return this.of.from?.(this.rows[row] ?? -1) ?? "";
  }
  rowOfLine(line: number) {
    return this.near(this.of.rowOfLine(line));
  }
  rowOfTime(at: number) {
    return this.near(this.of.rowOfTime(at));
  }
  private near(row: number): number {
    this.update();
    let lo = 0;
    let hi = this.rows.length;
    while (lo < hi) {
      const mid = (lo + hi) >> 1;
      if (this.rows[mid]! < row) lo = mid + 1;
      else hi = mid;
    }
    return Math.min(lo, Math.max(0, this.rows.length - 1));
  }
}

/** The rows from `from` up to `to`, ready to be shown. */
export function show(source: Source, from: number, to: number, whole = false): Row[] {
  const out: Row[] = [];
  for (let i = Math.max(from, source.first); i < Math.min(to, source.count); i++) {
    const limit = whole ? wholeAt : clipAt;
    const r = source.get(i, limit + 1);
    if (!r) continue;
    const { spans: list, clipped } = spans(r.bytes, r.style, limit);
    const row: Row = {
      row: i,
      line: r.flags & (NOTE | GAP) ? 0 : r.line + 1,
      at: r.at,
      flags: r.flags & ~BROKEN,
      spans: list.map((s): RowSpan => (s.href === undefined ? [s.text, s.style.fg, s.style.bg, s.style.flags] : [s.text, s.style.fg, s.style.bg, s.style.flags, s.href])),
      clipped: clipped ? r.size : 0,
    };
    if (source.from) row.from = source.from(i);
    out.push(row);
  }
  return out;
}

/** Lines [from, to), from 0 on, as clean text; undefined where some are not here. What we say of a log is not part of it. */
export function textOfLines(source: Source, from: number, to: number): string | undefined {
  const decoder = new TextDecoder();
  const parts: string[] = [];
  for (let i = source.rowOfLine(from); i < source.count; i++) {
    const r = source.get(i);
    if (!r || r.line < from) continue;
    if (r.line >= to) break;
    if (r.flags & HOLE) return undefined;
    if (r.flags & (NOTE | GAP)) continue;
    parts.push(plainText(r.bytes, decoder), r.flags & BROKEN ? "" : "\n");
  }
  return parts.join("");
}
