// The rows on the screen: only those that can be seen, and a few around them, are in the document.

import type { LogHandle } from "../worker/bridge.ts";
import type { Row, Status } from "../worker/messages.ts";
import type { Theme } from "./colour.ts";
import { Marks, type Marker } from "./marks.ts";
import { renderRow } from "./render.ts";
import { Scroll } from "./scroll.ts";
import type { TimeStyle } from "./time.ts";

/** Rows are asked for in blocks of this many, and this many blocks are kept. */
const blockRows = 128;
const keptBlocks = 60;
/** Rows rendered above and below the window. */
const overscan = 12;
/** The bar is put right this long after the last movement, in ms. */
const settle = 160;

export interface Events {
  /** Following began or ended, or lines came while not following. */
  follow(on: boolean, behind: number): void;
  /** A line's number was chosen; with `extend` as the end of a range. */
  line(line: number, extend: boolean): void;
  /** All lines were chosen; there are so many. */
  all(lines: number): void;
  /** A client's name was chosen, in a merged log. */
  client(id: string): void;
}

export class LogView {
  readonly scroller = document.createElement("div");
  private readonly spacer = document.createElement("div");
  private readonly pane = document.createElement("div");
  private readonly rows = document.createElement("div");
  private readonly marks = document.createElement("canvas");
  private readonly scroll = new Scroll((r) => this.heights.get(r) ?? this.scroll.rowHeight);
  private readonly heights = new Map<number, number>();
  private readonly cache = new Map<number, Row>();
  private readonly asked = new Set<number>();
  private shown = new Map<number, { row: Row; el: HTMLElement; look: number }>();
  private whole = new Map<number, Row>();
  private handle: LogHandle | undefined;
  private epoch = -1;
  private stable = 0;
  private look = 0;
  private wrap = false;
  private theme: Theme = "dark";
  private time: TimeStyle = "off";
  private startedAt = 0;
  private lines = 0;
  private readonly marked = new Marks((texts) => this.redraw(texts));
  private hits: number[] = [];
  private hit = -1;
  /** Counts how often somebody went to another place. */
  moves = 0;
  /** The count when the current hit was brought into view. */
  private movedToHit = -1;
  private range: [number, number] = [0, 0];
  private frame = 0;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private following = true;
  private behind = 0;
  private widest = 0;
  private generation = 0;
  private readonly observer: ResizeObserver;
  colourOf: (id: string) => number = () => 0;

  constructor(
    host: HTMLElement,
    private readonly events: Events,
    label: string,
  ) {
    const s = this.scroller;
    s.className = "log";
    s.tabIndex = 0;
    s.setAttribute("role", "log");
    s.setAttribute("aria-live", "off");
    s.setAttribute("aria-label", label);
    this.spacer.className = "spacer";
    this.pane.className = "pane";
    this.rows.className = "rows";
    this.marks.className = "marks";
    this.marks.setAttribute("aria-hidden", "true");
    this.pane.append(this.rows);
    this.spacer.append(this.pane);
    s.append(this.spacer);
    host.append(s, this.marks);
    s.addEventListener("scroll", () => this.onScroll(), { passive: true });
    s.addEventListener("click", (e) => this.onClick(e));
    s.addEventListener("keydown", (e) => this.onKey(e));
    this.observer = new ResizeObserver(() => this.measure());
    this.observer.observe(s);
    this.measure();
  }

  destroy(): void {
    this.observer.disconnect();
    cancelAnimationFrame(this.frame);
    clearTimeout(this.timer);
    this.scroller.remove();
    this.marks.remove();
  }

  /** Shows another log. */
  setLog(handle: LogHandle | undefined, follow: boolean): void {
    this.generation++;
    this.handle = handle;
    this.epoch = -1;
    this.forget();
    this.widest = 0;
    this.spacer.style.minWidth = "";
    this.scroll.first = this.scroll.count = 0;
    this.scroll.place = { row: 0, px: 0 };
    this.behind = 0;
    this.hits = [];
    this.marked.set(undefined);
    this.setFollow(follow);
    this.draw();
  }

  private forget(): void {
    this.cache.clear();
    this.asked.clear();
    this.heights.clear();
    this.whole.clear();
  }

  setLook(o: { wrap: boolean; theme: Theme; time: TimeStyle }): void {
    if (o.wrap === this.wrap && o.theme === this.theme && o.time === this.time) return;
    const wrapped = o.wrap !== this.wrap;
    this.wrap = o.wrap;
    this.theme = o.theme;
    this.time = o.time;
    this.scroller.classList.toggle("wrap", o.wrap);
    if (wrapped) {
      this.heights.clear();
      this.widest = 0;
      this.spacer.style.minWidth = "";
    }
    this.look++;
    this.draw();
    this.drawSoon();
  }

