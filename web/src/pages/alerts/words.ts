// Rules in words, and what is found out of them without asking.
import type { Condition, Happened, Reduce, Rule } from "../../api/alerts";
import { duration, isolated, label, plural, shown, type Unit } from "../../format";
import { read_json } from "../../ui/matched";
import { report_times } from "../../ui/send";

/** What the numbers of a rule are. */
export function unit_of({ report, reduce, question }: Rule): Unit {
  const series = (question?.series as { math?: string }[] | undefined)?.[0];
  if (typeof reduce === "object" && "change" in reduce) return "share";
  if (reduce === "anomaly") return "number";
  if (report === "funnel" || report === "retention" || series?.math === "bounce_rate") return "share";
  return series?.math?.endsWith("duration_ms") ? "duration" : "number";
}

export function reduced(reduce: Reduce = "last"): string {
  if (reduce === "last") return "";
  if (reduce === "anomaly") return "deviation from what is usual";
  const [[kind, of]] = Object.entries(reduce) as [[string, string | number]];
  if (kind === "change") return `change against the ${{ previous: "one before", day: "day before", week: "week before" }[String(of)]}`;
  return `${kind} of ${of}`;
}

export function condition_words(condition: Condition | null | undefined, unit: Unit): string {
  if (!condition) return "";
  if ("above" in condition) return `above ${shown(condition.above, unit)}`;
  if ("below" in condition) return `below ${shown(condition.below, unit)}`;
  return `outside ${shown(condition.outside[0], unit)} to ${shown(condition.outside[1], unit)}`;
}

/** The names of the events that a question is about. */
export function events_of({ question = {} }: Rule): string[] {
  const asked = [question.series, question.steps].flatMap((list) => (Array.isArray(list) ? list : []));
  const single = [question.event, question.cohort_event, question.return_event].map((one) => (typeof one === "string" ? { event: one } : one));
  const names = [...asked, ...single].flatMap((one) => (one as { event?: unknown } | undefined)?.event ?? []);
  return names.filter((name): name is string => typeof name === "string" && name !== "");
}

export function rule_words(rule: Rule): string {
  if (rule.report === "lag") return "seconds that answers are behind, by the minute";
  if (rule.report === "ledger") return `events that end as ${String(rule.question?.outcome ?? "dead")}, by ${rule.interval ?? "hour"}`;
  const sent = rule.report_at ? `, sent ${report_times(rule)}` : "";
  if (rule.report === "board") return `the board ${String(rule.question?.board ?? "")}${sent}`;
  const { series, formula, steps, breakdown } = (rule.question ?? {}) as { series?: { event?: string; math?: string; name?: string }[]; formula?: string; steps?: { event?: string }[]; breakdown?: unknown };
  const of_series = formula ?? (series ?? []).map((one) => one.name ?? `${one.event ?? "any event"}${one.math && one.math !== "total" ? `, ${one.math.replaceAll("_", " ")}` : ""}`).join(" · ");
  const what = steps ? steps.map((step) => step.event ?? "any event").join(" → ") : of_series || events_of(rule).join(", ") || "any event";
  return `${rule.report}: ${what}, by ${rule.interval ?? "hour"}${breakdown ? `, each ${[breakdown].flat().join(" and ")} by itself` : ""}${sent}`;
}

/** The value of a breakdown as it stands in an answer. */
export function line_name(line: string | undefined): string {
  if (!line) return "";
  try {
    return label(JSON.parse(line), "value");
  } catch {
    return line;
  }
}

const CHANGES: Record<string, string> = {
  pending: "is wrong, not for long enough yet", calmed: "was wrong for too short", fired: "fires", recovering: "is right, not for long enough yet", relapsed: "is wrong again",
  resolved: "is over", no_data: "has no numbers", flapping_began: "changes to and fro: nothing is told until it is steady", flapping_ended: "is steady again", vanished: "is in no answer any more, and over",
};

