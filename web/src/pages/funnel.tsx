// How far people come along steps, in which time, and who stops where.
import { useAnswers } from "../api/ask";
import type { Funnel, Question } from "../api/types";
import { draw_funnel } from "../draw/funnel";
import { draw_rates, draw_times } from "../draw/funnel-views";
import { range } from "../time";
import { filters_of_page } from "../ui/filters";
import { Choice, EventPicker, Picker } from "../ui/picker";
import { Matches, matched_to_api, read_matched, type Matched } from "../ui/matched";
import { Tile } from "../ui/tile";
import { change, here } from "../url";
import { asked_bots, asked_breakdown, asked_compare, asked_range, BreakdownChoice, FieldsChoice, Page } from "./page";

const MOST = 10;
/** What the API takes. */
const MOST_EXCLUSIONS = 10;
const MOST_HELD = 5;

interface AskedStep extends Matched {
  optional?: boolean;
}

function steps_of_page(): AskedStep[] {
  const read = here.value.params.getAll("step").map((text) => read_matched<AskedStep>(text)).filter((step) => step !== null);
  return read.length >= 2 ? read : [...read, {}, {}].slice(0, 2);
}

function write(steps: AskedStep[]): void {
  change({ step: steps.map((step) => JSON.stringify(step)) });
}

/** Events that may not lie between two steps, which are numbered from 1. */
interface Exclusion extends Matched {
  from: number;
  to: number;
}

/** Those of the address, between steps that there are. */
function exclusions_of_page(steps: number): Exclusion[] {
  const read = here.value.params.getAll("without").map((text) => read_matched<Partial<Exclusion>>(text)).filter((one) => one !== null);
  return read.map((one) => {
    const from = Math.min(steps - 1, Math.max(1, Math.floor(Number(one.from) || 1)));
    return { ...one, from, to: Math.min(steps, Math.max(from + 1, Math.floor(Number(one.to) || steps))) };
  });
}

function write_exclusions(exclusions: Exclusion[]): void {
  change({ without: exclusions.map((one) => JSON.stringify(one)) });
}

function held(): string[] {
  return here.value.params.getAll("hold").filter(Boolean);
}

function body(steps: AskedStep[]): Record<string, unknown> {
  const { params } = here.value;
  const exclusions = exclusions_of_page(steps.length);
  const text = (name: string) => (params.get(name) ? { [name]: params.get(name) } : {});
  return {
    ...asked_range(), ...asked_bots(), filters: filters_of_page(), window: params.get("window") ?? "14d", ...text("order"), ...text("count"),
    steps: steps.map((step) => ({ ...matched_to_api(step), ...(step.optional ? { optional: true } : {}) })),
    ...(exclusions.length ? { exclusions: exclusions.map((one) => ({ ...matched_to_api(one), from_step: one.from, to_step: one.to })) } : {}),
    ...(held().length ? { hold: held() } : {}), ...(params.get("whole") === "1" ? { complete_windows_only: true } : {}),
    ...asked_breakdown(5), ...(params.get("b") ? text("attribution") : {}), ...asked_compare(),
  };
}