  setRange(from: number, to: number): void {
    this.range = [from, to];
    for (const { row, el } of this.shown.values()) this.markRange(row, el);
  }

  /** The rows with hits, and what finds them in a row. */
  setHits(marker: Marker | undefined, hits: number[]): void {
    if (marker?.key !== this.marked.key || hits.length === 0) this.hit = -1;
    this.marked.set(marker);
    this.hits = hits;
    this.look++;
    this.draw();
    this.drawMarks();
  }

  /** Marks have come for these texts. */
  private redraw(texts: Set<string>): void {
    for (const s of this.shown.values()) if (texts.has(s.el.querySelector(".text")?.textContent ?? "")) s.look = -1;
    this.drawSoon();
  }

  /** Brings a hit into view and marks it as the current one. */
  showHit(row: number): void {
    this.hit = row;
    this.look++;
    this.goTo(row);
    this.movedToHit = this.moves;
  }

  /** The current hit is in another row now, as rows before it came or went; where it was in view it stays there. */
  moveHit(row: number): void {
    if (this.movedToHit === this.moves) return this.showHit(row);
    this.hit = row;
    this.look++;
    this.draw();
  }

  /** How the log stands now. */
  status(s: Status): void {
    const { scroll } = this;
    if (s.epoch !== this.epoch) {
      const first = this.epoch < 0;
      this.epoch = s.epoch;
      const top = this.cache.get(scroll.place.row);
      this.forget();
      if (!first && !this.following && top && scroll.place.row > 0) this.stay(top);
    }
    const grown = s.count - scroll.count;
    const moved = s.first !== scroll.first;
    const from = Math.min(this.stable, s.stable);
    for (const r of this.cache.keys()) if (r >= from) this.cache.delete(r);
    this.asked.clear();
    for (const r of this.whole.keys()) if (r >= from) this.whole.delete(r);
    if (this.wrap) for (const r of this.heights.keys()) if (r >= from) this.heights.delete(r);
    this.generation++;
    this.stable = s.stable;
    this.startedAt = s.startedAt;
    this.lines = s.lines;
    scroll.first = s.first;
    scroll.count = s.count;
    for (const r of s.tail) this.keep(r);
    if (scroll.place.row < s.first) scroll.place = { row: s.first, px: 0 };
    const digits = String(s.lines + 1).length;
    this.scroller.style.setProperty("--digits", String(Math.max(3, digits)));
    this.size();
    if (this.following) {
      scroll.place = scroll.last();
      this.putBar();
    } else if (moved) {
      this.putBar();
    } else if (grown > 0) {
      this.behind += grown;
      this.events.follow(false, this.behind);
    }
    this.draw();
    if (this.hits.length > 0) this.drawMarks();
  }

  /** Takes a row. One that looks as before stays the same object, so that its element, and what is selected in it, stay too. */
  private keep(r: Row): void {
    const old = this.shown.get(r.row)?.row;
    this.cache.set(r.row, old && alike(old, r) ? old : r);
  }

  /** Rows have other numbers now: what is at the top of the window stays there. */
  private stay(top: Row): void {
    const { handle } = this;
    const { row: before } = this.scroll.place;
    const now = top.line > 0 && top.from === undefined ? handle?.rowOfLine(top.line - 1) : handle?.rowOfTime(top.at);
    void now?.then((row) => {
      if (handle !== this.handle || row === before || this.scroll.place.row !== before) return;
      this.scroll.place = { row, px: this.scroll.place.px };
      this.putBar();
      this.draw();
    });
  }

  get count(): number {
    return this.scroll.count;
  }

  /** The row at the top of the window. */
  get topRow(): number {
    return this.scroll.place.row;
  }

  setFollow(on: boolean): void {
    this.following = on;
    if (on) this.moves++;
    if (on) this.behind = 0;
    this.handle?.follow(on ? this.visible() + overscan : 0);
    this.events.follow(on, this.behind);
    if (on) this.toEnd();
  }

  toEnd(): void {
    this.scroll.place = this.scroll.last();
    this.putBar();
    this.draw();
  }

  toStart(): void {
    this.moves++;
    this.stopFollowing();
    this.scroll.to(this.scroll.first);
    this.putBar();
    this.draw();
  }

