// From the bytes of a run to rows. Plain text, colours and line feeds are stored as they came, and only indexed: that is
// nearly all of every log, and it is done at the speed of indexOf. What redraws (carriage returns, cursor movement) is
// played on a bounded screen, and its rows are stored when they are final.

import { endOfString, ESC, maxString, readEscape, type Escape } from "../screen/escape.ts";
import { rowCells, Screen, serialize, type ScreenRow } from "../screen/screen.ts";
import { applySgr, PLAIN, sgr, Styles, type Style } from "../screen/style.ts";
import { Pages } from "./pages.ts";
import { BROKEN, GAP, NOTE, STDERR, STDOUT, Table } from "./table.ts";

const LF = 0x0a;
const CR = 0x0d;
const BS = 0x08;

/** A row longer than this is never drawn over: the screen begins below it. In bytes. */
const longestScreenRow = 32 << 10;
/** Bytes that a search looks at in one go. */
const pieceBytes = 1 << 20;
/** Rows, counted from the end, that may still change. */
export const mutableRows = 64;
/**
 * What sequences may do beyond what was printed: cells they make, move or read, so many for each byte of output, and so many
 * saved up. A few bytes can ask for a row of thousands of blanks, again and again; a log of 10 MB must not become one of 10 GB.
 */
const cellsPerByte = 16;
const mostCells = 1 << 20;

/** One row as stored: UTF-8 text that holds only SGR sequences, OSC 8 links and tabs beside what is printed. */
export interface StoredRow {
  bytes: Uint8Array;
  /** How many bytes the row has, where fewer were asked for. */
  size: number;
  style: Style;
  line: number;
  at: number;
  flags: number;
}

export class Layout {
  readonly pages = new Pages();
  readonly table = new Table();
  readonly styles: Styles;
  /** Line feeds of the run up to here. */
  lines: number;
  private style: Style = PLAIN;
  private screen: Screen | undefined;
  private at = 0;
  private kind = STDOUT;
  /** An unfinished escape sequence of each stream: what the other writes meanwhile is no part of it. */
  private readonly pending: [Uint8Array | undefined, Uint8Array | undefined] = [undefined, undefined];
  /** A string of this stream, too long to say anything, is skipped to its end. */
  private readonly skipping: ["" | "osc" | "other", "" | "osc" | "other"] = ["", ""];
  /** A carriage return came last; it may belong to a line feed. */
  private returned = false;
  private cells = mostCells;
  /** Rows before this one are never taken back to the screen. */
  private barrier = 0;
  private readonly encoder = new TextEncoder();

  /** `firstLine` is the number of line feeds in the run before the first byte. */
  constructor(firstLine = 0, styles = new Styles()) {
    this.lines = firstLine;
    this.styles = styles;
  }

  /** Rows from 0 on, those let go included; an empty last row does not count. */
  get count(): number {
    if (this.screen) {
      const { rows } = this.screen;
      return this.table.count + rows.length - (rows[rows.length - 1]!.chars.length === 0 ? 1 : 0);
    }
    const n = this.table.count;
    return n > 0 && this.open() && this.table.start(n - 1) === this.pages.end ? n - 1 : n;
  }

  /** The first row that has not been let go. */
  get first(): number {
    return this.table.first;
  }

  /** Rows before this one will not change. */
  get stable(): number {
    return Math.max(this.first, this.count - mutableRows);
  }

  get held(): number {
    return this.pages.held + this.table.held;
  }

  /** Takes output. `stderr` tells which stream it came from; `at` is in ms. */
  feed(bytes: Uint8Array, stderr: boolean, at: number): void {
    if (bytes.length === 0) return;
    this.at = at;
    this.kind = stderr ? STDERR : STDOUT;
    const stream = stderr ? 1 : 0;
    let b = bytes;
    if (this.skipping[stream] !== "") {
      const end = endOfString(b, 0, this.skipping[stream] === "osc");
      if (end < 0) return;
      this.skipping[stream] = "";
      b = b.subarray(b[end] === ESC || b[end] === LF ? end : end + 1);
    }
    const before = this.pending[stream];
    this.pending[stream] = undefined;
    if (this.returned) {
      this.returned = false;
      if (before) this.enter().carriageReturn();
      else b = joined(carriageReturn, b);
    }
    if (before) b = joined(before, b);
    let i = 0;
    let esc = -2;
    let cr = -2;
    let bs = -2;
    const n = b.length;
    const next = (c: number) => {
      const p = b.indexOf(c, i);
      return p < 0 ? n : p;
    };
    while (i < n) {
      if (esc < i) esc = next(ESC);
      if (cr < i) cr = next(CR);
      if (bs < i) bs = next(BS);
      const stop = Math.min(esc, cr, bs);
      if (stop > i) {
        this.earn(stop - i);
        if (this.screen) this.screenText(b.subarray(i, stop));
        else this.plain(b.subarray(i, stop));
        i = stop;
        continue;
      }
      if (i === bs) {
        this.enter().backspace();
        i++;
      } else if (i === cr) {
        i = this.carriageReturn(b, i);
      } else {
        const { end, escape } = readEscape(b, i);
        if (end < 0) {
          this.hold(b.subarray(i), stream);
          return;
        }
        this.earn(end - i);
        this.escape(escape, b, i, end);
        i = end;
      }
      if (i < 0) return;
    }
  }

