// What a rule saw, slot by slot: its numbers, the threshold across, and where it fires.
import type { Condition, Expectation, Rule, Slot } from "../../api/alerts";
import { LineChart, type Line } from "../../chart/line";
import type { TableData } from "../../chart/table";
import { shown, type Unit } from "../../format";
import { bucket_label, moment } from "../../time";
import { condition_words, line_name, unit_of } from "./words";

/** Most lines that are drawn: those with the most to show. */
const MOST_LINES = 5;

export interface VerdictsProps {
  rule: Rule;
  slots: Slot[];
  label: string;
  /** What is to be known of slots, by their times. */
  remarks?: Map<string, string>;
  /** Takes what the condition becomes when a threshold is moved. */
  onCondition?(condition: Condition): void;
}

export function numbers_of(slots: Slot[]): number[] {
  return slots.flatMap(({ seen }) => Object.values(seen ?? {}).map(({ value }) => value)).filter((value): value is number => value !== null && value !== undefined);
}

function thresholds_of(condition: Condition | null | undefined): { name: string; value: number }[] {
  if (!condition) return [];
  if ("above" in condition) return [{ name: "above", value: condition.above }];
  if ("below" in condition) return [{ name: "below", value: condition.below }];
  return condition.outside.map((value, index) => ({ name: index ? "or above" : "below", value }));
}

function with_threshold(condition: Condition, index: number, value: number): Condition {
  if ("above" in condition) return { above: value };
  if ("below" in condition) return { below: value };
  const [low, high] = condition.outside;
  return { outside: index ? [low, Math.max(low, value)] : [Math.min(high, value), high] };
}

/** Spans of slots that are wrong. */
export function alarms_of(slots: Slot[]): [number, number][] {
  const spans: [number, number][] = [];
  slots.forEach(({ seen }, index) => {
    if (!Object.values(seen ?? {}).some(({ verdict }) => verdict === "wrong")) return;
    const last = spans[spans.length - 1];
    if (last && last[1] === index - 1) last[1] = index;
    else spans.push([index, index]);
  });
  return spans;
}

/** What was seen as a table: the number of each line and what it was taken for, slot by slot. */
export function verdicts_table({ interval = "hour", timezone = "UTC" }: Rule, slots: Slot[], unit: Unit): TableData {
  const rows = slots.flatMap(({ slot, seen }) => Object.entries(seen ?? {}).map(([line, { value, verdict, reason }]) => [
    { text: bucket_label(slot, interval, timezone), value: slot }, { text: line_name(line) }, { text: shown(value, unit), value }, { text: verdict }, { text: reason ?? "" },
  ]));
  return { head: ["Time", "Line", "Number", "Verdict", "Why"], rows };
}

/** What a file of it says of itself. */
export function verdicts_note({ timezone = "UTC" }: Rule, slots: Slot[]): string {
  const [first, last] = [slots[0]?.slot, slots[slots.length - 1]?.slot];
  return `${moment(first, timezone)} – ${moment(last, timezone)}, ${timezone}; as of ${moment(Date.now(), timezone)}`;
}

/** From where to where a number is no alert, where `expected` is give or take one `deviation`; what has no end is drawn up to three of them. */
function usual(condition: Condition, { expected, deviation }: Expectation): [number, number] {
  const [low, high] = "outside" in condition ? condition.outside : "above" in condition ? [-3, condition.above] : [condition.below, 3];
  return [Math.max(0, expected + low * deviation), expected + high * deviation];
}

/** What there was of the largest line, and what was to be expected of it. */
function Expected({ rule, slots, name, condition }: { rule: Rule; slots: Slot[]; name: string; condition: Condition }) {
  const of = slots.map(({ seen }) => seen?.[name]?.expected ?? null);
  const remarks = of.map((one) => (one && one.hours > 1 ? `of ${one.hours} hours` : ""));
  const line: Line = { name: line_name(name) || "number", place: 0, values: of.map((one) => one?.value ?? null) };
  return (
    <LineChart label="What was expected" buckets={slots.map(({ slot }) => slot)} partial={slots.map(() => false)} lines={[line]} interval={rule.interval ?? "hour"} zone={rule.timezone ?? "UTC"} height={180}
      band={of.map((one) => one && usual(condition, one))} remarks={remarks} />
  );
}

export function Verdicts({ rule, slots, label, remarks, onCondition }: VerdictsProps) {
  const unit = unit_of(rule);
  const sums = new Map<string, number>();
  for (const { seen } of slots) for (const [line, { value }] of Object.entries(seen ?? {})) sums.set(line, (sums.get(line) ?? 0) + Math.abs(value ?? 0));
  const names = [...sums].sort((a, b) => b[1] - a[1]).slice(0, MOST_LINES).map(([name]) => name);
  const lines: Line[] = names.map((name, place) => ({ name: line_name(name) || "value", place, values: slots.map(({ seen }) => seen?.[name]?.value ?? null) }));
  const condition = rule.condition ?? (rule.reduce === "anomaly" ? { outside: [-3, 3] as [number, number] } : null);
  if (!lines.length) return <p class="nothing">There are no numbers in this time.</p>;
  return (
    <div class="drawn">
      {condition && names.length > 0 && slots.some(({ seen }) => seen?.[names[0]!]?.expected) && <Expected rule={rule} slots={slots} name={names[0]!} condition={condition} />}
      <LineChart label={label} buckets={slots.map(({ slot }) => slot)} partial={slots.map(() => false)} lines={lines} interval={rule.interval ?? "hour"} zone={rule.timezone ?? "UTC"} unit={unit} height={220}
        alarms={alarms_of(slots)} remarks={remarks && slots.map(({ slot }) => remarks.get(slot) ?? "")} thresholds={thresholds_of(condition)} onThreshold={onCondition && condition ? (index, value) => onCondition(with_threshold(condition, index, value)) : undefined} />
      {sums.size > MOST_LINES && <p class="note">The {MOST_LINES} largest of {sums.size} lines.</p>}
      <p class="unseen">It is wrong where the number is {condition_words(condition, unit)}.</p>
    </div>
  );
}
