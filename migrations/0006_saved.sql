-- What people save under a name, such as cohorts: the last version of each, which is empty once it is deleted.
-- Why: every instance that answers questions sees the same. Versions of one name follow on each other: an insert carries a token of its
-- name and version, and the server drops a second one with a token that it has seen, so of two who write the same version at once
-- one wins, and the other learns it by reading back who wrote it.
-- Cost: none, a row for each name. Back out: drop the table; questions that name a cohort are refused.
CREATE TABLE IF NOT EXISTS ${database}.saved
(
    project_id UInt64,
    kind       LowCardinality(String),
    name       String,
    version    UInt64,
    writer     UInt128,
    body       String
)
ENGINE = ${ReplacingMergeTree}(version)
ORDER BY (project_id, kind, name)
SETTINGS non_replicated_deduplication_window = 1000;