  /** Keeps a sequence that goes on in the stream's next bytes, or notes that it is a string of which nothing is kept. */
  private hold(b: Uint8Array, stream: 0 | 1): void {
    // ESC, perhaps some control characters, and what kind of string it is: nothing else can be so long.
    if (b.length > 2 * maxString && b[b.length - 1] !== ESC) this.skipping[stream] = b.find((c) => c >= 0x30) === 0x5d ? "osc" : "other";
    else this.pending[stream] = b.slice();
  }

  private earn(bytes: number): void {
    this.cells = Math.min(mostCells, this.cells + bytes * cellsPerByte);
  }

  private spend(cells: number): boolean {
    if (cells > this.cells) return false;
    this.cells -= cells;
    return true;
  }

  private carriageReturn(b: Uint8Array, i: number): number {
    let p = i;
    while (p < b.length && b[p] === CR) p++;
    if (p === b.length) {
      this.returned = true;
      return -1;
    }
    if (b[p] === LF && !this.screen?.alternate) return p;
    this.enter().carriageReturn();
    return p;
  }

  private escape(e: Escape, b: Uint8Array, from: number, to: number): void {
    if (this.screen) {
      this.screen.escape(e);
      return;
    }
    if (e.type === "csi" && e.final === "m" && e.prefix === "" && e.inter === "") {
      this.style = applySgr(this.style, e.params);
      // Stored as it ought to be, as what is stored is read by simpler rules.
      if (this.open()) this.pages.append(to - from === e.params.length + 3 ? b.subarray(from, to) : this.encoder.encode(`\x1b[${e.params}m`));
      return;
    }
    if (e.type === "osc" && e.data.startsWith("8;")) {
      this.row();
      this.pages.append(b.subarray(from, to));
      return;
    }
    if (!moves(e)) return;
    this.enter().escape(e);
    this.leave();
  }

  /** Text and line feeds, nothing else. */
  private plain(b: Uint8Array): void {
    const base = this.pages.end;
    this.pages.append(b);
    let from = 0;
    const style = this.styles.number(this.style);
    while (from < b.length) {
      if (!this.open()) {
        this.table.push(base + from, this.lines, this.at, style, this.kind);
        this.closed = false;
      } else {
        const last = this.table.count - 1;
        const f = this.table.flags(last);
        if ((f & this.kind) === 0) this.table.setFlags(last, f | this.kind);
      }
      const lf = b.indexOf(LF, from);
      if (lf < 0) break;
      this.lines++;
      this.closed = true;
      from = lf + 1;
    }
  }

  private closed = true;

  /** Tells whether the last row of the table still takes text. */
  private open(): boolean {
    return !this.closed;
  }

  /** Makes sure that there is a row to append to. */
  private row(): void {
    if (this.open()) return;
    this.table.push(this.pages.end, this.lines, this.at, this.styles.number(this.style), this.kind);
    this.closed = false;
  }

  private screenText(b: Uint8Array): void {
    let from = 0;
    while (from < b.length) {
      const screen = this.screen;
      if (!screen) {
        this.plain(b.subarray(from));
        return;
      }
      let p = from;
      while (p < b.length && b[p] !== LF && b[p] !== 0x09) p++;
      if (p > from) {
        this.mark(screen.rows[screen.y]!);
        screen.print(b.subarray(from, p));
      }
      if (p < b.length) {
        if (b[p] === LF) {
          this.lines++;
          screen.lineFeed();
          this.leave();
        } else {
          screen.tab();
        }
      }
      from = p + 1;
    }
  }

  /** A row is numbered and dated by the first text in it, not by the line feed that made room for it. */
  private mark(row: ScreenRow): void {
    if (row.flags === 0) {
      row.line = this.lines;
      row.at = this.at;
    }
    row.flags |= this.kind;
  }

