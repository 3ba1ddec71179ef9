// The page: takes the token, reads the address, shows the list of tasks or a task.

import { render } from "preact";
import { useEffect, useMemo, useState } from "preact/hooks";
import { Api } from "./api.ts";
import "./page.css";
import { address, parseRoute, type Route } from "./route.ts";
import { useSettings, useTheme } from "./settings.ts";
import { takeToken, tokenEnd } from "./token.ts";
import { startEarly } from "./worker/bridge.ts";
import { Notice } from "./views/parts.tsx";
import { TaskPage } from "./views/task.tsx";
import { TasksPage } from "./views/tasks.tsx";

function App({ token }: { token: string }) {
  const [settings, change] = useSettings();
  const theme = useTheme(settings);
  const [route, setRoute] = useState(() => parseRoute(location.href));
  const api = useMemo(() => new Api(token), [token]);
  useEffect(() => {
    const on = () => setRoute(parseRoute(location.href));
    addEventListener("popstate", on);
    addEventListener("hashchange", on);
    return () => {
      removeEventListener("popstate", on);
      removeEventListener("hashchange", on);
    };
  }, []);
  const go = (r: Route, replace = false) => {
    const to = address(r);
    if (to !== location.pathname + location.search + location.hash) {
      if (replace) history.replaceState(null, "", to);
      else history.pushState(null, "", to);
    }
    setRoute(r);
  };
  if (token === "") return <NoToken />;
  const end = tokenEnd(token);
  if (end > 0 && end < Date.now()) return <Expired at={end} />;
  if (route.task === undefined) return <TasksPage api={api} go={go} settings={settings} change={change} />;
  return <TaskPage key={route.task} task={route.task} token={token} api={api} route={route} go={go} settings={settings} change={change} theme={theme} />;
}

function NoToken() {
  return (
    <Notice title="This page needs an access token">
      <p>
        Open the address that <code>tt</code> printed, or the one that <code>make run</code> shows: it ends in <code>?accessToken=…</code>
      </p>
      <p>The token stays in this browser tab. It is not part of the links on this page, so a link that you were sent works only where a token was already given.</p>
    </Notice>
  );
}

function Expired({ at }: { at: number }) {
  return (
    <Notice title="The access token has expired">
      <p>
        It was good until <time>{new Date(at).toLocaleString()}</time>. Open a fresh address: every <code>tt</code> prints one when it starts, and <code>tasktracer tokengen</code> makes
        new tokens. Nothing is lost meanwhile; the log goes on.
      </p>
    </Notice>
  );
}

if (parseRoute(location.href).task !== undefined) startEarly();
const token = await takeToken();
const app = document.getElementById("app")!;
app.replaceChildren();
render(<App token={token} />, app);
