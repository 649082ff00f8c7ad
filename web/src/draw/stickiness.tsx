// How many people are active in one, two, … periods.
import type { Answer, Stickiness } from "../api/types";
import { LineChart } from "../chart/line";
import { shown } from "../format";
import { times_of, type Draw } from "../ui/drawing";
import { show_people } from "../ui/people-panel";

export const draw_stickiness: Draw = (question, id) => {
  const { interval, zone } = times_of(question);
  const is_cumulative = question.body.cumulative === true;
  const values = ({ result }: Answer<Stickiness>) => (is_cumulative ? result.series[0]?.at_least : result.series[0]?.values) ?? [];
  const name = (times: number) => `${is_cumulative ? "at least " : ""}${times} ${interval}${times === 1 ? "" : "s"}`;
  const pick = ({ result }: Answer<Stickiness>, index: number) => {
    const times = result.times[index]!;
    show_people({ of: id, bar: { [is_cumulative ? "at_least" : "times"]: times }, name: name(times) });
  };
  return {
    draw: (answer: Answer<Stickiness>) => (
      <LineChart label="Stickiness" buckets={answer.result.times.map(String)} partial={answer.result.times.map(() => false)} interval={interval} zone={zone} is_stacked name_of={(times) => name(Number(times))}
        lines={[{ name: "people", values: values(answer), place: 0 }]} short_name_of={(times) => times} onPick={(_, index) => pick(answer, index)} />
    ),
    table: (answer: Answer<Stickiness>) => ({
      head: ["Active in", "People"],
      rows: values(answer).map((value, index) => {
        const times = name(answer.result.times[index]!);
        return [{ text: times, value: answer.result.times[index]! }, { text: shown(value), value, label: `${shown(value)} people: ${times}`, pick: () => pick(answer, index) }];
      }),
    }),
    summary: ({ result }: Answer<Stickiness>) =>
      (result.series[0]?.total ? `${shown(result.series[0].total)} people were active; ${shown(result.series[0].values[0])} of them in one ${interval} only.` : "Nobody was active in this time."),
  };
};
