// Where an escape sequence ends and what it is. It says nothing of what the sequence does.

export const ESC = 0x1b;

/** Escape sequences longer than this are no sequences: what began as one is dropped, what follows is text. */
const maxControl = 256;
const maxString = 16 << 10;

export type Escape =
  | { type: "csi"; prefix: string; params: string; inter: string; final: string }
  | { type: "osc"; data: string }
  | { type: "esc"; inter: string; final: string }
  | { type: "none" };

const nothing: Escape = { type: "none" };

/** What was read, and the index behind it. `end` is -1 where the sequence goes on beyond the bytes given. */
export interface Read {
  end: number;
  escape: Escape;
}

/**
 * Reads the escape sequence that begins at b[i], which is ESC. A malformed sequence is `none` and ends before the byte that
 * broke it; a line feed breaks every sequence, so that an unclosed one never swallows a log.
 */
export function readEscape(b: Uint8Array, i: number): Read {
  if (i + 1 >= b.length) return { end: -1, escape: nothing };
  const c = b[i + 1]!;
  if (c === 0x5b) return readControl(b, i);
  if (c === 0x5d || c === 0x50 || c === 0x58 || c === 0x5e || c === 0x5f) return readString(b, i, c);
  let p = i + 1;
  while (p < b.length && b[p]! >= 0x20 && b[p]! <= 0x2f) {
    if (p - i > maxControl) return { end: p, escape: nothing };
    p++;
  }
  if (p >= b.length) return { end: -1, escape: nothing };
  const final = b[p]!;
  if (final < 0x30 || final > 0x7e) return { end: p, escape: nothing };
  return { end: p + 1, escape: { type: "esc", inter: ascii(b, i + 1, p), final: String.fromCharCode(final) } };
}

function readControl(b: Uint8Array, i: number): Read {
  const limit = Math.min(b.length, i + maxControl);
  let p = i + 2;
  const params = p;
  while (p < limit && b[p]! >= 0x30 && b[p]! <= 0x3f) p++;
  const inter = p;
  while (p < limit && b[p]! >= 0x20 && b[p]! <= 0x2f) p++;
  if (p >= limit) return { end: limit < i + maxControl ? -1 : p, escape: nothing };
  const final = b[p]!;
  if (final < 0x40 || final > 0x7e) return { end: p, escape: nothing };
  let from = params;
  let prefix = "";
  if (from < inter && b[from]! >= 0x3c) prefix = String.fromCharCode(b[from++]!);
  return {
    end: p + 1,
    escape: { type: "csi", prefix, params: ascii(b, from, inter), inter: ascii(b, inter, p), final: String.fromCharCode(final) },
  };
}

/** OSC, DCS, SOS, PM and APC: text that ends with ST or, for OSC, with BEL. Only OSC is handed on. */
function readString(b: Uint8Array, i: number, kind: number): Read {
  const limit = Math.min(b.length, i + maxString);
  for (let p = i + 2; p < limit; p++) {
    const c = b[p]!;
    if (c === 0x07 && kind === 0x5d) return { end: p + 1, escape: osc(b, i, p) };
    if (c === 0x0a) return { end: p, escape: nothing };
    if (c !== ESC) continue;
    if (p + 1 >= b.length) return { end: -1, escape: nothing };
    if (b[p + 1] !== 0x5c) return { end: p, escape: nothing };
    return { end: p + 2, escape: kind === 0x5d ? osc(b, i, p) : nothing };
  }
  return { end: limit < i + maxString ? -1 : limit, escape: nothing };
}

function osc(b: Uint8Array, i: number, end: number): Escape {
  return { type: "osc", data: new TextDecoder().decode(b.subarray(i + 2, end)) };
}

function ascii(b: Uint8Array, from: number, to: number): string {
  let s = "";
  for (let p = from; p < to; p++) s += String.fromCharCode(b[p]!);
  return s;
}
