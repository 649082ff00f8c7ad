// Who comes back, as a grid: a row for each beginning, a column for each period after it. With a breakdown the rows of each line stand
// together below their average; those of the time before come last. What is summed up is written as the number it is.
import type { Answer, Cohort, Retention } from "../api/types";
import type { TableData } from "../chart/table";
import { isolated, shown } from "../format";
import { bucket_label } from "../time";
import { times_of, type Draw } from "../ui/drawing";
import { OnlyButton } from "../ui/filters";
import { both, by_group, group_name, kept_fields, of_line, show_bar, type LineOf } from "./groups";

/** What cells are called. */
interface Shown {
  id: string;
  period: string;
  zone: string;
  /** What the cells are sums of; empty where they are people. */
  sum: string;
  field?: string | string[];
}

/** The rows of a line. */
interface Section extends LineOf {
  cohorts: Cohort[];
  average: (number | null)[];
}

export const draw_retention: Draw = (question, id, is_filtered) => {
  const { period = "day", value } = question.body as { period?: string | null; value?: { sum?: unknown } | null };
  const shown_as: Shown = { id, period: period ?? "day", zone: times_of(question).zone, sum: String(value?.sum ?? "").replace(/^properties\./, ""), field: kept_fields(question, is_filtered) };
  return {
    draw: (answer) => <Grid answer={answer} shown_as={shown_as} />,
    table: (answer) => numbers(answer, shown_as),
    summary: (answer) => summary(answer, shown_as),
  };
};

function sections_of(result: Retention): Section[] {
  return both(result).flatMap(({ chart, is_compared }) => by_group(chart.cohorts).map(([group, cohorts]) => ({ group, is_compared, cohorts, average: average_of(cohorts) })));
}

/** Of all rows whose period is over, as the answer has it of all lines together. */
function average_of(cohorts: Cohort[]): (number | null)[] {
  return Array.from({ length: periods_of(cohorts) }, (_, index) => {
    const closed = cohorts.filter(({ values, open }) => (values[index] ?? null) !== null && !open[index]);
    const people = sum(closed.map(({ size }) => size));
    return people ? sum(closed.map(({ values }) => values[index]!)) / people : null;
  });
}

const sum = (values: number[]) => values.reduce((sum, value) => sum + value, 0);
const periods_of = (cohorts: Cohort[]) => Math.max(0, ...cohorts.map(({ values }) => values.length));
const has_lines = ({ cohorts }: Retention) => cohorts.some(({ kind }) => (kind ?? null) !== null);

function pick({ id, period, zone }: Shown, section: Section, cohort: Cohort, index: number | null): void {
  const bar = { cohort_start: cohort.start, ...(index === null ? {} : { index }) };
  show_bar(id, section, bar, `Began ${bucket_label(cohort.start, period, zone)}${index === null ? "" : `, back in ${period} ${index}`}`);
}

/** A table in which colour and number say the same; open cells, whose period is not over, are hatched. */
function Grid({ answer: { result }, shown_as }: { answer: Answer<Retention>; shown_as: Shown }) {
  const sections = sections_of(result);
  const periods = Math.max(0, ...sections.map(({ average }) => average.length));
  // A sum is as dark as what each has of it is much beside the others; a share is its own measure.
  const most = shown_as.sum ? Math.max(0, ...sections.flatMap(({ cohorts }) => cohorts.flatMap(({ values, size }) => values.map((value) => (value ?? 0) / (size || Infinity))))) : 1;
  const is_of_lines = has_lines(result);
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label="Who comes back, by when they began">
      <table class="grid">
        <thead><tr><th scope="col">Began</th><th scope="col" class="number">People</th>{Array.from({ length: periods }, (_, index) => <th key={index} scope="col" class="number">{index}</th>)}</tr></thead>
        {is_of_lines && <tbody><Averages name={average_name(shown_as)} average={result.average} shown_as={shown_as} /></tbody>}
        {sections.map((section, place) => (
          <tbody key={place}>
            <Averages name={of_line(group_name(section.group) ? "" : average_name(shown_as), section)} section={section} average={section.average} shown_as={shown_as} />
            {section.cohorts.map((cohort) => <Row key={cohort.start} section={section} cohort={cohort} most={most} shown_as={shown_as} />)}
          </tbody>
        ))}
      </table>
    </div>
  );
}

