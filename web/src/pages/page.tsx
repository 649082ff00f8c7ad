// What all pages have: a title, the choice of time, zone and filters, and the people behind what is clicked.
import type { ComponentChildren } from "preact";
import { useEffect, useState } from "preact/hooks";
import { behind } from "../api/ask";
import { useNotes } from "../api/notes";
import type { Question } from "../api/types";
import { Chips } from "../ui/filters";
import { LeftOut } from "../ui/matched";
import { PeoplePanel } from "../ui/people-panel";
import { Choice, FieldPicker } from "../ui/picker";
import { beside, day_of, days_later, INTERVALS, moment, range, range_words, RANGES, zones, type RangeName } from "../time";
import { change, changed, here, page_of } from "../url";

export interface PageProps {
  title: string;
  /** Beside the title. */
  aside?: ComponentChildren;
  questions?: Record<string, Question | null>;
  /** The range where the address says none. */
  otherwise?: RangeName;
  /** Which choices the page has. */
  has?: { range?: boolean; interval?: boolean; compare?: boolean; filters?: boolean };
  children: ComponentChildren;
}

export function Page({ title, aside, questions = {}, otherwise, has = {}, children }: PageProps) {
  useEffect(() => {
    document.title = `${title} · pulse`;
  }, [title]);
  return (
    <main id="main" tabIndex={-1}>
      <div class="head">
        <h1>{title}</h1>
        {aside}
        {has.range && <RangeChoice otherwise={otherwise} has_interval={has.interval ?? true} has_compare={has.compare ?? false} />}
      </div>
      {behind.value && <p class="banner" role="status" data-behind>Charts reach to {moment(behind.value, range().zone)} {range().zone}: what came in since is not counted yet. <a href={page_of("/health")}>How far behind</a></p>}
      {(has.filters ?? has.range) && <><Chips /><LeftOut /></>}
      {children}
      <PeoplePanel questions={questions} />
    </main>
  );
}

/** What goes into the body of every question of a page. */
export function asked_range(otherwise?: RangeName): { from: string; to: string; timezone: string } {
  const { from, to, zone } = range(otherwise);
  return { from, to, timezone: zone };
}

/** What the page is compared with; as `otherwise` says where the address says nothing. */
export function asked_compare(otherwise = ""): { compare?: string | { from: string; to: string } } {
  const compare = here.value.params.get("compare") ?? otherwise;
  const own = compared_range(compare);
  return own ? { compare: own } : ["previous", "weekdays", "year"].includes(compare) ? { compare } : {};
}

/** A range that is compared with, as the address has it: `2026-10-01..2026-11-01`. */
function compared_range(compare: string): { from: string; to: string } | null {
  const [from = "", to = ""] = compare.split("..");
  return from && to ? { from, to } : null;
}

interface CompareProps {
  /** What is compared with where the address says nothing. */
  otherwise?: string;
  zone: string;
}

/** What a chart of time is compared with: the period before, the same weekdays before, last year, days of one's own, or the time before something that was noted. */
export function CompareChoice({ otherwise = "none", zone }: CompareProps) {
  const compare = here.value.params.get("compare") ?? otherwise;
  const own = compared_range(compare);
  const [is_own, set_is_own] = useState(false);
  // The newest first; what has just been noted has no time behind it yet.
  const noted = useNotes().filter(({ at }) => Date.parse(at) < Date.now() - 3_600_000).slice(-20).reverse();
  const choose = (chosen: string) => {
    set_is_own(chosen === "own");
    const note = noted.find(({ id }) => chosen === `note ${id}`);
    if (note) change({ from: note.at, to: "now", i: null, compare: "previous" });
    else if (chosen !== "own") change({ compare: chosen === otherwise ? null : chosen });
  };
  return (
    <>
      <select class="small" aria-label="Compare with" data-compare value={own || is_own ? "own" : compare} onChange={(event) => choose(event.currentTarget.value)}>
        <option value="none">alone</option><option value="previous">beside the period before</option><option value="weekdays">beside the same weekdays before</option><option value="year">beside last year</option>
        <option value="own">{own ? `beside ${range_words(own.from, own.to, zone)}` : "beside other days…"}</option>
        {noted.length > 0 && <optgroup label="since, beside before">{noted.map(({ id, at, text }) => <option key={id} value={`note ${id}`}>{text.slice(0, 40)}, {moment(at, zone)}</option>)}</optgroup>}
      </select>
      {is_own && <OwnRange zone={zone} onDone={() => set_is_own(false)} onTake={(from, to) => change({ compare: `${from}..${to}` })} />}
    </>
  );
}

