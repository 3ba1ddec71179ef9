// Where an escape sequence ends and what it is. It says nothing of what the sequence does. The server strips by the same
// rules (ansi.go); testdata/strip.json holds both to them.

export const ESC = 0x1b;
const LF = 0x0a;
const BEL = 0x07;
const CAN = 0x18;
const SUB = 0x1a;

/** Bytes of a sequence; what is longer is none, and what follows is text. */
const maxControl = 256;
/** Bytes of a string that are kept; a longer one says nothing, but ends where it ends. */
export const maxString = 16 << 10;

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

const unfinished: Read = { end: -1, escape: nothing };

/**
 * Reads the escape sequence that begins at b[i], which is ESC. As on terminals, ESC begins another sequence within one, CAN
 * and SUB end any, other control characters within one are skipped, and a byte beyond ASCII ends it and is text; but a line
 * feed ends every sequence too, so that an unclosed one never swallows a log.
 */
export function readEscape(b: Uint8Array, i: number): Read {
  const limit = Math.min(b.length, i + maxControl);
  let inter = "";
  for (let p = i + 1; p < limit; p++) {
    const c = b[p]!;
    if (c >= 0x30 && c <= 0x7e) {
      if (inter === "") {
        if (c === 0x5b) return readControl(b, i, p + 1);
        if (c === 0x5d || c === 0x50 || c === 0x58 || c === 0x5e || c === 0x5f) return readString(b, p + 1, c);
      }
      return { end: p + 1, escape: { type: "esc", inter, final: String.fromCharCode(c) } };
    }
    if (breaks(c)) return { end: c === CAN || c === SUB ? p + 1 : p, escape: nothing };
    if (c >= 0x20 && c <= 0x2f) inter += String.fromCharCode(c);
  }
  return limit < i + maxControl ? unfinished : { end: limit, escape: nothing };
}

/** Tells which bytes end a sequence that is no string before its end. */
function breaks(c: number): boolean {
  return c === LF || c === ESC || c === CAN || c === SUB || c >= 0x80;
}

/** The rest of a sequence that began at i with ESC [; its parameters begin at `from`. */
function readControl(b: Uint8Array, i: number, from: number): Read {
  const limit = Math.min(b.length, i + maxControl);
  let p = from;
  while (p < limit && b[p]! >= 0x30 && b[p]! <= 0x3f) p++;
  const inter = p;
  while (p < limit && b[p]! >= 0x20 && b[p]! <= 0x2f) p++;
  if (p < limit && b[p]! >= 0x40 && b[p]! <= 0x7e) {
    let prefix = "";
    if (from < inter && b[from]! >= 0x3c) prefix = String.fromCharCode(b[from++]!);
    return { end: p + 1, escape: { type: "csi", prefix, params: ascii(b, from, inter), inter: ascii(b, inter, p), final: String.fromCharCode(b[p]!) } };
  }
  return readOddControl(b, i, from);
}

/** The same for what is not quite as it should be: control characters are in it, or parameters behind intermediates. */
function readOddControl(b: Uint8Array, i: number, from: number): Read {
  const limit = Math.min(b.length, i + maxControl);
  let body = "";
  for (let p = from; p < limit; p++) {
    const c = b[p]!;
    if (c >= 0x40 && c <= 0x7e) {
      const m = /^([<-?]?)([0-9:;]*)([ -/]*)$/.exec(body);
      return { end: p + 1, escape: m ? { type: "csi", prefix: m[1]!, params: m[2]!, inter: m[3]!, final: String.fromCharCode(c) } : nothing };
    }
    if (breaks(c)) return { end: c === CAN || c === SUB ? p + 1 : p, escape: nothing };
    if (c >= 0x20 && c < 0x7f) body += String.fromCharCode(c);
  }
  return limit < i + maxControl ? unfinished : { end: limit, escape: nothing };
}

/** OSC, DCS, SOS, PM and APC: text that ends with ST or, for OSC, with BEL. Only OSC is handed on. */
function readString(b: Uint8Array, from: number, kind: number): Read {
  const end = endOfString(b, from, kind === 0x5d);
  if (end < 0) return unfinished;
  const c = b[end];
  const whole = c === BEL || (c === ESC && b[end + 1] === 0x5c);
  if (c === ESC && end + 1 >= b.length) return unfinished;
  const behind = c === LF || (c === ESC && !whole) ? end : c === ESC ? end + 2 : end + 1;
  return { end: behind, escape: whole && kind === 0x5d && end - from <= maxString ? { type: "osc", data: new TextDecoder().decode(b.subarray(from, end)) } : nothing };
}

/** The index of the byte that ends a string: BEL for an OSC, ESC, a line feed, CAN or SUB; -1 where there is none. */
export function endOfString(b: Uint8Array, from: number, osc: boolean): number {
  for (let p = from; p < b.length; p++) {
    const c = b[p]!;
    if (c > 0x1b) continue;
    if (c === LF || c === ESC || c === CAN || c === SUB || (osc && c === BEL)) return p;
  }
  return -1;
}

function ascii(b: Uint8Array, from: number, to: number): string {
  let s = "";
  for (let p = from; p < to; p++) s += String.fromCharCode(b[p]!);
  return s;
}
