// Events that are meant: of a name, with filters of their own.
import { useState } from "preact/hooks";
import { FilterForm, to_api, words, type Written } from "./filters";

export interface Matched {
  event?: string;
  filters?: Written[];
}

/** As the API reads it. */
export function matched_to_api({ event, filters = [] }: Matched): Record<string, unknown> {
  const written = filters.map(to_api);
  return { ...(event ? { event } : {}), ...(written.length ? { filters: written } : {}) };
}

/** What a parameter of the address says, if it is an object. */
export function read_json<T extends object>(text: string): T | null {
  try {
    const read = JSON.parse(text);
    return typeof read === "object" && read && !Array.isArray(read) ? (read as T) : null;
  } catch {
    return null;
  }
}

interface MatchesProps {
  matched: Matched;
  onChange(filters: Written[] | undefined): void;
  /** Whether saved segments are offered too: they are made of no others. */
  has_segments?: boolean;
}

/** The filters of one series or step. */
export function Matches({ matched, onChange, has_segments }: MatchesProps) {
  const [is_open, set_is_open] = useState(false);
  const filters = Array.isArray(matched.filters) ? matched.filters : [];
  const write = (next: Written[]) => onChange(next.length ? next : undefined);
  return (
    <>
      {filters.map((filter, index) => (
        <span class="chip" key={index}>
          <bdi>{words(filter)}</bdi>
          <button type="button" aria-label={`Remove the filter ${words(filter)}`} onClick={() => write(filters.filter((_, at) => at !== index))}>×</button>
        </span>
      ))}
      {is_open
        ? <FilterForm event={matched.event} has_segments={has_segments} onMade={(filter) => { set_is_open(false); if (filter) write([...filters, filter]); }} />
        : <button type="button" class="quiet" onClick={() => set_is_open(true)}>where…</button>}
    </>
  );
}
