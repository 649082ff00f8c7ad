// Records what SDKs send, unmodified, into tests/data/requests: the requests of which `cargo bench --bench dialects` reads one each, and which
// the fuzz targets begin with. `NODE_PATH=~/.cache/pulse/sdk/node_modules node tests/sdk/record.cjs [SDK ...]`, once `make fetch-test` was run.
// Of each SDK and path the largest request, its body inflated; what is of the machine or of the hour is left out where it is a header.
const fs = require("fs");
const http = require("http");
const path = require("path");
const vm = require("vm");
const zlib = require("zlib");
const { spawn } = require("child_process");

const { NODE_PATH } = process.env;
const modules = NODE_PATH.split(":")[0];
const folder = path.join(__dirname, "../data/requests");
const KEY = "pulse_wk_golden", ORDERS = "20";
/** How long an SDK may be silent before all that it has to send is here. */
const SILENCE = 2_500;
const HEADERS = ["accept", "authorization", "content-type", "openpanel-client-id", "x-write-key"];
/** What SDKs for browsers ask before they send. */
const QUESTIONS = /^\/(flags|sourceConfig|v1\/projects)/;
const RECORDED = [
  ["node", "servers.cjs", "@segment/analytics-node"],
  ["node", "servers.cjs", "@rudderstack/rudder-sdk-node"],
  ["node", "servers.cjs", "posthog-node"],
  ["node", "servers.cjs", "@amplitude/analytics-node"],
  ["node", "servers.cjs", "mixpanel"],
  ["node", "servers.cjs", "@snowplow/node-tracker"],
  ["node", "servers.cjs", "@jitsu/js"],
  ["node", "servers.cjs", "@umami/node"],
  ["node", "servers.cjs", "@openpanel/sdk"],
  ["node", "servers.cjs", "@opentelemetry/sdk-logs"],
  ["node", "servers.cjs", "@pulse-analytics/sdk"],
  ["python3", "servers.py", "segment-analytics-python"],
  ["python3", "servers.py", "rudder-sdk-python"],
  ["python3", "servers.py", "posthog"],
  ["python3", "servers.py", "amplitude-analytics"],
  ["python3", "servers.py", "mixpanel"],
  ["python3", "servers.py", "snowplow-tracker"],
  ["python3", "servers.py", "opentelemetry-sdk"],
  ["python3", "servers.py", "pulse-analytics"],
  ["node", "pages.cjs", "posthog-js"],
  ["node", "pages.cjs", "@segment/analytics-next"],
  ["node", "pages.cjs", "@rudderstack/analytics-js"],
  ["node", "pages.cjs", "mixpanel-browser"],
  ["node", "pages.cjs", "@snowplow/browser-tracker"],
  ["node", "pages.cjs", "umami"],
];

/** What is answered to who asks how it is set: as pulse does. */
function settings(pathname, host) {
  const segment = { apiKey: KEY, apiHost: `${host}/v1`, protocol: "http", unbundledIntegrations: [], addBundledMetadata: true, versionSettings: { version: "4.4.7", componentTypes: ["browser"] } };
  if (pathname.startsWith("/v1/projects")) return { integrations: { "Segment.io": segment }, plan: { track: { __default: { enabled: true, integrations: {} } } }, metrics: { sampleRate: 0 }, remotePlugins: [] };
  const config = { statsCollection: { errors: { enabled: false }, metrics: { enabled: false } } };
  return { source: { id: "pulse", name: "pulse", writeKey: KEY, enabled: true, workspaceId: "pulse", destinations: [], connections: [], config, dataplanes: {} }, updatedAt: "2026-01-01T00:00:00.000Z" };
}