export default function FunnelPage() {
  const steps = steps_of_page();
  const { params } = here.value;
  const { interval, zone } = range();
  const is_ready = params.getAll("step").length >= 2;
  const asked: Record<string, Question | null> = {
    funnel: is_ready ? { report: "funnel", body: body(steps) } : null,
    trend: is_ready ? { report: "funnel", body: { ...body(steps), view: "trend", interval, breakdown: null, attribution: null } } : null,
    times: is_ready ? { report: "funnel", body: { ...body(steps), view: "time_to_convert", bins: 20, breakdown: null, attribution: null, compare: null } } : null,
  };
  const { tiles, cancel, again } = useAnswers(asked);
  const common = { zone, onCancel: cancel, onAgain: again };
  const exclusions = exclusions_of_page(steps.length);
  const set = (index: number, changes: Partial<AskedStep>) => write(steps.map((step, at) => (at === index ? { ...step, ...changes } : step)));
  return (
    <Page title="Funnel" questions={asked} has={{ range: true, compare: true }}>
      <section class="builder" aria-label="What is asked">
        <ol class="steps">
          {steps.map((step, index) => (
            <li class="step" key={index}>
              <b class="letter" aria-hidden="true">{index + 1}</b>
              <EventPicker label={`Step ${index + 1}`} value={step.event ?? ""} onChange={(event) => set(index, { event: event || undefined })} />
              <Matches matched={step} onChange={(filters) => set(index, { filters })} />
              {index > 0 && <label class="check"><input type="checkbox" checked={Boolean(step.optional)} onChange={() => set(index, { optional: step.optional ? undefined : true })} /> may be left out</label>}
              {steps.length > 2 && <button type="button" class="quiet" aria-label={`Remove step ${index + 1}`} onClick={() => write(steps.filter((_, at) => at !== index))}>×</button>}
            </li>
          ))}
        </ol>
        {exclusions.map((one, index) => <ExclusionStep key={index} exclusion={one} index={index} steps={steps.length} onChange={(next) => write_exclusions(next ? exclusions.with(index, next) : exclusions.filter((_, at) => at !== index))} />)}
        <div class="step">
          {steps.length < MOST && <button type="button" class="quiet" onClick={() => write([...steps, {}])}>+ Step</button>}
          {exclusions.length < MOST_EXCLUSIONS && <button type="button" class="quiet" onClick={() => write_exclusions([...exclusions, { from: 1, to: steps.length }])}>+ Without</button>}
          <label class="choice"><span>Within</span><Picker label="Within" value={params.get("window") ?? "14d"} offered={["30m", "1h", "1d", "7d", "14d", "30d"]} onChange={(text) => change({ window: text.trim() || null })} /></label>
          <Choice label="Order" value={params.get("order") ?? "ordered"} of={[["ordered", "one after the other"], ["strict", "nothing in between"], ["unordered", "any"]]} onChange={(order) => change({ order: order === "ordered" ? null : order })} />
          <Choice label="Counting" value={params.get("count") ?? "users"} of={[["users", "people"], ["sessions", "sessions"], ["totals", "attempts"]]} onChange={(count) => change({ count: count === "users" ? null : count })} />
          <FieldsChoice label="The same in all steps" values={held()} most={MOST_HELD} onChange={(hold) => change({ hold })} />
          <label class="check"><input type="checkbox" checked={params.get("whole") === "1"} onChange={(event) => change({ whole: event.currentTarget.checked ? "1" : null })} /> only whose time is over</label>
          <BreakdownChoice />
          {params.get("b") && <Choice label="The value at" value={params.get("attribution") ?? "first"} of={[["first", "the first event"], ["last", "the last event"], ...steps.slice(1).map((_, index): [string, string] => [`step:${index + 2}`, `step ${index + 2}`])]} onChange={(at) => change({ attribution: at === "first" ? null : at })} />}
          {!is_ready && <button type="button" onClick={() => write(steps)}>Show</button>}
        </div>
      </section>
      {!is_ready && <p class="nothing">Name the first and the last step.</p>}
      {is_ready && (
        <div class="tiles">
          <Tile<Funnel> id="funnel" title={steps.map((step) => step.event ?? "any event").join(" → ")} wide keep asked={tiles("funnel")} {...common} drawing={draw_funnel(asked.funnel!, "funnel", true)} />
          <Tile id="trend" title={`By ${interval} of entry`} asked={tiles("trend")} {...common} drawing={draw_rates(asked.trend!, "trend")} />
          <Tile id="times" title="Time to the end" asked={tiles("times")} {...common} drawing={draw_times(asked.times!, "times")} />
        </div>
      )}
    </Page>
  );
}

interface ExclusionProps {
  exclusion: Exclusion;
  index: number;
  steps: number;
  /** Nothing takes it away. */
  onChange(exclusion: Exclusion | null): void;
}

/** Who has such an event between two steps does not count. */
function ExclusionStep({ exclusion, index, steps, onChange }: ExclusionProps) {
  const { from, to } = exclusion;
  const numbers = (first: number, last: number) => Array.from({ length: last - first + 1 }, (_, at): [string, string] => [String(first + at), `step ${first + at}`]);
  return (
    <div class="step" role="group" aria-label={`Without ${index + 1}`}>
      <span class="word">without</span>
      <EventPicker label={`Without event ${index + 1}`} value={exclusion.event ?? ""} onChange={(event) => onChange({ ...exclusion, event: event || undefined })} />
      <Matches matched={exclusion} onChange={(filters) => onChange({ ...exclusion, filters })} />
      <Choice label="between" value={String(from)} of={numbers(1, steps - 1)} onChange={(step) => onChange({ ...exclusion, from: Number(step), to: Math.max(to, Number(step) + 1) })} />
      <Choice label="and" value={String(to)} of={numbers(from + 1, steps)} onChange={(step) => onChange({ ...exclusion, to: Number(step) })} />
      <button type="button" class="quiet" aria-label={`Remove without ${index + 1}`} onClick={() => onChange(null)}>×</button>
    </div>
  );
}