  /** Shows a row, in the upper third of the window. */
  goTo(row: number): void {
    this.moves++;
    this.stopFollowing();
    this.scroll.to(row, Math.floor(this.scroll.window / 3));
    this.putBar();
    this.draw();
  }

  private stopFollowing(): void {
    if (!this.following) return;
    this.following = false;
    this.behind = 0;
    this.handle?.follow(0);
    this.events.follow(false, 0);
  }

  private visible(): number {
    return Math.ceil(this.scroll.window / this.scroll.rowHeight) + 1;
  }

  private measure(): void {
    const probe = document.createElement("div");
    probe.className = "row";
    probe.textContent = "0";
    this.rows.append(probe);
    const height = probe.getBoundingClientRect().height;
    probe.remove();
    if (height > 0) this.scroll.rowHeight = height;
    const window = this.scroller.clientHeight;
    if (window <= 0) return;
    this.scroll.window = window;
    this.pane.style.height = `${window}px`;
    this.heights.clear();
    this.size();
    if (this.following) this.handle?.follow(this.visible() + overscan);
    if (this.following) this.scroll.place = this.scroll.last();
    else this.scroll.to(this.scroll.place.row, -this.scroll.place.px);
    this.putBar();
    this.draw();
    this.drawMarks();
  }

  private size(): void {
    const h = `${this.scroll.height}px`;
    if (this.spacer.style.height !== h) this.spacer.style.height = h;
  }

  private putBar(): void {
    this.scroller.scrollTop = this.scroll.barTop();
    this.scroll.set(this.scroller.scrollTop);
  }