  /** The screen, begun with the row that is not finished yet. */
  private enter(): Screen {
    if (this.screen) return this.screen;
    let text: Uint8Array | undefined;
    let style = this.style;
    let kept: { line: number; at: number; flags: number } | undefined;
    if (this.open()) {
      const last = this.table.count - 1;
      const start = this.table.start(last);
      const size = this.pages.end - start;
      // It is read, and stored again when the screen is left.
      if (size > longestScreenRow || !this.spend(rowCells + 2 * size)) {
        this.table.setFlags(last, this.table.flags(last) | BROKEN);
        this.pages.append(lineFeed);
      } else {
        text = this.pages.read(start, this.pages.end).slice();
        style = this.styles.style(this.table.style(last));
        kept = { line: this.table.line(last), at: this.table.at(last), flags: this.table.flags(last) };
        this.pages.truncate(start);
        this.table.pop();
      }
      this.closed = true;
    }
    const screen = new Screen({ commit: (r) => this.commit(r), pull: () => this.pull(), row: () => this.newRow(), spend: (n) => this.spend(n) });
    if (kept) Object.assign(screen.rows[0]!, kept);
    screen.style = style;
    if (text) replay(screen, text);
    screen.style = this.style;
    this.screen = screen;
    return screen;
  }

  /** Back to plain rows, as soon as nothing on the screen can be drawn over. */
  private leave(): void {
    const screen = this.screen;
    if (!screen?.idle) return;
    this.style = screen.style;
    const open = screen.rows.pop()!;
    for (const r of screen.rows) this.commit(r);
    this.screen = undefined;
    if (open.chars.length === 0) return;
    this.commit(open, true);
    // The last row goes on: without its line feed it is open again.
    this.pages.truncate(this.pages.end - 1);
    this.closed = false;
    this.pages.append(this.encoder.encode(sgr(this.style)));
  }

  private newRow(): ScreenRow {
    return { chars: [], styles: [], line: this.lines, at: this.at, flags: 0 };
  }

  private commit(r: ScreenRow, whole = false): void {
    const t = this.table;
    // Rows are found by their number, so it never goes back, whatever order a screen was painted in.
    const line = t.count > t.first ? Math.max(r.line, t.line(t.count - 1)) : r.line;
    t.push(this.pages.end, line, r.at, 0, r.flags || STDOUT);
    this.pages.append(this.encoder.encode(serialize(r, whole) + "\n"));
  }

  private pull(): ScreenRow | undefined {
    const last = this.table.count - 1;
    if (last < Math.max(this.barrier, this.first)) return undefined;
    const start = this.table.start(last);
    const flags = this.table.flags(last);
    if (flags & (NOTE | GAP | BROKEN) || this.pages.end - start > longestScreenRow) return undefined;
    if (!this.spend(rowCells + 2 * (this.pages.end - start))) return undefined;
    const row: ScreenRow = { chars: [], styles: [], line: this.table.line(last), at: this.table.at(last), flags };
    const scratch = new Screen({ commit: () => undefined, pull: () => undefined, row: () => row, spend: () => true });
    scratch.style = this.styles.style(this.table.style(last));
    replay(scratch, this.pages.read(start, this.pages.end - 1));
    this.pages.truncate(start);
    this.table.pop();
    return row;
  }

  /** A row of our own: a note of the client's, or a place where something is missing. It has no line of the run. */
  note(text: string, gap: boolean, at: number): void {
    this.at = at;
    this.endScreen();
    if (this.open()) {
      const last = this.table.count - 1;
      this.table.setFlags(last, this.table.flags(last) | BROKEN);
      this.pages.append(lineFeed);
      this.closed = true;
    }
    this.table.push(this.pages.end, this.lines, at, 0, gap ? GAP : NOTE);
    this.pages.append(this.encoder.encode(text.replace(/[\x00-\x1f\x7f-\x9f]/g, " ") + "\n"));
    this.barrier = this.table.count;
  }

  /** What is on the screen becomes final, as nothing comes any more that could draw over it. */
  private endScreen(): void {
    this.pending.fill(undefined);
    this.skipping.fill("");
    this.returned = false;
    const screen = this.screen;
    if (!screen) return;
    screen.commitAll();
    this.style = screen.style;
    this.screen = undefined;
    this.closed = true;
  }

