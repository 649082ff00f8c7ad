//! How files are laid out, by the name that `--format` gives.

use clap::ValueEnum;

/// How the lines of a file are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// One JSON object a line: an event in pulse's own form
    Ndjson,
    /// A table with a header row
    Csv,
    /// Access log of a web server: combined, common, with virtual hosts or prefixes, or JSON objects
    #[value(aliases = ["access", "common", "vhost", "json"])]
    Combined,
    /// Events of PostHog: batch exports, pages of its API, tables of its screen
    Posthog,
    /// Events of Mixpanel's raw export; --timezone is the project's, if it was made before 2023
    Mixpanel,
    /// The archive of Amplitude's export API, or its files
    Amplitude,
    /// Calls that Segment or RudderStack kept in S3
    Segment,
    /// Rows of Umami's `website_event`
    Umami,
    /// Rows of Google Analytics 4 in BigQuery, as JSON lines
    #[value(aliases = ["ga", "bigquery"])]
    Ga4,
    /// Rows of `events_v2` of a Plausible of one's own; sums by day are no events
    Plausible,
}

impl Format {
    /// Its name, which is part of the ids of its lines.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Ndjson => "ndjson",
            Self::Csv => "csv",
            Self::Combined => "combined",
            Self::Posthog => "posthog",
            Self::Mixpanel => "mixpanel",
            Self::Amplitude => "amplitude",
            Self::Segment => "segment",
            Self::Umami => "umami",
            Self::Ga4 => "ga4",
            Self::Plausible => "plausible",
        }
    }
}
