// What applications do with SDKs for Node.js. Each sends some orders and says who the customer is, once in each of RUNS
// (`[{run, host, key}]`, or `hosts` by the names of SDKs), all at the same time; a line for each says how much it sends, and one how that ended.
// Goes on until its standard input ends: SDKs send again what was not taken.
const { RUNS, SDKS, ORDERS = "12" } = process.env;
const numbers = [...Array(Number(ORDERS)).keys()];
const over = new Promise((done) => process.stdin.on("end", done).resume());
const quiet = () => {};

const sdks = {
  async "@segment/analytics-node"(sdk, { host, key, user, customer, order }) {
    const { Analytics } = require(sdk);
    const analytics = new Analytics({ writeKey: key, host, flushInterval: 100 });
    analytics.on("error", quiet);
    analytics.identify({ userId: user, anonymousId: `d-${user}`, traits: customer });
    for (const n of numbers) analytics.track({ userId: user, event: "order", properties: order(n) });
    await analytics.closeAndFlush({ timeout: 600_000 });
  },
  async "@rudderstack/rudder-sdk-node"(sdk, { host, key, user, customer, order }) {
    const Analytics = require(sdk).default ?? require(sdk);
    const analytics = new Analytics(key, { dataPlaneUrl: host, flushInterval: 100 });
    analytics.identify({ userId: user, anonymousId: `d-${user}`, traits: customer });
    for (const n of numbers) analytics.track({ userId: user, event: "order", properties: order(n) });
    await new Promise((done) => analytics.flush(done));
  },
  async "posthog-node"(sdk, { host, key, user, customer, order }) {
    const { PostHog } = require(sdk);
    const posthog = new PostHog(key, { host, flushInterval: 100 });
    posthog.on("error", quiet);
    posthog.identify({ distinctId: user, properties: customer });
    posthog.alias({ distinctId: user, alias: `d-${user}` });
    for (const n of numbers) posthog.capture({ distinctId: user, event: "order", properties: order(n) });
    await posthog.shutdown(600_000);
  },
  async "@amplitude/analytics-node"(sdk, { host, key, user, customer, order }) {
    const amplitude = require(sdk).createInstance();
    amplitude.init(key, { serverUrl: `${host}/2/httpapi`, flushIntervalMillis: 100, logLevel: 0 });
    const who = { user_id: user, device_id: `d-${user}` };
    const identify = new (require(sdk).Identify)();
    Object.entries(customer).forEach(([name, value]) => identify.set(name, value));
    const sent = [amplitude.identify(identify, who).promise];
    for (const n of numbers) sent.push(amplitude.track("order", order(n), who).promise);
    await Promise.all(sent);
  },
  async mixpanel(sdk, { host, key, user, customer, order }) {
    const { protocol, hostname, port } = new URL(host);
    const mixpanel = require(sdk).init(key, { host: hostname, port, protocol: protocol.replace(":", ""), path: "" });
    const done = (resolve) => () => resolve();
    const event = (n) => ({ ...order(n), distinct_id: user, $insert_id: `${user}-${n}` });
    await new Promise((ok) => mixpanel.people.set(user, customer, done(ok)));
    await new Promise((ok) => mixpanel.alias(user, `d-${user}`, done(ok)));
    await new Promise((ok) => mixpanel.track("order", event(0), done(ok)));
    const rest = numbers.slice(1).map((n) => ({ event: "order", properties: { ...event(n), time: Date.now() } }));
    await new Promise((ok) => mixpanel.track_batch(rest, done(ok)));
  },
  async "@snowplow/node-tracker"(sdk, { host, key, user, customer, order }) {
    const { newTracker, buildSelfDescribingEvent } = require(sdk);
    const tracker = newTracker({ namespace: "t", appId: key, encodeBase64: true }, { endpoint: host, bufferSize: 5 });
    tracker.setUserId(user);
    for (const n of numbers) {
      const schema = "iglu:com.example/order/jsonschema/1-0-0";
      tracker.track(buildSelfDescribingEvent({ event: { schema, data: order(n) } }));
    }
    tracker.flush();
    // What was refused is sent again with the next event, or when its application says so.
    setInterval(() => tracker.flush(), 5_000);
  },
  async "@jitsu/js"(sdk, { host, key, user, customer, order }) {
    const { jitsuAnalytics } = require(sdk);
    const jitsu = jitsuAnalytics({ host, writeKey: `${key}:server`, fetch });
    await Promise.allSettled([jitsu.identify(user, customer)]);
    await Promise.allSettled(numbers.map((n) => jitsu.track("order", order(n))));
  },
  async "@umami/node"(sdk, { host, key, user, customer, order }) {
    const { Umami } = require(sdk);
    const umami = new Umami({ websiteId: key, hostUrl: host });
    // As an application passes on its visitor's.
    const agent = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/139.0.0.0 Safari/537.36";
    umami.init({ userAgent: agent });
    await Promise.allSettled(numbers.map((n) => umami.track({ id: user, name: "order", url: "/a?utm_source=news", hostname: "shop.example", data: order(n) })));
  },
  async "@openpanel/sdk"(sdk, { host, key, user, customer, order }) {
    const { OpenPanel } = require(sdk);
    const panel = new OpenPanel({ clientId: key, apiUrl: `${host}/openpanel` });
    await panel.identify({ profileId: user, properties: customer });
    await Promise.allSettled(numbers.map((n) => panel.track("order", order(n))));
  },
  async "@opentelemetry/sdk-logs"(sdk, { host, key, user, order }) {
    const { LoggerProvider, BatchLogRecordProcessor } = require(sdk);
    const { OTLPLogExporter } = require("@opentelemetry/exporter-logs-otlp-proto");
    const exporter = new OTLPLogExporter({ url: `${host}/v1/logs`, headers: { "x-write-key": key }, timeoutMillis: 60_000 });
    const processor = new BatchLogRecordProcessor({ exporter, scheduledDelayMillis: 100, exportTimeoutMillis: 60_000 });
    const provider = new LoggerProvider({ processors: [processor] });
    const logger = provider.getLogger("shop");
    for (const n of numbers) logger.emit({ eventName: "order", timestamp: Date.now(), attributes: { "user.id": user, ...order(n) } });
    await provider.shutdown();
  },
  async "@pulse-analytics/sdk"(sdk, { host, key, user, customer, order }) {
    const { createPulse } = await import("../../web/dist/sdk/pulse.mjs");
    const pulse = createPulse({ key, host, flushInterval: 100, flushAt: 5 });
    pulse.identify(user, customer, { anonymousId: `d-${user}` });
    for (const n of numbers) pulse.track("order", order(n), { userId: user });
    await pulse.close(600_000);
  },
};

