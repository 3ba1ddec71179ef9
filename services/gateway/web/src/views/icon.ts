// The tab's title and icon say how things stand.

import type { Mood } from "./model.ts";

const colours: Record<Mood, string> = { running: "#1f6feb", passed: "#2da44e", failed: "#cf222e", detached: "#bf8700", lost: "#bf8700", unknown: "#6e7781" };
const shapes: Record<Mood, string> = {
  running: "<path d='M6 4.5v7l6-3.5z' fill='#fff'/>",
  passed: "<path d='M4 8.4 7 11.2 12 5' fill='none' stroke='#fff' stroke-width='2'/>",
  failed: "<path d='M5 5l6 6M11 5l-6 6' stroke='#fff' stroke-width='2'/>",
  detached: "<path d='M8 4v5M8 11v1.6' stroke='#fff' stroke-width='2'/>",
  lost: "<path d='M8 4v5M8 11v1.6' stroke='#fff' stroke-width='2'/>",
  unknown: "<path d='M4.5 8h7' stroke='#fff' stroke-width='2'/>",
};

let shown = "";

export function showIcon(mood: Mood, title: string): void {
  if (document.title !== title) document.title = title;
  if (shown === mood) return;
  shown = mood;
  const svg = `<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'><circle cx='8' cy='8' r='8' fill='${colours[mood]}'/>${shapes[mood]}</svg>`;
  const link = document.querySelector<HTMLLinkElement>("link[rel=icon]");
  if (link) link.href = `data:image/svg+xml,${encodeURIComponent(svg)}`;
}
