// The logs of all attached clients as one, in the order of time. It holds no text: a row of it is a row of some run's log.

import type { StoredRow } from "./layout.ts";
import type { RunLog } from "./run.ts";
import type { Source } from "./source.ts";

/** Rows that the merged log keeps; the oldest go first. Each run's own log has the rest. */
export const mergedRows = 200_000;

interface Item {
  at: number;
  log: RunLog;
  row: number;
}

/** Reads each log up to the rows that may still change, and a log that is quiet to its end. */
export class Merged implements Source {
  readonly first = 0;
  epoch = 0;
  private items: Item[] = [];
  /** How far each log was read. `at` is the latest time in it so far: a log's own order stands, whatever its clock did. */
  private readonly read = new Map<RunLog, { upto: number; at: number; epoch: number; version: number }>();

  constructor(private readonly logs: () => Iterable<RunLog>) {}

  /** Takes in what the logs got since; tells whether anything changed. */
  update(): boolean {
    const fresh: Item[] = [];
    let redo = false;
    const seen = new Set<RunLog>();
    for (const log of this.logs()) {
      seen.add(log);
      let r = this.read.get(log);
      if (!r) this.read.set(log, (r = { upto: 0, at: 0, epoch: log.epoch, version: -1 }));
      if (r.version === log.version) continue;
      r.version = log.version;
      const { layout } = log;
      if (r.epoch !== log.epoch) redo = true;
      // The last row may still grow: it is listed all the same, and read anew each time it is shown.
      let row = Math.max(r.upto, layout.first, layout.count - mergedRows);
      for (; row < layout.count; row++) {
        r.at = Math.max(r.at, layout.timeOf(row));
        fresh.push({ at: r.at, log, row });
      }
      r.upto = layout.count;
    }
    for (const log of this.read.keys()) if (!seen.has(log)) redo = true;
    if (redo) {
      this.read.clear();
      this.items = [];
      this.epoch++;
      return this.rebuild();
    }
    if (fresh.length === 0) return false;
    fresh.sort((a, b) => a.at - b.at);
    const last = this.items[this.items.length - 1];
    if (last && fresh[0]!.at < last.at) {
      this.items = mergeSorted(this.items, fresh);
      this.epoch++;
    } else {
      for (const f of fresh) this.items.push(f);
    }
    if (this.items.length > mergedRows * 1.25) {
      this.items = this.items.slice(this.items.length - mergedRows);
      this.epoch++;
    }
    return true;
  }

  private rebuild(): boolean {
    this.update();
    return true;
  }

  get count() {
    return this.items.length;
  }
  get stable() {
    return Math.max(0, this.items.length - 200);
  }
  get(row: number, most?: number): StoredRow | undefined {
    const it = this.items[row];
    return it?.log.layout.get(it.row, most);
  }
  from(row: number): string {
    return this.items[row]?.log.info.from ?? "";
  }
  rowOfLine(line: number) {
    return Math.min(line, Math.max(0, this.count - 1));
  }
  rowOfTime(at: number) {
    let lo = 0;
    let hi = this.items.length;
    while (lo < hi) {
      const mid = (lo + hi) >> 1;
      if (this.items[mid]!.at < at) lo = mid + 1;
      else hi = mid;
    }
    return Math.min(lo, Math.max(0, this.items.length - 1));
  }
}

/** Merges two lists that are each in order; what was there first stays first among equals. */
function mergeSorted(a: Item[], b: Item[]): Item[] {
  const out: Item[] = new Array(a.length + b.length);
  let i = 0;
  let j = 0;
  for (let k = 0; k < out.length; k++) {
    if (j >= b.length || (i < a.length && a[i]!.at <= b[j]!.at)) out[k] = a[i++]!;
    else out[k] = b[j++]!;
  }
  return out;
}
