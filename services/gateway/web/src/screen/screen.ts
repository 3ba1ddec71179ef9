// A bounded terminal screen: what redraws itself (progress bars, full-screen programs) is played on it, and what leaves it
// at the top is final. A row here is as wide as its text; a screen of rows, not of columns, because nobody knows the
// width of the terminal that the command believed in.

import { type Escape } from "./escape.ts";
import { applySgr, PLAIN, same, sgr, type Style } from "./style.ts";
import { width } from "./width.ts";

/** Rows that a cursor can still reach. */
export const maxRows = 60;
/** Columns that a cursor can be sent to: more than any terminal has. */
const maxAddress = 1024;
/** What a row costs that a sequence makes or fetches, in cells. */
export const rowCells = 64;
/** Cells of one row; what is written beyond goes on in a new row, so that nothing is lost. */
export const maxColumns = 16384;

/** One row: a character (or "" behind a wide one) and a style for each cell. */
export interface ScreenRow {
  chars: string[];
  styles: Style[];
  /** Line feeds of the run before this row, and when it began, in ms. */
  line: number;
  at: number;
  flags: number;
}

/** What the screen needs from the log it is part of. */
export interface Above {
  /** Takes a row that has become final. */
  commit(row: ScreenRow): void;
  /** Gives the last final row back, as the cursor goes up to it; none where there is none or it may not change. */
  pull(): ScreenRow | undefined;
  /** A new row, numbered and dated by what is being read now. */
  row(): ScreenRow;
  /** Asks for leave to make, move or read so many cells that nobody printed; without it a sequence does nothing. */
  spend(cells: number): boolean;
}

export class Screen {
  rows: ScreenRow[];
  x = 0;
  y = 0;
  style: Style = PLAIN;
  /** True between the sequences that full-screen programs begin and end with. */
  alternate = false;
  private full = false;
  private height = maxRows;
  private top = 0;
  private bottom = -1;
  private saved = { x: 0, y: 0, style: PLAIN };
  private drawing = false;
  private last = "";
  /** Line feeds at the bottom until nothing that was redrawn is on the screen any more. */
  private busy = 0;
  private readonly decoder = new TextDecoder("utf-8", { ignoreBOM: true });

  constructor(private readonly above: Above) {
    this.rows = [above.row()];
  }

  /** Tells whether all that is on the screen could as well be plain rows: only the last row can still change. */
  get idle(): boolean {
    return !this.alternate && !this.drawing && this.busy === 0 && this.y === this.rows.length - 1 && this.x === this.rows[this.y]!.chars.length;
  }

  /** Printable bytes, UTF-8; a character may be split over calls as long as nothing else comes between. */
  print(bytes: Uint8Array): void {
    this.text(this.decoder.decode(bytes, { stream: true }));
  }

  private text(s: string): void {
    for (let ch of s) {
      const c = ch.codePointAt(0)!;
      if (c < 0x20 || (c >= 0x7f && c < 0xa0)) continue;
      if (this.drawing && c >= 0x60 && c <= 0x7e) ch = lineDrawing[c - 0x60]!;
      this.put(ch);
    }
  }

  private put(ch: string): void {
    const w = width(ch);
    if (w === 0) {
      const row = this.rows[this.y]!;
      const at = row.chars[this.x - 1] === "" ? this.x - 2 : this.x - 1;
      if (at >= 0 && at < row.chars.length && row.chars[at]!.length < 32) row.chars[at] += ch;
      return;
    }
    if (this.x + w > maxColumns) {
      this.x = 0;
      this.down();
    }
    const row = this.rows[this.y]!;
    this.reach(row);
    row.chars[this.x] = ch;
    row.styles[this.x] = this.style;
    if (w === 2) {
      row.chars[this.x + 1] = "";
      row.styles[this.x + 1] = this.style;
    }
    this.x += w;
    this.last = ch;
  }

