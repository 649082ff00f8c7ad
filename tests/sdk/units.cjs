// What our SDK does where a browser or the real pulse would need minutes, or a moment that does not come by itself: against a `fetch` that answers
// as it is told, on Node.js and in a page that is none. Says "ok" if all of it is so.
const assert = require("assert");
const fs = require("fs");
const path = require("path");

const root = path.join(__dirname, "../..");
const set = (name, value) => Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });

/** Requests as they were made, and answers that are still to be given. */
const server = { requests: [], answers: [] };
const taken = () => server.requests.filter(({ status }) => status === 200).flatMap(({ batch }) => batch);
const types = () => taken().map(({ type }) => type);
set("fetch", async (url, { body, keepalive }) => {
  const bytes = Buffer.from(await body.arrayBuffer());
  const text = bytes[0] === 0x1f ? require("zlib").gunzipSync(bytes) : bytes;
  const { status = 200, headers = {}, rejected = [] } = server.answers.shift() ?? {};
  const { batch } = JSON.parse(text);
  server.requests.push({ status, batch, keepalive });
  return new Response(status === 200 ? JSON.stringify({ accepted: batch.length, rejected }) : "{}", { status, headers });
});

/** What was said on the console, and for how long was to be waited. */
const warnings = [];
const delays = [];
console.warn = (...said) => warnings.push(said.at(-1));
const after = setTimeout;
set("setTimeout", (then, delay, ...given) => (delays.push(delay), after(then, delay, ...given)));
async function until(what, is) {
  const end = performance.now() + 60_000;
  while (!is()) {
    assert.ok(performance.now() < end, `${what} does not come`);
    await new Promise((done) => after(done, 10));
  }
}
const begin = () => (Object.assign(server, { requests: [], answers: [] }), (warnings.length = delays.length = 0));

/** A page as far as the SDK asks for one, and what happens in it. */
function page() {
  const listeners = {};
  const listen = (type, then) => (listeners[type] ??= []).push(then);
  class Storage {
    get length() { return Object.keys(this).length; }
    getItem(key) { return this[key] ?? null; }
    setItem(key, value) { this[key] = String(value); }
    removeItem(key) { delete this[key]; }
  }
  const location = new URL("https://shop.example/a");
  const link = () => ({ set href(href) { this.url = new URL(href, location); }, get href() { return this.url.href; } });
  const go = (state, title, url) => { location.href = new URL(url, location).href; };
  const parts = {
    location, addEventListener: listen, localStorage: new Storage(), screen: { width: 1, height: 1 }, devicePixelRatio: 1, navigator: { language: "de" },
    history: { pushState: go, replaceState: go }, indexedDB: undefined,
    document: { referrer: "", title: "Shop", hidden: false, addEventListener: listen, createElement: link },
  };
  Object.entries(parts).forEach(([name, value]) => set(name, value));
  set("window", globalThis);
  return { ...parts, happen: (type, event = {}) => (listeners[type] ?? []).forEach((then) => then(event)) };
}

