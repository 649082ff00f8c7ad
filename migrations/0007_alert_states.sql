-- What is known of alerts: the state of each rule and of each of its lines, the notices that are still to be delivered, what was seen in
-- each slot, and the history.
-- Why: whoever owns the alerts writes a verdict, the states that it changes and the notices that follow from it as one insert, so a crash
-- leaves all or nothing of it. The constraint refuses what an earlier owner writes, however late: the fence has an entry of its own for the
-- owner of the alerts, under a number that no log partition has. States and notices are rows that replace each other, so that whoever
-- takes over reads as many as there are, not as many as there ever were.
-- Cost: a row of some hundred bytes for each rule and slot. Back out: drop the table; all rules begin anew.
CREATE TABLE IF NOT EXISTS ${database}.alert_states
(
    kind       LowCardinality(String),
    project_id UInt64,
    rule       String,
    entry      String,
    slot       DateTime64(3, 'UTC'),
    version    UInt64,
    generation UInt64,
    at         DateTime64(3, 'UTC'),
    body       String CODEC(ZSTD(1)),
    CONSTRAINT fenced CHECK generation = joinGet('${database}.fence', 'generation', toUInt16(65535))
)
ENGINE = ${ReplacingMergeTree}(version)
ORDER BY (kind, project_id, rule, entry, slot)
TTL toDateTime(at) + INTERVAL 90 DAY DELETE WHERE kind IN ('slot', 'history'),
    toDateTime(at) + INTERVAL 3 DAY DELETE WHERE kind = 'outbox';
