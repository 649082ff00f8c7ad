-- Who may insert into a log partition's rows: the generation that took the partition last.
-- Why: the events table compares each block's generation with this one as the block is written, so an insert of anyone else is
-- refused whole, however late it arrives. It is in memory only: a server that starts anew knows no generation, refuses every block
-- until its partition was taken again, and has no insert of before. Kept on disk it would be one more file each time a partition is taken.
-- Cost: 4 KB of memory each time a partition is taken, until the server starts anew. Back out: drop together with the events table.
CREATE TABLE IF NOT EXISTS ${database}.fence
(
    log_partition UInt16,
    generation    UInt64
)
ENGINE = Join(ANY, LEFT, log_partition)
SETTINGS join_any_take_last_row = 1, persistent = 0;