(async () => {
  const { createPulse } = await import(path.join(root, "web/dist/sdk/pulse.mjs"));
  const client = (options) => createPulse({ key: "k", host: "https://pulse.example", ...options });

  // A number is somebody, and those who listen to nothing read of it on the console; so do those whose listener is none.
  for (const onError of [undefined, "text"]) {
    begin();
    server.answers.push({ rejected: [{ index: 0, eventId: "e", code: "properties_invalid", message: "m" }] });
    const pulse = client({ onError });
    pulse.identify(42, { plan: "pro" });
    pulse.identify(null, undefined, { anonymousId: 7 });
    assert.ok(await pulse.flush());
    assert.deepStrictEqual(taken().map(({ userId, anonymousId }) => [userId, anonymousId]), [["42", undefined], [undefined, "7"]]);
    assert.deepStrictEqual(warnings, [{ code: "properties_invalid", message: "m", eventId: "e" }]);
  }

  // It runs where it says, and where it cannot it says so.
  begin();
  assert.ok(Number(JSON.parse(fs.readFileSync(path.join(root, "sdk/js/package.json"))).engines.node.match(/\d+/)[0]) >= 20);
  const { crypto } = globalThis;
  set("crypto", undefined);
  client().track("a", {}, { userId: "u" });
  set("crypto", crypto);
  assert.deepStrictEqual(warnings.map(({ code }) => code), ["event_unreadable"]);
  begin();
  const ids = client();
  for (let n = 0; n < 100; n++) ids.track("a");
  assert.ok(await ids.flush());
  assert.ok(taken().every(({ eventId }) => /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/.test(eventId)));
  assert.ok(taken().every(({ eventId }) => Math.abs(parseInt(eventId.slice(0, 13).replace("-", ""), 16) - Date.now()) < 600_000));
  const made = taken().map(({ eventId }) => eventId);
  assert.strictEqual(new Set(made).size, 100);
  // Many of one millisecond: the stores of browsers know no other order than theirs.
  assert.deepStrictEqual([...made].sort(), made);

  // Who asks is not held up by a pause of the client's own making; what the server has asked for ends with the client.
  begin();
  server.answers.push({ status: 404 });
  const back = client();
  back.track("a");
  assert.deepStrictEqual([await back.flush(), await back.flush(), types()], [false, true, ["a"]]);
  begin();
  server.answers.push({ status: 503, headers: { "retry-after": "3600" } });
  const asked = client();
  asked.track("a");
  assert.deepStrictEqual([await asked.flush(), await asked.flush(), server.requests.length], [false, false, 1]);
  assert.deepStrictEqual([await asked.close(200), types()], [true, ["a"]]);
  begin();
  server.answers.push(...Array(9).fill({ status: 503, headers: { "retry-after": "3600" } }));
  const never = client();
  never.track("a");
  assert.deepStrictEqual([await never.close(200), server.requests.length], [false, 2]);

  // Who gives an end to it is not held up by a server that takes requests and answers none, nor by such a store, and is tried anew before the
  // end; who gives none waits.
  begin();
  const silent = client({ onError() {} });
  silent.track("a");
  const { fetch } = globalThis;
  const aborted = [];
  set("fetch", (url, { signal }) => new Promise((_, fail) => signal.addEventListener("abort", () => (aborted.push(url), fail(new Error("aborted"))))));
  // Of two patiences, 30 s each, none is waited for: this would be stopped before. A pause that happens to be short ends in one more.
  assert.strictEqual(await silent.close(300), false);
  const tried = aborted.length;
  assert.ok(tried > 1 && tried < 5, `${tried}`);
  assert.deepStrictEqual([await silent.close(0), aborted.length], [false, tried + 1]);
  set("fetch", fetch);
  // What comes later is sent, and what was left with it.
  begin();
  silent.track("b");
  await until("what comes after an end in vain", () => types().includes("b"));
  assert.deepStrictEqual(types(), ["a", "b"]);
  const mute = client({ store: { add: async () => {}, first: () => new Promise(() => {}), remove: async () => {}, clear: async () => {} } });
  mute.track("a");
  assert.strictEqual(await mute.close(100), false);
  begin();
  server.answers.push({ status: 502 }, { status: 502 });
  const patient = client({ onError() {} });
  patient.track("a");
  assert.deepStrictEqual([await patient.close(Infinity), types()], [true, ["a"]]);

  // A time to come back at that has passed, by this clock, is none.
  begin();
  server.answers.push({ status: 503, headers: { "retry-after": new Date(Date.now() - 3_600_000).toUTCString() } });
  const early = client();
  early.track("a");
  assert.ok(!(await early.flush()) && delays.every((delay) => delay >= 0), delays.join());

  // What is made while the end of what waits is read goes out with it, at whatever moment.
  for (let moment = 0; moment < 40; moment++) {
    begin();
    const kept = new Map();
    let late;
    const store = {
      add: async (id, event) => kept.set(id, event),
      remove: async (ids) => ids.forEach((id) => kept.delete(id)),
      clear: async () => kept.clear(),
      first: async () => {
        if (!kept.size && !late) {
          late = (async () => {
            for (let turn = 0; turn < moment; turn++) await null;
            busy.track("late");
            return busy.flush();
          })();
        }
        return { events: [...kept], total: kept.size };
      },
    };
    const busy = client({ store });
    busy.track("a");
    await busy.flush();
    assert.deepStrictEqual([await late, types()], [true, ["a", "late"]], `${moment}`);
  }

  // A form says what it is, whatever its fields are called; a router's addresses are pages, a place in a page is none.
  begin();
  let shop = page();
  let pulse = client({ forms: true });
  const form = (said) => ({ id: { value: "4111" }, action: { value: "4111" }, getAttribute: (name) => said[name] ?? null });
  for (const said of [{ id: "order", action: "/ordered" }, { name: "n" }]) shop.happen("submit", { target: form(said) });
  for (const url of ["#/cart", "#/cart", "#!pay", "#top", "/b", "/b#top"]) shop.history.pushState({}, "", url);
  assert.ok(await pulse.flush());
  const forms = taken().filter(({ type }) => type === "form_submit").map(({ properties }) => [properties.id, properties.name, properties.action]);
  assert.deepStrictEqual(forms.sort(), [[null, "n", "https://shop.example/a"], ["order", null, "https://shop.example/ordered"]]);
  const pages = taken().filter(({ type }) => type === "page").map(({ context }) => context.page.url.slice("https://shop.example".length));
  assert.deepStrictEqual(pages.sort(), ["/a", "/a#!pay", "/a#/cart", "/a#top", "/b"]);

  // What is said of a page or a screen is added to what is collected of it; what is said of anything else is all of it.
  begin();
  shop = page();
  pulse = client({ pages: false });
  shop.history.pushState({}, "", "/b?utm_source=news");
  const seen = () => taken().at(-1).context;
  const of = async (context) => (pulse.page({}, { context }), assert.ok(await pulse.flush()), seen());
  const bare = { url: "https://shop.example/b?utm_source=news", title: "Shop", referrer: "" };
  assert.deepStrictEqual((await of(undefined)).page, bare);
  const more = await of({ page: { title: "Cart", path: "/cart" }, screen: { density: 2 }, locale: "fr", app: { name: "shop" } });
  assert.deepStrictEqual(more.page, { ...bare, title: "Cart", path: "/cart" });
  assert.deepStrictEqual([more.screen, more.locale, more.app], [{ width: 1, height: 1, density: 2 }, "fr", { name: "shop" }]);
  assert.strictEqual((await of({ page: { referrer: "https://news.example/" } })).page.referrer, "https://news.example/");
  assert.deepStrictEqual((await of({ page: null })).page, bare);

  // What an older SDK has kept of a visitor is somebody still.
  begin();
  shop = page();
  shop.localStorage.setItem("pulse:k", '{"a":"d","u":42}');
  pulse = client({ pages: false });
  pulse.track("a");
  pulse.track("a", {}, { userId: 9 });
  assert.ok(await pulse.flush());
  assert.deepStrictEqual(taken().map(({ userId, anonymousId }) => [userId, anonymousId]), [["42", "d"], ["9", "d"]]);

  // One that is too large for a page's last request holds up none of the others.
  begin();
  shop = page();
  pulse = client({ pages: false, flushInterval: 3_600_000 });
  for (const size of [10, 40_000, 10, 26_000, 10]) pulse.track(`${size}`, { text: "x".repeat(size) });
  shop.happen("pagehide");
  const leaving = () => server.requests.filter(({ keepalive }) => keepalive).flatMap(({ batch }) => batch.map(({ type }) => type));
  await until("what goes with the page", () => leaving().length);
  assert.deepStrictEqual(leaving(), ["10", "10", "26000", "10"]);

  // Who objects in one tab has objected in all of them.
  begin();
  shop = page();
  pulse = client({ pages: false, flushInterval: 3_600_000 });
  pulse.track("before");
  shop.localStorage.setItem("pulse:k", '{"o":false}');
  shop.happen("pagehide");
  shop.happen("storage", { key: "other" });
  shop.happen("storage", { key: "pulse:k" });
  await until("nothing that waits", () => shop.localStorage.length <= 1);
  assert.ok(await pulse.flush());
  pulse.track("unwanted");
  assert.ok(await pulse.flush());
  assert.deepStrictEqual(server.requests, []);

  // A browser's database that never answers keeps nothing from being sent.
  begin();
  shop = page();
  set("indexedDB", { open: () => ({}) });
  set("setTimeout", (then, delay, ...given) => after(then, delay === 5_000 ? 0 : delay, ...given));
  pulse = client({ pages: false });
  pulse.track("a");
  assert.ok(await pulse.flush());
  assert.deepStrictEqual(types(), ["a"]);
  console.log("ok");
  process.exit(0);
})().catch((problem) => (console.error(problem), process.exit(1)));
