// Opens a gateway's status page in a headless Chromium, once, and tells what stands on it as it
// changes: a JSON object a line. Ends when its stdin does.
//
//   node status_page.mjs URL [DIRECTORY FOR SCREENSHOTS]
import { rmSync, mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

const [url, screenshots] = process.argv.slice(2);
const profile = mkdtempSync(join(tmpdir(), "status-page-"));
const browser = await chromium.launchPersistentContext(profile, {
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  headless: true,
  viewport: { width: 390, height: 844 },
  colorScheme: "dark",
  args: [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
  ],
});
const say = (what) => console.log(JSON.stringify(what));
const page = browser.pages()[0] ?? (await browser.newPage());
page.on("pageerror", (error) => say({ error: String(error) }));
page.on("console", (message) => {
  // What the page asked for and did not get is said by itself, while the gateway is away.
  const lost = message.text().includes("net::ERR_");
  // And Chromium is made to add a style of its own to what it takes a picture of.
  const pictured = screenshots && message.text().includes("inline style");
  if (message.type() === "error" && !lost && !pictured) say({ error: message.text() });
});
page.on("request", (request) => {
  if (!request.url().startsWith(url)) say({ error: `asks for ${request.url()}` });
});

async function end() {
  await browser.close().catch(() => {});
  rmSync(profile, { recursive: true, force: true });
  process.exit(0);
}
process.stdin.resume();
process.stdin.on("end", end);

await page.goto(`${url}/status`);
let before = "";
let shown = 0;
for (;;) {
  const seen = await page.evaluate(() => ({
    headline: document.querySelector("h1").textContent,
    alone: document.body.classList.contains("alone"),
    overflow: document.documentElement.scrollWidth > innerWidth,
    upstreams: [...document.querySelectorAll("section")].map((card) => ({
      name: card.dataset.upstream,
      state: card.dataset.state,
      pill: card.querySelector(".pill").textContent,
      epoch: Number(card.dataset.epoch),
      failures: Number(card.dataset.failures),
      trouble: card.querySelector(".trouble")?.textContent ?? "",
      lives: card.querySelectorAll(".life").length,
      marks: card.querySelectorAll(".failure").length,
      refused: card.querySelectorAll("rect.refused").length,
      gaps: card.querySelectorAll(".gap").length,
    })),
  })).catch(end);
  const now = JSON.stringify(seen);
  if (now !== before) {
    before = now;
    say(seen);
    if (screenshots) {
      for (const scheme of ["light", "dark"]) {
        await page.emulateMedia({ colorScheme: scheme });
        await page.screenshot({ path: join(screenshots, `${shown}-${scheme}.png`), fullPage: true });
      }
      shown += 1;
    }
  }
  await new Promise((resolve) => setTimeout(resolve, 200));
}
