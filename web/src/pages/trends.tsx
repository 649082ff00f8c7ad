// Numbers by time: up to eight series, a breakdown, a formula; what is asked stands in the address.
import { useAnswers } from "../api/ask";
import type { Chart, Question } from "../api/types";
import { Trend, trend_summary, trend_table, type TrendOptions } from "../chart/trend";
import type { Unit } from "../format";
import { range } from "../time";
import { filters_of_page, to_api } from "../ui/filters";
import { Choice, EventPicker, FieldPicker, Picker } from "../ui/picker";
import { Matches, read_matched, type Matched } from "../ui/matched";
import { Tile } from "../ui/tile";
import { change, here } from "../url";
import { asked_bots, asked_breakdown, asked_compare, asked_range, BreakdownChoice, Page } from "./page";

const MATHS: [string, string][] = [
  ["total", "events"], ["unique_users", "people"], ["unique_sessions", "sessions"], ["per_user", "events per person"], ["first_time_users", "people for the first time"],
  ["dau", "people of a day"], ["wau", "people of 7 days"], ["mau", "people of 30 days"], ["sum", "sum of"], ["avg", "average of"], ["min", "least of"], ["max", "most of"],
  ["p50", "median of"], ["p90", "90th percentile of"], ["p95", "95th percentile of"], ["p99", "99th percentile of"], ["unique", "different values of"],
];
const OF_PROPERTY = ["sum", "avg", "min", "max", "p50", "p90", "p95", "p99", "unique"];
const MOST = 8;

interface AskedSeries extends Matched {
  math?: string;
  property?: string;
}

function series_of_page(): AskedSeries[] {
  const read = here.value.params.getAll("s").map((text) => read_matched<AskedSeries>(text)).filter((one) => one !== null);
  return read.length ? read : [{ math: "unique_users" }];
}

function write(series: AskedSeries[]): void {
  change({ s: series.map((one) => JSON.stringify(one)) });
}

/** What the lines are called: each otherwise. */
export function series_names(series: AskedSeries[]): string[] {
  const names = series.map(({ event, math = "total", property }) => {
    const what = MATHS.find(([key]) => key === math)?.[1] ?? math;
    return `${event || "any event"}${math === "total" ? "" : `, ${what}${OF_PROPERTY.includes(math) ? ` ${property ?? ""}` : ""}`}`;
  });
  return names.map((name, index) => (names.indexOf(name) === index ? name : `${name} (${index + 1})`));
}

function series_to_api({ event, filters = [], math = "total", property }: AskedSeries, name: string): Record<string, unknown> {
  const field = property ?? "";
  const measured = !OF_PROPERTY.includes(math) ? { math } : math === "unique" ? { math: `unique:${field}` } : { math, property: field };
  return { name, ...(event ? { event } : {}), ...measured, ...(filters.length ? { filters: filters.map(to_api) } : {}) };
}

/** What the page asks. */
export function questions(): Record<string, Question> {
  const series = series_of_page();
  return { trends: question(series, series_names(series)) };
}

function question(series: AskedSeries[], names: string[]): Question {
  const { params } = here.value;
  const { interval } = range();
  const body = {
    ...asked_range(), ...asked_bots(), ...asked_compare(), interval, filters: filters_of_page(), series: series.map((one, index) => series_to_api(one, names[index]!)),
    ...asked_breakdown(7),
    ...(params.get("formula") ? { formula: params.get("formula") } : {}),
    ...(params.get("cumulative") === "1" ? { cumulative: true } : {}),
    ...(Number(params.get("average")) > 1 ? { moving_average: Number(params.get("average")) } : {}),
  };
  return { report: "trends", body };
}

export default function Trends() {
  const series = series_of_page();
  const names = series_names(series);
  const { params } = here.value;
  const asked = questions();
  const { tiles, cancel, again } = useAnswers(asked);
  const { interval, zone } = range();
  const formula = params.get("formula") ?? "";
  const unit: Unit = "number";
  const options: TrendOptions = { id: "trends", interval, zone, unit, names: formula ? [formula] : names, is_stacked: params.get("as") === "bars", fields: params.getAll("b").filter(Boolean), is_formula: Boolean(formula), averaged: Number(params.get("average")) };
  const set = (index: number, changes: Partial<AskedSeries>) => write(series.map((one, at) => (at === index ? { ...one, ...changes } : one)));
  return (
    <Page title="Trends" questions={asked} has={{ range: true, compare: true }}>
      <section class="builder" aria-label="What is asked">
        {series.map((one, index) => (
          <div class="step" key={index}>
            <b class="letter" aria-hidden="true">{String.fromCharCode(65 + index)}</b>
            <Choice is_bare label={`Count of ${index + 1}`} value={one.math ?? "total"} of={MATHS} onChange={(math) => set(index, { math })} />
            {OF_PROPERTY.includes(one.math ?? "") && <FieldPicker label={`Property of ${index + 1}`} event={one.event} value={one.property ?? ""} placeholder="property" onChange={(property) => set(index, { property })} />}
            <span class="word">of</span>
            <EventPicker label={`Event ${index + 1}`} value={one.event ?? ""} onChange={(event) => set(index, { event: event || undefined })} />
            <Matches matched={one} onChange={(filters) => set(index, { filters })} />
            {series.length > 1 && <button type="button" class="quiet" aria-label={`Remove series ${index + 1}`} onClick={() => write(series.filter((_, at) => at !== index))}>×</button>}
          </div>
        ))}
        <div class="step">
          {series.length < MOST && <button type="button" class="quiet" onClick={() => write([...series, {}])}>+ Series</button>}
          <BreakdownChoice />
          {series.length > 1 && <label class="choice"><span>Formula</span><Picker label="Formula" value={formula} offered={["A/B", "A-B", "A/B*100"]} placeholder="A/B" onChange={(text) => change({ formula: text.trim() || null })} /></label>}
          <Choice label="Drawn as" value={params.get("as") ?? "lines"} of={[["lines", "lines"], ["bars", "stacked bars"]]} onChange={(as) => change({ as: as === "bars" ? as : null })} />
          <Choice label="Sum" value={params.get("cumulative") ?? ""} of={[["", "each by itself"], ["1", "all so far"]]} onChange={(cumulative) => change({ cumulative: cumulative || null })} />
          <Choice label="Smoothed" value={params.get("average") ?? ""} of={[["", "not"], ["3", "over 3"], ["7", "over 7"], ["28", "over 28"]]} onChange={(average) => change({ average: average || null })} />
        </div>
      </section>
      <div class="tiles">
        <Tile<Chart> id="trends" title={formula || names.join(" · ")} wide keep asked={tiles("trends")} zone={zone} onCancel={cancel} onAgain={again}
          table={(answer) => trend_table(answer, options)} summary={(answer) => trend_summary(answer, options)}>
          {(answer) => <Trend answer={answer} options={options} label="Trends" />}
        </Tile>
      </div>
    </Page>
  );
}
