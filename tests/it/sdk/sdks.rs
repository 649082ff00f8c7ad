//! The SDKs that are run, and what each does by itself with what was not taken: by its own source, of the version that `tests/sdk` names.

/// An SDK by its name in the scripts.
pub(super) struct Sdk {
    pub(super) name: &'static str,
    /// Whether it keeps what could not be sent and sends it again by itself.
    pub(super) resends: bool,
    /// Whether it goes on for as long as the outage lasts, however slow the machine is; others give up after a few attempts.
    pub(super) outlasts: bool,
    /// Whether it sends a batch that is too large again in pieces, or never sends one.
    pub(super) shrinks: bool,
    /// How often it tries again after a 503, and when.
    pub(super) retries: &'static str,
    /// Where that is written, in the SDK or in what it is made of.
    pub(super) source: &'static str,
}

const NONE: &str = "never";
/// Of our own SDK for pages and for Node.js.
const OURS: Sdk = Sdk {
    name: "@pulse-analytics/sdk",
    resends: true,
    outlasts: true,
    shrinks: true,
    retries: "until it is taken: after up to 1, 2, 4 … 300 s, and as it is asked",
    source: "sdk/js/src/sender.ts",
};
const OURS_FOR_PYTHON: Sdk = Sdk { name: "pulse-analytics", source: "sdk/python/pulse_analytics/client.py", ..OURS };

