// Colours of the palette, and text that stays readable on whatever it is put on.

import { RGB } from "../screen/style.ts";

export type Theme = "light" | "dark";
type Rgb = readonly [number, number, number];

/** The background of a log, and the colour of its text. */
export const paper: Record<Theme, { bg: string; fg: string }> = {
  light: { bg: "#ffffff", fg: "#1f2328" },
  dark: { bg: "#0d1117", fg: "#dce3ea" },
};

/** The 16 colours, each at least 4.5:1 on the paper of its theme. */
export const sixteen: Record<Theme, readonly string[]> = {
  light: [
    "#24292f", "#c11f2b", "#14662c", "#7d4e00", "#0857b8", "#7a3fd6", "#0f6b73", "#59636e",
    "#57606a", "#a40e26", "#1a7431", "#875300", "#0969c9", "#7e4bdb", "#1b747b", "#656d76",
  ],
  dark: [
    "#8f98a2", "#ff7b72", "#3fb950", "#d29922", "#58a6ff", "#bc8cff", "#39c5cf", "#b1bac4",
    "#98a2ad", "#ffa198", "#56d364", "#e3b341", "#79c0ff", "#d2a8ff", "#56d4dd", "#ffffff",
  ],
};

/** A palette number or a true colour as it is shown in a theme. */
export function rgbOf(colour: number, theme: Theme): Rgb {
  if (colour & RGB) return [(colour >> 16) & 255, (colour >> 8) & 255, colour & 255];
  if (colour < 16) return parse(sixteen[theme][colour]!);
  if (colour >= 232) {
    const v = 8 + (colour - 232) * 10;
    return [v, v, v];
  }
  const step = (n: number) => (n === 0 ? 0 : 55 + n * 40);
  const n = colour - 16;
  return [step(Math.floor(n / 36)), step(Math.floor(n / 6) % 6), step(n % 6)];
}

export function parse(hex: string): Rgb {
  const n = parseInt(hex.slice(1), 16);
  return [n >> 16, (n >> 8) & 255, n & 255];
}

/** Relative luminance, as WCAG has it. */
function luminance(c: Rgb): number {
  const f = (v: number) => (v <= 10 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4);
  return 0.2126 * f(c[0]) + 0.7152 * f(c[1]) + 0.0722 * f(c[2]);
}

/** Contrast of two colours, 1 to 21. */
export function contrast(a: Rgb, b: Rgb): number {
  const x = luminance(a);
  const y = luminance(b);
  return (Math.max(x, y) + 0.05) / (Math.min(x, y) + 0.05);
}

/** The colour, moved towards white or black until it has this contrast to the background. */
export function readable(fg: Rgb, bg: Rgb, least = 4.5): Rgb {
  if (contrast(fg, bg) >= least) return fg;
  const goal: Rgb = contrast([255, 255, 255], bg) >= contrast([0, 0, 0], bg) ? [255, 255, 255] : [0, 0, 0];
  for (let k = 1; k <= 20; k++) {
    const c: Rgb = [mix(fg[0], goal[0], k), mix(fg[1], goal[1], k), mix(fg[2], goal[2], k)];
    if (contrast(c, bg) >= least) return c;
  }
  return goal;
}

function mix(a: number, b: number, k: number): number {
  return Math.round(a + ((b - a) * k) / 20);
}

/** Contrast to the paper that leaves 4.5:1 where a row has another ground: stderr, chosen, under the mouse. */
const onPaper: Record<Theme, number> = { light: 5.4, dark: 6.5 };

const cache = new WeakMap<object, Map<string, { fg: string; bg: string }>>();
const themes: Record<Theme, object> = { light: {}, dark: {} };

/** How far dim text is moved towards its background, as far as it stays readable. */
const dimBy = 7;

/** CSS colours for text and its background; "" for those of the paper. */
export function css(fg: number, bg: number, inverse: boolean, dim: boolean, theme: Theme): { fg: string; bg: string } {
  let known = cache.get(themes[theme]);
  if (!known) cache.set(themes[theme], (known = new Map()));
  const key = `${fg},${bg},${inverse},${dim}`;
  const hit = known.get(key);
  if (hit) return hit;
  if (known.size > 10_000) known.clear();
  const p = paper[theme];
  let f: Rgb = fg < 0 ? parse(p.fg) : rgbOf(fg, theme);
  let b: Rgb = bg < 0 ? parse(p.bg) : rgbOf(bg, theme);
  let bare = bg < 0;
  if (inverse) {
    [f, b] = [b, f];
    bare = false;
  }
  if (dim) f = [mix(f[0], b[0], dimBy), mix(f[1], b[1], dimBy), mix(f[2], b[2], dimBy)];
  const out = { fg: text(readable(f, b, bare ? onPaper[theme] : 4.5)), bg: bare ? "" : text(b) };
  known.set(key, out);
  return out;
}

function text(c: Rgb): string {
  return `rgb(${c[0]},${c[1]},${c[2]})`;
}
