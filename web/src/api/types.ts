// What the API answers, as far as the screen reads it. What the API's description says whole is taken from there (`openapi.ts`); what
// follows says more of an answer than that, such as which of its forms a page has asked for.
import type { Chart, Meta, StickinessResult, UsersResult } from "./openapi";

export type { Chart, Meta };
export type Series = Chart["series"][number];
export type Stickiness = StickinessResult;
export type Users = UsersResult;

export interface Question {
  report: string;
  body: Record<string, unknown>;
}

export interface Answer<T = any> {
  result: T;
  meta: Meta;
  /** The buckets whose numbers late events have changed since the page was opened. */
  changed?: string[];
}

export type Value = string | number | boolean | null;

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

/** Of an answer with a breakdown a row is of one of its values. */
export interface Cohort {
  start: string;
  breakdown?: unknown;
  kind?: unknown;
  size: number;
  values: (number | null)[];
  open: boolean[];
}

export interface Retention {
  cohorts: Cohort[];
  average: (number | null)[];
  compare?: Retention;
}

export interface Paths {
  nodes: { step: number; name: string; kind: string; sessions: number }[];
  links: { step: number; from: string; from_kind: string; to: string; to_kind: string; sessions: number }[];
  dropoffs: { step: number; name: string; kind: string; sessions: number }[];
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
