// Ranges, buckets and moments, in the zone of the chart: it decides where days begin, and stands beside every one of them.
import { session } from "./api/client";
import { here } from "./url";

export interface RangeName {
  name: string;
  from: string;
  to: string;
  interval: string;
  /** The key that chooses it. */
  key?: string;
}

export const RANGES: RangeName[] = [
  { name: "Last hour", from: "-1h", to: "now", interval: "minute" },
  { name: "Today", from: "now/d", to: "now", interval: "hour", key: "d" },
  { name: "Yesterday", from: "-1d/d", to: "now/d", interval: "hour" },
  { name: "7 days", from: "-6d/d", to: "now", interval: "day", key: "w" },
  { name: "30 days", from: "-29d/d", to: "now", interval: "day", key: "m" },
  { name: "12 weeks", from: "-11w/w", to: "now", interval: "week" },
  { name: "12 months", from: "-11M/M", to: "now", interval: "month", key: "y" },
];
export const INTERVALS = ["minute", "hour", "day", "week", "month"];
const DEFAULT = RANGES[3]!;

export interface Range {
  from: string;
  to: string;
  interval: string;
  zone: string;
}

/** The range that the address says; `otherwise` where it says none. */
export function range(otherwise: RangeName = DEFAULT): Range {
  const { params } = here.value;
  const from = params.get("from") ?? otherwise.from;
  const to = params.get("to") ?? otherwise.to;
  const named = RANGES.find((named) => named.from === from && named.to === to);
  const zone = params.get("tz") ?? session.value?.project.timezone ?? "UTC";
  return { from, to, interval: params.get("i") ?? named?.interval ?? fitting(from, to), zone };
}

/** The interval that shows days of one's own choice best. */
function fitting(from: string, to: string): string {
  const days = (Date.parse(to) - Date.parse(from)) / 86_400_000;
  if (!(days > 0)) return "day";
  return days <= 2 ? "hour" : days <= 92 ? "day" : days <= 400 ? "week" : "month";
}

const formats = new Map<string, Intl.DateTimeFormat>();

function format(zone: string, options: Intl.DateTimeFormatOptions): Intl.DateTimeFormat {
  const key = zone + JSON.stringify(options);
  let made = formats.get(key);
  if (!made) {
    try {
      made = new Intl.DateTimeFormat("en-GB", { timeZone: zone, hourCycle: "h23", ...options });
    } catch {
      // A zone that the server will refuse by name.
      made = new Intl.DateTimeFormat("en-GB", { timeZone: "UTC", hourCycle: "h23", ...options });
    }
    formats.set(key, made);
  }
  return made;
}

const AXIS: Record<string, Intl.DateTimeFormatOptions> = {
  minute: { hour: "2-digit", minute: "2-digit" },
  hour: { hour: "2-digit", minute: "2-digit" },
  day: { day: "numeric", month: "short" },
  week: { day: "numeric", month: "short" },
  month: { month: "short", year: "2-digit" },
};
const FULL: Record<string, Intl.DateTimeFormatOptions> = {
  minute: { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" },
  hour: { weekday: "short", day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" },
  day: { weekday: "short", day: "numeric", month: "short", year: "numeric" },
  week: { day: "numeric", month: "short", year: "numeric" },
  month: { month: "long", year: "numeric" },
};

export function axis_label(bucket: string, interval: string, zone: string): string {
  return format(zone, AXIS[interval] ?? AXIS.day!).format(new Date(bucket));
}

export function bucket_label(bucket: string, interval: string, zone: string): string {
  const text = format(zone, FULL[interval] ?? FULL.day!).format(new Date(bucket));
  return interval === "week" ? `week of ${text}` : text;
}

export function moment(at: string | number | null | undefined, zone: string): string {
  if (at === null || at === undefined) return "–";
  return format(zone, { day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit" }).format(new Date(at));
}

export function clock(at: string | number, zone: string): string {
  return format(zone, { hour: "2-digit", minute: "2-digit", second: "2-digit" }).format(new Date(at));
}

/** The day of a moment in a zone, as `2026-11-29`. */
export function day_of(at: number, zone: string): string {
  const part = Object.fromEntries(format(zone, { year: "numeric", month: "2-digit", day: "2-digit" }).formatToParts(new Date(at)).map(({ type, value }) => [type, value]));
  return `${part.year}-${part.month}-${part.day}`;
}

const DAY_MS = 86_400_000;
/** Longer than any zone is from UTC. */
const FARTHEST_MS = 15 * 3_600_000;

/** When a day begins in a zone, to the minute: where clocks are set at midnight, its first moment. */
export function start_of_day(day: string, zone: string): string {
  const middle = Date.parse(`${day}T00:00:00Z`);
  let [before, from] = [(middle - FARTHEST_MS) / 60_000, (middle + FARTHEST_MS) / 60_000];
  while (from - before > 1) {
    const half = Math.floor((before + from) / 2);
    if (day_of(half * 60_000, zone) < day) before = half;
    else from = half;
  }
  return new Date(from * 60_000).toISOString();
}

const SLOT_MS: Record<string, number> = { minute: 60_000, hour: 3_600_000 };

/** Where an interval begins that lies so many behind the one that begins at `start`: what a range takes, days as those of the zone. */
export function intervals_later(start: string, count: number, interval: string, zone: string): string {
  const slot = SLOT_MS[interval];
  if (slot) return new Date(Date.parse(start) + count * slot).toISOString();
  const day = day_of(Date.parse(start), zone);
  if (interval !== "month") return days_later(day, count * (interval === "week" ? 7 : 1));
  const [year, month] = day.split("-").map(Number) as [number, number];
  return new Date(Date.UTC(year, month - 1 + count, 1)).toISOString().slice(0, 10);
}

/** The day that lies so many days behind another one. */
export function days_later(day: string, days: number): string {
  return new Date(Date.parse(day) + days * DAY_MS).toISOString().slice(0, 10);
}

/** The zones that can be chosen: the project's, the reader's and all others. */
export function zones(): string[] {
  const own = Intl.DateTimeFormat().resolvedOptions().timeZone;
  const known = (Intl as any).supportedValuesOf?.("timeZone") ?? [];
  return [...new Set<string>([session.value?.project.timezone ?? "UTC", own, "UTC", ...known])];
}