/// In the order of the tables.
pub(super) const SDKS: [Sdk; 30] = [
    Sdk {
        name: "@amplitude/analytics-node",
        resends: true,
        outlasts: true,
        shrinks: false,
        retries: "11 times, after 1, 2, 3 … 11 s",
        source: "@amplitude/analytics-core/lib/cjs/plugins/destination.js",
    },
    Sdk { name: "@jitsu/js", resends: false, outlasts: false, shrinks: true, retries: NONE, source: "@jitsu/js/dist/jitsu.cjs.js" },
    Sdk {
        name: "@jitsu/js (browser)",
        resends: false,
        outlasts: false,
        shrinks: true,
        retries: NONE,
        source: "@jitsu/js/dist/jitsu.es.js",
    },
    Sdk {
        name: "@openpanel/sdk",
        resends: false,
        outlasts: false,
        shrinks: true,
        retries: "3 times, after 0.5, 1, 2 s",
        source: "@openpanel/sdk/dist/index.js",
    },
    Sdk {
        name: "@opentelemetry/sdk-logs",
        resends: false,
        outlasts: false,
        shrinks: false,
        retries: "5 times, as it is asked, otherwise after 1, 1.5, 2.3, 3.4, 5 s",
        source: "@opentelemetry/otlp-exporter-base/build/src/retrying-transport.js",
    },
    Sdk {
        name: "@plausible-analytics/tracker (browser)",
        resends: false,
        outlasts: false,
        shrinks: true,
        retries: NONE,
        source: "@plausible-analytics/tracker/plausible.js",
    },
    OURS,
    Sdk { name: "@pulse-analytics/sdk (browser)", ..OURS },
    Sdk { name: "@pulse-analytics/sdk (tabs)", ..OURS },
    Sdk {
        name: "@rudderstack/analytics-js (browser)",
        resends: true,
        outlasts: true,
        shrinks: true,
        retries: "10 times, after 1, 2, 4 … 360 s, kept in localStorage",
        source: "@rudderstack/analytics-js/dist/npm/modern/bundled/umd/index.js",
    },
    Sdk {
        name: "@rudderstack/rudder-sdk-node",
        resends: false,
        outlasts: false,
        shrinks: false,
        retries: "3 times, after 0.2, 0.4, 0.8 s or as it is asked",
        source: "@rudderstack/rudder-sdk-node/cjs/index.js, axios-retry",
    },
    Sdk {
        name: "@segment/analytics-next (browser)",
        resends: true,
        outlasts: true,
        shrinks: true,
        retries: "10 times, after 0.5, 1, 2 … 256 s, up to double at random, kept in localStorage",
        source: "@segment/analytics-core/dist/cjs/priority-queue/index.js",
    },
    Sdk {
        name: "@segment/analytics-node",
        resends: true,
        outlasts: true,
        shrinks: false,
        retries: "10 times, after 1, 2, 4 … 60 s, up to double at random",
        source: "@segment/analytics-node/dist/cjs/plugins/segmentio/publisher.js",
    },
    Sdk {
        name: "@snowplow/browser-tracker (browser)",
        resends: true,
        outlasts: true,
        shrinks: false,
        retries: "with every next event, kept in localStorage",
        source: "@snowplow/tracker-core/dist/index.module.js",
    },
    Sdk {
        name: "@snowplow/node-tracker",
        resends: true,
        outlasts: true,
        shrinks: false,
        retries: "with every next event or flush",
        source: "@snowplow/tracker-core/dist/index.js",
    },
    Sdk { name: "@umami/node", resends: false, outlasts: false, shrinks: true, retries: NONE, source: "@umami/node/dist/index.js" },
    Sdk {
        name: "amplitude-analytics",
        resends: true,
        outlasts: false,
        shrinks: false,
        retries: "11 times in 9.4 s, after 0.1, 0.1, 0.2, 0.2 … 3.2 s",
        source: "amplitude/storage.py",
    },
    Sdk { name: "mixpanel", resends: false, outlasts: false, shrinks: false, retries: NONE, source: "mixpanel/lib/mixpanel-node.js" },
    Sdk {
        name: "mixpanel (Python)",
        resends: false,
        outlasts: false,
        shrinks: false,
        retries: "never without TLS; with it 4 times in 4 s",
        source: "mixpanel/__init__.py",
    },
    Sdk {
        name: "mixpanel-browser (browser)",
        resends: true,
        outlasts: true,
        shrinks: true,
        retries: "until it is taken, as it is asked, otherwise after twice as long as before, kept in localStorage",
        source: "mixpanel-browser/dist/mixpanel.umd.js",
    },
    Sdk {
        name: "opentelemetry-sdk",
        resends: false,
        outlasts: false,
        shrinks: false,
        retries: "5 times, as it is asked, otherwise after 1, 2, 4, 8, 16 s",
        source: "opentelemetry/exporter/otlp/common/http.py",
    },
    Sdk {
        name: "posthog",
        resends: true,
        outlasts: false,
        shrinks: false,
        retries: "3 times, after 1, 2, 4 s or as it is asked",
        source: "posthog/consumer.py, posthog/client.py",
    },
    Sdk {
        name: "posthog-js (browser)",
        resends: true,
        outlasts: true,
        shrinks: false,
        retries: "10 times, after 3, 6, 12 … 1,536 s give or take a quarter, in memory",
        source: "posthog-js/lib/src/retry-queue.js",
    },
    Sdk {
        name: "posthog-node",
        resends: true,
        outlasts: false,
        shrinks: true,
        retries: "3 times, every 3 s",
        source: "@posthog/core/dist/posthog-core-stateless.js",
    },
    OURS_FOR_PYTHON,
    Sdk { name: "pulse-analytics (disk)", ..OURS_FOR_PYTHON },
    Sdk {
        name: "rudder-sdk-python",
        resends: true,
        outlasts: true,
        shrinks: false,
        retries: "10 times, at random within 1, 2, 4 … 512 s",
        source: "rudderstack/analytics/consumer.py",
    },
    Sdk {
        name: "segment-analytics-python",
        resends: true,
        outlasts: true,
        shrinks: false,
        retries: "for half an hour as it is asked, otherwise 10 times, at once and after 0.5, 1, 2 … 60 s",
        source: "segment/analytics/consumer.py",
    },
    Sdk {
        name: "snowplow-tracker",
        resends: true,
        outlasts: true,
        shrinks: false,
        retries: "until it is taken, after twice as long as before and up to 1 s more, 60 s at most, in memory",
        source: "snowplow_tracker/emitters.py",
    },
    Sdk { name: "umami (browser)", resends: false, outlasts: false, shrinks: true, retries: NONE, source: "umami/src/tracker/index.js" },
];

/// What is known of one.
pub(super) fn of(name: &str) -> &'static Sdk {
    SDKS.iter().find(|sdk| sdk.name == name).unwrap_or_else(|| panic!("{name} is in no list"))
}
