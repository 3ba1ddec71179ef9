// What a person chose, kept in the browser. None of it is secret.

import { useEffect, useState } from "preact/hooks";
import type { Theme } from "./rows/colour.ts";
import type { TimeStyle } from "./rows/time.ts";

export interface Settings {
  theme: "auto" | Theme;
  wrap: boolean;
  time: TimeStyle;
  notify: boolean;
}

const key = "tasktracer.settings";
const defaults: Settings = { theme: "auto", wrap: false, time: "off", notify: false };

function load(): Settings {
  try {
    const s = JSON.parse(localStorage.getItem(key) ?? "{}") as Partial<Settings>;
    const theme = s.theme === "light" || s.theme === "dark" ? s.theme : "auto";
    const time = s.time === "local" || s.time === "utc" || s.time === "start" ? s.time : "off";
    return { theme, wrap: s.wrap === true, time, notify: s.notify === true };
  } catch {
    return defaults;
  }
}

/** The settings, and how to change one. */
export function useSettings(): [Settings, (change: Partial<Settings>) => void] {
  const [s, set] = useState(load);
  return [
    s,
    (change) => {
      const next = { ...s, ...change };
      localStorage.setItem(key, JSON.stringify(next));
      set(next);
    },
  ];
}

/** The theme in force: what was chosen, else what the system has. */
export function useTheme(s: Settings): Theme {
  const query = matchMedia("(prefers-color-scheme: light)");
  const [light, setLight] = useState(query.matches);
  useEffect(() => {
    const on = () => setLight(query.matches);
    query.addEventListener("change", on);
    return () => query.removeEventListener("change", on);
  }, []);
  const theme = s.theme === "auto" ? (light ? "light" : "dark") : s.theme;
  useEffect(() => {
    document.documentElement.dataset["theme"] = theme;
  }, [theme]);
  return theme;
}
