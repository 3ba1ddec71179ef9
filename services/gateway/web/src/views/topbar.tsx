// The bar at the top of every page.

import type { ComponentChildren } from "preact";
import type { Settings } from "../settings.ts";
import type { Link } from "./model.ts";
import { useNow } from "./parts.tsx";
import { duration } from "../rows/time.ts";

const nextTheme = { auto: "light", light: "dark", dark: "auto" } as const;

export function TopBar(p: { settings: Settings; change: (s: Partial<Settings>) => void; link: Link; onHelp?: () => void; children?: ComponentChildren }) {
  const { theme } = p.settings;
  return (
    <header class="top">
      <a class="brand" href="/">
        <svg viewBox="0 0 16 16" aria-hidden="true">
          <path d="M2 4l4 4-4 4M8 12h6" />
        </svg>
        TaskTracer
      </a>
      {p.children}
      <span class="space" />
      <LinkState link={p.link} />
      <button type="button" class="quiet" onClick={() => p.change({ theme: nextTheme[theme] })} title="Light, dark or as the system has it" aria-label={`Theme: ${theme}. Change`}>
        {theme === "auto" ? "◐" : theme === "light" ? "☀" : "☾"}
      </button>
      {p.onHelp && (
        <button type="button" class="quiet" onClick={p.onHelp} title="Keyboard ( ? )" aria-label="Keyboard help">
          ?
        </button>
      )}
    </header>
  );
}

function LinkState({ link }: { link: Link }) {
  const now = useNow(link.state === "offline");
  const text = {
    online: "live",
    connecting: "connecting…",
    offline: link.state === "offline" && link.since > 0 && now - link.since > 1500 ? `no connection for ${duration(Math.floor((now - link.since) / 1000) * 1000)}, trying again…` : "no connection, trying again…",
    refused: "disconnected",
  }[link.state];
  return (
    <span class={`link ${link.state}`} role="status" aria-live="polite">
      <span class="dot" aria-hidden="true" />
      {text}
    </span>
  );
}
