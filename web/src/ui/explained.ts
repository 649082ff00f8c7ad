// What a number counts, in sentences: the definition of its report (docs/questions.md) with what was asked put in.
import type { Question } from "../api/types";
import { isolated, shown } from "../format";
import { range_words } from "../time";
import { from_api, words } from "./filters";

interface Asked {
  event?: unknown;
  filters?: Record<string, unknown>[];
  math?: string;
  property?: string;
  optional?: boolean;
}

type Body = Record<string, any>;

const MATHS: Record<string, string> = {
  total: "events", unique_users: "people", unique_sessions: "sessions", per_user: "events per person", first_time_users: "people who have it for the first time ever",
  dau: "people of each day", wau: "people of the 7 days up to it", mau: "people of the 30 days up to it",
  visitors: "people who have a session", sessions: "sessions", bounce_rate: "the share of sessions that were one page or one event", median_duration_ms: "the length that half of the sessions exceed",
};

const REPORTS: Record<string, (body: Body) => string> = {
  trends: ({ series, interval, formula }) => `Counted are ${list(series).map((one) => `${measured(one)} of ${events(one)}`).join("; ")}${formula ? `, put together as ${formula}` : ""}, by ${interval ?? "day"}.`,
  sessions: ({ series, interval }) => `A session is what a visitor does without a long pause. Counted are ${list(series).map(measured).join("; ") || "sessions"}, by ${interval ?? "day"} of their beginning.`,
  funnel: ({ steps, window, order, count }) => `Counted are ${{ sessions: "sessions", totals: "attempts" }[count as string] ?? "people, each once,"} with ${list(steps).map((step) => `${events(step)}${step.optional ? " (if at all)" : ""}`).join(order === "unordered" ? " and " : ", then ")}${order === "strict" ? ", with nothing in between" : order === "unordered" ? ", in any order" : ""}, within ${window ?? "14d"} of the first. A step has all who came at least so far.`,
  retention: ({ cohort_event, return_event, period, type }) => `People are put together by the ${period ?? "day"} of their ${type === "recurring" ? "" : "first "}${events(cohort_event)}${type === "recurring" ? "" : " ever"}; a cell has those of them with ${events(return_event)} so many ${period ?? "day"}s later.`,
  lifecycle: ({ event, interval }) => `Of each ${interval ?? "day"}, people with ${events({ event })}: new ones had none ever before, returning ones had one in the ${interval ?? "day"} before, resurrected ones longer ago; dormant ones had one in the ${interval ?? "day"} before and none in this.`,
  stickiness: ({ event, interval }) => `In how many different ${interval ?? "day"}s of this time people have ${events({ event })}.`,
  paths: ({ node }) => `The ways that sessions take from one ${node === "page_path" ? "page" : (node ?? "event")} to the next; what comes twice in a row counts once.`,
};

function list(of: unknown): Asked[] {
  return Array.isArray(of) ? of : [];
}

function events(asked: Asked | string | null | undefined): string {
  const { event, filters } = typeof asked === "object" && asked ? asked : { event: asked, filters: [] };
  const named = [event].flat().filter(Boolean).map((name) => `“${isolated(String(name))}”`).join(" or ");
  return `${named || "any event"}${filters?.length ? ` (${filters.map(filter_words).join(", ")})` : ""}`;
}

function measured({ math = "total", property }: Asked): string {
  return MATHS[math] ?? (math.startsWith("unique:") ? `different values of ${math.slice(7)}` : `${math}${property ? ` of ${property}` : ""}`);
}

function filter_words(filter: Record<string, unknown>): string {
  const written = from_api(filter);
  return written ? words(written) : JSON.stringify(filter);
}

/** What an answer says; nothing of reports that count nothing. `left_out` are the events of bots that it has left out. */
export function explained({ report, body }: Question, zone: string, left_out: number | null | undefined): string[] {
  const defined = REPORTS[report]?.(body);
  if (!defined) return [];
  const { from, to = "now", filters, include_bots, breakdown } = body as { from?: string; to?: string; filters?: Record<string, unknown>[]; include_bots?: boolean; breakdown?: unknown };
  const of_time = from ? `Of ${range_words(from, to, zone)}, in days of ${zone}` : `In days of ${zone}`;
  const kept = filters?.length ? `, where ${filters.map(filter_words).join(" and ")}` : "";
  const parts = breakdown ? `, each ${[breakdown].flat().map(String).join(" and ")} by itself` : "";
  const bots = include_bots ? "Bots are counted too." : `Bots are left out${left_out ? ` (${shown(left_out)} of their events)` : ""}.`;
  return [defined, `${of_time}${kept}${parts}. ${bots}`];
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
