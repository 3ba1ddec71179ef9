// A stored row as text and styled stretches, ready to be put into text nodes.

import { ESC, readEscape } from "./escape.ts";
import { applySgr, PLAIN, same, type Style } from "./style.ts";

/** A stretch of text with one look. `href` is an address that is safe to open. */
export interface Span {
  text: string;
  style: Style;
  href?: string;
}

/** Characters that are not shown. */
export const control = /[\x00-\x08\x0b-\x1f\x7f-\x9f]/g;
const address = /https?:\/\/[^\s<>"'`{}|\\^\u0000-\u0020\u007f-\u00a0\u200b-\u200f\u202a-\u202e\u2066-\u2069]+/g;

/** A row's text without anything that is not text. */
export function plainText(bytes: Uint8Array, decoder = new TextDecoder()): string {
  const s = decoder.decode(bytes);
  return s.includes("\x1b") ? s.replace(stored, "").replace(control, "") : s.replace(control, "");
}

/** The sequences that a stored row can hold. */
export const stored = /\x1b\[[0-9:;]*m|\x1b\]8;[^\x07\x1b\n]*(?:\x07|\x1b\\)/g;

/** The row's first `limit` bytes as spans. */
export function spans(bytes: Uint8Array, style: Style, limit: number): { spans: Span[]; clipped: boolean } {
  const clipped = bytes.length > limit;
  let b = bytes;
  if (clipped) {
    let end = limit;
    while (end > 0 && (b[end]! & 0xc0) === 0x80) end--;
    b = b.subarray(0, end);
  }
  const out: Span[] = [];
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  let href: string | undefined;
  for (let i = 0; i < b.length; ) {
    if (b[i] === ESC) {
      const { end, escape } = readEscape(b, i);
      if (end < 0) break;
      if (escape.type === "csi" && escape.final === "m") style = applySgr(style, escape.params);
      if (escape.type === "osc") href = link(escape.data);
      i = end;
      continue;
    }
    let p = b.indexOf(ESC, i);
    if (p < 0) p = b.length;
    add(out, decoder.decode(b.subarray(i, p)).replace(control, ""), style, href);
    i = p;
  }
  return { spans: linked(out), clipped };
}

function add(out: Span[], text: string, style: Style, href: string | undefined): void {
  if (text === "") return;
  const last = out[out.length - 1];
  if (last && last.href === href && same(last.style, style)) last.text += text;
  else out.push(href === undefined ? { text, style } : { text, style, href });
}

function link(data: string): string | undefined {
  const at = data.indexOf(";", 2);
  return at < 0 ? undefined : safe(data.slice(at + 1));
}

/** The address, if it is one of the two kinds that a log may link to. */
export function safe(href: string): string | undefined {
  if (!/^https?:\/\//i.test(href)) return undefined;
  try {
    const u = new URL(href);
    return u.protocol === "http:" || u.protocol === "https:" ? u.href : undefined;
  } catch {
    return undefined;
  }
}

/** Makes what looks like a web address a span of its own. */
function linked(list: Span[]): Span[] {
  if (!list.some((s) => s.href === undefined && s.text.includes("://"))) return list;
  const out: Span[] = [];
  for (const s of list) {
    if (s.href !== undefined || !s.text.includes("://")) {
      out.push(s);
      continue;
    }
    let from = 0;
    for (const m of s.text.matchAll(address)) {
      const text = m[0].replace(/[.,;:!?)\]]+$/, "");
      const href = safe(text);
      if (!href) continue;
      if (m.index > from) out.push({ text: s.text.slice(from, m.index), style: s.style });
      out.push({ text, style: s.style, href });
      from = m.index + text.length;
    }
    if (from < s.text.length) out.push({ text: s.text.slice(from), style: s.style });
  }
  return out;
}

export { PLAIN };
