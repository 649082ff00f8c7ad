// From a chart to an alert on it: the rule that its question makes.
import type { Rule } from "../api/alerts";
import type { Question } from "../api/types";
import { page_of } from "../url";

const WATCHED = ["trends", "sessions", "lifecycle", "funnel", "retention"];
/** What a rule says itself, or what makes no sense of single slots. */
const LEFT_OUT = ["from", "to", "timezone", "interval", "compare", "view", "cumulative", "moving_average", "bins", "period", "periods", "refresh", "limit"];

/** What rules about pulse itself begin with, as in `deploy/alerts`. */
export const OF_PULSE: Record<"lag" | "ledger", Rule> = {
  lag: { report: "lag", question: {}, interval: "minute", condition: { above: 300 } },
  ledger: { report: "ledger", question: { outcome: "dead" }, interval: "hour", condition: { above: 0 } },
};

/** The rule that watches what a chart shows; nothing where no rule can. */
export function rule_of(title: string, { report, body }: Question): Rule | null {
  // Sessions one by one are no number.
  if (!WATCHED.includes(report) || body.list === true) return null;
  const question = Object.fromEntries(Object.entries(body).filter(([key, value]) => !LEFT_OUT.includes(key) && value !== null && !(Array.isArray(value) && !value.length)));
  const interval = String((report === "retention" ? body.period : body.interval) ?? "day");
  return { name: title, report, question, interval, timezone: String(body.timezone ?? "UTC") };
}

export function Bell({ title, question }: { title: string; question: Question }) {
  const rule = rule_of(title, question);
  if (!rule) return null;
  return <RuleLink rule={rule} />;
}

/** To a rule in the making. */
export function RuleLink({ rule }: { rule: Rule }) {
  return <a class="button quiet" href={page_of("/alerts", { rule: JSON.stringify(rule) })} aria-label={`An alert on ${rule.name}`}>Alert</a>;
}