  /** A row, or its first `most` bytes: of a line of 10 MB nobody wants a copy for each look at its beginning. */
  get(i: number, most = Infinity): StoredRow | undefined {
    if (i < this.first || i >= this.count) return undefined;
    const t = this.table;
    if (i >= t.count) {
      const r = this.screen!.rows[i - t.count]!;
      const bytes = this.encoder.encode(serialize(r));
      return { bytes, size: bytes.length, style: PLAIN, line: r.line, at: r.at, flags: r.flags };
    }
    const start = t.start(i);
    const size = this.endOf(i) - start;
    return {
      bytes: this.pages.read(start, start + Math.min(size, most)),
      size,
      style: this.styles.style(t.style(i)),
      line: t.line(i),
      at: t.at(i),
      flags: t.flags(i),
    };
  }

  /** When a row began, in ms. */
  timeOf(i: number): number {
    return i < this.table.count ? this.table.at(i) : (this.screen?.rows[i - this.table.count]?.at ?? this.at);
  }

  private endOf(i: number): number {
    const t = this.table;
    if (i + 1 < t.count) return t.start(i + 1) - 1;
    return this.open() ? this.pages.end : this.pages.end - 1;
  }

  /** The row that shows this line (line feeds before it), or the nearest before it. */
  rowOfLine(line: number): number {
    const t = this.table;
    if (this.screen && this.count > t.count && line >= this.screen.rows[0]!.line) {
      const rows = this.screen.rows;
      let k = 0;
      while (k + 1 < rows.length && rows[k + 1]!.line <= line) k++;
      return Math.min(this.count - 1, t.count + k);
    }
    if (t.count === t.first) return t.first;
    let r = t.search((i) => t.line(i), line);
    while (r > t.first && t.line(r - 1) === line) r--;
    return r;
  }

  /** The first row that is not older than this time. Times may jump back; then the answer is near. */
  rowOfTime(at: number): number {
    const t = this.table;
    const r = t.search((i) => t.at(i), at - 1);
    return r < t.count && t.at(r) < at ? Math.min(r + 1, Math.max(t.first, this.count - 1)) : r;
  }

  /** A copy of the final rows from this one on, about a megabyte, a line feed behind each; undefined where there are none. */
  piece(row: number): { bytes: Uint8Array; first: number; next: number } | undefined {
    const t = this.table;
    const first = Math.max(row, t.first);
    const end = this.open() ? t.count - 1 : t.count;
    if (first >= end) return undefined;
    const from = t.start(first);
    const next = Math.max(first + 1, Math.min(end, t.search((i) => t.start(i), from + pieceBytes) + 1));
    return { bytes: this.pages.read(from, next < t.count ? t.start(next) : this.pages.end).slice(), first, next };
  }

  /** Lets go of the oldest pages until no more than `bytes` are held. Returns the number of rows that went. */
  trim(bytes: number): number {
    const before = this.first;
    const over = this.held - bytes;
    if (over <= 0) return 0;
    const to = Math.min(this.pages.end - 1, this.pages.start + over + (1 << 20));
    this.pages.drop(to);
    const t = this.table;
    if (t.count > t.first && this.pages.start > t.start(t.first)) {
      t.drop(Math.min(t.count - 1, t.search((i) => t.start(i), this.pages.start - 1) + 1));
    }
    return this.first - before;
  }
}

const lineFeed = new Uint8Array([LF]);
const carriageReturn = new Uint8Array([CR]);

function joined(a: Uint8Array, b: Uint8Array): Uint8Array {
  const out = new Uint8Array(a.length + b.length);
  out.set(a);
  out.set(b, a.length);
  return out;
}

/** Whether a sequence does more than colour, as far as a log is concerned. */
function moves(e: Escape): boolean {
  if (e.type === "esc") return e.inter === "(" ? e.final === "0" : e.inter === "" && "78cDEM".includes(e.final);
  if (e.type !== "csi" || e.inter !== "") return false;
  if (e.prefix === "?") return /(^|;)(1049|1047|47)(;|$)/.test(e.params) && (e.final === "h" || e.final === "l");
  if (e.prefix !== "") return false;
  // Erasing to the right of the end of a line, as grep does after every colour, changes nothing.
  if (e.final === "K") return e.params !== "" && e.params !== "0";
  return "ABCDEFGHJLMPSTX@`abdefrsu".includes(e.final);
}

/** Plays stored text, which holds nothing but print, tabs, colours and links, onto a screen. */
function replay(screen: Screen, b: Uint8Array): void {
  for (let i = 0; i < b.length; ) {
    if (b[i] === ESC) {
      const { end, escape } = readEscape(b, i);
      if (end < 0) return;
      screen.escape(escape);
      i = end;
    } else if (b[i] === 0x09) {
      screen.tab();
      i++;
    } else {
      let p = i;
      while (p < b.length && b[p] !== ESC && b[p] !== 0x09) p++;
      screen.print(b.subarray(i, p));
      i = p;
    }
  }
}
