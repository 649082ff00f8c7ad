// What pages do with SDKs for browsers: each in a context of its own of one Chromium, on a page of another origin than pulse, once in each
// of RUNS (`[{run, host, key}]`, or `hosts` by the names of SDKs). A line for each says how much it sends. Pages are open until standard input
// ends.
const fs = require("fs");
const http = require("http");
const path = require("path");
const readline = require("readline");
const { close, launch } = require("./contexts.cjs");
const { OURS, sdks } = require("./browser.cjs");

const { RUNS, SDKS, NODE_PATH, ORDERS = "6" } = process.env;
// Standard input says what has arrived, a line each (`{sdk, run}`).
const lines = readline.createInterface({ input: process.stdin });
const over = new Promise((done) => lines.on("close", done));
const arrived = new Set();
lines.on("line", (line) => arrived.add(nameOf(JSON.parse(line))));
const nameOf = ({ sdk, run }) => `${sdk}, ${run}`;

const { version } = JSON.parse(fs.readFileSync(path.join(__dirname, "../../sdk/js/package.json")));
const versionOf = (sdk) => (sdk === OURS ? version : JSON.parse(fs.readFileSync(path.join(NODE_PATH, sdk, "package.json"))).version);

function page(sdk, { run: name, host: shared, hosts = {}, key }, { tag: attributes, kind = "browser" }, isNext) {
  const { load, module, names, run: first, tag, next } = attributes === undefined ? sdks[sdk] : { tag: attributes, run: "" };
  const run = isNext ? next : first;
  const customer = { sdk: `${sdk} (${kind})`, run: name, team: "blue" };
  const host = hosts[customer.sdk] ?? shared;
  const user = `${customer.sdk} ${name}`.replace(/[^a-z0-9]+/gi, "-");
  const given = `const [HOST, KEY, user, customer] = ${JSON.stringify([host, key, user, customer])};
    const numbers = [...Array(${ORDERS}).keys()], order = (n) => ({sdk: customer.sdk, run: customer.run, n, total: 12.5});`;
  if (tag !== undefined) return `<!doctype html><meta charset="utf-8"><title>Shop</title><script src="${host}/sdk/pulse.js" data-key="${key}" ${tag}></script><script>${given}${run}</script>`;
  const own = sdks[sdk].attributes?.(host, key) ?? "";
  const script = load ? `<script src="/m/${sdk}/${load}" ${own}></script><script>${given}${run}</script>` : "";
  const esm = module ? `<script type="module">import {${names}} from "/m/${sdk}/${module}"; ${given}${run}</script>` : "";
  return `<!doctype html><meta charset="utf-8"><title>Shop</title>${script}${esm}`;
}

const runs = JSON.parse(RUNS);
const site = http.createServer((request, response) => {
  const { pathname, searchParams } = new URL(request.url, "http://site");
  if (pathname.startsWith("/m/")) {
    response.setHeader("content-type", "text/javascript; charset=utf-8");
    return response.end(fs.readFileSync(path.join(NODE_PATH, pathname.slice(3))));
  }
  const run = runs.find(({ run }) => run === searchParams.get("run"));
  if (pathname !== "/shop" || !run) return response.writeHead(404).end();
  response.setHeader("content-type", "text/html; charset=utf-8");
  response.end(page(searchParams.get("sdk"), run, tabs.get(searchParams.get("tab")) ?? {}, searchParams.has("next")));
});

/** Pages that are opened at once. Some SDKs give up what takes ten seconds, and forty pages that start together on a busy machine take longer. */
const OPENING = 4;
const lanes = Array(OPENING).fill(Promise.resolve());
let opened = 0;
/** What `open` gives, in its turn. */
function inTurn(open) {
  const lane = opened++ % OPENING;
  return (lanes[lane] = lanes[lane].catch(() => {}).then(open));
}

async function visit(browser, sdk, { run }) {
  const query = new URLSearchParams({ sdk, run, utm_source: "news", utm_medium: "email" });
  const url = `http://localhost:${site.address().port}/shop?${query}`;
  const problems = [];
  let isOver = false;
  over.then(() => (isOver = true));
  const { context, tab } = await inTurn(async () => {
    const context = await browser.newContext({ viewport: { width: 1280, height: 720 }, locale: "de-DE" });
    const tab = await context.newPage();
    // The machine may be busy.
    tab.setDefaultNavigationTimeout(0);
    tab.on("pageerror", (problem) => problems.push(problem.message));
    if (process.env.VERBOSE) tab.on("console", (line) => console.error(sdk, line.text()));
    // RudderStack's SDK that does not get its settings within ten seconds never sends anything: its visitor loads the page again.
    tab.on("requestfailed", (request) => {
      if (!isOver && request.url().includes("/sourceConfig")) tab.reload().catch((problem) => problems.push(problem.message));
    });
    await tab.goto(url, { waitUntil: "commit" });
    await tab.waitForLoadState();
    return { context, tab };
  });
  console.log(JSON.stringify({ sdk: `${sdk} (browser)`, run, version: versionOf(sdk), sent: Number(ORDERS) }));
  while (sdks[sdk].next && !isOver && !arrived.has(nameOf({ sdk: `${sdk} (browser)`, run }))) {
    await Promise.race([over, new Promise((done) => setTimeout(done, 5_000))]);
    if (!isOver) await tab.goto(`${url}&next`);
  }
  await over;
  await tab.goto("about:blank");
  await close(context);
  if (problems.length) console.log(JSON.stringify({ sdk: `${sdk} (browser)`, run, problem: problems.join("; ") }));
}