  private onScroll(): void {
    // The browser moved the rows, as the window has another height; nobody has scrolled. It may say so before the observer does.
    if (this.scroller.clientHeight !== this.scroll.window) return this.measure();
    const before = this.scroll.place;
    if (this.scroll.moved(this.scroller.scrollTop)) this.putBar();
    const { place } = this.scroll;
    if (place.row !== before.row || place.px !== before.px) {
      this.moves++;
      const up = place.row < before.row || (place.row === before.row && place.px < before.px);
      if (this.following && up && !this.scroll.atEnd) this.stopFollowing();
      else if (!this.following && !up && this.scroll.atEnd) this.setFollow(true);
    }
    this.drawSoon();
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.putBar(), settle);
  }

  private drawSoon(): void {
    if (this.frame) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      this.draw();
    });
  }

  private draw(): void {
    const { scroll } = this;
    const from = Math.max(scroll.first, scroll.place.row - overscan);
    const to = Math.min(scroll.count, scroll.place.row + this.visible() + overscan);
    this.want(from, to);
    const next = new Map<number, { row: Row; el: HTMLElement; look: number }>();
    let before: ChildNode | null = this.rows.firstChild;
    for (let i = from; i < to; i++) {
      const row = this.whole.get(i) ?? this.cache.get(i);
      const old = this.shown.get(i);
      let el: HTMLElement;
      if (!row) {
        // What was here is shown until the new row has come, so that nothing flickers.
        el = old?.el ?? this.empty(i);
        next.set(i, old ?? { row: { row: i, line: 0, at: 0, flags: 0, spans: [], clipped: 0 }, el, look: -1 });
      } else if (old && old.row === row && old.look === this.look) {
        el = old.el;
        next.set(i, old);
      } else {
        el = renderRow(row, { theme: this.theme, time: this.time, startedAt: this.startedAt, marks: this.marked.of, colourOf: this.colourOf });
        this.markRange(row, el);
        if (i === this.hit) el.classList.add("current");
        if (old?.el === before) before = before?.nextSibling ?? null;
        old?.el.remove();
        next.set(i, { row, el, look: this.look });
        this.heights.delete(i);
      }
      if (el === before) before = before.nextSibling;
      else this.rows.insertBefore(el, before);
    }
    while (before) {
      const gone = before;
      before = before.nextSibling;
      gone.remove();
    }
    this.shown = next;
    this.marked.ask();
    this.position(from, to);
  }

  private empty(i: number): HTMLElement {
    const el = document.createElement("div");
    el.className = "row loading";
    el.dataset["row"] = String(i);
    return el;
  }

  /** Puts the rows where they belong; where lines wrap, their heights are measured first. */
  private position(from: number, to: number): void {
    const { scroll } = this;
    if (this.wrap || this.whole.size > 0) {
      let changed = false;
      for (let i = from; i < to; i++) {
        const h = this.shown.get(i)?.el.getBoundingClientRect().height ?? 0;
        if (h > 0 && this.heights.get(i) !== h) {
          this.heights.set(i, h);
          changed = true;
        }
      }
      if (changed && this.following) {
        scroll.place = scroll.last();
        if (scroll.place.row < from) this.drawSoon();
      }
    } else {
      const w = this.rows.scrollWidth;
      if (w > this.widest) {
        this.widest = w;
        this.spacer.style.minWidth = `${w}px`;
      }
    }
    let above = scroll.place.px;
    for (let i = from; i < scroll.place.row; i++) above += this.heights.get(i) ?? scroll.rowHeight;
    this.rows.style.transform = `translateY(${-Math.round(above)}px)`;
  }

  /** Asks for rows that are not here. */
  private want(from: number, to: number): void {
    const { handle } = this;
    if (!handle) return;
    for (let b = Math.floor(from / blockRows); b * blockRows < to; b++) {
      if (this.asked.has(b)) continue;
      let missing = false;
      for (let i = Math.max(from, b * blockRows); i < Math.min(to, (b + 1) * blockRows); i++) if (!this.cache.has(i)) missing = true;
      if (!missing) continue;
      this.asked.add(b);
      const { generation } = this;
      void handle.rows(b * blockRows, (b + 1) * blockRows).then((rows) => {
        if (handle !== this.handle) return;
        // Rows that may have changed since are asked for again by the next draw.
        for (const r of rows) if (generation === this.generation || r.row < this.stable) this.keep(r);
        this.asked.delete(b);
        this.evict();
        this.drawSoon();
      });
    }
  }

  private evict(): void {
    if (this.cache.size <= keptBlocks * blockRows) return;
    const at = this.scroll.place.row;
    for (const r of this.cache.keys()) if (Math.abs(r - at) > (keptBlocks / 4) * blockRows) this.cache.delete(r);
  }

  private markRange(row: Row, el: HTMLElement): void {
    const [a, b] = this.range;
    const on = row.line > 0 && a > 0 && row.line >= a && row.line <= b;
    el.classList.toggle("chosen", on);
  }

  private onClick(e: MouseEvent): void {
    const target = e.target as HTMLElement;
    const line = target.dataset["line"];
    if (line !== undefined) {
      if (e.ctrlKey || e.metaKey) return;
      e.preventDefault();
      this.events.line(Number(line), e.shiftKey);
      return;
    }
    const who = target.dataset["who"];
    if (who !== undefined) {
      this.events.client(who);
      return;
    }
    const whole = target.dataset["whole"];
    if (whole !== undefined) this.expand(Number(whole));
  }

  /** Shows all of a long row, or as much of it as a page can bear. */
  private expand(i: number): void {
    void this.handle?.rows(i, i + 1, true).then((rows) => {
      const r = rows[0];
      if (!r) return;
      this.stopFollowing();
      this.whole.set(i, r);
      this.draw();
    });
  }

  private onKey(e: KeyboardEvent): void {
    if ((e.ctrlKey || e.metaKey) && e.key === "a") {
      this.events.all(this.lines);
      e.preventDefault();
      return;
    }
    if (e.altKey || e.metaKey) return;
    if (e.key === "Home") this.toStart();
    else if (e.key === "End") this.setFollow(true);
    else return;
    e.preventDefault();
  }

  /** Where the hits are, beside the bar. */
  private drawMarks(): void {
    const { marks, hits, scroll } = this;
    const h = scroll.window;
    marks.hidden = hits.length === 0;
    if (hits.length === 0) return;
    marks.height = h;
    marks.width = 10;
    const g = marks.getContext("2d");
    if (!g) return;
    g.clearRect(0, 0, 10, h);
    g.fillStyle = this.theme === "dark" ? "#e3b341" : "#b36b00";
    const all = Math.max(1, scroll.count - scroll.first);
    let last = -9;
    for (const r of hits) {
      const y = Math.floor(((r - scroll.first) / all) * (h - 3));
      if (y <= last + 1) continue;
      g.fillRect(0, y, 10, 2);
      last = y;
    }
  }
}

function alike(a: Row, b: Row): boolean {
  if (a.line !== b.line || a.at !== b.at || a.flags !== b.flags || a.clipped !== b.clipped || a.from !== b.from || a.spans.length !== b.spans.length) return false;
  return a.spans.every((s, i) => {
    const t = b.spans[i]!;
    return s[0] === t[0] && s[1] === t[1] && s[2] === t[2] && s[3] === t[3] && s[4] === t[4];
  });
}
