// How far people come along steps, in which time, and who stops where.
import { useAnswers, type Known } from "../api/ask";
import type { Answer, Funnel, Question } from "../api/types";
import { LineChart } from "../chart/line";
import { Trend, trend_summary, trend_table, type TrendOptions } from "../chart/trend";
import type { TableData } from "../chart/table";
import { draw_funnel } from "../draw/funnel";
import { duration, shown } from "../format";
import { range } from "../time";
import { filters_of_page } from "../ui/filters";
import { Choice, EventPicker, FieldPicker, Picker } from "../ui/picker";
import { Matches, matched_to_api, read_matched, type Matched } from "../ui/matched";
import { Tile } from "../ui/tile";
import { change, here } from "../url";
import { asked_bots, asked_compare, asked_range, Page } from "./page";

const MOST = 10;

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

function body(steps: AskedStep[]): Record<string, unknown> {
  const { params } = here.value;
  const text = (name: string) => (params.get(name) ? { [name]: params.get(name) } : {});
  return {
    ...asked_range(), ...asked_bots(), filters: filters_of_page(), window: params.get("window") ?? "14d", ...text("order"), ...text("count"),
    steps: steps.map((step) => ({ ...matched_to_api(step), ...(step.optional ? { optional: true } : {}) })),
    ...(params.get("b") ? { breakdown: params.get("b"), limit: 5 } : {}),
    ...asked_compare(),
  };
}

export default function FunnelPage() {
  const steps = steps_of_page();
  const { params } = here.value;
  const { interval, zone } = range();
  const is_ready = params.getAll("step").length >= 2;
  const asked: Record<string, Question | null> = {
    funnel: is_ready ? { report: "funnel", body: body(steps) } : null,
    trend: is_ready ? { report: "funnel", body: { ...body(steps), view: "trend", interval, breakdown: null } } : null,
    times: is_ready ? { report: "funnel", body: { ...body(steps), view: "time_to_convert", bins: 20, breakdown: null, compare: null } } : null,
  };
  const { tiles, cancel, again } = useAnswers(asked);
  const common = { zone, onCancel: cancel, onAgain: again };
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
        <div class="step">
          {steps.length < MOST && <button type="button" class="quiet" onClick={() => write([...steps, {}])}>+ Step</button>}
          <label class="choice"><span>Within</span><Picker label="Within" value={params.get("window") ?? "14d"} offered={["30m", "1h", "1d", "7d", "14d", "30d"]} onChange={(text) => change({ window: text.trim() || null })} /></label>
          <Choice label="Order" value={params.get("order") ?? "ordered"} of={[["ordered", "one after the other"], ["strict", "nothing in between"], ["unordered", "any"]]} onChange={(order) => change({ order: order === "ordered" ? null : order })} />
          <Choice label="Counting" value={params.get("count") ?? "users"} of={[["users", "people"], ["sessions", "sessions"], ["totals", "attempts"]]} onChange={(count) => change({ count: count === "users" ? null : count })} />
          <label class="choice"><span>Broken down by</span><FieldPicker label="Broken down by" value={params.get("b") ?? ""} placeholder="nothing" onChange={(field) => change({ b: field || null })} /></label>
          {!is_ready && <button type="button" onClick={() => write(steps)}>Show</button>}
        </div>
      </section>
      {!is_ready && <p class="nothing">Name the first and the last step.</p>}
      {is_ready && (
        <div class="tiles">
          <Tile<Funnel> id="funnel" title={steps.map((step) => step.event ?? "any event").join(" → ")} wide keep asked={tiles("funnel")} {...common} drawing={draw_funnel(asked.funnel!, "funnel", true)} />
          <RateTile asked={tiles("trend")} interval={interval} {...common} />
          <TimesTile asked={tiles("times")} {...common} />
        </div>
      )}
    </Page>
  );
}

interface Rates {
  buckets: string[];
  partial: boolean[];
  groups: { entered: number[]; converted: number[]; rate: (number | null)[] }[];
  compare?: Rates;
}

interface SubProps {
  asked: Known;
  zone: string;
  onCancel(): void;
  onAgain(): void;
}

/** The share that comes to the end, by when they entered; as a chart of trends. */
function as_chart(rates: Rates): any {
  const group = rates.groups[0];
  return {
    buckets: rates.buckets, partial: rates.partial ?? rates.buckets.map(() => false),
    series: [{ name: "rate", event: null, math: "total", breakdown: null, kind: null, values: group?.rate ?? rates.buckets.map(() => null), total: rate_of(group) }],
    ...(rates.compare ? { compare: as_chart(rates.compare) } : {}),
  };
}

function rate_of(group: Rates["groups"][number] | undefined): number | null {
  const sum = (values: number[] = []) => values.reduce((sum, value) => sum + value, 0);
  const entered = sum(group?.entered);
  return entered ? sum(group?.converted) / entered : null;
}

function RateTile({ asked, interval, ...common }: SubProps & { interval: string }) {
  const options: TrendOptions = { id: "trend", interval, zone: common.zone, unit: "share", names: ["rate"], name: () => "Come to the end", is_formula: true };
  const chart = (answer: Answer<Rates>) => ({ ...answer, result: as_chart(answer.result) });
  return (
    <Tile<Rates> id="trend" title={`By ${interval} of entry`} asked={asked} {...common} table={(answer) => trend_table(chart(answer), options)} summary={(answer) => trend_summary(chart(answer), options)}>
      {(answer) => <Trend answer={chart(answer)} options={options} label="Share that comes to the end" />}
    </Tile>
  );
}

/** A duration as short as an axis needs it. */
function rough(ms: number): string {
  const [size, unit] = ms < 60_000 ? [1_000, "s"] : ms < 3_600_000 ? [60_000, "min"] : ms < 172_800_000 ? [3_600_000, "h"] : [86_400_000, "d"];
  return `${Math.round((ms / (size as number)) * 10) / 10} ${unit}`;
}

interface Times {
  groups: { converted: number; median_ms: number | null; avg_ms: number | null; bins: { from_ms: number; to_ms: number; count: number }[] }[];
}

function TimesTile({ asked, ...common }: SubProps) {
  const table = ({ result }: Answer<Times>): TableData => ({
    head: ["Time", "Count"], units: { 0: "from, ms" },
    rows: (result.groups[0]?.bins ?? []).map((bin) => [{ text: `${duration(bin.from_ms)} – ${duration(bin.to_ms)}`, value: bin.from_ms }, { text: shown(bin.count), value: bin.count }]),
  });
  return (
    <Tile<Times> id="times" title="Time to the end" asked={asked} {...common} table={table}
      summary={({ result }) => (result.groups[0]?.converted ? `Half take less than ${duration(result.groups[0].median_ms ?? 0)}.` : "Nobody came to the end in this time.")}>
      {({ result }) => {
        const bins = result.groups[0]?.bins ?? [];
        if (!bins.length) return <p class="nothing">Nobody.</p>;
        const name = (index: string) => `${duration(bins[Number(index)]!.from_ms)} – ${duration(bins[Number(index)]!.to_ms)}`;
        return (
          <LineChart label="Time to the end" buckets={bins.map((_, index) => String(index))} partial={bins.map(() => false)} interval="" zone={common.zone} is_stacked name_of={name}
            short_name_of={(index) => rough(bins[Number(index)]!.from_ms)} lines={[{ name: "came to the end", values: bins.map((bin) => bin.count), place: 0 }]} />
        );
      }}
    </Tile>
  );
}
