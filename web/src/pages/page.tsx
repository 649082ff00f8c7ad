// What all pages have: a title, the choice of time, zone and filters, and the people behind what is clicked.
import type { ComponentChildren } from "preact";
import { useEffect, useState } from "preact/hooks";
import type { Question } from "../api/types";
import { Chips } from "../ui/filters";
import { PeoplePanel } from "../ui/people-panel";
import { Choice } from "../ui/picker";
import { day_of, days_later, INTERVALS, range, RANGES, zones, type RangeName } from "../time";
import { change, changed, here } from "../url";

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
      {(has.filters ?? has.range) && <Chips />}
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
export function asked_compare(otherwise = ""): { compare?: string } {
  const compare = here.value.params.get("compare") ?? otherwise;
  return compare === "previous" || compare === "year" ? { compare } : {};
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
      <Choice label="Time" value={is_own || !named ? "own" : named.name} of={[...RANGES.map((range): [string, string] => [range.name, range.name]), ["own", named ? "Other…" : `${from} – ${to}`]]} onChange={choose} />
      {is_own && <OwnRange zone={zone} onDone={() => set_is_own(false)} />}
      {has_interval && <Choice label="By" value={interval} of={INTERVALS.map((name): [string, string] => [name, name])} onChange={(name) => change({ i: name })} />}
      {has_compare && (
        <Choice label="Compare" value={here.value.params.get("compare") ?? ""} of={[["", "nothing"], ["previous", "period before"], ["year", "last year"]]}
          onChange={(compare) => change({ compare: compare || null })} />
      )}
      <Choice label="Zone" value={zone} of={zones().includes(zone) ? zones().map((name): [string, string] => [name, name]) : [[zone, zone], ...zones().map((name): [string, string] => [name, name])]}
        onChange={(name) => change({ tz: name })} />
    </div>
  );
}

/** Days of one's own choice, the last one included. */
function OwnRange({ zone, onDone }: { zone: string; onDone(): void }) {
  const today = day_of(Date.now(), zone);
  const [from, set_from] = useState(today);
  const [last, set_last] = useState(today);
  const take = (event: Event) => {
    event.preventDefault();
    change({ from, to: days_later(last, 1), i: null });
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
