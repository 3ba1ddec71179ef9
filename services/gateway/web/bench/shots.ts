// Takes the pictures of docs/page.md and README.md: SCREENSHOTS=../../../docs/images node bench/run.mjs shots

import { openPage, Producer, row, Server, shot, startBrowser } from "../e2e/harness.ts";

const server = await Server.start();
const browser = await startBrowser();
try {
  const start = Date.now();
  const steps = ["checkout", "install dependencies", "compile 214 files", "link", "unit tests", "package", "upload", "restart service"];
  const build = async (id: string, fail: boolean, end: boolean) => {
    const c = new Producer(server, "deploy", id, "make -j8 all && ./deploy.sh --env production");
    for (const [k, s] of steps.entries()) {
      await c.write(`\x1b[1;34m==>\x1b[0m \x1b[1m${s}\x1b[0m\n`);
      for (let i = 0; i < 9; i++) {
        if (s === "install dependencies" && i === 0) for (let q = 0; q <= 100; q += 5) await c.write(`  fetching \x1b[36m[${"#".repeat(q / 5).padEnd(20, ".")}]\x1b[0m ${q}%\r`);
        if (s === "install dependencies" && i === 0) await c.write("\n");
        if (s === "unit tests") await c.write(`  \x1b[32mPASS\x1b[0m pkg/${["frame", "bus", "auth", "socketio", "ops", "trace", "ingest", "gateway", "token"][i]}  \x1b[2m(${(i * 37) % 100} ms)\x1b[0m\n`);
        else await c.write(`  ${id}: ${s}, part ${i + 1} of 9, see https://ci.example/${id}/${k}/${i}\n`);
      }
      if (s === "link") await c.write("warning: 3 symbols are deprecated, see \x1b[4mCHANGES.md\x1b[0m\n", "STDERR");
      if (fail && s === "upload") {
        await c.write(`\x1b[31merror:\x1b[0m connection to registry.example refused after 3 attempts\n`, "STDERR");
        await c.write(`\x1b[31mdeploy failed\x1b[0m, rolled back to release 41\n`, "STDERR");
        await c.end(2);
        return c;
      }
    }
    if (end) await c.end(0);
    return c;
  };
  await Promise.all(Array.from({ length: 24 }, (_, i) => build(`web-${String(i + 1).padStart(2, "0")}`, i === 6 || i === 17, i % 4 !== 3)));
  for (const t of ["backup", "nightly-tests", "reindex", "train-model"]) {
    const c = new Producer(server, t, "worker-1", `./${t}.sh`);
    await c.write("done\n");
    await c.end(t === "reindex" ? 137 : 0);
  }
  const views: [string, string, string, object][] = [
    ["page-dark", "id=web-04", "restart service", { colorScheme: "dark" }],
    ["page-light", "id=web-02", "restart service", { colorScheme: "light" }],
    ["page-failed", "id=web-07", "deploy failed", { colorScheme: "light" }],
    ["page-grid", "all=1&view=grid", "", { colorScheme: "dark" }],
    ["page-merged", "all=1&view=merged", "restart service", { colorScheme: "light" }],
    ["page-phone", "id=web-07", "deploy failed", { colorScheme: "dark", viewport: { width: 390, height: 780 } }],
  ];
  for (const [name, query, text, o] of views) {
    const p = await openPage(browser, server.page("deploy", query), { viewport: { width: 1100, height: 680 }, ...o });
    if (text) {
      await row(p.page, steps[0]!).catch(() => undefined);
      await p.page.locator(".log").focus();
      await p.page.keyboard.press("End");
      await p.page.evaluate(() => (document.activeElement as HTMLElement).blur());
      await row(p.page, text);
    } else {
      await p.page.locator(".tile .last", { hasText: /\S/ }).first().waitFor();
    }
    await p.page.waitForTimeout(400);
    await shot(p.page, name);
    await p.context.close();
  }
  const p = await openPage(browser, `${server.url}/?accessToken=${server.browserToken}`, { viewport: { width: 1100, height: 420 } });
  await p.page.getByRole("link", { name: "reindex" }).waitFor();
  await shot(p.page, "page-tasks");
  await p.context.close();
  console.log(`took ${Date.now() - start} ms`);
} finally {
  await browser.close();
  await server.close();
}
