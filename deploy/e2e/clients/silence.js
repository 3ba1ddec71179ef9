// Opens the page in a real browser and notes for how long the last line of the log did not change.
// usage: node silence.js PLAYWRIGHT CHROMIUM URL PROFILE MS; each line of stdin is answered with {gaps: [[from, to], …], received, trouble}; received is how often they changed, times in ms.
'use strict';
const [playwright, executablePath, url, profile, silent] = process.argv.slice(2);
const { chromium } = require(playwright);
const readline = require('readline');

// Runs in the page.
const watch = (silent) => {
  const seen = (window.__seen = { gaps: [], link: [], changes: 0, last: 0 });
  let rows, end;
  const note = () => {
    const last = rows.lastElementChild;
    const is = last && last.dataset.row + ' ' + last.textContent; // other rows change for other reasons, too
    if (!is || is === end) return;
    end = is;
    const now = Date.now();
    if (seen.last && now - seen.last > silent) seen.gaps.push([seen.last, now]);
    seen.last = now;
    seen.changes++;
  };
  let is;
  setInterval(() => {
    const link = document.querySelector('.link');
    const now = document.visibilityState + ' ' + (link && link.className + ' ' + link.textContent) + ', ' + ((document.querySelector('.foot') || {}).textContent || '').replace(/[0-9.,]+ (lines|[kM]B)/g, '');
    if (now !== is) seen.link.push({ at: Date.now(), is: (is = now) });
  }, 50);
  const find = () => {
    rows = document.querySelector('.log .rows');
    if (!rows) return setTimeout(find, 20);
    new MutationObserver(note).observe(rows, { childList: true, subtree: true, characterData: true });
  };
  find();
};

(async () => {
  const context = await chromium.launchPersistentContext(profile, {
    executablePath, headless: true, viewport: { width: 1000, height: 600 },
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
  });
  const page = context.pages()[0] || (await context.newPage());
  const trouble = [];
  page.on('pageerror', (e) => trouble.push('the page: ' + e));
  await page.goto(url);
  await page.evaluate(watch, Number(silent));
  for await (const line of readline.createInterface({ input: process.stdin })) {
    if (!line) continue;
    const seen = await page.evaluate(() => window.__seen);
    const now = Date.now();
    if (seen.last && now - seen.last > Number(silent)) seen.gaps.push([seen.last, now]); // it goes on
    process.stdout.write(JSON.stringify({ gaps: seen.gaps, link: seen.link.slice(0, 500), received: seen.changes, trouble }) + '\n');
  }
  await context.close();
})().catch((e) => { console.error(e); process.exit(1); });