let requests = [], last = 0;
const recorder = http.createServer((request, response) => {
  const pieces = [];
  const { pathname } = new URL(request.url, "http://recorder");
  response.setHeader("access-control-allow-origin", request.headers.origin ?? "*").setHeader("access-control-allow-credentials", "true");
  if (request.method === "OPTIONS") return response.writeHead(204, { "access-control-allow-headers": request.headers["access-control-request-headers"] ?? "" }).end();
  if (pathname.startsWith("/array")) return response.writeHead(404).end();
  if (QUESTIONS.test(pathname)) return response.setHeader("content-type", "application/json").end(JSON.stringify(settings(pathname, request.headers.host)));
  request.on("data", (piece) => pieces.push(piece));
  request.on("end", () => {
    let body = Buffer.concat(pieces);
    if (body.subarray(0, 2).equals(Buffer.from([0x1f, 0x8b]))) body = zlib.gunzipSync(body);
    requests.push({ method: request.method, url: request.url, pathname, headers: request.headers, body });
    last = Date.now();
    const isTerse = /^\/(track|engage)/.test(pathname) && !`${request.url} ${body}`.includes("verbose=1");
    const answer = pathname === "/2/httpapi" ? '{"code":200}' : isTerse ? "1" : '{"status":1}';
    response.setHeader("content-type", "application/json").end(answer);
  });
});

/** Plausible's tracker, in as much of a page as it looks at. */
async function plausible(host) {
  const source = fs.readFileSync(path.join(modules, "@plausible-analytics/tracker/plausible.js"), "utf8").replace(/export \{[^}]*\}/, "");
  const location = new URL("https://shop.example/cart?utm_source=news&utm_medium=email");
  const element = { addEventListener() {} };
  const document = { ...element, referrer: "https://www.google.com/", visibilityState: "visible", hasFocus: () => true, documentElement: {} };
  const window = { ...element, location, fetch, localStorage: {}, navigator: {}, innerHeight: 720, scrollY: 0, history: {} };
  const page = vm.createContext({ ...window, window, document, URL, Date, ResizeObserver: class { observe() {} } });
  vm.runInContext(source, page);
  const order = JSON.stringify({ sdk: "@plausible-analytics/tracker", run: "recorded", n: 0, total: 12.5 });
  vm.runInContext(`init({ domain: "${KEY}", endpoint: "${host}/api/event" }); track("order", { props: ${order} });`, page);
}

function run(program, script, sdk, host) {
  const python = path.join(modules, "../python");
  const RUNS = JSON.stringify([{ run: "recorded", host, key: KEY }]);
  const child = spawn(program, [path.join(__dirname, script)], { env: { ...process.env, PYTHONPATH: python, RUNS, SDKS: sdk, ORDERS }, stdio: ["pipe", "ignore", "inherit"] });
  return child;
}

const silent = async () => {
  for (const end = Date.now() + 60_000; Date.now() < end; await new Promise((done) => setTimeout(done, 100))) {
    if (requests.length && Date.now() - last > SILENCE) return;
  }
};

const slug = (name) => name.replace(/[^a-z0-9]+/gi, "-").replace(/^-|-$/g, "");

/** Writes the largest request of each path. */
function write(name) {
  const largest = new Map();
  for (const request of requests) {
    if (request.body.length >= (largest.get(request.pathname)?.body.length ?? -1)) largest.set(request.pathname, request);
  }
  for (const { method, url, pathname, headers, body } of largest.values()) {
    const kept = HEADERS.filter((header) => headers[header]).map((header) => `${header}: ${headers[header]}\n`);
    const file = `${slug(name)}${largest.size > 1 ? `.${slug(pathname)}` : ""}.http`;
    fs.writeFileSync(path.join(folder, file), Buffer.concat([Buffer.from(`${method} ${url}\n${kept.join("")}\n`), body]));
    console.log(`${file}\t${body.length} bytes`);
  }
}

(async () => {
  fs.mkdirSync(folder, { recursive: true });
  await new Promise((done) => recorder.listen(0, "127.0.0.1", done));
  const host = `http://127.0.0.1:${recorder.address().port}`;
  const wanted = process.argv.slice(2);
  for (const [program, script, sdk] of RECORDED.filter(([, , sdk]) => !wanted.length || wanted.includes(sdk))) {
    [requests, last] = [[], Date.now()];
    const child = run(program, script, sdk, host);
    await silent();
    child.stdin.end();
    await new Promise((done) => child.on("close", done));
    write(program === "python3" && sdk === "mixpanel" ? "mixpanel-python" : sdk);
  }
  if (!wanted.length || wanted.includes("@plausible-analytics/tracker")) {
    [requests, last] = [[], Date.now()];
    await plausible(host);
    await silent();
    write("@plausible-analytics/tracker");
  }
  process.exit(0);
})();