/** The tabs of one visitor, by what their script tags say. */
const tabs = new Map([
  ["closed", { tag: 'data-flush-at="1"', kind: "tabs" }],
  ["crashed", { tag: 'data-flush-interval="3600000"', kind: "tabs" }],
  ["offline", { tag: 'data-flush-interval="500"', kind: "tabs" }],
]);
/** A clock that is three days behind. */
const BEHIND = `{ const Right = Date, now = () => Right.now() - 259_200_000;
  Date = class extends Right { constructor(...given) { given.length ? super(...given) : super(now()); } static now() { return now(); } }; }`;

// Tabs of one visitor whose clock is wrong: one is closed while it sends, one crashes with all it has to send, and one, without a network
// at first, and loaded again, sends the rest.
async function visitInTabs(browser, { run }) {
  const sdk = `${OURS} (tabs)`;
  const problems = [];
  const open = async (context, tab, numbers) => {
    const opened = await context.newPage();
    opened.setDefaultNavigationTimeout(0);
    if (process.env.VERBOSE) opened.on("console", (line) => console.error(sdk, line.text()));
    opened.on("pageerror", (problem) => problems.push(problem.message));
    opened.on("requestfailed", (request) => problems.push(`${tab}: ${request.method()} ${request.url()}: ${request.failure()?.errorText}`));
    const query = new URLSearchParams({ sdk: OURS, tab, run, utm_source: "news", utm_medium: "email" });
    await opened.goto(`http://localhost:${site.address().port}/shop?${query}`);
    if (tab === "offline") await context.setOffline(true);
    await opened.evaluate(`pulse.identify(user, customer); for (const n of ${JSON.stringify(numbers)}) pulse.track("order", order(n))`);
    return opened;
  };
  const [first, second, third] = [0, 1, 2].map((part) => [...Array(Number(ORDERS)).keys()].filter((n) => n % 3 === part));
  const { context, last } = await inTurn(async () => {
    const context = await browser.newContext({ viewport: { width: 1280, height: 720 }, locale: "de-DE" });
    await context.addInitScript(BEHIND);
    await (await open(context, "closed", first)).close();
    const crashing = await open(context, "crashed", second);
    await Promise.all([crashing.waitForEvent("crash", { timeout: 0 }), crashing.goto("chrome://crash").catch(() => {})]);
    await crashing.close();
    const last = await open(context, "offline", third);
    await last.evaluate("pulse.flush()");
    await context.setOffline(false);
    await last.reload();
    return { context, last };
  });
  console.log(JSON.stringify({ sdk, run, version: versionOf(OURS), sent: Number(ORDERS) }));
  await over;
  if (!arrived.has(nameOf({ sdk, run }))) {
    const state = Promise.race([last.evaluate(stateOf), new Promise((done) => setTimeout(done, 5_000, "the page does not answer"))]);
    problems.push(await state.then(JSON.stringify, String));
    console.log(JSON.stringify({ sdk, run, problem: problems.join("; ") }));
  }
  await close(context);
}

/** What a page that has not sent everything has and holds. */
async function stateOf() {
  const early = Object.keys(localStorage).filter((key) => key.includes("+")).length;
  const { held, pending } = await navigator.locks.query();
  const names = (await indexedDB.databases()).map(({ name }) => name);
  return { script: typeof window.pulse?.track, early, held, pending, names, online: navigator.onLine, visible: document.visibilityState };
}

site.listen(0, "localhost", async () => {
  const browser = await launch();
  const wanted = SDKS ? SDKS.split(",") : Object.keys(sdks);
  const visits = runs.flatMap((run) => [...wanted.map((sdk) => visit(browser, sdk, run)), ...(wanted.includes(OURS) ? [visitInTabs(browser, run)] : [])]);
  await Promise.all(visits.map((visit) => visit.catch((problem) => console.error(problem))));
  await browser.close();
  process.exit(0);
});
