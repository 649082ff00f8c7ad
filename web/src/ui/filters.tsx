// Filters: as the API reads them, as the address has them (`f=["country","eq","DE"]`; of a segment `f=["segment","is","buyers"]`), and as
// people see and make them.
import { useEffect, useState } from "preact/hooks";
import { id_of } from "../api/boards";
import type { ApiError } from "../api/client";
import { save_segment, segments } from "../api/segments";
import { isolated, label } from "../format";
import { change, here, page_of } from "../url";
import { FieldPicker, ValuePicker } from "./picker";

export type Written = [field: string, op: string, value?: unknown];

export const OPS: [string, string][] = [
  ["eq", "is"], ["neq", "is not"], ["contains", "contains"], ["gt", "greater than"], ["gte", "at least"], ["lt", "less than"], ["lte", "at most"],
  ["in", "is one of"], ["not_in", "is none of"], ["exists", "is there"], ["not_exists", "is missing"], ["regex", "matches"],
];

/** The filter that something of an address is, which anybody may have written: as the address has it, or as the API does. Nothing of what is none, or
 * cannot be shown here. */
export function read_filter(read: unknown): Written | null {
  if (Array.isArray(read)) return typeof read[0] === "string" && typeof read[1] === "string" ? (read as Written) : null;
  return typeof read === "object" && read ? from_api(read as Record<string, unknown>) : null;
}

/** What the filters of the page are written as in its address. */
export function written_filters(): unknown[] {
  return here.value.params.getAll("f").map((text): unknown => {
    try {
      return JSON.parse(text);
    } catch {
      return null;
    }
  });
}

export function read_filters(): Written[] {
  return written_filters().map(read_filter).filter((filter) => filter !== null);
}

/** Whether a filter is the one of a segment: no comparison of the API is called so. */
function is_of_segment([field, op]: Written): boolean {
  return field === "segment" && (op === "is" || op === "is_not");
}

/** As the API reads it. */
export function to_api(filter: Written): Record<string, unknown> {
  const [field, op, value] = filter;
  if (is_of_segment(filter)) return { cohort: String(value), ...(op === "is_not" ? { not: true } : {}) };
  return value === undefined ? { field, op } : { field, op, value };
}

/** As people see it; nothing of what the API knows and this page cannot show, such as one filter or another. */
export function from_api(filter: Record<string, unknown>): Written | null {
  if (typeof filter.cohort === "string") return ["segment", filter.not ? "is_not" : "is", filter.cohort];
  if (typeof filter.field !== "string") return null;
  const op = typeof filter.op === "string" ? filter.op : "eq";
  return "value" in filter ? [filter.field, op, filter.value] : [filter.field, op];
}

/** What every report of the page is filtered by. */
export function filters_of_page(): Record<string, unknown>[] {
  return read_filters().map(to_api);
}

export function write_filters(filters: Written[]): void {
  change({ f: filters.map((filter) => JSON.stringify(filter)) });
}

/** The filters by which a value of a breakdown is kept: a missing one is asked for as missing; of several fields there are several. */
function keeping(field: string | string[], value: unknown, kind: unknown): Written[] {
  if (Array.isArray(field)) return field.flatMap((one, index) => keeping(one, (value as unknown[])[index], Array.isArray(kind) ? kind[index] : kind));
  return [kind === "none" ? [field, "not_exists"] : [field, "eq", value]];
}

function with_filters(more: Written[]): Written[] {
  const texts = more.map((filter) => JSON.stringify(filter));
  return [...read_filters().filter((other) => !texts.includes(JSON.stringify(other))), ...more];
}

/** Adds filters by which a value that was clicked is kept. */
export function filter_by(field: string | string[], value: unknown, kind: unknown): void {
  write_filters(with_filters(keeping(field, value, kind)));
}

/** The address of the events that have a value, among those of the page. */
export function events_with(field: string, value: unknown): string {
  return page_of("/events", { f: with_filters(keeping(field, value, "value")).map((filter) => JSON.stringify(filter)) });
}

/** A value of a breakdown that keeps only it when it is clicked; a text where it stands for no value of its own. */
export function OnlyButton({ field, value, kind, children }: { field?: string | string[]; value: unknown; kind: unknown; children?: string }) {
  const name = children ?? label(value, kind);
  if (!field?.length || [kind].flat().some((one) => one === null || one === undefined || one === "other")) return <bdi>{name}</bdi>;
  return <button type="button" class="only" title={`Only ${label(value, kind)}`} onClick={() => filter_by(field, value, kind)}><bdi>{name}</bdi></button>;
}

export function words(filter: Written): string {
  const [field, op, value] = filter;
  if (is_of_segment(filter)) return `${op === "is" ? "in" : "not in"} the segment ${String(value)}`;
  const texts = value === undefined ? [] : [...new Set([value].flat().map(String))];
  const is_one = texts.length === 1 && (op === "in" || op === "not_in");
  const name = is_one ? (op === "in" ? "is" : "is not") : (OPS.find(([key]) => key === op)?.[1] ?? op);
  const text = texts.map(isolated).join(", ");
  return `${field} ${name} ${text}`.trim();
}

