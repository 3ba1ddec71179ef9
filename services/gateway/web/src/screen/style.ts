// The style of a character cell, and what an SGR sequence does to it.

/** How text looks. Colours: -1 the default, 0 to 255 the palette, RGB | rgb a true colour. */
export interface Style {
  readonly fg: number;
  readonly bg: number;
  readonly flags: number;
}

/** Marks a colour as 24-bit. */
export const RGB = 0x1000000;

export const BOLD = 1;
export const DIM = 2;
export const ITALIC = 4;
export const UNDERLINE = 8;
export const INVERSE = 16;
export const STRIKE = 32;
export const HIDDEN = 64;

export const PLAIN: Style = { fg: -1, bg: -1, flags: 0 };

/**
 * Styles by number, so that a row needs four bytes for the one it begins with. Number 0 is PLAIN. A hostile log can make a
 * new colour for every character: past `limit` styles a new one is shown as PLAIN at the beginning of a row.
 */
export class Styles {
  private readonly numbers = new Map<string, number>([[key(PLAIN), 0]]);
  private readonly list: Style[] = [PLAIN];

  constructor(private readonly limit = 1 << 16) {}

  number(s: Style): number {
    if (s === PLAIN) return 0;
    const k = key(s);
    const known = this.numbers.get(k);
    if (known !== undefined) return known;
    if (this.list.length >= this.limit) return 0;
    this.numbers.set(k, this.list.length);
    return this.list.push(s) - 1;
  }

  style(n: number): Style {
    return this.list[n] ?? PLAIN;
  }
}

function key(s: Style): string {
  return `${s.fg},${s.bg},${s.flags}`;
}

/** Tells whether two styles look the same. */
export function same(a: Style, b: Style): boolean {
  return a === b || (a.fg === b.fg && a.bg === b.bg && a.flags === b.flags);
}

/** The style after the SGR sequence with these parameters, such as "1;31" or "38:2::255:0:0". */
export function applySgr(style: Style, params: string): Style {
  if (params === "" || params === "0") return PLAIN;
  let { fg, bg, flags } = style;
  const parts = params.split(";");
  for (let i = 0; i < parts.length; i++) {
    const part = parts[i]!;
    const colon = part.indexOf(":");
    const n = Number(colon < 0 ? part : part.slice(0, colon));
    if (n === 38 || n === 48) {
      let colour: number;
      if (colon >= 0) {
        colour = colonColour(part.split(":").map(Number));
      } else if (parts[i + 1] === "5") {
        colour = palette(Number(parts[i + 2]));
        i += 2;
      } else if (parts[i + 1] === "2") {
        colour = rgb(Number(parts[i + 2]), Number(parts[i + 3]), Number(parts[i + 4]));
        i += 4;
      } else {
        continue;
      }
      if (colour < -1) continue;
      if (n === 38) fg = colour;
      else bg = colour;
      continue;
    }
    if (n === 0) ({ fg, bg, flags } = PLAIN);
    else if (n === 1) flags |= BOLD;
    else if (n === 2) flags |= DIM;
    else if (n === 3) flags |= ITALIC;
    else if (n === 4) flags = part === "4:0" ? flags & ~UNDERLINE : flags | UNDERLINE;
    else if (n === 7) flags |= INVERSE;
    else if (n === 8) flags |= HIDDEN;
    else if (n === 9) flags |= STRIKE;
    else if (n === 21) flags |= UNDERLINE; // doubly underlined
    else if (n === 22) flags &= ~(BOLD | DIM);
    else if (n === 23) flags &= ~ITALIC;
    else if (n === 24) flags &= ~UNDERLINE;
    else if (n === 27) flags &= ~INVERSE;
    else if (n === 28) flags &= ~HIDDEN;
    else if (n === 29) flags &= ~STRIKE;
    else if (n >= 30 && n <= 37) fg = n - 30;
    else if (n === 39) fg = -1;
    else if (n >= 40 && n <= 47) bg = n - 40;
    else if (n === 49) bg = -1;
    else if (n >= 90 && n <= 97) fg = n - 82;
    else if (n >= 100 && n <= 107) bg = n - 92;
  }
  return { fg, bg, flags };
}

/** 38:5:N, 38:2:R:G:B and 38:2:SPACE:R:G:B; -2 where it is none of these. */
function colonColour(p: number[]): number {
  if (p[1] === 5) return palette(p[2] ?? NaN);
  if (p[1] !== 2) return -2;
  const at = p.length > 5 ? 3 : 2;
  return rgb(p[at] ?? NaN, p[at + 1] ?? NaN, p[at + 2] ?? NaN);
}

function palette(n: number): number {
  return n >= 0 && n <= 255 ? n : -2;
}

function rgb(r: number, g: number, b: number): number {
  const ok = (v: number) => v >= 0 && v <= 255;
  return ok(r) && ok(g) && ok(b) ? RGB | (r << 16) | (g << 8) | b : -2;
}

/** The SGR sequence that makes this style out of the plain one, for a row that is stored as text. */
export function sgr(s: Style): string {
  const p: string[] = ["0"];
  if (s.flags & BOLD) p.push("1");
  if (s.flags & DIM) p.push("2");
  if (s.flags & ITALIC) p.push("3");
  if (s.flags & UNDERLINE) p.push("4");
  if (s.flags & INVERSE) p.push("7");
  if (s.flags & HIDDEN) p.push("8");
  if (s.flags & STRIKE) p.push("9");
  if (s.fg >= 0) p.push(colour(38, s.fg));
  if (s.bg >= 0) p.push(colour(48, s.bg));
  return `\x1b[${p.join(";")}m`;
}

function colour(n: number, c: number): string {
  return c & RGB ? `${n};2;${(c >> 16) & 255};${(c >> 8) & 255};${c & 255}` : `${n};5;${c}`;
}
