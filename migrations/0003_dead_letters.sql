-- What could not be read, with its reason and its original bytes, keyed by what it is and where it stood in the log.
-- Why: written at least once; the key makes a second copy of the same letter disappear (read with FINAL).
-- A letter whose id was there before, of a line that was imported again, is a copy: the ledger counts it as a duplicate.
-- Cost: none. Back out: drop the table; the dead topic can fill it again within its retention.
CREATE TABLE IF NOT EXISTS ${database}.dead_letters
(
    project_id    UInt64,
    received_at   DateTime64(3, 'UTC'),
    reason        LowCardinality(String),
    message       String,
    source        String,
    line          UInt64,
    original      String,
    log_epoch     UInt64,
    log_partition UInt16,
    log_offset    Int64,
    log_index     UInt32,
    letter_id     UInt128,
    is_copy       UInt8
)
ENGINE = ${ReplacingMergeTree}
PARTITION BY toYYYYMM(received_at)
ORDER BY (project_id, is_copy, letter_id, log_epoch, log_partition, log_offset, log_index)
TTL toDate(received_at) + INTERVAL 90 DAY DELETE;
