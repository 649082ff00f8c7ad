// Pages whose SDKs send in forms that they have beside the usual one: each in a context of its own, on a page of another origin than pulse, left with
// half of what it has to send. Between them and pulse stands what sees the form of each request. Says how many forms were seen.
const assert = require("assert");
const fs = require("fs");
const http = require("http");
const path = require("path");
const { close, launch } = require("./contexts.cjs");
const { forms, sdks } = require("./browser.cjs");

const { HOST, KEY, NODE_PATH, FORMS } = process.env;
const numbers = [0, 1, 2, 3, 4, 5];
const first = numbers.slice(0, 3), last = numbers.slice(3);
const pulse = new URL(HOST);

const listen = (respond) => {
  const server = http.createServer(respond);
  return new Promise((done) => server.listen(0, "localhost", () => done(`http://localhost:${server.address().port}`)));
};

/** Passes requests on, and puts down those that bring events. */
function watch(seen) {
  return async (request, response) => {
    const body = Buffer.concat(await request.toArray());
    const brings = request.method === "POST" && !/^\/(flags|array)/.test(request.url);
    const onward = http.request({ host: pulse.hostname, port: pulse.port, method: request.method, path: request.url, headers: request.headers }, (answer) => {
      const { "content-type": type, "sec-fetch-mode": mode } = request.headers;
      if (brings) seen.push({ form: `${request.url} ${type} ${mode}`, status: answer.statusCode });
      answer.pipe(response.writeHead(answer.statusCode, answer.headers));
    });
    onward.on("error", (problem) => response.destroy(problem)).end(body);
  };
}

function page(form, host) {
  const customer = { sdk: form, run: "forms", team: "blue" };
  const given = `const [HOST, KEY, user, customer, first] = ${JSON.stringify([host, KEY, form.replaceAll(" ", "-"), customer, first])};
    const order = (n) => ({sdk: customer.sdk, run: customer.run, n, total: 12.5});`;
  const { sdk, run } = forms[form];
  return `<!doctype html><meta charset="utf-8"><title>Shop</title><script src="/m/${sdk}/${sdks[sdk].load}"></script><script>${given}${run}</script>`;
}

/** Until something is so: the machine may be busy. */
async function until(what, is) {
  for (const end = Date.now() + 120_000; !(await is()); ) {
    if (Date.now() > end) throw new Error(`${what()} does not come`);
    await new Promise((done) => setTimeout(done, 50));
  }
}

async function visit(browser, form) {
  const seen = [];
  const host = await listen(watch(seen));
  const site = await listen((request, response) => {
    const { pathname } = new URL(request.url, "http://site");
    const isModule = pathname.startsWith("/m/");
    response.setHeader("content-type", isModule ? "text/javascript; charset=utf-8" : "text/html; charset=utf-8");
    response.end(isModule ? fs.readFileSync(path.join(NODE_PATH, pathname.slice(3))) : page(form, host));
  });
  const context = await browser.newContext({ viewport: { width: 1280, height: 720 }, locale: "de-DE" });
  const tab = await context.newPage();
  tab.setDefaultNavigationTimeout(0);
  if (process.env.VERBOSE) tab.on("console", (line) => console.error(form, line.text()));
  const looksLike = (wanted) => seen.some(({ form }) => wanted.test(form));
  await tab.goto(`${site}/shop`);
  await until(() => `a request ${form} of ${JSON.stringify(seen)}`, () => looksLike(forms[form].sends[0]));
  const before = seen.length;
  await tab.evaluate(`${JSON.stringify(last)}.forEach(send)`);
  await tab.goto("about:blank");
  await until(() => `what ${form} has left of ${JSON.stringify(seen)}`, () => seen.length > before && forms[form].sends.every(looksLike));
  await close(context);
  assert.ok(seen.every(({ status }) => status === 200), JSON.stringify(seen));
  if (process.env.VERBOSE) console.error(form, seen);
}

(async () => {
  const browser = await launch();
  const wanted = FORMS ? FORMS.split(",") : Object.keys(forms);
  for (const form of wanted) await visit(browser, form);
  await browser.close();
  console.log(`${wanted.length} forms`);
  process.exit(0);
})().catch((problem) => (console.error(problem), process.exit(1)));