const average_name = ({ sum }: Shown) => (sum ? "Average, a person" : "Average");

function Averages({ name, section, average, shown_as }: { name: string; section?: Section; average: (number | null)[]; shown_as: Shown }) {
  const { sum, field } = shown_as;
  const group = section && !section.is_compared && group_name(section.group) ? section.group : undefined;
  return (
    <tr class="average">
      <th scope="row">{group ? <OnlyButton field={field} value={group.breakdown} kind={group.kind}>{name}</OnlyButton> : <bdi>{name}</bdi>}</th><td />
      {average.map((one, index) => <td key={index} class="number">{one === null ? "" : shown(one, sum ? "number" : "share")}</td>)}
    </tr>
  );
}

function Row({ section, cohort, most, shown_as }: { section: Section; cohort: Cohort; most: number; shown_as: Shown }) {
  const { period, zone, sum } = shown_as;
  const began = bucket_label(cohort.start, period, zone);
  const cell = (value: number, index: number) => {
    const share = value / cohort.size;
    const text = shown(sum ? value : share, sum ? "number" : "share");
    const open = cohort.open[index] ? ", not over" : "";
    const said = sum ? `${text} of ${isolated(sum)}` : `${text}, ${shown(value)} people`;
    const heat = Math.min(5, Math.max(0, Math.ceil((share / (most || 1)) * 5)));
    return (
      <button type="button" class={`heat h${heat}`} data-value={value} title={sum ? `${said}${open}` : `${shown(value)} of ${shown(cohort.size)}${open}`}
        aria-label={`${said}${open}: ${of_line(`${period} ${index} of ${began}`, section)}`} onClick={() => pick(shown_as, section, cohort, index)}>{text}</button>
    );
  };
  return (
    <tr>
      <th scope="row">{began}</th>
      <td class="number"><button type="button" class="number-button" data-size={cohort.size} aria-label={`${shown(cohort.size)} people began: ${of_line(began, section)}`} onClick={() => pick(shown_as, section, cohort, null)}>{shown(cohort.size)}</button></td>
      {cohort.values.map((value, index) => <td key={index} class={cohort.open[index] ? "open" : ""}>{value !== null && cohort.size > 0 && cell(value, index)}</td>)}
    </tr>
  );
}

function numbers({ result }: Answer<Retention>, shown_as: Shown): TableData {
  const { period, zone, sum } = shown_as;
  const sections = sections_of(result);
  const periods = Math.max(0, ...sections.map(({ average }) => average.length));
  const has_names = has_lines(result) || sections.length > 1;
  const rows = sections.flatMap((section) => section.cohorts.map((cohort) => {
    const cell = (value: number | null, index: number | null) => ({
      text: shown(value), value, label: index !== null && sum ? `${shown(value)} of ${isolated(sum)}` : `${shown(value)} people`, pick: value === null ? undefined : () => pick(shown_as, section, cohort, index),
    });
    const name = has_names ? [{ text: of_line("", section) || "now" }] : [];
    return [{ text: bucket_label(cohort.start, period, zone), value: cohort.start }, ...name, cell(cohort.size, null), ...cohort.values.map((value, index) => cell(value, index))];
  }));
  const head = ["Began", ...(has_names ? ["Of"] : []), "People"];
  return {
    head: [...head, ...Array.from({ length: periods }, (_, index) => `${period} ${index}`)], rows, units: sum ? Object.fromEntries(Array.from({ length: periods }, (_, index) => [head.length + index, sum])) : {},
    besides: { head: [`Complete ${period}s`], rows: sections.flatMap(({ cohorts }) => cohorts.map(({ open }) => [String(open.filter((is_open) => !is_open).length)])) },
  };
}

function summary({ result }: Answer<Retention>, { period, sum: of }: Shown): string {
  const people = sum(result.cohorts.map(({ size }) => size));
  if (!people) return "Nobody began in this time.";
  const [next, before] = [result.average[1], result.compare?.average[1]].map((share) => (share === null || share === undefined ? "" : shown(share, of ? "number" : "share")));
  const back = of ? `each has ${next} of ${isolated(of)} in the ${period} after, on average` : `${next} are back after one ${period}`;
  return `${shown(people)} people began${next && `; ${back}${before && ` (before: ${before})`}`}.`;
}
