// Filters: as the API reads them, as the address has them (`f=["country","eq","DE"]`), and as people see and make them.
import { useState } from "preact/hooks";
import { change, here } from "../url";
import { FieldPicker, ValuePicker } from "./picker";

export type Written = [field: string, op: string, value?: unknown];

export const OPS: [string, string][] = [
  ["eq", "is"], ["neq", "is not"], ["contains", "contains"], ["gt", "greater than"], ["gte", "at least"], ["lt", "less than"], ["lte", "at most"],
  ["in", "is one of"], ["not_in", "is none of"], ["exists", "is there"], ["not_exists", "is missing"], ["regex", "matches"],
];

export function read_filters(): Written[] {
  return here.value.params.getAll("f").flatMap((text) => {
    try {
      const written = JSON.parse(text);
      return Array.isArray(written) && typeof written[0] === "string" && typeof written[1] === "string" ? [written as unknown as Written] : [];
    } catch {
      return [];
    }
  });
}

/** As the API reads it. */
export function to_api([field, op, value]: Written): Record<string, unknown> {
  return value === undefined ? { field, op } : { field, op, value };
}

/** What every report of the page is filtered by. */
export function filters_of_page(): Record<string, unknown>[] {
  return read_filters().map(to_api);
}

export function write_filters(filters: Written[]): void {
  change({ f: filters.map((filter) => JSON.stringify(filter)) });
}

/** Adds a filter by which a value that was clicked is kept: a missing one is asked for as missing. */
export function filter_by(field: string, value: unknown, kind: unknown): void {
  const filter: Written = kind === "none" ? [field, "not_exists"] : [field, "eq", value];
  const others = read_filters().filter((other) => JSON.stringify(other) !== JSON.stringify(filter));
  write_filters([...others, filter]);
}

export function words([field, op, value]: Written): string {
  const texts = value === undefined ? [] : [...new Set([value].flat().map(String))];
  const is_one = texts.length === 1 && (op === "in" || op === "not_in");
  const name = is_one ? (op === "in" ? "is" : "is not") : (OPS.find(([key]) => key === op)?.[1] ?? op);
  const text = texts.join(", ");
  return `${field} ${name} ${text}`.trim();
}

export function Chips() {
  const filters = read_filters();
  const [is_open, set_is_open] = useState(false);
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
    </div>
  );
}

/** Makes a filter; `null` if none is wanted after all. */
export function FilterForm({ event = "", onMade }: { event?: string; onMade(filter: Written | null): void }) {
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
