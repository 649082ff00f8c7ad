// What the screen costs a browser: `make bench-screen` prints it; the other runs of these tests leave it out. Nothing here is asserted: what is
// measured says something beside what stands next to it, of the same run.
import { ADDRESS, answered, KEY, open, settled, test } from "./screen.mjs";

const ROUNDS = 7;
const SLOW = [1, 4];
/** Whether the browser has been here before: one that has keeps the script. */
const VISITS = [["first visit", true], ["again", false]];
const PAGES = ["/", "/trends", "/funnel", "/retention", "/lifecycle", "/stickiness", "/paths", "/sessions", "/people", "/events", "/boards/shop", "/alerts", "/health", "/settings"];

test.describe.configure({ mode: "serial" });

const median = (values) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];
const ms = (value) => value.toFixed(value < 10 ? 1 : 0);

/** Notes when the first chart stands in the page, the floor's or one of a tile's (the curve of who is here now is none), and tasks that take longer than a browser answers in. */
function watch() {
  window.tasks = [];
  new PerformanceObserver((list) => window.tasks.push(...list.getEntries().map((entry) => entry.duration))).observe({ type: "longtask", buffered: true });
  const look = () => {
    if (window.drawn || !document.querySelector("#main > svg path[d], main .plot svg .stroke")) return;
    window.drawn = performance.now();
  };
  new MutationObserver(look).observe(document, { childList: true, subtree: true, attributes: true });
}

/** The least that shows the same: the answer to the same question, drawn by hand. */
const floor = (body) => `<!doctype html><meta charset="utf-8"><title>floor</title><main id="main"></main><script>
fetch("/v1/query/trends", { method: "POST", headers: { "content-type": "application/json" }, body: ${JSON.stringify(JSON.stringify(body))} }).then((answer) => answer.json()).then(({ result }) => {
  const most = Math.max(1, ...result.series.flatMap(({ values }) => values));
  const at = (value, index, count) => (index / Math.max(1, count - 1)) * 1000 + "," + (300 - (value / most) * 300);
  const lines = result.series.map(({ values }) => '<path fill="none" stroke="#246" d="M' + values.map((value, index) => at(value, index, values.length)).join("L") + '"/>');
  document.getElementById("main").innerHTML = '<svg viewBox="0 0 1000 300">' + lines.join("") + "</svg>";
});
</script>`;

test("bench: bytes of each page", async ({ browser }) => {
  for (const path of PAGES) {
    const context = await browser.newContext({ baseURL: ADDRESS });
    const page = await context.newPage();
    await page.goto(`${path}#key=${KEY}`);
    await page.locator("main h1").waitFor();
    await settled(page);
    const bytes = await page.evaluate(() => performance.getEntriesByType("resource").filter(({ name }) => name.includes("/assets/")).reduce((sum, entry) => sum + entry.encodedBodySize, 0));
    console.log(`bytes\t${path}\t${bytes}`);
    await context.close();
  }
});

test("bench: the first chart beside the floor, and the longest task", async ({ page }) => {
  const body = { from: "-6d/d", to: "now", timezone: "UTC", interval: "hour", series: [{ math: "unique_users" }] };
  await open(page, "/");
  await page.addInitScript(watch);
  const session = await page.context().newCDPSession(page);
  // Only the floor is answered here: a page of which Playwright routes anything keeps no file at all.
  const answer = { responseCode: 200, responseHeaders: [{ name: "content-type", value: "text/html" }], body: Buffer.from(floor(body)).toString("base64") };
  session.on("Fetch.requestPaused", ({ requestId }) => session.send("Fetch.fulfillRequest", { requestId, ...answer }));
  await session.send("Fetch.enable", { patterns: [{ urlPattern: `${ADDRESS}/floor` }] });
  await session.send("Network.enable");
  for (const rate of SLOW) {
    await session.send("Emulation.setCPUThrottlingRate", { rate });
    for (const [visit, cacheDisabled] of VISITS) {
      await session.send("Network.setCacheDisabled", { cacheDisabled });
      const took = {};
      const longest = {};
      for (let round = 0; round < ROUNDS; round++) {
        for (const path of ["/floor", "/trends?from=-6d/d&to=now&i=hour", "/"]) {
          await page.goto(path);
          await page.waitForFunction(() => window.drawn);
          if (path !== "/floor") await settled(page);
          (took[path] ??= []).push(await page.evaluate(() => window.drawn));
          (longest[path] ??= []).push(await page.evaluate(() => Math.max(0, ...window.tasks)));
        }
      }
      for (const [path, values] of Object.entries(took)) {
        console.log(`first chart\t${rate}x\t${visit}\t${path}\t${ms(median(values))} ms\t${(median(values) / median(took["/floor"])).toFixed(2)} of the floor\tlongest task ${ms(median(longest[path]))} ms`);
      }
    }
  }
});

test("bench: 25 lines of 1,000 points, drawn again", async ({ page }) => {
  const start = Date.UTC(2026, 0, 1);
  const buckets = Array.from({ length: 1_000 }, (_, index) => new Date(start + index * 3_600_000).toISOString());
  const line = (number) => ({ name: `line ${number}`, event: null, math: "total", breakdown: `line ${number}`, kind: "value", values: buckets.map((_, index) => Math.round(500 + 400 * Math.sin((index + 40 * number) / 30))), total: 500_000 });
  const result = { buckets, partial: buckets.map(() => false), series: Array.from({ length: 25 }, (_, number) => line(number)) };
  await page.route("**/v1/query", async (route) => {
    const response = await answered(route);
    const answers = (await response.text()).trim().split("\n").map((text) => JSON.parse(text));
    await route.fulfill({ response, body: `${answers.map((answer) => JSON.stringify({ ...answer, result })).join("\n")}\n` });
  });
  await open(page, "/trends?b=country&i=hour");
  const session = await page.context().newCDPSession(page);
  await session.send("Performance.enable");
  const spent = async () => {
    const { metrics } = await session.send("Performance.getMetrics");
    return 1_000 * metrics.filter(({ name }) => ["ScriptDuration", "LayoutDuration", "RecalcStyleDuration"].includes(name)).reduce((sum, { value }) => sum + value, 0);
  };
  const redraw = async (width) => {
    await page.setViewportSize({ width, height: 800 });
    await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
  };
  await redraw(1_200);
  const before = await spent();
  for (let round = 0; round < 20; round++) await redraw(round % 2 ? 1_200 : 1_280);
  console.log(`redrawn\t25 x 1,000\t${ms(((await spent()) - before) / 20)} ms of script, style and layout`);
});

test("bench: a board of 20 tiles", async ({ page }) => {
  const question = (index) => ({ from: "-6d/d", interval: "day", series: [{ math: "unique_users" }], filters: [{ field: "properties.price", op: "gte", value: index }] });
  const tiles = Array.from({ length: 20 }, (_, index) => ({ title: `Tile ${index}`, report: "trends", question: question(index) }));
  await fetch(`${ADDRESS}/v1/boards/twenty`, { method: "PUT", headers: { authorization: `Bearer ${KEY}` }, body: JSON.stringify({ title: "Twenty", tiles }) });
  await open(page, "/boards/twenty");
  const asked = [];
  page.on("request", (request) => new URL(request.url()).pathname.startsWith("/v1/query") && asked.push(request.url()));
  await page.addInitScript(watch);
  await page.goto("/boards/twenty");
  await page.waitForFunction(() => document.querySelectorAll("main .plot svg").length === 20);
  const took = await page.evaluate(() => performance.now());
  console.log(`board of 20\t${asked.length} requests\t${ms(took)} ms to the last chart`);
});
