// Bars of those who are new, stay or are back, above those who are gone.
import type { Answer, Chart } from "../api/types";
import { LineChart, Swatch, type Line } from "../chart/line";
import { LATE } from "../chart/trend";
import { complete } from "../chart/table";
import { shown } from "../format";
import { bucket_label } from "../time";
import { times_of, type Draw } from "../ui/drawing";
import { show_people } from "../ui/people-panel";

export const draw_lifecycle: Draw = (question, id) => {
  const { interval, zone } = times_of(question);
  const name = (bucket: string) => bucket_label(bucket, interval, zone);
  const pick = ({ result }: Answer<Chart>, line: number, bucket: number) => {
    const status = result.series[line]!.name;
    show_people({ of: id, bar: { status, bucket: result.buckets[bucket] }, name: `${status}, ${name(result.buckets[bucket]!)}` });
  };
  const lines = ({ result }: Answer<Chart>): Line[] => result.series.map(({ name, values }, place) => ({ name, values, place: PLACES[name] ?? place }));
  return {
    draw: (answer) => (
      <>
        <LineChart label="Lifecycle" buckets={answer.result.buckets} partial={answer.result.partial} remarks={answer.changed?.length ? (answer.result as Chart).buckets.map((bucket) => (answer.changed!.includes(bucket) ? LATE : "")) : undefined} lines={lines(answer)} interval={interval} zone={zone} is_stacked onPick={(line, bucket) => pick(answer, line, bucket)} />
        <ul class="legend">{lines(answer).map((line) => <li key={line.name}><Swatch line={line} is_fill /> {line.name}</li>)}</ul>
      </>
    ),
    table: (answer) => ({
      head: ["Time", ...answer.result.series.map(({ name }: { name: string }) => name)],
      rows: (answer.result as Chart).buckets.map((bucket, index) => [
        { text: name(bucket) + (answer.result.partial[index] ? " (not complete)" : ""), value: bucket },
        ...(answer.result as Chart).series.map(({ name, values }, line) => ({
          text: shown(values[index]), value: values[index] ?? null, label: `${shown(values[index])} ${name}`, pick: () => pick(answer, line, index),
        })),
      ]),
      besides: { head: ["Complete"], rows: (answer.result as Chart).buckets.map((_, index) => [complete(answer.result.partial, index)]) },
    }),
    summary: (answer) => summary(answer, interval, zone),
  };
};

/** Colours that say what they mean: those who are gone are no gain. */
const PLACES: Record<string, number> = { new: 0, returning: 2, resurrected: 5, dormant: 1 };

function summary({ result }: Answer<Chart>, interval: string, zone: string): string {
  const last = result.partial.lastIndexOf(false);
  if (last < 0) return "No period of this time is over yet.";
  const of = (name: string) => shown(Math.abs(result.series.find((series) => series.name === name)?.values[last] ?? 0));
  return `${bucket_label(result.buckets[last]!, interval, zone)}: ${of("new")} new, ${of("returning")} stayed, ${of("resurrected")} are back, ${of("dormant")} are gone.`;
}
