-- Rows of lines of alerts are deleted 90 days after they were written.
-- Why: a line that is forgotten leaves a row without a body, and anybody may make values of a breakdown that come once. The owner writes lines that
-- hold anew each week, and what is older than 89 days is not read: so an old row does not come back when the empty one that hides it is deleted.
-- Cost on a big table: none, no part is rewritten; the rows go when parts are merged. Back out: the TTL of 0007.
ALTER TABLE ${database}.alert_states
    MODIFY TTL toDateTime(at) + INTERVAL 90 DAY DELETE WHERE kind IN ('slot', 'history', 'line'),
        toDateTime(at) + INTERVAL 3 DAY DELETE WHERE kind = 'outbox'
    SETTINGS materialize_ttl_after_modify = 0;