  /** Fills the row up to the cursor. Where that is too much the cursor goes back to where the row ends. */
  private reach(row: ScreenRow): void {
    const n = this.x - row.chars.length;
    if (n <= 0) return;
    if (this.above.spend(n)) this.pad(row, this.x);
    else this.x = row.chars.length;
  }

  private pad(row: ScreenRow, to: number): void {
    while (row.chars.length < to) {
      row.chars.push(" ");
      row.styles.push(PLAIN);
    }
  }

  /** Ends a character that was never finished. */
  private flush(): void {
    this.text(this.decoder.decode());
  }

  carriageReturn(): void {
    this.flush();
    this.x = 0;
  }

  backspace(): void {
    this.flush();
    if (this.x > 0) this.x--;
  }

  tab(): void {
    this.flush();
    this.x = Math.min(maxColumns - 1, (this.x | 7) + 1);
    this.reach(this.rows[this.y]!);
  }

  /** A line feed. Outside the alternate screen it goes to the first column too, as output to a pipe means it. */
  lineFeed(): void {
    this.flush();
    if (!this.alternate) this.x = 0;
    if (this.busy > 0 && this.y === this.rows.length - 1) this.busy--;
    this.down();
  }

  private down(): void {
    if (this.y === this.lastRow()) {
      this.scrollUp();
      return;
    }
    this.y = Math.min(this.y + 1, this.limit() - 1);
    this.fill(this.y);
  }

  /** Rows that the screen may have. */
  private limit(): number {
    return this.alternate ? this.height : maxRows;
  }

  private lastRow(): number {
    return this.bottom >= 0 ? this.bottom : this.limit() - 1;
  }

  /** Makes the rows down to this one. */
  private fill(y: number): void {
    while (this.rows.length <= y) this.rows.push(this.above.row());
  }

  /** The cursor goes to row y. Where that would make too many rows it goes to the last there is. */
  private goDown(y: number): void {
    if (this.above.spend(Math.max(0, y + 1 - this.rows.length) * rowCells)) this.fill(y);
    this.y = Math.min(y, this.rows.length - 1);
  }

  private scrollUp(): void {
    this.fill(this.lastRow());
    const [gone] = this.rows.splice(this.top, 1);
    if (this.top === 0 && !this.alternate && gone) this.above.commit(gone);
    this.rows.splice(this.lastRow(), 0, this.above.row());
  }

  private scrollDown(): void {
    this.fill(this.lastRow());
    this.rows.splice(this.lastRow(), 1);
    this.rows.splice(this.top, 0, this.above.row());
  }

  private up(n: number): void {
    let y = this.y - n;
    while (y < 0 && !this.alternate && !this.full && this.rows.length < maxRows) {
      const row = this.above.pull();
      if (!row) break;
      this.rows.unshift(row);
      this.y++;
      y++;
    }
    this.y = Math.max(0, y);
  }

  /** Does what an escape sequence says. */
  escape(e: Escape): void {
    this.flush();
    if (e.type === "esc") this.short(e.inter, e.final);
    if (e.type === "csi" && e.inter === "") this.control(e.prefix, e.params, e.final);
  }

  private short(inter: string, final: string): void {
    if (inter === "(") this.drawing = final === "0";
    if (inter !== "") return;
    if (final === "7") this.save();
    if (final === "8") this.restore();
    if (final === "c") this.clear();
    if (final === "D") this.down();
    if (final === "E") {
      this.x = 0;
      this.down();
    }
    if (final === "M") {
      this.touch();
      if (this.y === this.top) this.scrollDown();
      else this.up(1);
    }
  }

