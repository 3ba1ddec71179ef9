// A whole run as rows, loaded or not: what came over the connection, windows that were fetched, and between them holes, a
// row for each line that is not here. Rows keep their numbers while holes are filled, but where a screen was drawn over.

import type { Layout, StoredRow } from "./layout.ts";
import type { RunLog } from "./run.ts";
import type { Bytes, Source } from "./source.ts";
import { PLAIN } from "../screen/style.ts";
import { GAP, HOLE } from "./table.ts";
import { fetchWindow, Gone, windowLines, type Window } from "./window.ts";

/** Windows that are kept. */
const keptWindows = 24;
/** Windows that are fetched at the same time. */
const atOnce = 2;
/** A window that could not be fetched is asked for again no sooner than this, in ms. */
const retry = 1500;
/** Lines this near to what has come, while the history comes, are fetched only if they are not here after so many ms. */
const soonLines = 20_000;
const soon = 250;

interface Part {
  /** The part's first row, and how many it has. */
  row: number;
  rows: number;
  /** Line of its first row, for holes; for others the rows of `layout` from `offset` on. */
  line: number;
  layout: Layout | undefined;
  offset: number;
}

const encoder = new TextEncoder();
const goneText = encoder.encode("This line is past the retention limit and was deleted.");

export class Sparse implements Source {
  readonly first = 0;
  epoch = 0;
  private windows: Window[] = [];
  private parts: Part[] = [];
  private key = "";
  private shape = "";
  private readonly fetching = new Map<number, number>();
  private goneBefore = 0;
  private clock = 0;
  private uses = 0;
  /** Lines that the run has, as far as the server said. */
  total = 0;

  /** `get` asks the read API for the run's log; `changed` hears when rows have come. */
  constructor(
    private readonly log: RunLog,
    private readonly get_: (query: string) => Promise<Response>,
    private readonly changed: () => void,
  ) {}

  /** Tells whether every line is here. */
  get complete(): boolean {
    this.update();
    return this.parts.every((p) => p.layout === this.log.layout);
  }

  private update(): void {
    const { layout, version } = this.log;
    const key = `${version} ${layout.count} ${layout.first} ${this.windows.length} ${this.clock} ${this.total} ${this.log.live}`;
    if (key === this.key) return;
    this.key = key;
    const main = layout.count > layout.first ? { from: layout.get(layout.first, 0)!.line, to: layout.lines } : undefined;
    // What has come in full makes a window there needless.
    if (main) this.windows = this.windows.filter((w) => w.to <= main.from || w.from >= main.to);
    const list: { from: number; to: number; layout: Layout; offset: number; rows: number }[] = this.windows.map((w) => ({
      from: w.from,
      to: w.to,
      layout: w.layout,
      offset: w.row,
      rows: w.layout.rowOfLine(w.to) + (w.layout.lines > w.to ? 0 : w.layout.count - w.layout.rowOfLine(w.to)) - w.row,
    }));
    if (main) list.push({ ...main, layout, offset: layout.first, rows: layout.count - layout.first });
    list.sort((a, b) => a.from - b.from);
    const end = this.log.live ? layout.lines : Math.max(this.total, layout.lines);
    const parts: Part[] = [];
    let line = 0;
    let row = 0;
    const hole = (to: number) => {
      if (to <= line) return;
      parts.push({ row, rows: to - line, line, layout: undefined, offset: 0 });
      row += to - line;
      line = to;
    };
    for (const l of list) {
      if (l.from < line) continue;
      hole(l.from);
      parts.push({ row, rows: l.rows, line: l.from, layout: l.layout, offset: l.offset });
      row += l.rows;
      line = l.to;
    }
    hole(end);
    this.parts = parts;
    // Rows have other numbers now where a part begins elsewhere than its first row would have it.
    const shape = parts.map((p) => (p.layout ? `${p.row - p.offset}` : "h")).join(" ") + ` ${this.clock}`;
    if (shape !== this.shape) {
      this.shape = shape;
      this.epoch++;
    }
  }

  get count(): number {
    this.update();
    const last = this.parts[this.parts.length - 1];
    return last ? last.row + last.rows : 0;
  }

  get stable(): number {
    this.update();
    for (const p of this.parts) if (p.layout === this.log.layout) return Math.max(0, p.row + p.layout.stable - p.offset);
    return this.count;
  }

  private part(row: number): Part | undefined {
    let lo = 0;
    let hi = this.parts.length;
    while (lo < hi) {
      const mid = (lo + hi) >> 1;
      if (this.parts[mid]!.row <= row) lo = mid + 1;
      else hi = mid;
    }
    const p = this.parts[lo - 1];
    return p && row < p.row + p.rows ? p : undefined;
  }

