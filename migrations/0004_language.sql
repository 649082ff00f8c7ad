-- The language of an event: the first part of its locale, in small letters (`en` of `en-US`).
-- Why: who asks for languages wants one line for all of them, not one a country.
-- The server computes it, as rows are written and, of rows that were there before, as they are read.
-- Cost on a big table: none, no part is rewritten. Back out: drop the column; nothing else knows it.
ALTER TABLE ${database}.events
    ADD COLUMN IF NOT EXISTS language LowCardinality(String) MATERIALIZED lower(extract(locale, '^[A-Za-z]+'));
