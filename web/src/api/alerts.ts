// Rules of alerts and channels as the API keeps them; what people say of an alert.
import { json, put_version, request } from "./client";
import type { Channel, FailedNotice } from "./openapi";
import type { Question } from "./types";

export type { Channel, FailedNotice };

export type Condition = { above: number } | { below: number } | { outside: [number, number] };
export type Reduce = "last" | "anomaly" | { sum: number } | { average: number } | { least: number } | { most: number } | { change: "previous" | "day" | "week" };

/** A rule as it is written; what is not said has a default. */
export interface Rule {
  name?: string;
  report: string;
  question?: Question["body"];
  line?: string;
  timezone?: string;
  interval?: string;
  reduce?: Reduce;
  condition?: Condition | null;
  /** A report: the time of day at which its numbers are told. */
  report_at?: string | null;
  resolve?: number | null;
  for?: number | null;
  keep_firing_for?: number;
  min_count?: number;
  no_data?: string;
  severity?: string;
  annotations?: Record<string, string>;
  runbook?: string;
  channels?: string[];
  disabled?: boolean;
  /** When channels are told: days `mon` to `sun`, times of the zone of the rule. */
  active?: { days?: string[]; from: string; to: string; timezone?: string } | null;
  [other: string]: unknown;
}

/** What somebody said of an alert. */
export interface Said {
  by: string;
  note: string;
  at: number;
  until: number;
}

/** What lasts as long as its alert ends later than this. */
export const WITHOUT_END_MS = Date.UTC(2200, 0);

export interface ListedAlert {
  id: string;
  name: string;
  version: number | null;
  /** The file that says it; it is changed there. */
  file: string | null;
  state: string;
  severity: string;
  judged_through: string | null;
  /** When the alert began that goes on. */
  episode: string | null;
  /** How many of its lines fire. */
  firing: number;
  /** How many of these nobody has acknowledged: those that came after the last acknowledgement too. */
  unacknowledged: number;
  flapping: boolean;
  ack: Said | null;
  silence: Said | null;
  /** Those of its channels that are not there. */
  missing_channels?: string[];
  rule: Rule;
}

export interface ShownAlert extends ListedAlert {
  lines: { line: string; state: string; since: string | null; value: number | null; flapping: boolean }[];
}

/** What there was in the last hours, and what was to be expected of them: give or take one standard deviation. */
export interface Expectation {
  hours: number;
  value: number;
  expected: number;
  deviation: number;
}

export type Seen = Record<string, { value: number | null; verdict: string; reason?: string; expected?: Expectation }>;

export interface Slot {
  slot: string;
  at?: string;
  seen: Seen | null;
}

export interface Happened {
  event: string;
  slot: string;
  at: string;
  line?: string;
  change?: string;
  value?: number | null;
  reason?: string;
  is_late?: boolean;
  was?: Seen[string];
  is?: Seen[string];
  kind?: string;
  title?: string;
  channel?: string;
  outcome?: string;
  why?: string;
  /** How long it could not be judged. */
  waited_s?: number;
  /** How many were never judged. */
  slots?: number;
  /** Up to when it was judged by another clock. */
  judged_through?: string | null;
}

export interface History {
  history: Happened[];
  slots: Slot[];
  /** Before what the next of each are asked for; none where there is no more. */
  next?: { history?: string; slots?: string };
}

export interface Tested {
  slots: number;
  fired: number;
  left_out: number;
  changes: { slot: string; line: string; change: string; value: number | null; reason: string }[];
  values: Slot[];
}

export const path_of = (id: string) => `/v1/alerts/${encodeURIComponent(id)}`;

export async function rules(): Promise<ListedAlert[]> {
  return (await json<{ alerts: ListedAlert[] }>("/v1/alerts")).alerts;
}

const post = <T>(path: string, body: unknown, signal?: AbortSignal) => json<T>(path, { method: "POST", body: JSON.stringify(body), signal });

/** Saves a rule in the place of the version that it was made from; a new one only where there is none of its id. */
export async function save_rule(id: string, version: number | null, rule: Rule): Promise<void> {
  await put_version(path_of(id), version, rule, {
    changed: "Somebody else has changed it since you began: nothing is saved. “Cancel” shows it as it is now.", taken: "There is one of this name already: choose another.",
  });
}

export async function forget_rule(id: string, version: number): Promise<void> {
  await request(path_of(id), { method: "DELETE", headers: { "if-match": `"${version}"` } });
}

/** What a rule would have done since `from`. */
export function try_rule(id: string, rule: Rule, from: string, signal: AbortSignal): Promise<Tested> {
  return post(`${path_of(id)}/test`, { rule, from }, signal);
}

export function say(id: string, what: "ack" | "silence", body: { by?: string; note?: string; until?: string }): Promise<unknown> {
  return post(`${path_of(id)}/${what}`, body);
}

export const channel_path = (id: string) => `/v1/channels/${encodeURIComponent(id)}`;

export async function save_channel(id: string, channel: Record<string, string>): Promise<void> {
  await request(channel_path(id), { method: "PUT", headers: { "if-none-match": "*" }, body: JSON.stringify(channel) });
}

export async function forget_channel(id: string): Promise<void> {
  await request(channel_path(id), { method: "DELETE" });
}

export function try_channel(id: string): Promise<{ outcome: string; why: string }> {
  return post(`${channel_path(id)}/test`, {});
}
