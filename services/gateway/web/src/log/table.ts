// The line index: for each row where its bytes begin, its number, its time, the style it begins with. Typed arrays in blocks, 23 bytes a row.

const blockBits = 14;
const blockRows = 1 << blockBits;

interface Block {
  start: Float64Array;
  at: Float64Array;
  line: Uint32Array;
  style: Uint16Array;
  flags: Uint8Array;
}

/** Flags of a row. */
export const STDERR = 1;
export const STDOUT = 2;
export const NOTE = 4;
export const GAP = 8;
/** The row does not end with a line feed of the log: it was broken here. */
export const BROKEN = 16;
/** The row is not here yet. */
export const HOLE = 32;

export class Table {
  private blocks: (Block | undefined)[] = [];
  /** Rows are numbered from 0; those before `first` have been let go. */
  first = 0;
  count = 0;
  /** Bytes of memory taken. */
  held = 0;

  push(start: number, line: number, at: number, style: number, flags: number): void {
    const k = this.count >> blockBits;
    let b = this.blocks[k];
    if (!b) {
      // The first block is small, so that five hundred short logs do not take 400 KiB each.
      const n = k === 0 ? 256 : blockRows;
      b = block(n);
      this.held += n * 23;
      this.blocks[k] = b;
    }
    const i = this.count & (blockRows - 1);
    if (i >= b.flags.length) {
      b = grown(b);
      this.held += (b.flags.length / 2) * 23;
      this.blocks[k] = b;
    }
    b.start[i] = start;
    b.line[i] = line;
    b.at[i] = at;
    b.style[i] = style;
    b.flags[i] = flags;
    this.count++;
  }

  pop(): void {
    this.count--;
  }

  start(row: number): number {
    return this.blocks[row >> blockBits]!.start[row & (blockRows - 1)]!;
  }
  line(row: number): number {
    return this.blocks[row >> blockBits]!.line[row & (blockRows - 1)]!;
  }
  at(row: number): number {
    return this.blocks[row >> blockBits]!.at[row & (blockRows - 1)]!;
  }
  style(row: number): number {
    return this.blocks[row >> blockBits]!.style[row & (blockRows - 1)]!;
  }
  flags(row: number): number {
    return this.blocks[row >> blockBits]!.flags[row & (blockRows - 1)]!;
  }
  setFlags(row: number, flags: number): void {
    this.blocks[row >> blockBits]!.flags[row & (blockRows - 1)] = flags;
  }

  /** Lets go of the rows before `row`. */
  drop(row: number): void {
    for (let k = this.first >> blockBits; k < row >> blockBits; k++) {
      this.held -= (this.blocks[k]?.flags.length ?? 0) * 23;
      this.blocks[k] = undefined;
    }
    this.first = Math.max(this.first, row);
  }

  /** The last row for which `before` is not true of what `get` says; rows are in order of it. */
  search(get: (row: number) => number, value: number): number {
    let lo = this.first;
    let hi = this.count;
    while (lo < hi) {
      const mid = (lo + hi) >> 1;
      if (get(mid) <= value) lo = mid + 1;
      else hi = mid;
    }
    return Math.max(this.first, lo - 1);
  }
}

function block(n: number): Block {
  return {
    start: new Float64Array(n),
    at: new Float64Array(n),
    line: new Uint32Array(n),
    style: new Uint16Array(n),
    flags: new Uint8Array(n),
  };
}

function grown(b: Block): Block {
  const g = block(b.flags.length * 2);
  g.start.set(b.start);
  g.at.set(b.at);
  g.line.set(b.line);
  g.style.set(b.style);
  g.flags.set(b.flags);
  return g;
}