/** A line of the history in words. */
export function happened_words(one: Happened, unit: Unit): string {
  const name = line_name(one.line);
  const of = name ? `${isolated(name)}: ` : "";
  if (one.event === "change") return `${of}${CHANGES[one.change ?? ""] ?? one.change}${one.value === null || one.value === undefined ? "" : ` (${shown(one.value, unit)})`}${one.reason ? `: ${one.reason}` : ""}${one.is_late ? ", judged late" : ""}`;
  if (one.event === "revision") return `${of}events that came late: ${shown(one.was?.value, unit)} was ${shown(one.is?.value, unit)} in truth`;
  if (one.event === "delayed") return "cannot be judged: data is missing";
  if (one.event === "judging") return `judged again after ${duration((one.waited_s ?? 0) * 1_000)}`;
  if (one.event === "missed") return `${plural(one.slots ?? 0, "slot")} from here on ${one.slots === 1 ? "was" : "were"} too many to be judged`;
  if (one.event === "clock") return `goes on from here: it was judged${one.judged_through ? ` up to ${one.judged_through}` : ""} by a clock that said something else`;
  if (one.event === "told") return `told: ${one.title ?? one.kind}`;
  if (one.event === "notice") return `${one.kind?.replaceAll("_", " ")} to ${one.channel}: ${one.outcome?.replaceAll("_", " ")}${one.why ? `, ${one.why}` : ""}`;
  return one.event;
}

/** An alert as the history tells it: when it fired and, unless it goes on, when it was over. */
export interface Episode {
  line: string;
  fired: string;
  resolved?: string;
}

/** The alerts of a history, the newest first; of one that began before it only the end is known, and it is left out. */
export function episodes_of(history: Happened[]): Episode[] {
  const all: Episode[] = [];
  const open = new Map<string, Episode>();
  for (const { event, change, line = "", slot } of [...history].reverse()) {
    if (event !== "change") continue;
    if (change === "fired") {
      const episode: Episode = { line, fired: slot };
      open.set(line, episode);
      all.push(episode);
    } else if (change === "resolved" || change === "vanished") {
      const episode = open.get(line);
      if (episode) episode.resolved = slot;
      open.delete(line);
    }
  }
  return all.reverse();
}

/** What is to be known of slots: those that were judged again, and the one that is looked at. */
export function remarks_of(history: Happened[], unit: Unit, chosen: string): Map<string, string> {
  const all = new Map<string, string>(chosen ? [[chosen, "this is the slot that was opened"]] : []);
  for (const one of history.filter(({ event }) => event === "revision")) {
    all.set(one.slot, [all.get(one.slot), `judged again: ${happened_words(one, unit)}`].filter(Boolean).join("; "));
  }
  return all;
}

const is_number = (value: unknown) => typeof value === "number" && Number.isFinite(value);

/** A rule of an address, which anybody may have written: what cannot be drawn is left out, and the server says what else is wrong. */
export function drafted(text: string): Rule | null {
  const read = read_json<Record<string, any>>(text);
  if (!read) return null;
  const { condition, reduce, question, channels, annotations, report_at, ...rule } = read;
  const [limit] = Object.values(typeof condition === "object" && condition ? condition : {});
  const is_condition = ["above", "below"].some((key) => is_number(condition?.[key])) || (Array.isArray(condition?.outside) && condition.outside.length === 2 && (limit as unknown[]).every(is_number));
  const is_reduce = typeof reduce === "string" || (typeof reduce === "object" && reduce && Object.keys(reduce).length === 1);
  const is_object = (value: unknown) => typeof value === "object" && value !== null && !Array.isArray(value);
  const named = ({ math, ...one }: Record<string, unknown>) => (typeof math === "string" ? { ...one, math } : one);
  const list = (value: unknown) => (Array.isArray(value) ? value.filter(is_object).map(named) : []);
  const asked = is_object(question) ? { ...question, ...("series" in question ? { series: list(question.series) } : {}), ...("steps" in question ? { steps: list(question.steps) } : {}) } : {};
  return {
    ...rule, report: String(read.report ?? "trends"), question: asked, ...(is_condition ? { condition } : {}), ...(is_reduce ? { reduce } : {}), ...(typeof report_at === "string" ? { report_at } : {}),
    ...(Array.isArray(channels) ? { channels: channels.map(String) } : {}), ...(is_object(annotations) ? { annotations } : {}),
  };
}

/** Two digits that mean something. */
function about(value: number): number {
  return value === 0 ? 0 : Number(value.toPrecision(2));
}

/** A threshold to begin with: half of what is usual, or half more than ever where usually there is nothing. */
export function suggested(values: number[]): Condition {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted[Math.floor(sorted.length / 2)] ?? 0;
  return middle > 0 ? { below: about(middle / 2) } : { above: about((sorted[sorted.length - 1] ?? 0) * 1.5) || 1 };
}
