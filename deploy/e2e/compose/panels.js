// Asks a Prometheus for what every panel of the dashboard shows. A panel that shows nothing is a fault: it must have data, or say 0. Where one scrape
// came too late Prometheus has nothing until the next one: so what shows nothing is asked again for a while.
//
//   node panels.js PROMETHEUS_URL RATE_INTERVAL

const fs = require("node:fs");
const path = require("node:path");

const [url, interval] = process.argv.slice(2);
const patience = Date.now() + 30_000; // ms, for all of them together
const file = path.join(__dirname, "..", "..", "grafana", "dashboards", "tasktracer.json");

(async () => {
  let empty = 0, queries = 0;
  for (const panel of JSON.parse(fs.readFileSync(file, "utf8")).panels) {
    for (const target of panel.targets ?? []) {
      const query = target.expr.replaceAll("$__rate_interval", interval);
      let shown = await ask(query, target.legendFormat);
      while (!shown.ok && Date.now() < patience) {
        await new Promise((resolve) => setTimeout(resolve, 250));
        shown = await ask(query, target.legendFormat);
      }
      queries++;
      if (!shown.ok) empty++;
      console.log(`${panel.title} | ${shown.text}`);
    }
  }
  console.log(`${queries} queries, ${empty} of them show nothing`);
  process.exit(empty ? 1 : 0);
})();

async function ask(query, format) {
  const answer = await (await fetch(`${url}/api/v1/query?query=${encodeURIComponent(query)}`)).json();
  const found = (answer.data?.result ?? []).map((r) => ({ name: legend(format, r.metric), value: Number(r.value[1]) }));
  const ok = answer.status === "success" && found.length > 0 && found.every((f) => !f.name.includes("{") && !Number.isNaN(f.value));
  const text = found.map((f) => f.name + f.value.toPrecision(3));
  return { ok, text: (ok ? text : [...text, "NOTHING: " + (answer.error ?? query)]).join(", ") };
}

function legend(format, labels) {
  const text = (format ?? "").replace(/[{]{2} *(\w+) *[}]{2}/g, (_, name) => labels[name] ?? "{" + name + "}");
  return text && text + " ";
}
