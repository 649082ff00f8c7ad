// A chart of numbers by time as answers have it: its lines with their legend, its table, its summary, and what its bars are called.
import type { Answer, Chart, Series } from "../api/types";
import { growth, isolated, label, shown, type Unit } from "../format";
import { bucket_label } from "../time";
import { OnlyButton } from "../ui/filters";
import { show_people } from "../ui/people-panel";
import { COLOURS, LineChart, Swatch, type Line } from "./line";
import { complete, type TableData } from "./table";

export interface TrendOptions {
  /** The tile, as the address calls it. */
  id: string;
  interval: string;
  zone: string;
  unit?: Unit;
  /** What the question calls its series, each otherwise: that is how its lines are told apart. */
  names: string[];
  /** The series that are shown, by their names; all without it. */
  only?: string[];
  name?(series: Series): string;
  is_stacked?: boolean;
  /** The fields of the breakdown, where a line of the legend keeps only its value. */
  fields?: string[];
  /** Lines have nobody behind them: those of a formula. */
  is_formula?: boolean;
  /** Of how many buckets each number is the average: behind it are the people of its own. */
  averaged?: number;
}

/** A series with its place in the question, which names its bars. */
interface Placed {
  series: Series;
  /** Among the series of the question. */
  index: number;
  name: string;
}

function name_of({ name, event, math, breakdown, kind }: Series): string {
  // A name that somebody gave says what is counted.
  const is_given = name !== (event ?? "any event");
  const own = math === "total" || is_given ? name : `${isolated(name)} (${math.replaceAll("_", " ")})`;
  return breakdown === null && kind === null ? own : label(breakdown, kind);
}

export function placed(chart: Chart, options: TrendOptions): Placed[] {
  const { names } = options;
  const is_one_each = chart.series.length === names.length && chart.series.every(({ kind }) => kind === null);
  const all = chart.series.map((series, at) => {
    const own = options.name?.(series) ?? name_of(series);
    return { series, index: is_one_each ? at : Math.max(0, names.indexOf(series.name)), name: series.kind !== null && names.length > 1 ? `${isolated(series.name)}: ${own}` : own };
  });
  return options.only ? all.filter(({ series }) => options.only!.includes(series.name)) : all;
}

export function lines_of(chart: Chart, options: TrendOptions): Line[] {
  const lines: Line[] = placed(chart, options).map(({ series, name }, place) => ({ name, values: series.values, place }));
  if (!chart.compare) return lines;
  const before = placed(chart.compare, options).map(({ series, name }, place) => ({
    name: `${isolated(name)}, before`, values: chart.buckets.map((_, index) => series.values[index] ?? null), partial: chart.compare!.partial, is_compared: true, place,
  }));
  return [...lines, ...before.slice(0, COLOURS)];
}

function bar_of({ series, index }: Placed): Record<string, unknown> {
  return { series_index: index, ...(series.kind === null ? {} : { breakdown_value: series.breakdown, breakdown_kind: series.kind }) };
}

function pick(options: TrendOptions, line: Placed, chart: Chart, bucket: number | null, is_compared = false): void {
  const start = bucket === null ? undefined : chart.buckets[bucket];
  const time = start === undefined ? "in all" : bucket_label(start, options.interval, options.zone);
  const bar = { ...bar_of(line), ...(start === undefined ? {} : { bucket: start }) };
  const alone = start !== undefined && (options.averaged ?? 0) > 1 ? `; these are of this ${options.interval} alone, the chart shows the average of ${options.averaged}` : "";
  show_people({ of: options.id, bar, name: `${isolated(line.name)}, ${time}${alone}`, ...(is_compared ? { compare: true } : {}) });
}

export function Trend({ answer, options, label: title }: { answer: Answer<Chart>; options: TrendOptions; label: string }) {
  const chart = answer.result;
  const all = placed(chart, options);
  const of_both = lines_of(chart, options);
  // Bars stand on each other: none beside them.
  const lines = options.is_stacked ? of_both.filter((line) => !line.is_compared) : of_both;
  const { interval, zone, unit, is_stacked, is_formula } = options;
  const remarks = answer.changed?.length ? chart.buckets.map((bucket) => (answer.changed!.includes(bucket) ? LATE : "")) : undefined;
  return (
    <>
      <LineChart label={title} buckets={chart.buckets} partial={chart.partial} remarks={remarks} lines={lines} interval={interval} zone={zone} unit={unit}
        before={is_stacked ? undefined : chart.compare?.buckets} is_stacked={is_stacked} onPick={is_formula ? undefined : (line, bucket) => pick(options, all[line]!, chart, bucket)} />
      {lines.length > 1 && (
        <ul class="legend">
          {lines.map((line, index) => <li key={index}><Swatch line={line} is_fill={is_stacked} /> <LegendName line={line} series={line.is_compared ? undefined : all[index]?.series} fields={options.fields} />{all[index] && !line.is_compared && <b> {shown(all[index]!.series.total, unit)}</b>}</li>)}
        </ul>
      )}
    </>
  );
}

