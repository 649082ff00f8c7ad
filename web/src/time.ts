// Ranges, buckets and moments, in the zone of the chart: it decides where days begin, and stands beside every one of them.
import { project_zone } from "./api/client";
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
const DAY_MS = 86_400_000;
/** The API knows no later time. */
export const LATEST_MS = Date.UTC(2299, 0);

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
  const zone = params.get("tz") ?? project_zone.value;
  return { from, to, interval: params.get("i") ?? named?.interval ?? fitting(from, to), zone };
}

/** A time of a range: so many units before now, to its beginning where it is rounded, or before a day. */
interface Relative {
  back: number;
  unit: string;
  is_rounded: boolean;
}

function relative(text: string): Relative | null {
  const [, back = "0", unit = "", rounded] = /^(?:now|-(\d+)([mhdwMy]))(?:\/([hdwM]))?$/.exec(text) ?? [];
  if (!text || (unit && rounded && unit !== rounded) || !/^(now|-)/.test(text)) return null;
  return { back: Number(back), unit: unit || rounded || "", is_rounded: Boolean(rounded) };
}

function relative_text({ back, unit, is_rounded }: Relative): string {
  if (back < 0 || (back === 0 && !is_rounded)) return "now";
  return `${back ? `-${back}${unit}` : "now"}${is_rounded ? `/${unit}` : ""}`;
}

/** The range as long as this one that lies before it, or behind it; nothing where that is not to be said, or would be to come. */
export function beside(from: string, to: string, is_next: boolean): { from: string; to: string } | null {
  const [begin, end] = [relative(from), relative(to)];
  if (begin && end) {
    // Up to now is up to the end of what is not over yet.
    const until = to === "now" && begin.is_rounded ? -1 : end.back;
    const length = begin.back - until;
    const is_mixed = to !== "now" && (begin.unit !== end.unit || begin.is_rounded !== end.is_rounded);
    if (length <= 0 || !begin.unit || is_mixed || (is_next && until <= (begin.is_rounded ? -1 : 0))) return null;
    const by = is_next ? -length : length;
    const at = (back: number) => relative_text({ ...begin, back });
    return { from: at(begin.back + by), to: at(until + by) };
  }
  const [first, last] = [Date.parse(from), Date.parse(to)];
  if (!(last > first) || first < 0 || last > LATEST_MS) return null;
  const by = (is_next ? 1 : -1) * (last - first);
  const is_days = [from, to].every((text) => /^\d{4}-\d\d-\d\d$/.test(text));
  const at = (time: number) => (is_days ? new Date(time).toISOString().slice(0, 10) : new Date(time).toISOString());
  return first + by < 0 || (is_next && first + by > Date.now()) ? null : { from: at(first + by), to: at(last + by) };
}

const UNIT_MS: Record<string, number> = { m: 60_000, h: 3_600_000, d: DAY_MS, w: 7 * DAY_MS };

/** A time of a range as people read it: its day, or the moment where it is no whole day; as it is written where that is neither. */
function time_words(text: string, zone: string, is_end: boolean): string {
  const of = relative(text);
  const today = day_of(Date.now(), zone);
  let day = /^\d{4}-\d\d-\d\d$/.test(text) ? text : "";
  if (of && !of.is_rounded) {
    const ms = of.back * (UNIT_MS[of.unit] ?? 0);
    return ms || !of.back ? moment(Date.now() - ms, zone) : text;
  }
  if (of) {
    const { back, unit } = of;
    const monday = (new Date(today).getUTCDay() + 6) % 7;
    if (unit === "d") day = days_later(today, -back);
    else if (unit === "w") day = days_later(today, -monday - 7 * back);
    else if (unit === "M") day = intervals_later(`${today.slice(0, 7)}-01T12:00:00Z`, -back, "month", "UTC");
  }
  if (!day) return Number.isFinite(Date.parse(text)) ? moment(text, zone) : text;
  return bucket_label(is_end ? days_later(day, -1) : day, "day", "UTC");
}

/** A range in days, the last one included, or in moments where it is not of whole days. */
export function range_words(from: string, to: string, zone: string): string {
  try {
    return words_of(from, to, zone);
  } catch {
    // Beyond all calendars: the server says so.
    return `${from} – ${to}`;
  }
}

function words_of(from: string, to: string, zone: string): string {
  const is_days = relative(from)?.is_rounded || /^\d{4}-\d\d-\d\d$/.test(from);
  const end = to === "now" && is_days ? days_later(day_of(Date.now(), zone), 1) : to;
  const [first, last] = [time_words(from, zone, false), time_words(end, zone, true)];
  return first === last ? first : `${first} – ${last}`;
}

/** The interval that shows days of one's own choice best. */
function fitting(from: string, to: string): string {
  const days = ((to === "now" ? Date.now() : Date.parse(to)) - Date.parse(from)) / DAY_MS;
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
  const options = FULL[interval] ?? FULL.day!;
  const name = (hours: number) => format(zone, options).format(Date.parse(bucket) + hours * SLOT_MS.hour!);
  const text = name(0);
  // What comes twice when clocks are set back, somewhere by half an hour.
  if (options.hour && [-1, -0.5, 0.5, 1].some((hours) => text === name(hours))) return format(zone, { ...options, timeZoneName: "shortOffset" }).format(Date.parse(bucket));
  return interval === "week" ? `week of ${text}` : text;
}

/** Makes what the answers of a chart are written with, which takes longer than writing them: while they are on their way. */
export function prepare(interval: string, zone: string): void {
  const now = new Date().toISOString();
  axis_label(now, interval, zone);
  bucket_label(now, interval, zone);
  clock(now, zone);
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

/** Longer than any zone is from UTC. */
const FARTHEST_MS = 15 * 3_600_000;

/** When a day begins in a zone, to the minute: where clocks are set at midnight, its first moment. */
export function start_of_day(day: string, zone: string): string {
  return local_time(day, "00:00", zone);
}

/** When it is such a time, as `09:00`, of a day in a zone, to the minute: where clocks jump over it, the first moment behind it. */
export function local_time(day: string, time: string, zone: string): string {
  const middle = Date.parse(`${day}T${time}:00Z`);
  let [before, from] = [(middle - FARTHEST_MS) / 60_000, (middle + FARTHEST_MS) / 60_000];
  while (from - before > 1) {
    const half = Math.floor((before + from) / 2);
    const at = half * 60_000;
    if (`${day_of(at, zone)} ${clock(at, zone)}` < `${day} ${time}`) before = half;
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

/** The zones that can be chosen: the project's and, if need be, the reader's and all others. */
export function zones(has_all: boolean): string[] {
  const others = has_all ? [Intl.DateTimeFormat().resolvedOptions().timeZone, "UTC", ...((Intl as any).supportedValuesOf?.("timeZone") ?? [])] : [];
  return [...new Set<string>([project_zone.value, ...others])];
}
