// The steps of a funnel: how many come to each, and how many stop before it. Its other views are `funnel-views.tsx`.
import type { ComponentChildren } from "preact";
import type { Answer, Funnel, Step } from "../api/types";
import type { TableData } from "../chart/table";
import { duration, isolated, plural, shown } from "../format";
import type { Draw } from "../ui/drawing";
import { draw_rates, draw_times } from "./funnel-views";
import { both, group_name, GroupHead, kept_fields, of_line, show_bar, type LineOf } from "./groups";

const VIEWS: Record<string, Draw> = { trend: draw_rates, time_to_convert: draw_times };

export const draw_funnel: Draw = (question, id, is_filtered) => {
  const { view, order } = question.body;
  const draw_view = VIEWS[String(view)];
  if (draw_view) return draw_view(question, id, is_filtered);
  // In any order a bar counts who did so many of the steps, whichever they are.
  const named = (answer: Answer<Funnel>) => (order === "unordered" ? { ...answer, result: by_number(answer.result) } : answer);
  return {
    draw: (answer) => <Steps answer={named(answer)} id={id} field={kept_fields(question, is_filtered)} />,
    table: (answer) => steps_table(named(answer), id),
    summary: (answer) => steps_summary(named(answer)),
  };
};

function by_number({ groups, compare }: Funnel): Funnel {
  const name = (index: number, of: number) => (index + 1 === of ? `all ${of} steps` : `any ${index ? `${index + 1} steps` : "step"}`);
  const own = groups.map((group) => ({ ...group, steps: group.steps.map((step, index) => ({ ...step, name: name(index, group.steps.length) })) }));
  return { groups: own, ...(compare ? { compare: by_number(compare) } : {}) };
}

/** A bar of a funnel: a step of a line, those who came to it or those who did not. */
interface StepBar extends LineOf {
  id: string;
  index: number;
  step: Step;
}

/** A name that, where it has no room, goes on in the next line behind a word. */
function breakable(name: string): ComponentChildren {
  return (name.match(/[^_./-]+[_./-]*|[_./-]+/g) ?? []).flatMap((part, index) => (index ? [<wbr key={index} />, part] : [part]));
}

function pick({ id, index, step, ...line }: StepBar, is_converted: boolean): void {
  show_bar(id, line, { step: index + 1, ...(is_converted ? {} : { converted: false }) }, `${is_converted ? "" : "not "}${isolated(step.name)}`);
}

function Steps({ answer, id, field }: { answer: Answer<Funnel>; id: string; field?: string | string[] }) {
  return (
    <>
      {both(answer.result).map(({ chart, is_compared }) => chart.groups.map((group, place) => (
        <div key={`${is_compared} ${place}`}>
          <GroupHead group={group} is_compared={is_compared} field={field} />
          <ol class={`funnel c${place % 8} ${is_compared ? "compared" : ""}`}>
            {group.steps.map((step, index) => (
              <li key={index}>
                <div class="column" aria-hidden="true">
                  <span class="fill" style={{ height: `${100 * (step.from_start ?? 0)}%` }} />
                </div>
                <strong><bdi>{breakable(step.name)}</bdi></strong>
                <button type="button" class="number-button big" data-step={index + 1} data-count={step.count} aria-label={`${shown(step.count)} came to ${step.name}`} onClick={() => pick({ id, group, index, step, is_compared }, true)}>{shown(step.count)}</button>
                <span class="note">{shown(step.from_start, "share")}{index > 0 && step.median_ms !== null && ` · ${duration(step.median_ms)}`}</span>
                {index > 0 && (
                  <button type="button" class="number-button lost" data-dropped={step.dropped} aria-label={`${shown(step.dropped)} stopped before ${step.name}`} onClick={() => pick({ id, group, index, step, is_compared }, false)}>
                    −{shown(step.dropped)}{step.from_previous !== null && ` (${shown(1 - step.from_previous, "share")})`}
                  </button>
                )}
              </li>
            ))}
          </ol>
        </div>
      )))}
    </>
  );
}

const whole = (ms: number | null) => (ms === null ? null : Math.round(ms));

function steps_table({ result }: Answer<Funnel>, id: string): TableData {
  const rows = (funnel: Funnel, is_compared: boolean) => funnel.groups.flatMap((group) => group.steps.map((step, index) => [
    { text: of_line(`${index + 1}. ${step.name}`, { group, is_compared }) },
    { text: shown(step.count), value: step.count, label: `${shown(step.count)} came to ${step.name}`, pick: () => pick({ id, group, index, step, is_compared }, true) },
    { text: shown(step.from_start, "share"), value: step.from_start },
    { text: shown(step.from_previous, "share"), value: step.from_previous },
    index ? { text: shown(step.dropped), value: step.dropped, label: `${shown(step.dropped)} stopped before ${step.name}`, pick: () => pick({ id, group, index, step, is_compared }, false) } : { text: "–", value: null },
    { text: shown(step.median_ms, "duration"), value: whole(step.median_ms) }, { text: shown(step.p90_ms, "duration"), value: whole(step.p90_ms) },
  ]));
  return { head: ["Step", "Count", "Of the first", "Of the one before", "Stopped", "Median time", "90th percentile"], units: { 5: "ms", 6: "ms" }, rows: [...rows(result, false), ...(result.compare ? rows(result.compare, true) : [])] };
}

function steps_summary({ result }: Answer<Funnel>): string {
  const [group, ...others] = result.groups;
  const steps = group?.steps ?? [];
  const of = others.length ? `${isolated(group_name(group!))}: ` : "";
  const more = others.length ? `; ${plural(others.length, "more group")}` : "";
  const [first, last] = [steps[0], steps[steps.length - 1]];
  if (!first || !last || !first.count) return `${of}Nobody came to the first step in this time${more}.`;
  const worst = steps.slice(1).reduce<Step | undefined>((worst, step) => (!worst || (step.from_previous ?? 1) < (worst.from_previous ?? 1) ? step : worst), undefined);
  const where = worst && worst.dropped ? `; most stop before ${isolated(worst.name)} (${shown(1 - (worst.from_previous ?? 0), "share")} of those before)` : "";
  return `${of}${shown(last.count)} of ${shown(first.count)} come to the end (${shown(last.from_start, "share")})${where}${more}.`;
}
