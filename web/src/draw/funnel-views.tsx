// A funnel over time, and how long its people take: lines of the share that comes to the end, and bars of durations for each line.
import type { Question } from "../api/types";
import { COLOURS, LineChart, Swatch, type Line } from "../chart/line";
import { complete } from "../chart/table";
import { duration, growth, isolated, shown } from "../format";
import { bucket_label } from "../time";
import { times_of, type Draw, type Drawing } from "../ui/drawing";
import { both, group_name, GroupHead, more_lines, of_line, show_bar, type Group, type LineOf } from "./groups";

interface Rates {
  buckets: string[];
  partial: boolean[];
  groups: (Group & { entered: number[]; converted: number[]; rate: (number | null)[] })[];
  compare?: Rates;
}

/** The share of a line that comes to the end, by when they entered. */
interface Rate extends LineOf {
  chart: Rates;
  group: Rates["groups"][number];
  place: number;
}

function rates_of(result: Rates): Rate[] {
  return both(result).flatMap(({ chart, is_compared }) => chart.groups.map((group, place) => ({ chart, is_compared, group, place })));
}

const sum = (values: number[]) => values.reduce((sum, value) => sum + value, 0);

function share_of({ group: { entered, converted } }: Rate): number | null {
  return sum(entered) ? sum(converted) / sum(entered) : null;
}

const END = "Come to the end";

/** What a line is called: by its value, where it has one. */
const rate_name = (rate: Rate) => of_line(group_name(rate.group) ? "" : END, rate);

const steps_of = ({ body }: Question) => (Array.isArray(body.steps) ? body.steps.length : 0);

export const draw_rates: Draw = (question, id): Drawing<Rates> => {
  const { interval, zone } = times_of(question);
  const name = (bucket: string) => bucket_label(bucket, interval, zone);
  const pick = (rate: Rate, bucket: number | null, is_end: boolean) => {
    const start = bucket === null ? undefined : rate.chart.buckets[bucket];
    show_bar(id, rate, { step: is_end ? steps_of(question) : 1, ...(start ? { bucket: start } : {}) }, `${is_end ? "Came to the end" : "Entered"}, ${start ? name(start) : "in all"}`);
  };
  const lines_of = (result: Rates): { line: Line; rate: Rate }[] => {
    const [all, compared] = [false, true].map((which) => rates_of(result).filter(({ is_compared }) => is_compared === which)) as [Rate[], Rate[]];
    return [...all, ...compared.slice(0, COLOURS)].map((rate) => ({
      rate, line: { name: rate_name(rate), values: result.buckets.map((_, index) => rate.group.rate[index] ?? null), is_compared: rate.is_compared, partial: rate.is_compared ? rate.chart.partial : undefined, place: rate.place },
    }));
  };
  return {
    draw: ({ result }) => {
      const lines = lines_of(result);
      return (
        <>
          <LineChart label="Share that comes to the end" buckets={result.buckets} partial={result.partial} lines={lines.map(({ line }) => line)} before={result.compare?.buckets} interval={interval} zone={zone} unit="share"
            onPick={(line, bucket) => pick(lines[line]!.rate, bucket, true)} />
          {lines.length > 1 && <ul class="legend">{lines.map(({ line, rate }, index) => <li key={index}><Swatch line={line} /> <bdi>{line.name}</bdi> <b>{shown(share_of(rate), "share")}</b></li>)}</ul>}
        </>
      );
    },
    table: ({ result }) => {
      const rates = rates_of(result);
      const buckets = [null, ...result.buckets.keys()];
      const cells = (rate: Rate, bucket: number | null) => {
        const { entered, converted, rate: shares } = rate.group;
        const [came, ended] = [entered, converted].map((values) => (bucket === null ? sum(values) : (values[bucket] ?? null))) as [number | null, number | null];
        const share = bucket === null ? share_of(rate) : (shares[bucket] ?? null);
        const people = (value: number | null, is_end: boolean) => ({
          text: shown(value), value, label: `${shown(value)} ${is_end ? "came to the end" : "entered"}: ${rate_name(rate)}`, pick: value === null ? undefined : () => pick(rate, bucket, is_end),
        });
        const note = rate.is_compared && bucket !== null && rate.chart.partial[bucket] ? "(not complete)" : undefined;
        return [{ text: shown(share, "share"), value: share, note }, people(came, false), people(ended, true)];
      };
      return {
        head: ["Time", ...rates.flatMap((rate) => [rate_name(rate), of_line("Entered", rate), of_line("Came to the end", rate)])],
        rows: buckets.map((bucket) => [
          bucket === null ? { text: "in all" } : { text: name(result.buckets[bucket]!) + (result.partial[bucket] ? " (not complete)" : ""), value: result.buckets[bucket]! },
          ...rates.flatMap((rate) => cells(rate, bucket)),
        ]),
        besides: { head: ["Complete"], rows: buckets.map((bucket) => [bucket === null ? "" : complete(result.partial, bucket)]) },
      };
    },
    summary: ({ result }) => {
      const [first, ...others] = rates_of(result);
      if (!first || !sum(first.group.entered)) return "Nobody came to the first step in this time.";
      const before = others.find(({ is_compared, group }) => is_compared && group_name(group) === group_name(first.group));
      const [share, share_before] = [share_of(first), before ? share_of(before) : null];
      const change = growth(share, share_before);
      const of = group_name(first.group) && `${isolated(group_name(first.group))}: `;
      return `${of}${shown(share, "share")} come to the end${change ? `, ${change.text} beside the time before (${shown(share_before, "share")})` : ""}${more_lines(others.filter(({ is_compared }) => !is_compared).length)}.`;
    },
  };
};

