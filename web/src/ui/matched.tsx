// Events that are meant: of a name, with filters of their own.
import { useState } from "preact/hooks";
import { here } from "../url";
import { FilterForm, read_filter, to_api, words, written_filters, type Written } from "./filters";

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

/** What the filters of a parameter of the address are written as. */
function filters_of(read: { filters?: unknown } | null): unknown[] {
  return [read?.filters ?? []].flat();
}

/** The events that a parameter of the address says. Filters may be written there as in a question, too; what cannot be shown is left out. */
export function read_matched<T extends Matched>(text: string): T | null {
  const read = read_json<T>(text);
  if (!read) return null;
  const filters = filters_of(read).map(read_filter).filter((one) => one !== null);
  return { ...read, event: typeof read.event === "string" ? read.event : undefined, filters: filters.length ? filters : undefined };
}

/** The parameters of pages that say which events are meant. */
const MATCHED = ["s", "step", "without", "start", "return"];

/** Says so where a filter of the address cannot be shown: the numbers are without it. */
export function LeftOut() {
  const of_events = MATCHED.flatMap((name) => here.value.params.getAll(name)).flatMap((text) => filters_of(read_json(text)));
  if ([...written_filters(), ...of_events].every(read_filter)) return null;
  return <p class="warn" role="status">A filter of this address cannot be shown here: it is left out.</p>;
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
  const { filters = [] } = matched;
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
