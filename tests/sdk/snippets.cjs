// Runs each snippet of docs/coming-from, of README.md and of what our SDKs say of themselves, as it stands there, with the address and the key of a
// real pulse, and sees that its order is stored, once, or its page where it sends no order. Blocks say where they run and what they are called: "js
// node NAME", "js page NAME", "html page NAME", "python NAME"; "sh environment NAME" is the environment in which those run whose names begin so.
const fs = require("fs");
const http = require("http");
const path = require("path");
const { spawn } = require("child_process");
const { close, launch } = require("./contexts.cjs");

const { HOST, KEY, READ_KEY, NODE_PATH, ONLY } = process.env;
const root = path.join(__dirname, "../..");
const esbuild = require(path.join(root, "web/node_modules/esbuild"));
const folder = path.join(root, "docs/coming-from");

function snippets() {
  const found = [];
  const pages = fs.readdirSync(folder).filter((file) => file.endsWith(".md")).map((file) => path.join(folder, file));
  for (const file of [...pages, ...["", "sdk/js", "sdk/python"].map((folder) => path.join(root, folder, "README.md"))]) {
    for (const [, language, place, name, code] of fs.readFileSync(file, "utf8").matchAll(/^```(\w+)(?: (node|page|environment))? (\S+)\n(.*?)^```$/gms)) {
      found.push({ language, place, name, type: /["/]order["/]/.test(code) ? `order_${name.replaceAll("-", "_")}` : "page", code });
    }
  }
  const environments = found.filter(({ place }) => place === "environment");
  const runs = found.filter(({ place, name }) => place !== "environment" && (!ONLY || ONLY === name));
  return runs.map((snippet) => ({ ...snippet, environment: environments.find(({ name }) => snippet.name.startsWith(name)) }));
}

/** What a program is told by its environment, a variable a line. */
const variables = (environment) => Object.fromEntries((environment ? filledIn(environment).trim().split("\n") : []).map((line) => line.split(/=(.*)/)));

/** As it stands there, but for the address, the key and what the order is called. */
function filledIn({ code, type }) {
  const { hostname, port } = new URL(HOST);
  return code
    .replaceAll('{ host: "pulse.example", path: "" }', `{ host: "${hostname}", port: ${port}, protocol: "http", path: "" }`)
    .replaceAll("https://pulse.example", HOST)
    .replaceAll("WRITE_KEY", KEY)
    .replaceAll('"order"', `"${type}"`)
    .replaceAll("/order/", `/${type}/`);
}

async function bundled(code, platform) {
  const common = {
    stdin: { contents: code, resolveDir: folder }, bundle: true, write: false, platform, nodePaths: [NODE_PATH], logLevel: "error",
    alias: { "@pulse-analytics/sdk": path.join(root, "web/dist/sdk/pulse.mjs") },
  };
  // What packages of the older kind take for granted is not there in a module.
  const module = `${NODE_PATH}/x.js`;
  const js = `import { createRequire } from "module"; const require = createRequire("${module}"), __filename = "${module}", __dirname = "${NODE_PATH}";`;
  const own = platform === "node" ? { format: "esm", banner: { js } } : { format: "iife", define: { global: "globalThis" } };
  const { outputFiles } = await esbuild.build({ ...common, ...own });
  return outputFiles[0].text;
}

function run(program, given, input, environment) {
  const python = [path.join(NODE_PATH, "../python"), path.join(root, "sdk/python")].join(":");
  return new Promise((done, fail) => {
    const child = spawn(program, given, { env: { ...process.env, PYTHONPATH: python, ...variables(environment) }, stdio: ["pipe", "pipe", "pipe"] });
    let said = "";
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (text) => (said += text));
    child.on("close", (code) => (code === 0 ? done() : fail(new Error(`${program} ends with ${code}: ${said}`))));
    child.stdin.end(input);
  });
}

async function stored({ name, type }) {
  // Each page that is shown tells of itself, too.
  const filters = type === "page" ? [{ field: "page_path", op: "eq", value: `/${name}` }] : [];
  const body = JSON.stringify({ from: "-1d", to: "now", series: [{ event: type }], filters, refresh: true });
  const response = await fetch(`${HOST}/v1/query/trends`, { method: "POST", body, headers: { authorization: `Bearer ${READ_KEY}` } });
  return (await response.json()).result?.series[0].total ?? 0;
}

async function arrives(snippet) {
  for (const end = Date.now() + 120_000; Date.now() < end; await new Promise((done) => setTimeout(done, 1_000))) {
    const total = await stored(snippet);
    if (total > 1) throw new Error(`${snippet.name} is stored ${total} times`);
    if (total === 1) return;
  }
  throw new Error(`what ${snippet.name} sends is not stored`);
}

/** What pages load from elsewhere: the trackers themselves, as their registry has them. */
const elsewhere = new Map([
  ["https://cloud.umami.is/script.js", "umami/src/tracker/index.js"],
  ["https://cdn.jsdelivr.net/npm/@plausible-analytics/tracker@0.4.6/plausible.js", "@plausible-analytics/tracker/plausible.js"],
]);

async function pageOf(language, code) {
  if (language === "html") return code;
  // What is loaded from pulse itself is bundled by nobody.
  if (code.includes(` from "${HOST}/`)) return `<script type="module">${code}</script>`;
  return `<script>${(await bundled(code, "browser")).replaceAll("</script", "<\\/script")}</script>`;
}

async function inPage(browser, snippet) {
  const code = filledIn(snippet);
  const html = await pageOf(snippet.language, code);
  const site = http.createServer((_, response) => response.setHeader("content-type", "text/html; charset=utf-8").end(`<!doctype html><title>Shop</title>${html}`));
  await new Promise((done) => site.listen(0, "localhost", done));
  const context = await browser.newContext();
  for (const [url, file] of elsewhere) {
    if (!html.includes(url)) continue;
    const headers = { "access-control-allow-origin": "*", "content-type": "text/javascript; charset=utf-8" };
    await context.route(url, (route) => route.fulfill({ path: path.join(NODE_PATH, file), headers }));
  }
  const page = await context.newPage();
  page.setDefaultNavigationTimeout(0);
  await page.goto(`http://localhost:${site.address().port}/${snippet.name}`);
  await arrives(snippet);
  await close(context);
}

(async () => {
  const all = snippets();
  const browser = await launch();
  const results = await Promise.allSettled(all.map(async (snippet) => {
    if (snippet.place === "page") return inPage(browser, snippet);
    if (snippet.language === "python") await run("python3", ["-"], filledIn(snippet), snippet.environment);
    else await run("node", ["--input-type=module", "-"], await bundled(filledIn(snippet), "node"), snippet.environment);
    await arrives(snippet);
  }));
  const failed = results.flatMap(({ reason }, at) => (reason ? [`${all[at].name}: ${reason.message}`] : []));
  await browser.close();
  console.log(`${all.length} snippets`);
  if (failed.length || !all.length) console.error(failed.join("\n"));
  process.exit(failed.length || !all.length ? 1 : 0);
})();
