// Bars of those who are new, stay or are back, above those who are gone: a chart for each line, and for each of the time before.
import type { Answer, Chart } from "../api/types";
import { LineChart, Swatch, type Line } from "../chart/line";
import { LATE } from "../chart/trend";
import { complete } from "../chart/table";
import { shown } from "../format";
import { bucket_label } from "../time";
import { times_of, type Draw } from "../ui/drawing";
import { both, by_group, GroupHead, kept_fields, more_lines, of_line, show_bar, type LineOf } from "./groups";

/** A line of the answer: what becomes of its people in each bucket. */
interface Part extends LineOf {
  chart: Chart;
  statuses: Chart["series"];
}

function parts_of(result: Chart): Part[] {
  return both(result).flatMap(({ chart, is_compared }) => by_group(chart.series).map(([group, statuses]) => ({ chart, is_compared, group, statuses })));
}

export const draw_lifecycle: Draw = (question, id, is_filtered) => {
  const { interval, zone } = times_of(question);
  const name = (bucket: string) => bucket_label(bucket, interval, zone);
  const pick = (part: Part, line: number, bucket: number) => {
    const [status, start] = [part.statuses[line]!.name, part.chart.buckets[bucket]!];
    show_bar(id, part, { status, bucket: start }, `${status}, ${name(start)}`);
  };
  const lines = ({ statuses }: Part): Line[] => statuses.map(({ name, values }, place) => ({ name, values, place: PLACES[name] ?? place }));
  return {
    draw: (answer: Answer<Chart>) => {
      const parts = parts_of(answer.result);
      const remarks = answer.changed?.length ? answer.result.buckets.map((bucket) => (answer.changed!.includes(bucket) ? LATE : "")) : undefined;
      return (
        <>
          {parts.map((part, place) => (
            <div key={place}>
              <GroupHead {...part} field={kept_fields(question, is_filtered)} />
              <LineChart label={of_line("Lifecycle", part)} buckets={part.chart.buckets} partial={part.chart.partial} remarks={part.is_compared ? undefined : remarks} lines={lines(part)} interval={interval} zone={zone} is_stacked
                height={parts.length > 1 ? 180 : 250} onPick={(line, bucket) => pick(part, line, bucket)} />
            </div>
          ))}
          <ul class="legend">{parts[0] && lines(parts[0]).map((line) => <li key={line.name}><Swatch line={line} is_fill /> {line.name}</li>)}</ul>
        </>
      );
    },
    table: ({ result }: Answer<Chart>) => {
      const parts = parts_of(result);
      const rows = parts.flatMap((part) => part.chart.buckets.map((bucket, index) => ({ part, bucket, index })));
      const has_names = parts.length > 1;
      return {
        head: ["Time", ...(has_names ? ["Of"] : []), ...(parts[0]?.statuses.map(({ name }) => name) ?? [])],
        rows: rows.map(({ part, bucket, index }) => [
          { text: name(bucket) + (part.chart.partial[index] ? " (not complete)" : ""), value: bucket }, ...(has_names ? [{ text: of_line("", part) || "now" }] : []),
          ...part.statuses.map(({ name, values }, line) => ({ text: shown(values[index]), value: values[index] ?? null, label: `${shown(values[index])} ${of_line(name, part)}`, pick: () => pick(part, line, index) })),
        ]),
        besides: { head: ["Complete"], rows: rows.map(({ part, index }) => [complete(part.chart.partial, index)]) },
      };
    },
    summary: ({ result }: Answer<Chart>) => {
      const parts = parts_of(result).filter(({ is_compared }) => !is_compared);
      return parts[0] ? `${summary(parts[0], name)}${more_lines(parts.length - 1)}.` : "Nothing in this time.";
    },
  };
};

/** Colours that say what they mean: those who are gone are no gain. */
const PLACES: Record<string, number> = { new: 0, returning: 2, resurrected: 5, dormant: 1 };

function summary({ chart, statuses, group }: Part, name: (bucket: string) => string): string {
  const last = chart.partial.lastIndexOf(false);
  if (last < 0) return "No period of this time is over yet";
  const of = (status: string) => shown(Math.abs(statuses.find(({ name }) => name === status)?.values[last] ?? 0));
  return `${of_line(name(chart.buckets[last]!), { group, is_compared: false })}: ${of("new")} new, ${of("returning")} stayed, ${of("resurrected")} are back, ${of("dormant")} are gone`;
}
