-- Which ids belong to one person: a row for each tie of two ids, and what was ruled of it by hand.
-- Why: events of before a login belong to the one who logged in, in every report and without an event being written again. A tie
-- (kind 1: an anonymousId and a userId that came in one event, kind 2: two ids of an alias) is written before the block of its event,
-- as often as an instance does not remember that it was; rows of one tie become one, with the first event that made it. `ruling` is what
-- the API said of it last: twice its time, and one more if it is undone.
-- No row expires: who somebody is outlasts the event that told.
-- Cost: 150 bytes before compression for each pair of ids, none on the events table. Back out: drop the table; every id is a person again.
CREATE TABLE IF NOT EXISTS ${database}.identities
(
    project_id UInt64,
    kind       UInt8,
    from_key   UInt64,
    to_key     UInt64,
    from_id    SimpleAggregateFunction(max, String),
    to_id      SimpleAggregateFunction(max, String),
    first      SimpleAggregateFunction(min, Tuple(Int64, UUID)),
    ruling     SimpleAggregateFunction(max, Int64),
    written_at SimpleAggregateFunction(max, DateTime64(3, 'UTC')) DEFAULT now64(3, 'UTC')
)
ENGINE = ${AggregatingMergeTree}
ORDER BY (project_id, kind, from_key, to_key);
