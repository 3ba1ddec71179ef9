// Where what was searched for stands in the rows on the screen. Plain text is found at once; a regular expression, which may
// take for ever, is never run here: the seeker is asked, and the rows are drawn again when it has answered.

import { ranges } from "../search/hits.ts";
import type { Ranges } from "../search/owner.ts";

/** What finds marks. Two with the same key find the same. */
export type Marker = { key: string; plain: RegExp } | { key: string; ask: (texts: string[]) => Promise<Ranges[] | undefined> };

/** Marks in one row, and rows whose marks are remembered. */
const most = 500;
const kept = 2000;

export class Marks {
  key = "";
  /** Where the marks of a text are; nothing where there are none, or where it is not known yet. */
  of: ((text: string) => Ranges) | undefined;
  private marker: Marker | undefined;
  private known = new Map<string, Ranges>();
  private missing = new Set<string>();
  private asking = false;

  /** `came` hears of texts whose marks were missing and are there now. */
  constructor(private readonly came: (texts: Set<string>) => void) {}

  set(marker: Marker | undefined): void {
    if (marker?.key !== this.key || !marker) {
      this.known = new Map();
      this.missing = new Set();
    }
    this.marker = marker;
    this.key = marker?.key ?? "";
    if (!marker) this.of = undefined;
    else if ("plain" in marker) this.of = (text) => ranges(marker.plain, text, most);
    else this.of = (text) => this.find(text);
  }

  private find(text: string): Ranges {
    const r = this.known.get(text);
    if (!r && text !== "") this.missing.add(text);
    return r ?? [];
  }

  /** Asks for what was missing in the last drawing, one question at a time. */
  ask(): void {
    const { marker, missing } = this;
    if (this.asking || missing.size === 0 || !marker || !("ask" in marker)) return;
    this.missing = new Set();
    this.asking = true;
    void marker.ask([...missing]).then((list) => {
      this.asking = false;
      if (marker.key !== this.key) return this.ask();
      if (this.known.size > kept) this.known.clear();
      let i = 0;
      for (const text of missing) this.known.set(text, list?.[i++] ?? []);
      this.came(new Set([...missing].filter((t) => this.known.get(t)!.length > 0)));
      this.ask();
    });
  }
}
