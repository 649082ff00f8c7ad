-- The event table: the one truth about what is stored.
-- Why: sorted for reports (project, type, time): they ask for types and spans, and rows that come in order of time are merged for
-- half of what sorting by person costs, for an eighth more bytes. Partitioned by the day of receipt, so a block of the loader is one
-- part however late its events are. Maps keep properties by kind: strings, numbers, and everything else as JSON text; their keys are
-- plain strings, because merging dictionaries inside maps costs twice as much and saves nothing on disk.
-- What the loader asks of all days is answered beside the rows, in the same part and with it or not at all: where an id may be (`ids`:
-- four bytes of its hash, and the row), and how far each partition of the log is (`places`: a row for each). Which rows were received
-- last, and what happened last, is found in the marks of `receipts`. A hash instead of the id takes 13 bytes an event instead of 21.
-- The events of a visitor by time, with what they carry of campaigns and what was said of their sessions since (`visits`), tell in
-- which sessions a late event falls; the day is the same in a whole part and lets others be passed over. The person beside them
-- tells who used a device that several use; sorted by visitor it takes no space.
-- Rows with project_id = 0 are the books of a block (see src/load): project 0 has no keys, so no project's query sees them.
-- Cost on a big table: none, it is created empty. Back out: drop the table; the log can fill it again within its retention.
CREATE TABLE IF NOT EXISTS ${database}.events
(
    project_id          UInt64,
    type                LowCardinality(String),
    timestamp           DateTime64(3, 'UTC') CODEC(Delta(8), ZSTD(1)),
    person_id           UInt64,
    visitor_id          UInt64,
    event_id            UUID CODEC(NONE),
    received_day        Date,
    received_at         DateTime64(3, 'UTC') CODEC(Delta(8), ZSTD(1)),
    original_timestamp  DateTime64(3, 'UTC') CODEC(Delta(8), ZSTD(1)),
    sent_at             DateTime64(3, 'UTC') CODEC(Delta(8), ZSTD(1)),
    user_id             String,
    anonymous_id        String,
    session_id          UUID,
    client_session_id   String,
    flags               UInt32,
    country             LowCardinality(String),
    region              LowCardinality(String),
    city                LowCardinality(String),
    network             LowCardinality(String),
    browser             LowCardinality(String),
    browser_version     LowCardinality(String),
    os                  LowCardinality(String),
    os_version          LowCardinality(String),
    device_type         LowCardinality(String),
    device_model        LowCardinality(String),
    device_manufacturer LowCardinality(String),
    bot                 LowCardinality(String),
    app_name            LowCardinality(String),
    app_version         LowCardinality(String),
    app_build           LowCardinality(String),
    locale              LowCardinality(String),
    timezone            LowCardinality(String),
    screen_width        UInt16,
    screen_height       UInt16,
    screen_density      Float32,
    page_url            String,
    page_host           LowCardinality(String),
    page_path           String,
    page_title          String,
    page_search         String,
    referrer            String,
    referrer_domain     LowCardinality(String),
    channel             LowCardinality(String),
    campaign_source     LowCardinality(String),
    campaign_medium     LowCardinality(String),
    campaign_name       LowCardinality(String),
    campaign_term       LowCardinality(String),
    campaign_content    LowCardinality(String),
    click_id_kind       LowCardinality(String),
    click_id            String,
    campaign_hash       UInt32 CODEC(ZSTD(1)),
    strings             Map(String, String),
    numbers             Map(String, Float64),
    others              Map(String, String),
    log_epoch           UInt64,
    log_partition       UInt16,
    log_offset          Int64 CODEC(Delta(8), ZSTD(1)),
    generation          UInt64,
    event_hash          UInt32 MATERIALIZED xxHash32(event_id) CODEC(Delta(4), ZSTD(1)),
    INDEX receipts (received_at, timestamp) TYPE minmax GRANULARITY 1,
    PROJECTION ids (SELECT event_hash, _part_offset ORDER BY event_hash) WITH SETTINGS (index_granularity = 512),
    PROJECTION visits (SELECT project_id, received_day, visitor_id, timestamp, session_id, campaign_hash, person_id, flags
        ORDER BY received_day, visitor_id, timestamp) WITH SETTINGS (index_granularity = 512),
    PROJECTION places (SELECT log_epoch, log_partition, max(log_offset), max(received_at) GROUP BY log_epoch, log_partition),
    CONSTRAINT fenced CHECK generation = joinGet('${database}.fence', 'generation', log_partition)
)
ENGINE = ${MergeTree}
PARTITION BY received_day
ORDER BY (project_id, type, timestamp)
TTL received_day + INTERVAL 90 DAY DELETE
-- Parts stay in one file until they are large: with sixty columns a small part in many files costs more in files than in rows.
-- A wider merge base rewrites each row half as often for two or three times the parts, which are still few. Statistics of sixty columns
-- and marks of their substreams, which the server makes by default, cost one twentieth of loading.
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = 0, min_bytes_for_wide_part = 268435456,
    merge_selector_base = 10, auto_statistics_types = '', write_marks_for_substreams_in_compact_parts = 0;
