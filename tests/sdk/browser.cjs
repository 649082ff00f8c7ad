// How pages use SDKs for browsers: `HOST`, `KEY`, `order(n)`, `customer` and `user` are given, `numbers` are those of the orders; `load` is a script
// of the SDK, `module` one of which `names` are imported, and `tag` what is said in the tag of our own.
const OURS = "@pulse-analytics/sdk";

const sdks = {
  "posthog-js": {
    load: "dist/array.full.no-external.js",
    run: `posthog.init(KEY, {api_host: HOST, capture_pageview: true});
      posthog.identify(user, customer);
      for (const n of numbers) posthog.capture("order", order(n));`,
  },
  "@segment/analytics-next": {
    load: "dist/umd/index.js",
    run: `AnalyticsNext.AnalyticsBrowser.load({writeKey: KEY, cdnURL: HOST}).then(([analytics]) => {
      analytics.page();
      analytics.identify(user, customer);
      for (const n of numbers) analytics.track("order", order(n));
    });`,
  },
  "@rudderstack/analytics-js": {
    load: "dist/npm/modern/bundled/umd/index.js",
    run: `const rudder = new rudderanalytics.RudderAnalytics();
      rudder.load(KEY, HOST, {configUrl: HOST});
      rudder.page();
      rudder.identify(user, customer);
      for (const n of numbers) rudder.track("order", order(n));`,
  },
  "mixpanel-browser": {
    load: "dist/mixpanel.umd.js",
    run: `mixpanel.init(KEY, {api_host: HOST, track_pageview: true, persistence: "localStorage", batch_flush_interval_ms: 500});
      mixpanel.identify(user);
      mixpanel.people.set(customer);
      for (const n of numbers) mixpanel.track("order", order(n));`,
  },
  "@snowplow/browser-tracker": {
    load: "dist/index.umd.min.js",
    run: `const tracker = snowplowBrowserTracking;
      // What takes longer is sent again with the next event alone, and on a busy machine all takes long.
      tracker.newTracker("t", HOST, {appId: KEY, contexts: {webPage: true}, connectionTimeout: 120_000});
      tracker.setUserId(user);
      tracker.trackPageView();
      for (const n of numbers) {
        tracker.trackSelfDescribingEvent({event: {schema: "iglu:com.example/order/jsonschema/1-0-0", data: order(n)}});
      }`,
    // What was refused is sent again with the next event: the visitor goes on to another page, and another.
    next: `snowplowBrowserTracking.newTracker("t", HOST, {appId: KEY, connectionTimeout: 120_000});
      snowplowBrowserTracking.trackPageView();`,
  },
  "@jitsu/js": {
    module: "dist/jitsu.es.js",
    names: "jitsuAnalytics",
    run: `const jitsu = jitsuAnalytics({host: HOST, writeKey: KEY + ":page"});
      jitsu.page();
      jitsu.identify(user, customer);
      for (const n of numbers) jitsu.track("order", order(n));`,
  },
  "@plausible-analytics/tracker": {
    module: "plausible.js",
    names: "init, track",
    run: `init({domain: KEY, endpoint: HOST + "/api/event", captureOnLocalhost: true, logging: false});
      for (const n of numbers) track("order", {props: order(n)});`,
  },
  umami: {
    load: "src/tracker/index.js",
    attributes: (host, key) => `data-website-id="${key}" data-host-url="${host}"`,
    run: `addEventListener("load", () => {
      for (const n of numbers) umami.track("order", order(n));
    });`,
  },
  [OURS]: {
    tag: "",
    run: `pulse.identify(user, customer);
      for (const n of numbers) pulse.track("order", order(n));`,
  },
};

// The other forms in which some of them send, by what they are told: `sends` says how requests that bring events look, by their address, the type of
// their body and whether the answer may be read, as a beacon's may not: first while the page is shown, which is when half of the orders are sent, `first`,
// and then when it is left.
const forms = {
  "in batches": {
    sdk: "@segment/analytics-next",
    // The page, the customer and half of the orders make one batch.
    run: `AnalyticsNext.AnalyticsBrowser.load({writeKey: KEY, cdnURL: HOST}, {
      integrations: {"Segment.io": {deliveryStrategy: {strategy: "batching", config: {size: first.length + 2, timeout: 3_600_000}}}},
    }).then(([analytics]) => {
      window.send = (n) => analytics.track("order", order(n));
      analytics.page();
      analytics.identify(user, customer);
      first.forEach(send);
    });`,
    sends: [/^\/v1\/b text\/plain cors/],
  },
  "compressed": {
    sdk: "posthog-js",
    run: `posthog.init(KEY, {api_host: HOST, capture_pageview: true});
      window.send = (n) => posthog.capture("order", order(n));
      posthog.identify(user, customer);
      first.forEach(send);`,
    sends: [/^\/e\/ text\/plain cors/, /^\/e\/ text\/plain no-cors/],
  },
  // What a page leaves behind must not be JSON: a browser would ask first.
  "not compressed": {
    sdk: "posthog-js",
    run: `posthog.init(KEY, {api_host: HOST, capture_pageview: true, disable_compression: true});
      window.send = (n) => posthog.capture("order", order(n));
      posthog.identify(user, customer);
      first.forEach(send);`,
    sends: [/^\/e\/ application\/json cors/, /^\/e\/\?\S*compression=base64\S* application\/x-www-form-urlencoded no-cors/],
  },
};

module.exports = { OURS, forms, sdks };
