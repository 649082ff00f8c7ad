-- The place of an event among those of its record of the log, from 0.
-- Why: of events of one visitor and one millisecond the one that stands first in the log comes first (a page and the click on it, sent
-- together), and a record holds hundreds of events: its offset does not tell. Rows that were there before have 0 and go by their ids.
-- Cost on a big table: none, no part is rewritten; two bytes an event from then on. Back out: drop the column.
ALTER TABLE ${database}.events
    ADD COLUMN IF NOT EXISTS log_index UInt16;
