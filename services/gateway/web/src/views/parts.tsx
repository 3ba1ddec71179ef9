// Small pieces that several views use.

import type { ComponentChildren } from "preact";
import { useEffect, useState } from "preact/hooks";
import type { Mood } from "./model.ts";

const words: Record<Mood, string> = {
  running: "running",
  passed: "passed",
  failed: "failed",
  detached: "connection lost, waiting",
  lost: "lost",
  unknown: "no run yet",
};

const shapes: Record<Mood, string> = {
  running: "M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2z",
  passed: "M3 8.6 6.6 12 13 4.6",
  failed: "M4 4l8 8M12 4l-8 8",
  detached: "M8 3v6M8 12.4v.2",
  lost: "M8 3v6M8 12.4v.2",
  unknown: "M5 8h6",
};

/** A light: colour and shape say the same, and so does its label. */
export function Light({ mood, isIn }: { mood: Mood; isIn?: boolean }) {
  const label = words[mood] + (isIn === undefined ? "" : isIn ? ", connected" : ", not connected");
  return (
    <span class={`light ${mood}${isIn ? " in" : ""}`} role="img" aria-label={label} title={label}>
      <svg viewBox="0 0 16 16" aria-hidden="true">
        <path d={shapes[mood]} />
      </svg>
    </span>
  );
}

/** Now, in ms, again and again, as long as `on`. */
export function useNow(on: boolean, every = 1000): number {
  const [now, set] = useState(Date.now());
  useEffect(() => {
    if (!on) return undefined;
    const t = setInterval(() => set(Date.now()), every);
    return () => clearInterval(t);
  }, [on, every]);
  return now;
}

/** A page-wide message, for when there is nothing else to show. */
export function Notice({ title, children }: { title: string; children: ComponentChildren }) {
  return (
    <main class="notice">
      <h1>{title}</h1>
      {children}
    </main>
  );
}

/** A button that stays down. */
export function Toggle(p: { on: boolean; label: string; hint: string; onClick: () => void }) {
  return (
    <button type="button" class={p.on ? "toggle on" : "toggle"} aria-pressed={p.on} title={p.hint} onClick={p.onClick}>
      {p.label}
    </button>
  );
}
