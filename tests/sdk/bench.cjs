// What SDKs for browsers cost a page that loads one and tells of a page view and an event: bytes, and milliseconds of the page's main thread. All
// in one Chromium, one page after the other, each round in the same order; medians of `ROUNDS` first visits and as many second ones. `make bench-sdk`
// prints the table.
const fs = require("fs");
const http = require("http");
const path = require("path");
const zlib = require("zlib");
const { close, launch } = require("./contexts.cjs");
const { OURS, sdks } = require("./browser.cjs");

const { HOST, KEY, NODE_PATH, SDKS, ROUNDS = "7" } = process.env;
/** Until all that a page does by itself is done: SDKs wait for more events, three seconds at most. */
const SETTLED = 4_000;
const NONE = "none";
/** A page that names its time zone, as our SDK does once a session, and does nothing else. */
const ZONE = "none, the time zone";
const wanted = [NONE, ZONE, ...(SDKS ? SDKS.split(",") : [OURS, ...Object.keys(sdks).filter((sdk) => sdk !== OURS)])];

const isNone = (sdk) => sdk === NONE || sdk === ZONE;

const zipped = new Map();
function script(file) {
  if (!zipped.has(file)) zipped.set(file, zlib.gzipSync(fs.readFileSync(file), { level: 9 }));
  return zipped.get(file);
}

function page(sdk) {
  const { load, module, names, tag, run, attributes } = sdks[sdk] ?? {};
  const customer = { sdk, run: "bench" };
  const given = `const [HOST, KEY, user, customer] = ${JSON.stringify([HOST, KEY, "ada", customer])};
    const numbers = [0], order = (n) => ({sdk: customer.sdk, run: customer.run, n, total: 12.5});`;
  const own = tag === undefined ? `src="/m/${sdk}/${load}" ${attributes?.(HOST, KEY) ?? ""}` : `src="${HOST}/sdk/pulse.js" data-key="${KEY}" ${tag}`;
  const used = module ? `<script type="module">import {${names}} from "/m/${sdk}/${module}"; ${given}${run}</script>` : `<script ${own}></script><script>${given}${run}</script>`;
  const without = sdk === ZONE ? "<script>Intl.DateTimeFormat().resolvedOptions().timeZone</script>" : "";
  return `<!doctype html><html lang="en"><meta charset="utf-8"><title>Shop</title><h1>Shop</h1>${isNone(sdk) ? without : used}`;
}

const site = http.createServer((request, response) => {
  const { pathname, searchParams } = new URL(request.url, "http://site");
  if (pathname.startsWith("/m/")) {
    const headers = { "content-type": "text/javascript; charset=utf-8", "content-encoding": "gzip", "cache-control": "max-age=86400" };
    return response.writeHead(200, headers).end(script(path.join(NODE_PATH, pathname.slice(3))));
  }
  if (pathname !== "/shop") return response.writeHead(404).end();
  response.writeHead(200, { "content-type": "text/html; charset=utf-8" }).end(page(searchParams.get("sdk")));
});

/** Opens a page and waits until it is at rest: bytes that it got beside itself, of which `script` bytes of scripts, requests, and seconds of its thread. */
async function visit(context, sdk) {
  const tab = await context.newPage();
  tab.setDefaultNavigationTimeout(0);
  const url = `http://localhost:${site.address().port}/shop?`;
  // In the process that the page will have.
  await tab.goto(`${url}sdk=${NONE}`);
  const session = await context.newCDPSession(tab);
  await session.send("Performance.enable");
  await session.send("Network.enable");
  const seen = { bytes: 0, script: 0, requests: 0, events: 0 };
  const kinds = new Map();
  session.on("Network.requestWillBeSent", ({ requestId, type, request }) => {
    kinds.set(requestId, type);
    if (type !== "Document") seen.requests += 1;
    if (request.method === "POST" && request.url.startsWith(HOST)) seen.events += 1;
  });
  session.on("Network.loadingFinished", ({ requestId, encodedDataLength }) => {
    const kind = kinds.get(requestId);
    if (kind && kind !== "Document") seen.bytes += encodedDataLength;
    if (kind === "Script") seen.script += encodedDataLength;
  });
  const spent = async () => {
    const { metrics } = await session.send("Performance.getMetrics");
    const of = (wanted) => 1_000 * (metrics.find(({ name }) => name === wanted)?.value ?? 0);
    return { scripts: of("ScriptDuration"), all: of("TaskDuration") };
  };
  const before = await spent();
  await tab.goto(`${url}${new URLSearchParams({ sdk, utm_source: "news" })}`);
  await tab.waitForTimeout(SETTLED);
  const after = await spent();
  await tab.close();
  if (!isNone(sdk) && !seen.events) console.error(`${sdk} sends nothing`);
  return { ...seen, scripts: after.scripts - before.scripts, all: after.all - before.all };
}

const median = (values) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];
const versionOf = (sdk) => JSON.parse(fs.readFileSync(sdk === OURS ? path.join(__dirname, "../../sdk/js/package.json") : path.join(NODE_PATH, sdk, "package.json"))).version;

site.listen(0, "localhost", async () => {
  const browser = await launch();
  const visits = new Map(wanted.map((sdk) => [sdk, { first: [], second: [] }]));
  for (let round = 0; round < Number(ROUNDS); round++) {
    for (const sdk of wanted) {
      const context = await browser.newContext({ viewport: { width: 1280, height: 720 }, locale: "de-DE" });
      visits.get(sdk).first.push(await visit(context, sdk));
      visits.get(sdk).second.push(await visit(context, sdk));
      await close(context);
    }
  }
  await browser.close();
  console.log(`Medians of ${ROUNDS} first visits and as many second ones:\n`);
  console.log("| SDK for browsers | kB of scripts | kB got in all, requests | first visit ms: scripts, all | second visit ms: scripts, all |");
  console.log("|---|---|---|---|---|");
  for (const [sdk, { first, second }] of visits) {
    const of = (visits, what) => median(visits.map((visit) => visit[what]));
    const kB = (bytes) => (bytes / 1_000).toFixed(1);
    const ms = (visits) => `${of(visits, "scripts").toFixed(0)}, ${of(visits, "all").toFixed(0)}`;
    const name = isNone(sdk) ? sdk : `${sdk === OURS ? "ours" : sdk} ${versionOf(sdk)}`;
    console.log(`| ${name} | ${kB(of(first, "script"))} | ${kB(of(first, "bytes"))}, ${of(first, "requests")} | ${ms(first)} | ${ms(second)} |`);
  }
  process.exit(0);
});
