// Who comes back, as a grid: a row for each beginning, a column for each period after it.
import type { Answer, Cohort, Retention } from "../api/types";
import type { TableData } from "../chart/table";
import { shown } from "../format";
import { bucket_label } from "../time";
import { times_of, type Draw } from "../ui/drawing";
import { show_people } from "../ui/people-panel";

/** What cells are called. */
interface Shown {
  id: string;
  period: string;
  zone: string;
}

export const draw_retention: Draw = (question, id) => {
  const shown_as: Shown = { id, period: String(question.body.period ?? "day"), zone: times_of(question).zone };
  return {
    draw: (answer) => <Grid answer={answer} shown_as={shown_as} />,
    table: (answer) => numbers(answer, shown_as),
    summary: (answer) => summary(answer, shown_as),
  };
};

function pick({ id, period, zone }: Shown, cohort: Cohort, index: number | null): void {
  const bar = { cohort_start: cohort.start, ...(index === null ? {} : { index }) };
  const name = `Began ${bucket_label(cohort.start, period, zone)}${index === null ? "" : `, back in ${period} ${index}`}`;
  show_people({ of: id, bar, name });
}

/** A table in which colour and number say the same; open cells, whose period is not over, are hatched. */
function Grid({ answer: { result }, shown_as }: { answer: Answer<Retention>; shown_as: Shown }) {
  const { period, zone } = shown_as;
  const periods = Math.max(0, ...result.cohorts.map((cohort) => cohort.values.length));
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label="Who comes back, by when they began">
      <table class="grid">
        <thead><tr><th scope="col">Began</th><th scope="col" class="number">People</th>{Array.from({ length: periods }, (_, index) => <th key={index} scope="col" class="number">{index}</th>)}</tr></thead>
        <tbody>
          <tr class="average"><th scope="row">Average</th><td />{result.average.map((share, index) => <td key={index} class="number">{share === null ? "" : shown(share, "share")}</td>)}</tr>
          {result.cohorts.map((cohort) => (
            <tr key={cohort.start}>
              <th scope="row">{bucket_label(cohort.start, period, zone)}</th>
              <td class="number"><button type="button" class="number-button" data-size={cohort.size} onClick={() => pick(shown_as, cohort, null)}>{shown(cohort.size)}</button></td>
              {cohort.values.map((value, index) => (
                <td key={index} class={cohort.open[index] ? "open" : ""}>
                  {value !== null && cohort.size > 0 && <Heat value={value} size={cohort.size} is_open={Boolean(cohort.open[index])} onPick={() => pick(shown_as, cohort, index)} name={`${period} ${index} of ${bucket_label(cohort.start, period, zone)}`} />}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

interface HeatProps {
  value: number;
  size: number;
  is_open: boolean;
  name: string;
  onPick(): void;
}

function Heat({ value, size, is_open, name, onPick }: HeatProps) {
  const share = value / size;
  const text = shown(share, "share");
  return (
    <button type="button" class={`heat h${Math.min(5, Math.ceil(share * 5))}`} data-value={value} title={`${shown(value)} of ${shown(size)}${is_open ? ", not over" : ""}`}
      aria-label={`${text}, ${shown(value)} people${is_open ? ", not over" : ""}: ${name}`} onClick={onPick}>{text}</button>
  );
}

function numbers({ result }: Answer<Retention>, shown_as: Shown): TableData {
  const { period, zone } = shown_as;
  const periods = Math.max(0, ...result.cohorts.map((cohort) => cohort.values.length));
  const cell = (cohort: Cohort, value: number | null, index: number | null) => ({
    text: shown(value), value, label: `${shown(value)} people`, pick: value === null ? undefined : () => pick(shown_as, cohort, index),
  });
  const rows = result.cohorts.map((cohort) => [
    { text: bucket_label(cohort.start, period, zone), value: cohort.start }, cell(cohort, cohort.size, null), ...cohort.values.map((value, index) => cell(cohort, value, index)),
  ]);
  return { head: ["Began", "People", ...Array.from({ length: periods }, (_, index) => `${period} ${index}`)], rows, besides: {
    head: [`Complete ${period}s`], rows: result.cohorts.map(({ open }) => [String(open.filter((is_open) => !is_open).length)]),
  } };
}

function summary({ result }: Answer<Retention>, { period }: Shown): string {
  const people = result.cohorts.reduce((sum, cohort) => sum + cohort.size, 0);
  const next = result.average[1];
  if (!people) return "Nobody began in this time.";
  return `${shown(people)} people began${next === null || next === undefined ? "" : `; ${shown(next, "share")} are back after one ${period}`}.`;
}