/** By what the page is broken down: up to so many lines. */
export function asked_breakdown(limit: number): { breakdown?: string | string[]; limit?: number } {
  const fields = broken_down_by();
  return fields.length ? { breakdown: fields.length === 1 ? fields[0] : fields, limit } : {};
}

function broken_down_by(): string[] {
  return here.value.params.getAll("b").filter(Boolean);
}

export function BreakdownChoice() {
  return <FieldsChoice label="Broken down by" values={broken_down_by()} most={3} onChange={(fields) => change({ b: fields })} />;
}

interface FieldsProps {
  label: string;
  values: string[];
  most: number;
  onChange(fields: string[]): void;
}

/** Fields, one beside the other: where one is named there is room for the next. */
export function FieldsChoice({ label, values, most, onChange }: FieldsProps) {
  const set = (index: number, field: string) => onChange([...values.slice(0, index), field.trim(), ...values.slice(index + 1)].filter(Boolean));
  return (
    <span class="choice"><span>{label}</span>
      {[...values, ""].slice(0, most).map((value, index) => <FieldPicker key={index} label={index ? `${label}, ${index + 1}` : label} value={value} placeholder={index ? "and…" : "nothing"} onChange={(field) => set(index, field)} />)}
    </span>
  );
}

export function asked_bots(): Record<string, unknown> {
  return here.value.params.get("bots") === "1" ? { include_bots: true } : {};
}

function RangeChoice({ otherwise, has_interval, has_compare }: { otherwise?: RangeName; has_interval: boolean; has_compare: boolean }) {
  const { from, to, interval, zone } = range(otherwise);
  const named = RANGES.find((named) => named.from === from && named.to === to);
  const [is_own, set_is_own] = useState(false);
  const choose = (name: string) => {
    const chosen = RANGES.find((range) => range.name === name);
    set_is_own(!chosen);
    if (chosen) change({ from: chosen.from, to: chosen.to, i: null });
  };
  return (
    <div class="range">
      <Choice label="Time" value={is_own || !named ? "own" : named.name} of={[...RANGES.map((range): [string, string] => [range.name, range.name]), ["own", named ? "Other…" : range_words(from, to, zone)]]} onChange={choose} />
      <span>{(["before", "next"] as const).map((which) => {
        const to_there = beside(from, to, which === "next");
        return <button type="button" key={which} class="quiet" data-step={which} aria-label={`The time ${which === "next" ? "after" : "before"}`} disabled={!to_there} onClick={() => change({ ...to_there, i: has_interval ? interval : here.value.params.get("i") })}>{which === "next" ? "›" : "‹"}</button>;
      })}</span>
      {is_own && <OwnRange zone={zone} onDone={() => set_is_own(false)} onTake={(from, to) => change({ from, to, i: null })} />}
      {has_interval && <Choice label="By" value={interval} of={INTERVALS.map((name): [string, string] => [name, name])} onChange={(name) => change({ i: name })} />}
      {has_compare && (
        <span class="choice"><span>Compare</span><CompareChoice zone={zone} /></span>
      )}
      <ZoneChoice zone={zone} onChange={(name) => change({ tz: name })} />
    </div>
  );
}

/** All zones are hundreds: they are put into the list when somebody turns to it. */
export function ZoneChoice({ zone, onChange }: { zone: string; onChange(zone: string): void }) {
  const [has_all, set_has_all] = useState(false);
  const of = [...new Set([zone, ...zones(has_all)])].map((name): [string, string] => [name, name]);
  return <Choice label="Zone" value={zone} of={of} onOpen={() => set_has_all(true)} onChange={onChange} />;
}

/** Days of one's own choice, the last one included. */
function OwnRange({ zone, onDone, onTake }: { zone: string; onDone(): void; onTake(from: string, to: string): void }) {
  const today = day_of(Date.now(), zone);
  const [from, set_from] = useState(today);
  const [last, set_last] = useState(today);
  const take = (event: Event) => {
    event.preventDefault();
    onTake(from, days_later(last, 1));
    onDone();
  };
  return (
    <form class="own-range" onSubmit={take}>
      <label class="choice"><span>From</span><input type="date" value={from} max={last} required onChange={(event) => set_from(event.currentTarget.value)} /></label>
      <label class="choice"><span>To</span><input type="date" value={last} min={from} required onChange={(event) => set_last(event.currentTarget.value)} /></label>
      <button type="submit">Show</button>
      <a href={changed({})} onClick={(event) => { event.preventDefault(); onDone(); }}>Cancel</a>
    </form>
  );
}
