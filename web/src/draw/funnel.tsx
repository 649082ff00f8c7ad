// The steps of a funnel: how many come to each, and how many stop before it.
import type { ComponentChildren } from "preact";
import type { Answer, Funnel, Step } from "../api/types";
import type { TableData } from "../chart/table";
import { duration, isolated, label, plural, shown } from "../format";
import type { Draw } from "../ui/drawing";
import { OnlyButton } from "../ui/filters";
import { show_people } from "../ui/people-panel";

export const draw_funnel: Draw = ({ body }, id, is_filtered) => ({
  draw: (answer) => <Steps answer={answer} id={id} field={is_filtered && typeof body.breakdown === "string" ? body.breakdown : undefined} />,
  table: (answer) => steps_table(answer, id),
  summary: steps_summary,
});

type Group = Funnel["groups"][number];

function group_name(group: Group): string {
  return group.kind === null || group.kind === undefined ? "" : label(group.breakdown, group.kind);
}

/** A bar of a funnel: a step of a line, those who came to it or those who did not. */
interface StepBar {
  id: string;
  group: Group;
  index: number;
  step: Step;
  is_compared: boolean;
}

/** A name that, where it has no room, goes on in the next line behind a word. */
function breakable(name: string): ComponentChildren {
  return (name.match(/[^_./-]+[_./-]*|[_./-]+/g) ?? []).flatMap((part, index) => (index ? [<wbr key={index} />, part] : [part]));
}

function pick({ id, group, index, step, is_compared }: StepBar, is_converted: boolean): void {
  const line = group.kind === null || group.kind === undefined ? {} : { breakdown_value: group.breakdown, breakdown_kind: group.kind };
  const name = `${is_converted ? "" : "not "}${isolated(step.name)}${group_name(group) && `, ${isolated(group_name(group))}`}`;
  show_people({ of: id, bar: { step: index + 1, ...(is_converted ? {} : { converted: false }), ...line }, name, ...(is_compared ? { compare: true } : {}) });
}

function Steps({ answer, id, field }: { answer: Answer<Funnel>; id: string; field?: string }) {
  const charts: [Funnel, boolean][] = [[answer.result, false], ...(answer.result.compare ? [[answer.result.compare, true] as [Funnel, boolean]] : [])];
  return (
    <>
      {charts.map(([funnel, is_compared]) => funnel.groups.map((group, place) => (
        <div class="funnel-group" key={`${is_compared} ${place}`}>
          {(group_name(group) || is_compared) && <h3><OnlyButton field={field} value={group.breakdown} kind={group.kind}>{group_name(group)}</OnlyButton> {is_compared && <span class="note">before</span>}</h3>}
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
    { text: [`${index + 1}. ${step.name}`, group_name(group), is_compared ? "before" : ""].filter(Boolean).join(", ") },
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
