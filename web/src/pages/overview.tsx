// The first screen: who is here now, six numbers of which one is drawn, and where people come from, what they look at, where they are
// and what with. One request.
import { useAnswers, type Known } from "../api/ask";
import type { Answer, Chart, Question, Series } from "../api/types";
import { Trend, trend_summary, trend_table, type TrendOptions } from "../chart/trend";
import type { TableData } from "../chart/table";
import { growth, label, shown, type Unit } from "../format";
import { range } from "../time";
import { filter_by, filters_of_page } from "../ui/filters";
import { show_people } from "../ui/people-panel";
import { Later } from "../ui/later";
import { Tile } from "../ui/tile";
import { change, here, page_of } from "../url";
import { asked_bots, asked_compare, asked_range, CompareChoice, Page } from "./page";
import { FirstSteps } from "./first-steps";
import { Goals, goals_question } from "./goals";

/** Types of events that are views of a page, as the server counts them in sessions. */
export const PAGE_TYPES = ["page", "page_view", "pageview", "$pageview", "page_viewed", "Page Viewed", "Viewed Page", "Page View"];

interface Measure {
  key: string;
  name: string;
  of: "events" | "sessions";
  unit: Unit;
  series: Record<string, unknown>;
}

const MEASURES: Measure[] = [
  { key: "visitors", name: "Visitors", of: "events", unit: "number", series: { math: "unique_users" } },
  { key: "sessions", name: "Sessions", of: "sessions", unit: "number", series: { math: "sessions" } },
  { key: "pages", name: "Page views", of: "events", unit: "number", series: { filters: [{ field: "type", op: "in", value: PAGE_TYPES }] } },
  { key: "events", name: "Events", of: "events", unit: "number", series: {} },
  { key: "bounce", name: "Bounce rate", of: "sessions", unit: "share", series: { math: "bounce_rate" } },
  { key: "duration", name: "Median session", of: "sessions", unit: "duration", series: { math: "median_duration_ms" } },
];

interface List {
  id: string;
  title: string;
  /** By what, and what that is called. */
  tabs: [field: string, name: string][];
}

const LISTS: List[] = [
  { id: "sources", title: "Sources", tabs: [["session.channel", "Channel"], ["session.referrer_domain", "Referrer"], ["session.campaign_source", "Source"], ["session.campaign_name", "Campaign"]] },
  { id: "pages", title: "Pages", tabs: [["page_path", "All"], ["session.entry_page", "Entry"], ["session.exit_page", "Exit"]] },
  { id: "places", title: "Places", tabs: [["session.country", "Country"], ["region", "Region"], ["city", "City"]] },
  { id: "devices", title: "Devices", tabs: [["session.device_type", "Kind"], ["session.browser", "Browser"], ["session.os", "System"]] },
  { id: "actions", title: "Events", tabs: [["type", "Name"]] },
  { id: "languages", title: "Languages", tabs: [["language", "Language"], ["locale", "Locale"], ["timezone", "Time zone"]] },
];

function field_of(list: List): string {
  const chosen = here.value.params.get(list.id);
  return list.tabs.find(([field]) => field === chosen)?.[0] ?? list.tabs[0]![0];
}

function list_question(list: List): Question {
  const field = field_of(list);
  const body = { ...asked_range(), ...asked_bots(), interval: "month", filters: filters_of_page(), breakdown: field, limit: 9 };
  if (field.startsWith("session.")) return { report: "sessions", body: { ...body, series: [{ math: "visitors" }] } };
  const series = { math: "unique_users", ...(field === "page_path" ? { filters: [{ field: "type", op: "in", value: PAGE_TYPES }] } : {}) };
  return { report: "trends", body: { ...body, series: [series] } };
}

/** What the page asks. */
export function questions(): Record<string, Question | null> {
  const { interval, zone } = range();
  const common = { ...asked_range(), ...asked_bots(), filters: filters_of_page() };
  const measured = (of: string) => ({
    report: of === "events" ? "trends" : "sessions",
    body: {
      ...common, interval, ...asked_compare("previous"),
      series: MEASURES.filter((measure) => measure.of === of).map(({ key, series }) => ({ name: key, ...series })),
    },
  });
  const now = (from: string) => ({ report: "trends", body: { from, to: "now", timezone: zone, ...asked_bots(), interval: "minute", series: [{ math: "unique_users" }], filters: common.filters } });
  return { events: measured("events"), sessions: measured("sessions"), ...Object.fromEntries(LISTS.map((list) => [list.id, list_question(list)])), goals: goals_question(), now: now("-5m"), recent: now("-30m") };
}

