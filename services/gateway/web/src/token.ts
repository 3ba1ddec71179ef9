// The access token: taken out of the address as soon as the page runs, kept for this tab, never part of a link.

const key = "tasktracer.token";
const channelName = "tasktracer.token";
/** How long a tab that was opened from a link waits for another one to hand it the token, in ms. */
const patience = 400;

/**
 * The token, or "" where there is none. It is moved from the address to the tab's session storage; a tab without one asks
 * the other tabs of this site, so that a link opened in a new tab just works.
 */
export async function takeToken(): Promise<string> {
  const url = new URL(location.href);
  const given = url.searchParams.get("accessToken");
  if (given !== null) {
    url.searchParams.delete("accessToken");
    history.replaceState(history.state, "", url.pathname + url.search + url.hash);
    if (given !== "") sessionStorage.setItem(key, given);
  }
  const token = sessionStorage.getItem(key) ?? (await askTabs());
  if (token) share();
  return token;
}

/** Puts another token in place of an expired one. */
export function setToken(token: string): void {
  sessionStorage.setItem(key, token);
}

function askTabs(): Promise<string> {
  return new Promise((done) => {
    const channel = new BroadcastChannel(channelName);
    const end = (token: string) => {
      channel.close();
      if (token) sessionStorage.setItem(key, token);
      done(token);
    };
    const timer = setTimeout(() => end(""), patience);
    channel.onmessage = (e) => {
      if (typeof e.data?.token !== "string" || e.data.token === "") return;
      clearTimeout(timer);
      end(e.data.token);
    };
    channel.postMessage({ ask: true });
  });
}

/** Answers tabs that ask. */
function share(): void {
  const channel = new BroadcastChannel(channelName);
  channel.onmessage = (e) => {
    if (e.data?.ask) channel.postMessage({ token: sessionStorage.getItem(key) ?? "" });
  };
}

/** When the token ends, in ms, as it says itself; 0 where it does not say. The server decides, this is for people. */
export function tokenEnd(token: string): number {
  try {
    const part = token.split(".")[1] ?? "";
    const payload = JSON.parse(atob(part.replace(/-/g, "+").replace(/_/g, "/"))) as { exp?: number };
    return typeof payload.exp === "number" ? payload.exp * 1000 : 0;
  } catch {
    return 0;
  }
}
