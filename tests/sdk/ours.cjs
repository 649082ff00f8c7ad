// What our SDK does in a page, in Chromium, against a server that keeps what it is sent and answers as it is told: for what the real one
// would need minutes or cannot do. Says "ok" if all of it is so.
const assert = require("assert");
const fs = require("fs");
const http = require("http");
const path = require("path");
const zlib = require("zlib");
const { chromium } = require("playwright-core");
const { close } = require("./contexts.cjs");

const SDK = path.join(__dirname, "../../web/dist/sdk/pulse.js");
const server = { events: [], requests: [], answers: [] };
const types = () => server.events.map(({ type }) => type);

function listen(respond) {
  const listening = http.createServer(respond);
  return new Promise((done) => listening.listen(0, "localhost", () => done(`http://localhost:${listening.address().port}`)));
}

async function collect(request, response) {
  response.setHeader("access-control-allow-origin", "*");
  if (request.url === "/sdk/pulse.js") {
    response.setHeader("content-type", "text/javascript");
    return response.end(fs.readFileSync(SDK));
  }
  let body = Buffer.concat(await request.toArray());
  const bytes = body.length, isPacked = body[0] === 0x1f && body[1] === 0x8b;
  if (isPacked) body = zlib.gunzipSync(body);
  const { status = 200, text, headers = {} } = server.answers.shift() ?? {};
  const sent = request.method === "POST" ? JSON.parse(body) : { batch: [] };
  server.requests.push({ method: request.method, headers: request.headers, sentAt: sent.sentAt, batch: sent.batch, status, bytes, isPacked });
  if (status === 200 && text === undefined) server.events.push(...sent.batch);
  response.writeHead(status, { "access-control-expose-headers": "retry-after", ...headers });
  response.end(text ?? (status === 200 ? JSON.stringify({ accepted: sent.batch.length, rejected: [] }) : "{}"));
}

/** Until something is so: the machine may be busy. */
async function until(what, is) {
  for (const end = Date.now() + 120_000; !is(); ) {
    if (Date.now() > end) throw new Error(`${what} does not come: ${JSON.stringify(server.events)}`);
    await new Promise((done) => setTimeout(done, 50));
  }
}

