// Opens the page in a real browser, waits for what the arguments say, and prints what was seen.
// usage: node page.js PLAYWRIGHT CHROMIUM URL SCREENSHOT PROFILE < lines
// The caller writes one line for each step: "text LINE" waits for LINE in the log, "code N" for the exit code.
'use strict';
const [playwright, executablePath, url, screenshot, profile] = process.argv.slice(2);
const { chromium } = require(playwright);
const readline = require('readline');

(async () => {
  const context = await chromium.launchPersistentContext(profile, {
    executablePath, headless: true, viewport: { width: 1200, height: 800 },
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
  });
  const page = context.pages()[0] || (await context.newPage());
  const say = (o) => process.stdout.write(JSON.stringify(o) + '\n');
  page.on('dialog', (d) => { say({ event: 'dialog', text: d.message() }); d.dismiss(); });
  page.on('pageerror', (e) => say({ event: 'pageerror', text: String(e) }));
  await page.goto(url);
  say({ event: 'open', text: await page.title() });
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const [what, ...rest] = line.split(' ');
    const text = rest.join(' ');
    if (what === 'text') {
      await page.waitForFunction((t) => document.body.innerText.includes(t), text, { timeout: 60000 });
      say({ event: 'text', text });
    } else if (what === 'count') {
      say({ event: 'count', text: String(await page.locator(text).count()) });
    } else if (what === 'shot') {
      await page.screenshot({ path: screenshot });
      say({ event: 'shot', text: await page.evaluate(() => document.body.innerText) });
    }
  }
  await context.close();
})().catch((e) => { console.error(e); process.exit(1); });
