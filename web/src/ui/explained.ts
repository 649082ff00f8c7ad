// What a number counts, in sentences: the definition of its report (docs/questions.md) with what was asked put in.
import type { Question } from "../api/types";
import { isolated, plural, shown } from "../format";
import { range_words } from "../time";
import { from_api, words } from "./filters";

/** Events that are meant, as a question has them. */
interface Events {
  event?: unknown;
  filters?: Filter[] | null;
}

interface Asked extends Events {
  math?: string;
  property?: string | null;
  optional?: boolean | null;
}

interface Exclusion extends Events {
  from_step?: number | null;
  to_step?: number | null;
}

type Filter = Record<string, any>;
type Body = Record<string, any>;

/** What is counted of events that are called so; `by` is the interval. */
const MATHS: Record<string, (events: string, by: string, property: string) => string> = {
  total: (events) => `events of ${events}`, unique_users: (events) => `people with ${events}`, unique_sessions: (events) => `sessions with ${events}`,
  per_user: (events) => `how many events of ${events} those have who have any, on average`, first_time_users: (events, by) => `people whose ${first(events)} ever is in the ${by}`,
  dau: (events) => `people with ${events} on the day`, wau: (events) => `people with ${events} in the 7 days up to it`, mau: (events) => `people with ${events} in the 30 days up to it`,
  sum: (events, _, of) => `the sum of ${of} over ${events}`, avg: (events, _, of) => `the average of ${of} over ${events}`, min: (events, _, of) => `the least ${of} of ${events}`,
  max: (events, _, of) => `the most ${of} of ${events}`, p50: (events, _, of) => `the median of ${of} over ${events}`,
};

/** What is counted of sessions. */
const OF_SESSIONS: Record<string, string> = {
  sessions: "sessions", visitors: "people who have a session", bounce_rate: "the share of sessions that were a single event, or one page and under ten seconds",
  avg_duration_ms: "how long sessions are, on average", median_duration_ms: "the length that half of the sessions exceed", pages_per_session: "pages of a session, on average", events_per_session: "events of a session, on average",
};

const REPORTS: Record<string, (body: Body) => string[]> = {
  trends: ({ series, interval, formula, cumulative, moving_average }) => {
    const by = interval ?? "day";
    return [
      `Shown by ${by}: ${list(series).map((one) => measured(one, by)).join("; ")}${formula ? `, put together as ${formula}` : ""}.`,
      cumulative ? `Each number is of all from the beginning of the time to the end of its ${by}.` : "",
      moving_average > 1 ? `Then each is the average of its own and the ${moving_average - 1} before it that are shown; totals, and the people behind a number, are as without.` : "",
    ];
  },
  sessions: ({ series, interval, list: is_list }) => [
    `A session is what a visitor does without a long pause, and counts whole where it begins. ${is_list ? "Shown are single ones, the newest first." : `Shown by ${interval ?? "day"}: ${list(series).map(({ math = "sessions" }) => OF_SESSIONS[math] ?? math).join("; ") || "sessions"}.`}`,
  ],
  funnel: funnel_words,
  retention: retention_words,
  lifecycle: ({ event, interval }) => {
    const by = interval ?? "day";
    return [`Of each ${by}, people with ${events({ event })}: new ones had none ever before, returning ones had one in the ${by} before, resurrected ones only longer ago; dormant ones had one in the ${by} before and none in this.`];
  },
  stickiness: ({ event, interval, cumulative }) => [`How many people have ${events({ event })} in ${cumulative ? "at least " : ""}one, two, … ${interval ?? "day"}s of this time.`],
  paths: ({ node, start, end, steps, limit, collapse }) => {
    const of = node === "page_path" ? "page" : node === "type" || !node ? "event" : node;
    const from = given(start) ? `, from the first ${named(start)} of a session on` : given(end) ? `, backwards from the last ${named(end)} of a session` : "";
    const twice = collapse === false ? `What comes twice in a row counts twice.` : "What comes twice in a row counts once.";
    return [`The ways that sessions take from one ${of} to the next${from}: ${steps ?? 5} steps, of each the ${limit ?? 10} that most sessions come by, and all others together.`, twice];
  },
};

function funnel_words({ steps, window, order, count, exclusions, hold, complete_windows_only, view, interval }: Body): string[] {
  const within = window ?? "14d";
  const who = { sessions: "sessions", totals: "attempts" }[count as string] ?? "people, each once,";
  const way = list(steps).map((step) => `${events(step)}${step.optional ? " (if at all)" : ""}`).join(order === "unordered" ? " and " : ", then ");
  const how = order === "strict" ? ", with nothing in between" : order === "unordered" ? ", in any order" : "";
  const of_view: Record<string, string> = {
    trend: `Shown is the share of those with the first step who come to the last one, by the ${interval ?? "day"} of their first.`, time_to_convert: "Shown is how long those take who come to the last one.",
  };
  const bars = order === "unordered" ? "A step has all who did so many of them, whichever they are." : "A step has all who came at least so far.";
  const kept = [hold ?? []].flat().map((field) => isolated(String(field))).join(" and ");
  return [
    `Counted are ${who} with ${way}${how}, within ${within} of the first. ${of_view[view as string] ?? bars}`,
    ...list(exclusions).map((one: Exclusion) => `A way with ${events(one)} between step ${one.from_step ?? 1} and step ${one.to_step ?? list(steps).length} does not count.`),
    kept && `All events of a way have the same ${kept}.`,
    complete_windows_only ? `A first step counts only once its ${within} are over.` : "",
  ];
}