  get(row: number, most?: number): StoredRow | undefined {
    this.update();
    const p = this.part(row);
    if (!p) return undefined;
    if (p.layout) return p.layout.get(row - p.row + p.offset, most);
    const line = p.line + row - p.row;
    if (line < this.goneBefore) return { bytes: goneText, size: goneText.length, style: PLAIN, line, at: 0, flags: GAP };
    return { bytes: new Uint8Array(0), size: 0, style: PLAIN, line, at: 0, flags: HOLE };
  }

  /** The next row from this one on that is here. */
  next(row: number): number {
    this.update();
    const p = this.part(row);
    return p && !p.layout ? p.row + p.rows : row;
  }

  /** Fetches what is missing of these rows. */
  want(from: number, to: number): void {
    this.update();
    for (const p of this.parts) {
      if (p.layout || p.row >= to || p.row + p.rows <= from) {
        for (const w of this.windows) if (w.layout === p.layout && p.row < to && p.row + p.rows > from) w.used = ++this.uses;
        continue;
      }
      const a = p.line + Math.max(0, from - p.row);
      const b = p.line + Math.min(p.rows, to - p.row);
      for (let w = Math.floor(a / windowLines); w * windowLines < b; w++) this.fetch(w, p.line, p.line + p.rows);
    }
  }

  /** Fetches window n, or what of it a hole leaves open: from `line` up to `end`. */
  private fetch(n: number, line: number, end: number): void {
    if (end <= this.goneBefore) return;
    const after = this.fetching.get(n);
    if ((after !== undefined && after > Date.now()) || [...this.fetching.values()].filter((t) => t === Infinity).length >= atOnce) return;
    this.fetching.set(n, Infinity);
    const begin = Math.max(n * windowLines, line, this.goneBefore);
    const stop = Math.min((n + 1) * windowLines, end);
    // While the history comes, what is near its end is about to come by itself.
    const { layout, live } = this.log;
    if (live || begin - layout.lines > soonLines) return this.load(n, begin, stop - begin);
    setTimeout(() => {
      this.update();
      if (this.parts.some((p) => !p.layout && p.line < stop && p.line + p.rows > begin)) this.load(n, begin, stop - begin);
      else this.fetching.delete(n);
    }, soon);
  }

  private load(n: number, begin: number, lines: number): void {
    fetchWindow(this.get_, begin, lines)
      .then(
        (w) => {
          this.fetching.delete(n);
          if (w.layout.count > 0) this.add(w);
          if (w.from > begin) this.goneBefore = Math.max(this.goneBefore, w.from);
        },
        (e: unknown) => {
          this.fetching.set(n, Date.now() + retry);
          if (e instanceof Gone) this.goneBefore = Math.max(this.goneBefore, begin + lines);
        },
      )
      .finally(() => {
        this.clock++;
        this.changed();
      });
  }

  private add(w: Window): void {
    w.used = ++this.uses;
    // Two windows never overlap: the later one begins where the other ends, or gives way.
    if (this.windows.some((o) => o.from < w.to && w.from < o.to && o.from <= w.from && o.to >= w.to)) return;
    this.windows = this.windows.filter((o) => o.to <= w.from || o.from >= w.to);
    this.windows.push(w);
    if (this.windows.length > keptWindows) {
      const oldest = this.windows.reduce((a, b) => (a.used <= b.used ? a : b));
      this.windows = this.windows.filter((o) => o !== oldest);
    }
  }

  /** Bytes that the windows hold. */
  get held(): number {
    return this.windows.reduce((n, w) => n + w.layout.held, 0);
  }

  rowOfLine(line: number): number {
    this.update();
    let best = 0;
    for (const p of this.parts) {
      if (p.line > line) break;
      best = p.layout ? p.row + Math.min(p.rows - 1, Math.max(0, p.layout.rowOfLine(line) - p.offset)) : p.row + Math.min(p.rows - 1, line - p.line);
    }
    return Math.max(0, best);
  }

  rowOfTime(at: number): number {
    this.update();
    let best = 0;
    for (const p of this.parts) {
      if (!p.layout || p.rows === 0) continue;
      if (p.layout.timeOf(p.offset) > at && best > 0) break;
      best = p.row + Math.max(0, p.layout.rowOfTime(at) - p.offset);
    }
    return Math.min(best, Math.max(0, this.count - 1));
  }

  piece(row: number): Bytes | undefined {
    this.update();
    const p = this.part(row);
    if (!p || p.layout !== this.log.layout) return undefined;
    const shift = p.row - p.offset;
    const b = this.log.layout.piece(row - shift);
    return b && { bytes: b.bytes, first: b.first + shift, next: b.next + shift };
  }
}
