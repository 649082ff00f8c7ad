// Numbers, times and values as people read them.

const formats = new Map<string, Intl.NumberFormat>();

/** Made when it is first needed: each takes longer than what it writes. */
function format(name: string, options: Intl.NumberFormatOptions): Intl.NumberFormat {
  let made = formats.get(name);
  if (!made) formats.set(name, (made = new Intl.NumberFormat("en", options)));
  return made;
}

const whole = (value: number) => format("whole", {}).format(value);
const short = (value: number) => format("short", { notation: "compact", maximumFractionDigits: 1 }).format(value);
const fine = (value: number) => format("fine", { maximumFractionDigits: 2 }).format(value);
const percent = (value: number) => format("percent", { style: "percent", maximumFractionDigits: 1 }).format(value);

export type Unit = "number" | "share" | "duration";

/** A number in full: what tables and tips show. */
export function shown(value: number | null | undefined, unit: Unit = "number"): string {
  if (value === null || value === undefined) return "–";
  if (unit === "share") return percent(value);
  if (unit === "duration") return duration(value);
  return Number.isInteger(value) ? whole(value) : fine(value);
}

/** A number as short as an axis needs it. */
export function brief(value: number | null | undefined, unit: Unit = "number"): string {
  if (value === null || value === undefined || unit !== "number") return shown(value, unit);
  return Math.abs(value) < 10_000 ? shown(value) : short(value);
}

/** In seconds, each with the one in which what is left of it is said. */
const UNITS: [length: number, unit: string, part: number, smaller: string][] = [[86_400, "d", 3_600, "h"], [3_600, "h", 60, "min"], [60, "min", 1, "s"]];

export function duration(ms: number): string {
  const seconds = Math.round(ms / 1_000);
  if (ms < 1_000) return `${Math.round(ms)} ms`;
  if (seconds < 60) return `${seconds} s`;
  const [length, unit, part, smaller] = UNITS.find(([length]) => seconds >= length)!;
  const rest = Math.floor((seconds % length) / part);
  return `${Math.floor(seconds / length)} ${unit}${rest ? ` ${rest} ${smaller}` : ""}`;
}

/** How much larger `now` is than `before`: nothing of what cannot be said. */
export function growth(now: number | null, before: number | null | undefined): { text: string; sign: number } | null {
  if (now === null || before === null || before === undefined) return null;
  if (before === 0) return now === 0 ? null : { text: "new", sign: 1 };
  const share = (now - before) / Math.abs(before);
  if (Math.abs(share) < 0.0005) return { text: "±0 %", sign: 0 };
  return { text: `${share > 0 ? "+" : "−"}${shown(Math.abs(share), "share")}`, sign: Math.sign(share) };
}

export const MISSING = "(none)";
export const OTHERS = "(all others)";

/** A value of a breakdown: of several fields, one beside the other. */
export function label(value: unknown, kind: unknown): string {
  if (Array.isArray(value)) return value.map((one, index) => isolated(label(one, Array.isArray(kind) ? kind[index] : kind))).join(" · ");
  if (kind === "none") return MISSING;
  if (kind === "other") return OTHERS;
  if (value === null || value === undefined) return "";
  if (value === "") return "(empty)";
  return typeof value === "string" ? value : JSON.stringify(value);
}

/** What is written from right to left, or says how what follows is written. */
const TURNS = /[\u0590-\u08ff\u200f\u202a-\u202e\u2066-\u2069\ufb1d-\ufdff\ufe70-\ufefc\u{10800}-\u{10fff}\u{1e800}-\u{1efff}]/u;

/** A name of a sentence: how it is written turns nothing beside it. */
export function isolated(name: string): string {
  // An end of the isolation in the name would end ours.
  return TURNS.test(name) ? `\u2068${name.replace(/[\u202a-\u202e\u2066-\u2069]/g, "")}\u2069` : name;
}

export function plural(count: number, one: string, many = `${one}s`): string {
  return `${shown(count)} ${count === 1 ? one : many}`;
}