export function Chips() {
  const filters = read_filters();
  const [is_open, set_is_open] = useState(false);
  const can_be_saved = filters.length > 0 && !filters.some(is_of_segment);
  return (
    <div class="chips">
      {filters.map((filter, index) => (
        <span class="chip" key={JSON.stringify(filter)}>
          <bdi>{words(filter)}</bdi>
          <button type="button" aria-label={`Remove the filter ${words(filter)}`} onClick={() => write_filters(filters.filter((_, at) => at !== index))}>×</button>
        </span>
      ))}
      {is_open
        ? <FilterForm onMade={(filter) => { set_is_open(false); if (filter) write_filters([...filters, filter]); }} />
        : <button type="button" class="quiet" onClick={() => set_is_open(true)}>+ Filter</button>}
      {can_be_saved && !is_open && <SaveSegment filters={filters} />}
    </div>
  );
}

/** Saves the filters of the page under a name, and goes on with that. */
function SaveSegment({ filters }: { filters: Written[] }) {
  const [is_open, set_is_open] = useState(false);
  const [problem, set_problem] = useState("");
  const save = (event: SubmitEvent) => {
    event.preventDefault();
    const name = String(new FormData(event.currentTarget as HTMLFormElement).get("name")).trim();
    const id = /^[\w.-]+$/.test(name) ? name : id_of(name, "segment");
    save_segment({ name: id, version: 0, filters: filters.map(to_api) }).then(() => write_filters([["segment", "is", id]]), (refused: ApiError) => set_problem(refused.message));
  };
  if (!is_open) return <button type="button" class="quiet" onClick={() => set_is_open(true)}>Save as a segment</button>;
  return (
    <form class="filter-form" onSubmit={save} aria-label="Save these filters">
      <input name="name" aria-label="Name of the segment" placeholder="name, such as buyers" required maxLength={64} autofocus />
      <button type="submit">Save</button>
      <button type="button" class="quiet" onClick={() => set_is_open(false)}>Cancel</button>
      {problem && <span class="failed" role="alert">{problem}</span>}
    </form>
  );
}

const SIDES: [op: string, side: string][] = [["is", "in the segment"], ["is_not", "not in the segment"]];

/** Chooses those of a saved segment, or all others, where there is one. */
function SegmentChoice({ onMade }: { onMade(filter: Written): void }) {
  const [names, set_names] = useState<string[]>([]);
  useEffect(() => {
    segments().then((all) => set_names(all.map(({ name }) => name)), () => undefined);
  }, []);
  if (!names.length) return null;
  const choose = (chosen: string) => {
    const [op = "", name] = chosen.split(" ");
    if (name) onMade(["segment", op, name]);
  };
  return (
    <select aria-label="Segment" value="" onChange={(event) => choose(event.currentTarget.value)}>
      <option value="">or a segment…</option>
      {SIDES.map(([op, side]) => <optgroup key={op} label={side}>{names.map((name) => <option key={name} value={`${op} ${name}`}>{op === "is" ? name : `not ${name}`}</option>)}</optgroup>)}
    </select>
  );
}

/** Makes a filter; `null` if none is wanted after all. */
export function FilterForm({ event = "", has_segments = true, onMade }: { event?: string; has_segments?: boolean; onMade(filter: Written | null): void }) {
  const [field, set_field] = useState("");
  const [op, set_op] = useState("eq");
  const has_value = !op.endsWith("exists");
  // As the form has it: what was written last may not have been drawn yet.
  const make = (form: HTMLFormElement) => {
    const [field, op, text] = ["field", "op", "value"].map((name) => String(new FormData(form).get(name) ?? "")) as [string, string, string];
    if (!field) return;
    const has_value = !op.endsWith("exists");
    onMade(has_value ? written(field, op, text) : [field, op]);
  };
  return (
    <form class="filter-form" onSubmit={(submitted) => { submitted.preventDefault(); make(submitted.currentTarget); }}>
      <FieldPicker name="field" label="Field of the filter" event={event} value={field} onChange={set_field} placeholder="field" />
      <select name="op" aria-label="Comparison" value={op} onChange={(changed) => set_op(changed.currentTarget.value)}>
        {OPS.map(([key, name]) => <option key={key} value={key}>{name}</option>)}
      </select>
      {has_value && <ValuePicker name="value" label="Value of the filter" field={field} event={event} placeholder="value" />}
      <button type="submit">Add</button>
      {has_segments && <SegmentChoice onMade={onMade} />}
      <button type="button" class="quiet" onClick={() => onMade(null)}>Cancel</button>
    </form>
  );
}

/** A filter as it was typed. What looks like a number is asked for as the number and as the text: both may have been sent. */
function written(field: string, op: string, text: string): Written {
  const is_number = text.trim() !== "" && Number.isFinite(Number(text)) && String(Number(text)) === text.trim();
  if (["gt", "gte", "lt", "lte"].includes(op)) return [field, op, is_number ? Number(text) : text];
  const values = (one: string): unknown[] => {
    if (one === "true" || one === "false") return [one === "true", one];
    return one !== "" && String(Number(one)) === one ? [Number(one), one] : [one];
  };
  if (op === "in" || op === "not_in") return [field, op, text.split(",").flatMap((one) => values(one.trim()))];
  const both = values(text.trim());
  if ((op === "eq" || op === "neq") && both.length > 1) return [field, op === "eq" ? "in" : "not_in", both];
  return [field, op, text];
}
