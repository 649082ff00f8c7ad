-- When a tie was first written, by the clock of the server.
-- Why: a question that looks back sees the ties that were known then. A tie is written again by every instance that does not remember it,
-- so `written_at` alone says when that was last. Rows that were there before have the time that they were written.
-- Cost on a big table: none, no part is rewritten; eight bytes a row from then on. Back out: drop the column.
ALTER TABLE ${database}.identities
    ADD COLUMN IF NOT EXISTS known_at SimpleAggregateFunction(min, DateTime64(3, 'UTC')) DEFAULT written_at;