const version = (sdk) => {
  if (sdk === "@pulse-analytics/sdk") return require("../../sdk/js/package.json").version;
  const folders = require.resolve.paths("x").map((path) => `${path}/${sdk}/package.json`);
  return require(folders.find((path) => require("fs").existsSync(path))).version;
};
const ends = JSON.parse(RUNS).flatMap(({ run, host: shared, hosts = {}, key }) =>
  (SDKS ? SDKS.split(",") : Object.keys(sdks)).map(async (sdk) => {
    const user = `${sdk} ${run}`.replace(/[^a-z0-9]+/gi, "-");
    const customer = { sdk, run, team: "blue" };
    const order = (n) => ({ sdk, run, n, total: 12.5 });
    const host = hosts[sdk] ?? shared;
    console.log(JSON.stringify({ sdk, run, version: version(sdk), sent: numbers.length }));
    const sent = sdks[sdk](sdk, { host, key, user, customer, order }).then(() => "", String);
    const problem = await Promise.race([sent, over.then(() => "still sending")]);
    if (problem) console.log(JSON.stringify({ sdk, run, problem }));
  }),
);
for (const stop of ["unhandledRejection", "uncaughtException"]) process.on(stop, (problem) => console.error(stop, problem));
Promise.all([over, ...ends]).then(() => process.exit(0));
