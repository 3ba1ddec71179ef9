// A row as an element. Text goes in as text nodes, colours through the style object: nothing of a log is ever markup.

import { GAP, HOLE, NOTE, STDERR } from "../log/table.ts";
import { BOLD, DIM, HIDDEN, INVERSE, ITALIC, STRIKE, UNDERLINE } from "../screen/style.ts";
import type { Ranges } from "../search/owner.ts";
import type { Row, RowSpan } from "../worker/messages.ts";
import { bytesText } from "../words.ts";
import { css, type Theme } from "./colour.ts";
import type { TimeStyle } from "./time.ts";
import { timeText } from "./time.ts";

export interface Look {
  theme: Theme;
  time: TimeStyle;
  startedAt: number;
  /** Where in a row's text there is what was searched for. */
  marks: ((text: string) => Ranges) | undefined;
  /** Colour number of a client in a merged log. */
  colourOf: (id: string) => number;
}

export function renderRow(r: Row, look: Look): HTMLElement {
  const el = document.createElement("div");
  el.className = "row";
  el.dataset["row"] = String(r.row);
  const gutter = document.createElement("span");
  gutter.className = "gutter";
  el.append(gutter);
  if (r.from !== undefined) {
    const who = document.createElement("button");
    who.type = "button";
    who.tabIndex = -1;
    who.dataset["who"] = r.from;
    who.className = `who who${look.colourOf(r.from)}`;
    who.textContent = r.from === "" ? "(no id)" : r.from;
    who.title = r.from;
    gutter.append(who);
  }
  if (r.line > 0) {
    const n = document.createElement("a");
    n.className = "line";
    n.href = `#L${r.line}`;
    n.tabIndex = -1;
    n.dataset["line"] = String(r.line);
    n.textContent = String(r.line);
    n.setAttribute("aria-label", `Line ${r.line}`);
    gutter.append(n);
  } else {
    const n = document.createElement("span");
    n.className = "line";
    gutter.append(n);
  }
  if (look.time !== "off") {
    const t = document.createElement("time");
    t.textContent = r.at > 0 ? timeText(r.at, look.time, look.startedAt) : "";
    gutter.append(t);
  }
  const text = document.createElement("span");
  text.className = "text";
  if (r.flags & HOLE) el.classList.add("loading");
  if (r.flags & (NOTE | GAP)) {
    el.classList.add("note");
  } else if (r.flags & STDERR) {
    el.classList.add("stderr");
    const tag = document.createElement("span");
    tag.className = "tag";
    tag.title = "written to stderr";
    tag.setAttribute("aria-label", "stderr:");
    tag.setAttribute("role", "img");
    gutter.append(tag);
  }
  for (const s of r.spans) text.append(renderSpan(s, look.theme));
  if (look.marks) markText(text, look.marks(text.textContent ?? ""));
  el.append(text);
  if (r.clipped > 0) {
    const more = document.createElement("button");
    more.className = "more";
    more.type = "button";
    more.dataset["whole"] = String(r.row);
    more.textContent = `show all ${bytesText(r.clipped)}`;
    el.append(more);
  }
  return el;
}

function renderSpan([text, fg, bg, flags, href]: RowSpan, theme: Theme): Node {
  if (fg < 0 && bg < 0 && flags === 0 && href === undefined) return document.createTextNode(text);
  const el = document.createElement(href === undefined ? "span" : "a");
  if (href !== undefined) {
    const a = el as HTMLAnchorElement;
    a.href = href;
    a.target = "_blank";
    a.rel = "noopener noreferrer nofollow";
    a.tabIndex = -1;
    a.className = "out";
  }
  if (fg >= 0 && fg < 16 && bg < 0 && !(flags & (INVERSE | DIM))) {
    el.classList.add(`c${fg}`);
  } else if (fg >= 0 || bg >= 0 || flags & (INVERSE | DIM)) {
    const c = css(fg, bg, (flags & INVERSE) !== 0, (flags & DIM) !== 0, theme);
    el.style.color = c.fg;
    if (c.bg) el.style.backgroundColor = c.bg;
  }
  if (flags & BOLD) el.classList.add("b");
  if (flags & ITALIC) el.classList.add("i");
  if (flags & UNDERLINE) el.classList.add("u");
  if (flags & STRIKE) el.classList.add("s");
  if (flags & HIDDEN) el.classList.add("h");
  el.textContent = text;
  return el;
}

/** Puts a mark around each range, over the borders of spans. */
function markText(el: HTMLElement, ranges: Ranges): void {
  if (ranges.length === 0) return;
  const walker = document.createTreeWalker(el, NodeFilter.SHOW_TEXT);
  const nodes: [Text, number][] = [];
  let at = 0;
  for (let n = walker.nextNode() as Text | null; n; n = walker.nextNode() as Text | null) {
    nodes.push([n, at]);
    at += n.data.length;
  }
  for (const [node, from] of nodes.reverse()) {
    const to = from + node.data.length;
    for (let k = ranges.length - 1; k >= 0; k--) {
      const [a, b] = ranges[k]!;
      if (b <= from || a >= to) continue;
      const s = Math.max(a, from) - from;
      const e = Math.min(b, to) - from;
      if (e < node.data.length) node.splitText(e);
      const hit = s > 0 ? node.splitText(s) : node;
      const mark = document.createElement("mark");
      hit.replaceWith(mark);
      mark.append(hit);
      if (s === 0) break;
    }
  }
}
