// Asks a Prometheus for what every panel of the dashboard shows. A panel that shows nothing is a fault: it must have data, or say 0.
//
//   node panels.js PROMETHEUS_URL RATE_INTERVAL

const fs = require("node:fs");
const path = require("node:path");

const [url, interval] = process.argv.slice(2);
const file = path.join(__dirname, "..", "..", "grafana", "dashboards", "tasktracer.json");

(async () => {
  let empty = 0, queries = 0;
  for (const panel of JSON.parse(fs.readFileSync(file, "utf8")).panels) {
    for (const target of panel.targets ?? []) {
      const query = target.expr.replaceAll("$__rate_interval", interval);
      const answer = await (await fetch(`${url}/api/v1/query?query=${encodeURIComponent(query)}`)).json();
      queries++;
      const found = answer.data?.result ?? [];
      const values = found.map((r) => `${legend(target.legendFormat, r.metric)}${Number(r.value[1]).toPrecision(3)}`);
      if (answer.status !== "success" || found.length === 0 || found.some((r) => /[{]/.test(legend(target.legendFormat, r.metric)))) {
        empty++;
        values.push("NOTHING: " + (answer.error ?? query));
      }
      console.log(`${panel.title} | ${values.join(", ")}`);
    }
  }
  console.log(`${queries} queries, ${empty} of them show nothing`);
  process.exit(empty ? 1 : 0);
})();

function legend(format, labels) {
  const text = (format ?? "").replace(/[{]{2} *(\w+) *[}]{2}/g, (_, name) => labels[name] ?? "{" + name + "}");
  return text && text + " ";
}
