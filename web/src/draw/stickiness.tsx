// How many people are active in one, two, … periods: bars of all of them, or a line for each value of the breakdown and for the time before.
import type { Answer, Stickiness } from "../api/types";
import { COLOURS, LineChart, Swatch, type Line } from "../chart/line";
import { isolated, shown } from "../format";
import { times_of, type Draw } from "../ui/drawing";
import { OnlyButton } from "../ui/filters";
import { both, group_name, kept_fields, more_lines, of_line, show_bar, type LineOf } from "./groups";

type Series = Stickiness["series"][number];

/** A line of the answer. */
interface Part extends LineOf {
  series: Series;
  place: number;
}

function parts_of(result: Stickiness): Part[] {
  return both(result).flatMap(({ chart, is_compared }) => chart.series.map((series, place) => ({ is_compared, group: series, series, place })));
}

/** In so many periods; in more of them where the time before has more. */
function times_in(result: Stickiness): number[] {
  return both(result).map(({ chart }) => chart.times).reduce((most, times) => (times.length > most.length ? times : most));
}

export const draw_stickiness: Draw = (question, id, is_filtered) => {
  const { interval, zone } = times_of(question);
  const is_cumulative = question.body.cumulative === true;
  const values = ({ series }: Part) => (is_cumulative ? series.at_least : series.values) ?? [];
  const name = (times: number) => `${is_cumulative ? "at least " : ""}${times} ${interval}${times === 1 ? "" : "s"}`;
  const pick = (part: Part, times: number) => show_bar(id, part, { [is_cumulative ? "at_least" : "times"]: times }, name(times));
  const line_of = (part: Part, times: number[]): Line => ({ name: of_line(group_name(part.group) ? "" : "people", part), values: times.map((_, index) => values(part)[index] ?? null), is_compared: part.is_compared, place: part.place });
  return {
    draw: ({ result }: Answer<Stickiness>) => {
      const [times, parts] = [times_in(result), parts_of(result)];
      const own = parts.filter(({ is_compared }) => !is_compared);
      const drawn = [...own, ...parts.filter(({ is_compared }) => is_compared).slice(0, COLOURS)];
      return (
        <>
          <LineChart label="Stickiness" buckets={times.map(String)} partial={times.map(() => false)} interval={interval} zone={zone} is_stacked={drawn.length === 1} name_of={(times) => name(Number(times))}
            lines={drawn.map((part) => line_of(part, times))} short_name_of={(times) => times} onPick={(line, index) => index < values(own[line]!).length && pick(own[line]!, times[index]!)} />
          {drawn.length > 1 && (
            <ul class="legend">
              {drawn.map((part, index) => <li key={index}><Swatch line={part} /> <OnlyButton field={part.is_compared ? undefined : kept_fields(question, is_filtered)} value={part.group.breakdown} kind={part.group.kind}>{line_of(part, []).name}</OnlyButton> <b>{shown(part.series.total)}</b></li>)}
            </ul>
          )}
        </>
      );
    },
    table: ({ result }: Answer<Stickiness>) => {
      const parts = parts_of(result);
      const cell = (part: Part, index: number, times: number) => {
        const value = values(part)[index] ?? null;
        return { text: shown(value), value, label: `${shown(value)} people: ${of_line(name(times), part)}`, pick: value === null ? undefined : () => pick(part, times) };
      };
      return {
        head: ["Active in", ...(parts.length === 1 ? ["People"] : parts.map((part) => line_of(part, []).name))],
        rows: times_in(result).map((times, index) => [{ text: name(times), value: times }, ...parts.map((part) => cell(part, index, times))]),
      };
    },
    summary: ({ result }: Answer<Stickiness>) => {
      const [first, ...others] = result.series;
      if (!first?.total) return "Nobody was active in this time.";
      const of = group_name(first) && `${isolated(group_name(first))}: `;
      const before = result.compare ? ` (before: ${shown(result.compare.series.find((one) => JSON.stringify([one.breakdown, one.kind]) === JSON.stringify([first.breakdown, first.kind]))?.total ?? 0)})` : "";
      return `${of}${shown(first.total)} people were active${before}; ${shown(first.values[0])} of them in one ${interval} only${more_lines(others.length)}.`;
    },
  };
};