  private control(prefix: string, params: string, final: string): void {
    if (prefix === "?") {
      if ((final === "h" || final === "l") && /(^|;)(1049|1047|47)(;|$)/.test(params)) this.alternative(final === "h");
      return;
    }
    if (prefix !== "") return;
    if (final === "m") {
      this.style = applySgr(this.style, params);
      return;
    }
    const p = params.split(";").map((s) => Math.min(9999, Number(s) || 0));
    const n = Math.max(1, p[0] ?? 1);
    const row = this.rows[this.y]!;
    switch (final) {
      case "A":
      case "F":
        this.touch();
        this.up(n);
        if (final === "F") this.x = 0;
        return;
      case "B":
      case "e":
      case "E":
        this.touch();
        this.goDown(Math.min(this.y + n, this.limit() - 1));
        if (final === "E") this.x = 0;
        return;
      case "C":
      case "a":
        this.x = Math.max(this.x, Math.min(maxAddress - 1, this.x + n));
        return;
      case "D":
        this.x = Math.max(0, this.x - n);
        return;
      case "G":
      case "`":
        this.x = Math.min(maxAddress, n) - 1;
        return;
      case "H":
      case "f":
        this.address(n);
        this.x = Math.min(maxAddress, Math.max(1, p[1] ?? 1)) - 1;
        return;
      case "d":
        this.address(n);
        return;
      case "J":
        this.eraseDisplay(p[0] ?? 0);
        return;
      case "K":
        this.eraseLine(p[0] ?? 0);
        return;
      case "L":
      case "M":
        this.touch();
        if (!this.above.spend(Math.min(n, maxRows) * rowCells)) return;
        for (let i = 0; i < Math.min(n, maxRows); i++) {
          this.fill(this.lastRow());
          if (final === "L") {
            this.rows.splice(this.lastRow(), 1);
            this.rows.splice(this.y, 0, this.above.row());
          } else {
            this.rows.splice(this.y, 1);
            this.rows.splice(this.lastRow(), 0, this.above.row());
          }
        }
        return;
      case "P":
        if (!this.above.spend(row.chars.length)) return;
        row.chars.splice(this.x, n);
        row.styles.splice(this.x, n);
        return;
      case "@": {
        this.reach(row);
        if (!this.above.spend(row.chars.length + n)) return;
        const k = Math.min(n, Math.max(0, maxColumns - row.chars.length));
        row.chars.splice(this.x, 0, ...new Array<string>(k).fill(" "));
        row.styles.splice(this.x, 0, ...new Array<Style>(k).fill(this.style));
        return;
      }
      case "X":
        if (!this.above.spend(Math.min(n, row.chars.length))) return;
        for (let i = this.x; i < Math.min(row.chars.length, this.x + n); i++) this.blank(row, i);
        return;
      case "b":
        if (this.last && this.above.spend(Math.min(n, 1000))) for (let i = 0; i < Math.min(n, 1000); i++) this.put(this.last);
        return;
      case "S":
      case "T":
        this.touch();
        if (!this.above.spend(Math.min(n, maxRows) * rowCells)) return;
        for (let i = 0; i < Math.min(n, maxRows); i++) {
          if (final === "S") this.scrollUp();
          else this.scrollDown();
        }
        return;
      case "r":
        this.margins(p[0] ?? 0, p[1] ?? 0);
        return;
      case "s":
        this.save();
        return;
      case "u":
        this.restore();
    }
  }

  /** Rows were or will be redrawn: the screen is needed until they have scrolled off. */
  private touch(): void {
    this.busy = maxRows;
  }

  /** The cursor goes to row n, from 1 on. What was there before the first such sequence becomes final: it is not ours to draw over. */
  private address(n: number): void {
    this.touch();
    if (!this.full && !this.alternate) {
      this.commitAll();
      this.full = true;
    }
    this.goDown(Math.min(n, this.limit()) - 1);
  }

  private save(): void {
    this.saved = { x: this.x, y: this.y, style: this.style };
  }

  private restore(): void {
    this.touch();
    this.x = this.saved.x;
    this.style = this.saved.style;
    this.goDown(Math.min(this.saved.y, this.limit() - 1));
  }

