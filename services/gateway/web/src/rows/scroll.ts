// Where a scroll bar stands and which row that is. Browsers cap an element's height (about 17 million px in Firefox, 33 in
// Chrome), so past a limit of our own the bar's way is scaled: small movements go by pixels, large ones by proportion.

/** Highest spacer, in px; far below what any browser takes. */
export const maxHeight = 8_000_000;

/** A place in the rows: the row at the top of the window, and how many px of it are above the window. */
export interface Place {
  row: number;
  px: number;
}

export class Scroll {
  first = 0;
  count = 0;
  /** Height of an ordinary row and of the window, in px. */
  rowHeight = 20;
  window = 400;
  place: Place = { row: 0, px: 0 };
  /** Where the bar stood when it was last looked at. */
  private bar = 0;

  /** Height of row n, in px; rows differ where lines wrap. */
  constructor(private readonly heightOf: (row: number) => number) {}

  /** Height that the spacer is to have. */
  get height(): number {
    return Math.max(this.window, Math.min(maxHeight, (this.count - this.first) * this.rowHeight));
  }

  private get way(): number {
    return Math.max(0, this.height - this.window);
  }

  /** The bar was moved to `top`. Tells whether it has come to an end of its way before the rows have, and must be put right. */
  moved(top: number): boolean {
    const delta = top - this.bar;
    this.bar = top;
    if (delta === 0) return false;
    const last = this.last();
    const up = top <= 0.5;
    const down = top >= this.way - 0.5;
    if (Math.abs(delta) < this.window * 1.5) {
      this.by(delta);
      const { row, px } = this.place;
      return (up && (row > this.first || px > 0)) || (down && (row < last.row || px < last.px - 1));
    }
    if (up) this.place = { row: this.first, px: 0 };
    else if (down) this.place = last;
    else {
      const at = Math.round((top / this.way) * (last.row - this.first + last.px / this.rowHeight) * 1000) / 1000;
      this.place = { row: this.first + Math.floor(at), px: (at % 1) * this.rowHeight };
    }
    return false;
  }

  /** Moves by px. */
  by(delta: number): void {
    let { row, px } = this.place;
    px += delta;
    while (px < 0 && row > this.first) px += this.heightOf(--row);
    if (px < 0) px = 0;
    while (row < this.count - 1 && px >= this.heightOf(row)) px -= this.heightOf(row++);
    const last = this.last();
    this.place = row > last.row || (row === last.row && px > last.px) ? last : { row, px };
  }

  /** The lowest place: the last row ends where the window does. */
  last(): Place {
    let row = this.count;
    let room = this.window;
    while (row > this.first && room > 0) room -= this.heightOf(--row);
    return { row: Math.max(this.first, Math.min(row, this.count - 1)), px: Math.max(0, -room) };
  }

  /** Goes to a row, which is then `above` px below the top of the window. */
  to(row: number, above = 0): void {
    this.place = { row: Math.max(this.first, Math.min(row, Math.max(this.first, this.count - 1))), px: 0 };
    if (above !== 0) this.by(-above);
    const last = this.last();
    if (this.place.row > last.row || (this.place.row === last.row && this.place.px > last.px)) this.place = last;
  }

  /** Tells whether the last row can be seen. */
  get atEnd(): boolean {
    const last = this.last();
    return this.place.row > last.row || (this.place.row === last.row && this.place.px >= last.px - 2);
  }

  /** Where the bar should stand for the place; it is taken as moved there. */
  barTop(): number {
    const last = this.last();
    const all = last.row - this.first + last.px / this.rowHeight;
    const at = this.place.row - this.first + this.place.px / this.rowHeight;
    // Never at an end before the rows are: a browser says nothing of a wheel that turns against the end of the bar.
    let top = all <= 0 ? 0 : Math.round((at / all) * this.way);
    if (top === 0 && at > 0) top = 1;
    if (top === this.way && at < all && this.way > 1) top--;
    this.bar = top;
    return top;
  }

  /** The bar stands where we put it, give or take what the browser rounds. */
  set(top: number): void {
    this.bar = top;
  }
}