export default function Overview() {
  const asked = questions();
  const { tiles, cancel, again } = useAnswers(asked);
  const { interval, zone } = range();
  const chosen = MEASURES.find((measure) => measure.key === here.value.params.get("show")) ?? MEASURES[0]!;
  const names = MEASURES.filter((measure) => measure.of === chosen.of).map((measure) => measure.key);
  const options: TrendOptions = { id: chosen.of, interval, zone, names, unit: chosen.unit, only: [chosen.key], name: () => chosen.name };
  const common = { zone, onCancel: cancel, onAgain: again };
  const { report, body } = asked[chosen.of]!;
  const watched = { report, body: { ...body, series: [{ name: chosen.key, ...chosen.series }] } };
  return (
    <Page title="Overview" questions={asked} has={{ range: true }} aside={<Now asked={tiles("now")} recent={tiles("recent")} />}>
      <FirstSteps asked={tiles("events")} measure="events" />
      <div class="measures" role="group" aria-label="What the chart shows">
        {MEASURES.map((measure) => <Measured key={measure.key} measure={measure} asked={tiles(measure.of)} is_chosen={measure === chosen} />)}
      </div>
      <div class="tiles">
        <Tile<Chart> id={chosen.of} title={chosen.name} wide keep asked={tiles(chosen.of)} watched={watched} {...common} table={(answer) => trend_table(answer, options)}
          summary={(answer) => trend_summary(answer, options)} tools={<CompareChoice otherwise="previous" zone={zone} />}>
          {(answer) => <Trend answer={answer} options={options} label={chosen.name} />}
        </Tile>
        <Later>
          {LISTS.map((list) => <ListTile key={list.id} list={list} asked={tiles(list.id)} {...common} />)}
          <Goals asked={tiles("goals")} {...common} />
        </Later>
      </div>
    </Page>
  );
}

function Measured({ measure, asked: known, is_chosen }: { measure: Measure; asked: Known<Chart>; is_chosen: boolean }) {
  const asked = known.value;
  const chart = asked?.answer?.result;
  const total = (of?: Chart) => of?.series.find((series) => series.name === measure.key)?.total;
  const now = total(chart);
  const change_of = growth(now ?? null, total(chart?.compare));
  const is_good = change_of && change_of.sign * (measure.key === "bounce" ? -1 : 1);
  return (
    <button type="button" class="measure" aria-pressed={is_chosen} onClick={() => change({ show: measure.key === "visitors" ? null : measure.key })}>
      <span>{measure.name}</span>
      <strong data-measure={measure.key} data-value={now ?? undefined}>{asked?.error && !chart ? "!" : shown(now, measure.unit)}</strong>
      <small class={!is_good ? "" : is_good > 0 ? "good" : "bad"}>{change_of?.text ?? " "}</small>
    </button>
  );
}

/** Who had an event in the last five minutes, and the half hour as a curve. */
function Now({ asked, recent }: { asked: Known<Chart>; recent: Known<Chart> }) {
  const people = asked.value?.answer?.result.series[0]?.total;
  const values = recent.value?.answer?.result.series[0]?.values ?? [];
  const most = Math.max(1, ...values.map((value) => value ?? 0));
  if (people === undefined || people === null) return null;
  return (
    <a class="now" href={page_of("/events", { live: "1" })} title="Visitors with an event in the last five minutes">
      <i class={people ? "on" : ""} aria-hidden="true" /><strong data-now={people}>{shown(people)}</strong> {people === 1 ? "visitor" : "visitors"} now
      <svg width="90" height="18" aria-hidden="true">{values.map((value, index) => <rect key={index} x={index * 3} width="2" height={Math.max(1, (18 * (value ?? 0)) / most)} y={18 - Math.max(1, (18 * (value ?? 0)) / most)} />)}</svg>
    </a>
  );
}

interface ListTileProps {
  list: List;
  asked: Known<Chart>;
  zone: string;
  onCancel(): void;
  onAgain(): void;
}

function ListTile({ list, asked, ...common }: ListTileProps) {
  const field = field_of(list);
  const tabs = list.tabs.length > 1 && (
    <div class="tabs" role="group" aria-label={`${list.title} by`}>
      {list.tabs.map(([of, name], index) => <button key={of} type="button" aria-pressed={of === field} onClick={() => change({ [list.id]: index ? of : null })}>{name}</button>)}
    </div>
  );
  const table = (answer: Answer<Chart>): TableData => ({
    head: [list.tabs.find(([of]) => of === field)![1], "Visitors"],
    rows: answer.result.series.map((series) => [{ text: label(series.breakdown, series.kind) }, { text: shown(series.total), value: series.total }]),
  });
  return (
    <Tile<Chart> id={list.id} title={list.title} asked={asked} {...common} tabs={tabs} table={table}>
      {(answer) => <Rows series={answer.result.series} field={field} id={list.id} />}
    </Tile>
  );
}

/** Values by the number of their people: the name keeps only it, the number shows who they are. */
export function Rows({ series, field, id }: { series: Series[]; field: string; id: string }) {
  const most = Math.max(1, ...series.map((one) => one.total ?? 0));
  const rank = (one: Series) => (one.kind === "other" ? -1 : (one.total ?? 0));
  const shown_series = series.filter((one) => one.total).sort((left, right) => rank(right) - rank(left));
  if (!shown_series.length) return <p class="nothing">Nothing in this time.</p>;
  return (
    <ul class="rows">
      {shown_series.map((one) => {
        const name = label(one.breakdown, one.kind);
        const bar = { series_index: 0, breakdown_value: one.breakdown, breakdown_kind: one.kind };
        return (
          <li key={`${one.kind} ${name}`}>
            <span class="fillbar" style={{ width: `${(100 * (one.total ?? 0)) / most}%` }} aria-hidden="true" />
            {one.kind === "other" ? <span class="name">{name}</span>
              : <button type="button" class="name" title={`Only ${name}`} onClick={() => filter_by(field, one.breakdown, one.kind)}><bdi>{name}</bdi></button>}
            <button type="button" class="number-button" data-value={one.total} aria-label={`${shown(one.total)} people: ${name}`} onClick={() => show_people({ of: id, bar, name })}>{shown(one.total)}</button>
          </li>
        );
      })}
    </ul>
  );
}
