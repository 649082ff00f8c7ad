// What the API answers, as far as the screen reads it.

export interface Question {
  report: string;
  body: Record<string, unknown>;
}

export interface Meta {
  computed_at: string;
  data_through: string | null;
  rows_read: number;
  sampled: boolean;
  excluded_bots: number | null;
  late: number | null;
  cached: boolean;
  age_ms: number;
  stale?: boolean;
  query_ms: number;
  refresh_after_ms: number;
}

export interface Answer<T = any> {
  result: T;
  meta: Meta;
}

export type Value = string | number | boolean | null;

export interface Series {
  name: string;
  event: string | null;
  math: string;
  breakdown: unknown;
  kind: unknown;
  values: (number | null)[];
  total: number | null;
}

export interface Chart {
  buckets: string[];
  partial: boolean[];
  series: Series[];
  compare?: Chart;
}

export interface Step {
  event: string | null;
  name: string;
  count: number;
  dropped: number;
  from_start: number | null;
  from_previous: number | null;
  median_ms: number | null;
  p90_ms: number | null;
}

export interface Funnel {
  groups: { breakdown: unknown; kind: unknown; steps: Step[] }[];
  compare?: Funnel;
}

export interface Cohort {
  start: string;
  size: number;
  values: (number | null)[];
  open: boolean[];
}

export interface Retention {
  cohorts: Cohort[];
  average: (number | null)[];
}

export interface Stickiness {
  times: number[];
  series: { name: string; breakdown: unknown; kind: unknown; values: number[]; at_least?: number[]; total: number }[];
}

export interface Paths {
  nodes: { step: number; name: string; kind: string; sessions: number }[];
  links: { step: number; from: string; from_kind: string; to: string; to_kind: string; sessions: number }[];
  dropoffs: { step: number; name: string; kind: string; sessions: number }[];
}

export interface Users {
  users: { user: string; first_seen: string; last_seen: string; events: number }[];
  total: number;
  next: string | null;
}

export interface ShownEvent {
  eventId: string;
  type: string;
  timestamp: string;
  receivedAt: string;
  userId?: string | null;
  anonymousId?: string | null;
  sessionId?: string | null;
  context: Record<string, unknown>;
  properties: Record<string, unknown>;
}

export interface ShownSession {
  id: string;
  person: string;
  start: string;
  end: string;
  duration_ms: number;
  events: number;
  pages: number;
  entry_page: string | null;
  exit_page: string | null;
  is_bounce: boolean;
  channel: string | null;
  country: string | null;
  browser: string | null;
  device_type: string | null;
}