  private margins(top: number, bottom: number): void {
    this.touch();
    if (bottom <= 0 && top <= 1) {
      this.top = 0;
      this.bottom = -1;
    } else if (bottom > top && bottom <= maxRows) {
      if (this.alternate && top <= 1) this.height = Math.max(bottom, this.rows.length);
      this.top = Math.max(0, top - 1);
      this.bottom = bottom - 1;
    }
    this.x = 0;
    this.y = 0;
  }

  private blank(row: ScreenRow, i: number): void {
    row.chars[i] = " ";
    row.styles[i] = this.style.bg < 0 ? PLAIN : { fg: -1, bg: this.style.bg, flags: 0 };
  }

  private eraseLine(how: number): void {
    const row = this.rows[this.y]!;
    if (how === 0) this.cut(row, this.x);
    if (how === 1 && this.above.spend(Math.min(row.chars.length, this.x + 1))) for (let i = 0; i < Math.min(row.chars.length, this.x + 1); i++) this.blank(row, i);
    if (how === 2) this.cut(row, 0);
  }

  private cut(row: ScreenRow, at: number): void {
    if (row.chars.length <= at) return;
    row.chars.length = at;
    row.styles.length = at;
  }

  private eraseDisplay(how: number): void {
    this.touch();
    if (how === 2) {
      this.clear();
      return;
    }
    if (how === 0) {
      this.eraseLine(0);
      for (let y = this.y + 1; y < this.rows.length; y++) this.cut(this.rows[y]!, 0);
      // Rows below an erased display are not there: a log does not end in the empty rows of somebody's terminal.
      if (!this.alternate) this.rows.length = this.y + 1;
    }
    if (how === 1) {
      this.eraseLine(1);
      for (let y = 0; y < this.y; y++) this.cut(this.rows[y]!, 0);
    }
  }

  /** The whole screen is erased. Outside the alternate screen what was there stays, above: a log forgets nothing. */
  private clear(): void {
    this.touch();
    if (!this.alternate) {
      const { y } = this;
      this.commitAll();
      this.full = true;
      this.goDown(y);
      return;
    }
    this.rows = [this.above.row()];
    this.goDown(this.y);
  }

  /** Makes every row final, empty ones at the end left out, and begins with an empty screen. */
  commitAll(): void {
    this.flush();
    let n = this.rows.length;
    while (n > 0 && blank(this.rows[n - 1]!)) n--;
    for (let i = 0; i < n; i++) this.above.commit(this.rows[i]!);
    this.rows = [this.above.row()];
    this.y = 0;
  }

  private alternative(on: boolean): void {
    if (on === this.alternate) return;
    this.commitAll();
    this.alternate = on;
    this.full = false;
    this.height = maxRows;
    this.top = 0;
    this.bottom = -1;
    this.x = 0;
    this.busy = on ? maxRows : 0;
    this.drawing = false;
  }
}

/** Tells whether a row shows nothing. */
export function blank(row: ScreenRow): boolean {
  return row.chars.every((c, i) => (c === " " || c === "") && row.styles[i]!.bg < 0 && row.styles[i]!.flags === 0);
}

/** A row as text with SGR sequences, the form in which final rows are stored; with `whole`, blanks at its end are kept. */
export function serialize(row: ScreenRow, whole = false): string {
  let end = row.chars.length;
  while (!whole && end > 0 && row.chars[end - 1] === " " && row.styles[end - 1] === PLAIN) end--;
  let style: Style = PLAIN;
  let s = "";
  for (let i = 0; i < end; i++) {
    const next = row.styles[i]!;
    if (next !== style && !same(next, style)) {
      s += same(next, PLAIN) ? "\x1b[0m" : sgr(next);
    }
    style = next;
    s += row.chars[i];
  }
  return s;
}

/** What the DEC graphics set shows for ` to ~. */
const lineDrawing = [..."◆▒␉␌␍␊°±␤␋┘┐┌└┼⎺⎻─⎼⎽├┤┴┬│≤≥π≠£·"];