function retention_words({ cohort_event, return_event, period, type, mode, rolling, value }: Body): string[] {
  const by = period ?? "day";
  const begin = type === "recurring" ? `each ${by} in which they have ${events(cohort_event)}` : `the ${by} of their ${first(events(cohort_event))} ever`;
  const when = `so many ${by}s later${mode === "on_or_after" ? ", or later still" : ""}`;
  const cell = value?.sum ? `the sum of ${isolated(String(value.sum))} over their ${events(return_event)}` : `those of them with ${events(return_event)}`;
  const lengths: Record<string, string> = { week: "7 days", month: "30 days" };
  return [`People are put together by ${begin}; a cell has ${cell} ${when}.`, rolling ? `A ${by} is ${lengths[by] ?? "24 hours"} from when each began.` : ""];
}

const given = (value: unknown) => value !== null && value !== undefined;
const named = (name: unknown) => `“${isolated(String(name))}”`;

function list(of: unknown): Asked[] {
  return Array.isArray(of) ? of : [];
}

function events(asked: Events | string | null | undefined): string {
  const { event, filters } = typeof asked === "object" && asked ? asked : { event: asked, filters: [] };
  const names = [event].flat().filter(Boolean).map(named).join(" or ");
  return `${names || "any event"}${filters?.length ? ` (${all_words(filters)})` : ""}`;
}

const first = (events: string) => `first ${events.replace(/^any /, "")}`;

function measured({ math = "total", property, ...of }: Asked, by: string): string {
  const what = MATHS[math];
  if (what) return what(events(of), by, isolated(property ?? ""));
  if (math.startsWith("unique:")) return `different values of ${isolated(math.slice(7))} of ${events(of)}`;
  const [, percent] = /^p(\d+)$/.exec(math) ?? [];
  return `${percent ? `the ${percent}th percentile` : math} of ${isolated(property ?? "")} over ${events(of)}`;
}

/** Filters that must all hold. */
function all_words(filters: Filter[]): string {
  const [only, ...others] = filters;
  if (only && !others.length) return filter_words(only);
  return filters.map((filter) => (filter.any || filter.all ? `(${filter_words(filter)})` : filter_words(filter))).join(" and ");
}

/** A filter as the API reads it: also such ones as no page makes. */
function filter_words(filter: Filter): string {
  const { any, all, did, not } = filter;
  if (Array.isArray(any)) return any.map((one: Filter) => (one.all ? `(${filter_words(one)})` : filter_words(one))).join(" or ");
  if (Array.isArray(all)) return all_words(all);
  if (did) {
    const { from, to, times } = did as { from?: string; to?: string; times?: Record<string, number> | null };
    const often = times ? ` ${Object.entries(times).map(([op, count]) => `${words(["", op, count]).replace(/^is /, "")} times`).join(" and ")}` : "";
    return `${not ? "not " : ""}of those with ${events(did)}${often}${from ? ` from ${from} to ${to ?? "now"}` : ""}`;
  }
  const written = from_api(filter);
  return written ? words(written) : JSON.stringify(filter);
}

const COMPARED: Record<string, string> = { previous: "the period before", weekdays: "the same weekdays before", year: "the same days of last year" };

function compare_words(compare: any, zone: string): string {
  if (!compare) return "";
  return `Beside it: ${COMPARED[compare] ?? range_words(String(compare.from), String(compare.to ?? "now"), zone)}.`;
}

/** By what lines are told apart. */
function breakdown_words(report: string, { breakdown, limit, attribution }: Body): string {
  const fields = [breakdown ?? []].flat().map((field) => isolated(String(field))).join(" and ");
  if (!fields) return "";
  const step = /^step:(\d+)$/.exec(String(attribution));
  const whose = report === "retention" ? " of their beginning" : report !== "funnel" ? "" : step ? ` of step ${step[1]}` : attribution === "last" ? " of their last event" : " of their first event";
  return `, each ${fields}${whose} by itself${limit ? ` (${plural(limit, "line")} of most, all others together)` : ""}`;
}

/** What an answer says; nothing of reports that count nothing. `left_out` are the events of bots that it has left out. */
export function explained({ report, body }: Question, zone: string, left_out: number | null | undefined): string[] {
  const defined = REPORTS[report]?.(body);
  if (!defined) return [];
  const { from, to, filters, include_bots, compare } = body as { from?: string; to?: string | null; filters?: Filter[] | null; include_bots?: boolean; compare?: unknown };
  const of_time = from ? `Of ${range_words(from, to ?? "now", zone)}, in days of ${zone}` : `In days of ${zone}`;
  const kept = filters?.length ? `, where ${all_words(filters)}` : "";
  const bots = include_bots ? "Bots are counted too." : `Bots are left out${left_out ? ` (${shown(left_out)} of their events)` : ""}.`;
  return [defined.filter(Boolean).join(" "), [`${of_time}${kept}${breakdown_words(report, body)}.`, compare_words(compare, zone), bots].filter(Boolean).join(" ")];
}

/** The parts of which two questions say something else: what each says, "–" where it says nothing. */
export function differences(one: Question, other: Question): [part: string, here: string, there: string][] {
  const [here, there] = [one, other].map(({ report, body }) => parts_of({ report, ...body })) as [Map<string, string>, Map<string, string>];
  const parts = [...new Set([...here.keys(), ...there.keys()])].filter((part) => here.get(part) !== there.get(part));
  return parts.map((part) => [part, here.get(part) ?? "–", there.get(part) ?? "–"]);
}

/** What stands where in a question: `series[0].math` and so on. */
function parts_of(value: unknown, place = "", found = new Map<string, string>()): Map<string, string> {
  if (Array.isArray(value)) value.forEach((one, index) => parts_of(one, `${place}[${index}]`, found));
  else if (typeof value === "object" && value) for (const [name, one] of Object.entries(value)) parts_of(one, place ? `${place}.${name}` : name, found);
  else if (value !== null && value !== undefined) found.set(place, String(value));
  return found;
}