/** What is to be known of a bucket that late events have changed. */
export const LATE = "late events have changed it since you opened this";

function LegendName({ line, series, fields }: { line: Line; series?: Series; fields?: string[] }) {
  if (!series || !fields?.length) return <bdi>{line.name}</bdi>;
  return <OnlyButton field={fields.length === 1 ? fields[0] : fields} value={series.breakdown} kind={series.kind}>{line.name}</OnlyButton>;
}

export function trend_table({ result: chart }: Answer<Chart>, options: TrendOptions): TableData {
  const charts: [Chart, boolean][] = [[chart, false], ...(chart.compare ? [[chart.compare, true] as [Chart, boolean]] : [])];
  const columns = charts.flatMap(([of, is_compared]) => placed(of, options).map((line) => ({ of, is_compared, line })));
  const cell = ({ of, is_compared, line }: (typeof columns)[number], value: number | null | undefined, bucket: number | null) => ({
    text: shown(value, options.unit), value: value ?? null, note: is_compared && bucket !== null && of.partial[bucket] ? "(not complete)" : undefined, label: `${shown(value, options.unit)}: the people behind ${isolated(line.name)}`,
    pick: value === null || value === undefined || options.is_formula ? undefined : () => pick(options, line, of, bucket, is_compared),
  });
  const rows = chart.buckets.map((bucket, index) => [
    { text: bucket_label(bucket, options.interval, options.zone) + (chart.partial[index] ? " (not complete)" : ""), value: bucket },
    ...columns.map((column) => cell(column, column.line.series.values[index], index)),
  ]);
  const totals = [{ text: "in all" }, ...columns.map((column) => cell(column, column.line.series.total, null))];
  return { head: ["Time", ...columns.map(({ line, is_compared }) => (is_compared ? `${isolated(line.name)}, before` : line.name))], units: options.unit === "duration" ? Object.fromEntries(columns.map((_, index) => [index + 1, "ms"])) : {}, rows: [totals, ...rows], besides: are_complete(charts) };
}

/** Which buckets are complete, of each chart: the first row is what there is in all. */
function are_complete(charts: [Chart, boolean][]): TableData["besides"] {
  const [own] = charts[0]!;
  return {
    head: charts.map(([, is_compared]) => (is_compared ? "Complete, before" : "Complete")),
    rows: [charts.map(() => ""), ...own.buckets.map((_, at) => charts.map(([chart]) => complete(chart.partial, at)))],
  };
}

/** The chart in a sentence. */
export function trend_summary({ result: chart }: Answer<Chart>, options: TrendOptions): string {
  const [first, ...others] = placed(chart, options);
  if (!first) return "Nothing to show.";
  const { series, name } = first;
  const unit = options.unit;
  const closed = series.values.map((value, index) => ({ value, index })).filter(({ value, index }) => value !== null && !chart.partial[index]);
  const most = closed.reduce<(typeof closed)[number] | undefined>((best, one) => (!best || one.value! > best.value! ? one : best), undefined);
  const peak = most && most.value !== 0 ? `, most in ${bucket_label(chart.buckets[most.index]!, options.interval, options.zone)} (${shown(most.value, unit)})` : "";
  const compared = chart.compare && placed(chart.compare, options)[0];
  const change = compared && growth(series.total, compared.series.total);
  const [since] = chart.compare?.buckets ?? [];
  const beside = change && since ? `, ${change.text} beside the same from ${bucket_label(since, options.interval, options.zone)} on (${shown(compared!.series.total, unit)})` : "";
  const cut = chart.buckets.filter((_, index) => compared && chart.compare!.partial[index] && !chart.partial[index]).map((bucket) => bucket_label(bucket, options.interval, options.zone));
  const besides = cut.length ? `; before, what stands beside ${cut.join(" and ")} is not complete` : "";
  const more = others.length ? `; ${others.length} more ${others.length === 1 ? "line" : "lines"}` : "";
  return `${isolated(name)}: ${shown(series.total, unit)} in all${beside}${peak}${besides}${more}.`;
}
