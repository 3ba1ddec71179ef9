// How many columns a character takes on a terminal.

const combining = /^[\p{Mn}\p{Me}\u200b-\u200f\u2060-\u2064\ufe00-\ufe0f\ufeff]$/u;
const pictograph = /^\p{Emoji_Presentation}$/u;

/** 0, 1 or 2 columns. `ch` is one code point. */
export function width(ch: string): 0 | 1 | 2 {
  const c = ch.codePointAt(0)!;
  if (c < 0x300) return 1;
  if (combining.test(ch)) return 0;
  if (c < 0x1100) return 1;
  if (
    c <= 0x115f ||
    (c >= 0x2e80 && c <= 0x303e) ||
    (c >= 0x3041 && c <= 0xa4cf) ||
    (c >= 0xa960 && c <= 0xa97c) ||
    (c >= 0xac00 && c <= 0xd7a3) ||
    (c >= 0xf900 && c <= 0xfaff) ||
    (c >= 0xfe30 && c <= 0xfe6f) ||
    (c >= 0xff00 && c <= 0xff60) ||
    (c >= 0xffe0 && c <= 0xffe6) ||
    (c >= 0x20000 && c <= 0x3fffd)
  )
    return 2;
  return pictograph.test(ch) ? 2 : 1;
}