interface Times {
  groups: (Group & { converted: number; median_ms: number | null; bins: { from_ms: number; to_ms: number; count: number }[] })[];
  compare?: Times;
}

/** A duration as short as an axis needs it. */
function rough(ms: number): string {
  const [size, unit] = ms < 60_000 ? [1_000, "s"] : ms < 3_600_000 ? [60_000, "min"] : ms < 172_800_000 ? [3_600_000, "h"] : [86_400_000, "d"];
  return `${Math.round((ms / (size as number)) * 10) / 10} ${unit}`;
}

/** A line of durations. */
function times_parts(result: Times): (LineOf & { group: Times["groups"][number] })[] {
  return both(result).flatMap(({ chart, is_compared }) => chart.groups.map((group) => ({ group, is_compared })));
}

export const draw_times: Draw = (question): Drawing<Times> => {
  const { zone } = times_of(question);
  const name = ({ from_ms, to_ms }: { from_ms: number; to_ms: number }) => `${duration(from_ms)} – ${duration(to_ms)}`;
  return {
    draw: ({ result }) => {
      const parts = times_parts(result);
      if (!parts.some(({ group }) => group.bins.length)) return <p class="nothing">Nobody.</p>;
      return (
        <>
          {parts.map((part, place) => {
            const { bins } = part.group;
            return (
              <div key={place}>
                <GroupHead {...part} />
                {bins.length ? (
                  <LineChart label={of_line("Time to the end", part)} buckets={bins.map((_, index) => String(index))} partial={bins.map(() => false)} interval="" zone={zone} is_stacked height={parts.length > 1 ? 160 : 250}
                    name_of={(index) => name(bins[Number(index)]!)} short_name_of={(index) => rough(bins[Number(index)]!.from_ms)} lines={[{ name: "came to the end", values: bins.map((bin) => bin.count), place: 0 }]} />
                ) : <p class="nothing">Nobody.</p>}
              </div>
            );
          })}
        </>
      );
    },
    table: ({ result }) => {
      const parts = times_parts(result);
      const has_names = parts.length > 1;
      return {
        head: ["Time", ...(has_names ? ["Of"] : []), "Count"], units: { 0: "from, ms" },
        rows: parts.flatMap((part) => part.group.bins.map((bin) => [{ text: name(bin), value: bin.from_ms }, ...(has_names ? [{ text: of_line("", part) || "now" }] : []), { text: shown(bin.count), value: bin.count }])),
      };
    },
    summary: ({ result }) => {
      const [first, ...others] = result.groups;
      if (!first?.converted) return `Nobody came to the end in this time${more_lines(others.length)}.`;
      const of = group_name(first) && `${isolated(group_name(first))}: `;
      const before = result.compare?.groups.find((group) => group_name(group) === group_name(first))?.median_ms;
      return `${of}Half take less than ${duration(first.median_ms ?? 0)}${typeof before === "number" ? ` (before: ${duration(before)})` : ""}${more_lines(others.length)}.`;
    },
  };
};