(async () => {
  const host = await listen(collect);
  const shop = await listen((request, response) => {
    const { searchParams } = new URL(request.url, "http://shop");
    response.setHeader("content-type", "text/html");
    // Of two attributes of one name the first counts: what a test says itself.
    const tag = `<script defer src="${host}/sdk/pulse.js" data-key="k" ${searchParams.get("tag") ?? ""} data-flush-interval="100"></script>`;
    // Twice, as it happens: a page is one all the same.
    response.end(`<!doctype html><title>Shop</title>${tag}${tag}<script>window.pulse = window.pulse || []; pulse.push(["track", "early", { n: 1 }]);</script>
      <a id="out" href="${host.replace("localhost", "127.0.0.1")}/x">Out</a><a id="file" href="/a.pdf">File</a>
      <form id="order" action="/ordered"><input name="card" value="4111"><input type="hidden" name="id"><input type="hidden" name="action" value="ajax"><button>Order</button></form>`);
  });
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"] });
  const visit = async (tag = "", prepare = "") => {
    Object.assign(server, { events: [], requests: [], answers: [] });
    const context = await browser.newContext({ locale: "de-DE", timezoneId: "Europe/Berlin" });
    if (prepare) await context.addInitScript(prepare);
    const page = await context.newPage();
    page.setDefaultNavigationTimeout(0);
    await page.goto(`${shop}/a?utm_source=news&tag=${encodeURIComponent(tag)}`);
    return page;
  };

  // What is collected, called early, and told of navigations; nothing makes a browser ask first.
  let page = await visit();
  await page.evaluate(`history.pushState({}, "", "/b"); history.replaceState({}, "", "/b#c"); history.back()`);
  await until("a page for each address", () => types().filter((type) => type === "page").length === 3);
  await page.evaluate(`location.hash = "/cart"`);
  await until("a page of a router", () => types().filter((type) => type === "page").length === 4);
  const [first, second] = server.events.filter(({ type }) => type === "page");
  assert.deepStrictEqual([first.context.locale, first.context.timezone, first.context.page.title], ["de-DE", "Europe/Berlin", "Shop"]);
  assert.ok(first.context.page.url.includes("utm_source=news") && first.context.screen.width > 0);
  assert.deepStrictEqual([second.context.page.url, second.context.page.referrer], [`${shop}/b`, first.context.page.url]);
  assert.ok(types().includes("early"));
  assert.strictEqual(new Set(server.events.map(({ sessionId, anonymousId }) => sessionId + anonymousId)).size, 1);
  assert.ok(server.requests.every(({ method, headers }) => method === "POST" && headers["content-type"] === "text/plain" && !headers.cookie));

  // Who it is: known to other tabs, forgotten by a reset.
  await page.evaluate(`pulse.identify("ada", { plan: "pro" }); pulse.group("g", { seats: 5 })`);
  const other = await page.context().newPage();
  await other.goto(`${shop}/other`);
  await page.evaluate(`pulse.reset(); pulse.track("after")`);
  const of = (type) => server.events.filter((event) => event.type === type).at(-1);
  await until("what was said of the user", () => of("after") && of("page").context.page.url.endsWith("/other"));
  assert.deepStrictEqual([of("identify").userId, of("identify").traits, of("page").userId, of("page").anonymousId], ["ada", { plan: "pro" }, "ada", first.anonymousId]);
  assert.deepStrictEqual(of("group").properties, { seats: 5, groupId: "g" });
  assert.ok(of("after").userId === undefined && of("after").anonymousId !== first.anonymousId && of("after").sessionId !== first.sessionId);
  await close(page.context());

  // Links, downloads, forms and vitals; sent while the page is left.
  page = await visit("data-outbound data-downloads data-forms data-vitals data-flush-interval=600000");
  await page.evaluate(`for (const kept of ["out", "file"]) document.getElementById(kept).addEventListener("click", (event) => event.preventDefault())`);
  await page.click("#out");
  await page.click("#file");
  await page.click("button");
  await until("what was clicked", () => ["outbound_link", "file_download", "form_submit", "web_vitals"].every((type) => types().includes(type)));
  assert.deepStrictEqual(of("form_submit").properties, { id: "order", name: null, action: `${shop}/ordered` });
  assert.ok(!JSON.stringify(of("form_submit")).includes("4111"));
  assert.ok(of("web_vitals").properties.fcp > 0 && of("web_vitals").properties.cls >= 0);
  await close(page.context());

  // Refused, stalled and swallowed: sent again, with the time of then; Retry-After is waited for, in vain asks are not made.
  page = await visit('data-pages="false"');
  await until("the early one", () => types().includes("early"));
  server.answers.push({ status: 503, headers: { "retry-after": "2" } }, { status: 200, text: "<html>sign in</html>" }, { status: 413 }, { status: 413 });
  await page.evaluate(`for (let n = 0; n < 30; n++) pulse.track("again", { n, text: "x".repeat(100) })`);
  await until("all of them", () => types().filter((type) => type === "again").length === 30);
  assert.strictEqual(new Set(server.events.map(({ eventId }) => eventId)).size, server.events.length);
  const [refused, swallowed, large] = server.requests.filter(({ batch }) => batch.some(({ type }) => type === "again"));
  assert.deepStrictEqual([refused.status, swallowed.status, large.status], [503, 200, 413]);
  assert.ok(swallowed.sentAt - refused.sentAt >= 2_000 && large.sentAt >= swallowed.sentAt);
  assert.strictEqual(refused.headers["content-encoding"], undefined);
  await close(page.context());

  // Left with more than a request that outlives a page may carry: part of it goes with the page, the rest with the next one, packed.
  page = await visit('data-pages="false" data-flush-at="1000" data-flush-interval="3600000"');
  await page.evaluate(`for (let n = 0; n < 100; n++) pulse.track("left", { n, text: "x".repeat(1_000) })`);
  await page.goto("about:blank");
  await until("what goes with the page", () => types().includes("left"));
  const leaving = server.requests.filter(({ batch }) => batch.some(({ type }) => type === "left"));
  assert.ok(types().filter((type) => type === "left").length < 100 && leaving.every(({ bytes, isPacked }) => bytes < 64_000 && !isPacked), JSON.stringify(leaving.map(({ bytes, isPacked, batch }) => [bytes, isPacked, batch.length])));
  await page.goto(`${shop}/b?tag=${encodeURIComponent('data-pages="false"')}`);
  const left = () => new Set(server.events.filter(({ type }) => type === "left").map(({ properties }) => properties.n)).size;
  await until("all that was left", () => left() === 100);
  assert.ok(server.requests.some(({ batch, isPacked, bytes }) => isPacked && batch.length > 50 && bytes < 20_000));
  await close(page.context());

  // Those who do not want it, and those who have not said so yet, leave nothing: not even in the browser.
  const signals = [`Object.defineProperty(navigator, "globalPrivacyControl", { value: true })`, `Object.defineProperty(navigator, "doNotTrack", { value: "1" })`];
  for (const [tag, signal] of [["", signals[0]], ["", signals[1]], ["data-require-opt-in", ""]]) {
    page = await visit(tag, signal);
    await page.evaluate(`pulse.track("unwanted"); pulse.identify("ada")`);
    assert.strictEqual(await page.evaluate("localStorage.length"), 0);
    await page.evaluate(`pulse.optIn(); pulse.track("wanted")`);
    await until("what is wanted", () => types().includes("wanted"));
    assert.deepStrictEqual(types(), ["wanted"]);
    await page.evaluate(`pulse.optOut(); pulse.track("unwanted")`);
    await page.reload();
    await page.evaluate(`pulse.track("unwanted")`);
    assert.strictEqual(await page.evaluate("Object.values(localStorage).join()"), '{"o":false}');
    assert.deepStrictEqual(types(), ["wanted"]);
    await close(page.context());
  }

  // Where a page may keep nothing, and where it has no IndexedDB.
  const without = (name) => `Object.defineProperty(window, "${name}", { get() { throw new DOMException("no", "SecurityError"); } });`;
  for (const prepare of [without("indexedDB"), without("indexedDB") + without("localStorage")]) {
    page = await visit("", prepare);
    await page.evaluate(`pulse.track("kept somewhere")`);
    await until("what is kept somewhere", () => types().includes("kept somewhere"));
    assert.deepStrictEqual(types().sort(), ["early", "kept somewhere", "page"]);
    await close(page.context());
  }

  // Where the database answers only after it was given up: what an earlier page has left there is sent then.
  const late = `{
    const open = indexedDB.open.bind(indexedDB);
    indexedDB.open = (...given) => {
      const asked = {};
      window.answer = () => (open(...given).onsuccess = ({ target }) => ((asked.result = target.result), asked.onsuccess()));
      return asked;
    };
  }`;
  page = await visit('data-pages="false" data-flush-interval="3600000"');
  await page.evaluate(`pulse.track("left")`);
  await page.waitForFunction(() => !Object.keys(localStorage).some((name) => name.includes("+")));
  await page.context().addInitScript(late);
  const next = await page.context().newPage();
  await next.goto(`${shop}/b`);
  await until("what the next page makes", () => types().includes("page"));
  await next.evaluate(`pulse.track("meanwhile")`);
  await until("what it makes meanwhile", () => types().includes("meanwhile"));
  assert.deepStrictEqual(types().sort(), ["early", "meanwhile", "page"]);
  await next.evaluate("answer()");
  await until("what was left", () => types().includes("left"));
  // What the database had been asked to keep is sent once more, with its id.
  const each = new Map(server.events.map(({ eventId, type }) => [eventId, type]));
  assert.deepStrictEqual([...each.values()].sort(), ["early", "early", "left", "meanwhile", "page"]);
  await close(page.context());
  await browser.close();
  console.log("ok");
  process.exit(0);
})().catch((problem) => (console.error(problem), process.exit(1)));
