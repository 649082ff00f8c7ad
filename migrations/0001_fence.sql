-- Who may insert into a log partition's rows: the generation that took the partition last.
-- Why: the events table compares each block's generation with this one as the block is written, so an insert of anyone else is
-- refused whole, however late it arrives. Cost: none. Back out: drop together with the events table.
CREATE TABLE IF NOT EXISTS ${database}.fence
(
    log_partition UInt16,
    generation    UInt64
)
ENGINE = Join(ANY, LEFT, log_partition)
SETTINGS join_any_take_last_row = 1;
