// The questions of a page, all in one request: each answer is there as soon as it is known, an error costs its own tile, and what has
// been answered stays while it is asked again. A page that nobody looks at asks nothing.
import { batch, signal, type ReadonlySignal, type Signal } from "@preact/signals";
import { useEffect, useLayoutEffect, useRef } from "preact/hooks";
import { next_task } from "../tasks";
import { here } from "../url";
import { ApiError, json, may_ask, request } from "./client";
import { QUESTIONS } from "./early";
import type { Statements } from "./openapi";
import type { Answer, Chart, Meta, Question } from "./types";

export interface Asked<T = any> {
  /** The question that `answer` answers. */
  question: Question;
  answer?: Answer<T>;
  error?: ApiError;
  /** When it was asked that is not answered yet; 0 if nothing is. */
  asked_at: number;
  /** How many rows have been read for that, where it takes long. */
  rows_read?: number;
  /** Late events since the page was opened. */
  late: number;
}

/** What is known of a tile: what reads it is drawn again for it alone. */
export type Known<T = any> = ReadonlySignal<Asked<T> | undefined>;

export interface Board {
  tiles(id: string): Known;
  cancel(): void;
  again(): void;
}

/** After an error without a time of its own. */
const RETRY_MS = 5_000;

/** What the shown answers have seen, by the ids of their tiles. */
const seen = new Map<string, string>();

/** What the answer that a tile shows has seen, for other questions to see the same. */
export function seen_by(tile: string): string | undefined {
  return seen.get(tile) || undefined;
}

/** What a question looks back to, and what is asked. */
function taken_apart({ report, body: { as_of, ...body } }: Question): { as_of?: unknown; rest: string } {
  const of = body.of as { as_of?: unknown } | undefined;
  return { as_of: as_of ?? of?.as_of, rest: JSON.stringify([report, body]) };
}

/** The questions, of which that with the people of a bar beside it sees what they are of: both then say the same number. */
function looking_back(questions: Record<string, Question | null>): Record<string, Question | null> {
  const bar = named_bar();
  const question = bar?.as_of && questions[bar.of];
  return question && !question.body.of ? { ...questions, [bar.of]: { ...question, body: { ...question.body, as_of: bar.as_of } } } : questions;
}

/** A bar as the address has it. */
export interface Bar {
  /** The tile. */
  of: string;
  /** What the report calls the bar. */
  bar: Record<string, unknown>;
  /** Whether it is one of the period that is compared with. */
  compare?: boolean;
  /** What it is called on the page. */
  name: string;
  /** What its chart has seen. */
  as_of?: string;
}

/** The bar that the address names. */
export function named_bar(): Bar | null {
  const text = here.value.params.get("people");
  if (!text) return null;
  try {
    const bar = JSON.parse(text);
    return typeof bar === "object" && bar && typeof bar.of === "string" ? { name: "", bar: {}, ...bar } : null;
  } catch {
    return null;
  }
}

/** A request that asks several questions; the lines of its answer say by `index` whose they are. */
export interface Sent {
  response: Promise<Response>;
  /** The tiles, by that index. */
  ids: (string | undefined)[];
}

/** Whether the page has asked anything since it was opened, and been answered, or refused. */
export const first_answer = signal<"none" | "asked" | "there">("none");

type Open = [id: string, question: Question][];

function request_of(open: Open): RequestInit {
  const queries = open.map(([id, { report, body }]) => ({ id, report, ...body }));
  return { method: "POST", headers: { prefer: "progress" }, body: JSON.stringify({ queries }) };
}

function asked_of(questions: Record<string, Question | null>): Open {
  return Object.entries(questions).filter((entry): entry is [string, Question] => entry[1] !== null);
}

/** What a page that is opened sends first. */
export function first_request(questions: Record<string, Question | null>): RequestInit {
  return request_of(asked_of(looking_back(questions)));
}

function send_own(open: Open, signal: AbortSignal): Sent {
  return { response: request(QUESTIONS, { ...request_of(open), signal }), ids: open.map(([id]) => id) };
}

/** Asks `questions`, by the ids of their tiles, and asks again when the answers say so. */
export function useAnswers(questions: Record<string, Question | null>): Board {
  return useAsker(JSON.stringify(looking_back(questions)), may_ask.value, send_own);
}

/** The same where `send` asks what is open, for those who may, signed in or not. */
export function useAnswersBy(send: typeof send_own, questions: Record<string, Question | null>): Board {
  return useAsker(JSON.stringify(questions), true, send);
}

function useAsker(text: string, is_allowed: boolean, send: typeof send_own): Board {
  const kept = useRef<Asker>(undefined);
  const asker = (kept.current ??= new Asker(send, is_allowed ? text : ""));
  useLayoutEffect(() => {
    if (is_allowed) asker.show(text);
  }, [text, is_allowed]);
  useEffect(() => (is_allowed ? asker.watch() : undefined), [is_allowed]);
  return asker;
}

class Asker implements Board {
  private shown = "";
  private questions: Record<string, Question> = {};
  private readonly known = new Map<string, Signal<Asked | undefined>>();
  /** The last answers that did not look back. */
  private newest: Record<string, Answer> = {};
  private running?: AbortController;
  private timer = 0;
  private due_at = 0;

  /** Asks before the page is put together, if it has anything to ask: the answer is what takes long. */
  constructor(private readonly send: typeof send_own, text: string) {
    if (text) this.show(text);
  }

  readonly tiles = (id: string): Signal<Asked | undefined> => {
    let tile = this.known.get(id);
    if (!tile) this.known.set(id, (tile = signal<Asked | undefined>(undefined)));
    return tile;
  };

  readonly again = (): void => this.ask(true);

  readonly cancel = (): void => {
    this.running?.abort();
    this.running = undefined;
    clearTimeout(this.timer);
    this.due_at = 0;
    this.fail([...this.known.keys()], new ApiError(0, "cancelled", "You stopped this question."));
  };

  /** Shows other questions: what is asked already is not asked again. */
  show(text: string): void {
    if (text === this.shown) return;
    this.shown = text;
    const questions = JSON.parse(text) as Record<string, Question | null>;
    this.questions = Object.fromEntries(asked_of(questions));
    this.ask(false);
  }

  /** Asks what has no answer, or everything. */
  private ask(everything: boolean): void {
    const is_answered = (id: string, question: Question) => {
      const tile = this.tiles(id).peek();
      return tile?.answer && !tile.error && JSON.stringify(tile.question) === JSON.stringify(question);
    };
    const questions = Object.entries(this.questions);
    const open = questions.filter(([id, question]) => everything || !is_answered(id, question));
    const is_due = questions.length > 0 && (this.running || this.due_at);
    this.running?.abort();
    this.running = undefined;
    clearTimeout(this.timer);
    batch(() => {
      for (const [id, tile] of this.known) {
        const asked = tile.peek();
        if (!this.questions[id]) tile.value = undefined;
        else if (asked?.asked_at) tile.value = { ...asked, asked_at: 0 };
      }
      for (const [id, question] of open) {
        const known = this.tiles(id).peek();
        // What is shown stays until it is known how it was.
        const is_same = known && taken_apart(known.question).rest === taken_apart(question).rest;
        if (!is_same) delete this.newest[id];
        this.tiles(id).value = { question, answer: is_same ? known.answer : undefined, error: is_same ? known.error : undefined, asked_at: Date.now(), late: is_same ? known.late : 0 };
      }
    });
    if (open.length) void this.send_open(open);
    // Fewer than before: what is left is asked when it would have been.
    else if (is_due) this.schedule(Math.max(0, this.due_at - Date.now()));
  }

  /** Goes on while somebody looks, until the page is left or may ask no more. */
  watch(): () => void {
    const look = () => {
      if (!document.hidden && this.due_at && Date.now() >= this.due_at) this.ask(true);
    };
    document.addEventListener("visibilitychange", look);
    look();
    return () => {
      document.removeEventListener("visibilitychange", look);
      // What it was about to know it asks at once when it goes on.
      if (this.running || this.due_at) this.due_at = Date.now();
      this.running?.abort();
      this.running = undefined;
      clearTimeout(this.timer);
    };
  }

  private async send_open(open: Open): Promise<void> {
    const running = new AbortController();
    this.running = running;
    if (first_answer.peek() === "none") first_answer.value = "asked";
    const { response, ids } = this.send(open, running.signal);
    let next_ms = Infinity;
    try {
      for await (const line of lines(await response)) {
        const { index, progress, status, error, result, meta } = line as any;
        const id = ids[index];
        if (id === undefined || running.signal.aborted) continue;
        if (progress) {
          const tile = this.tiles(id);
          tile.value = { ...tile.peek()!, rows_read: progress.rows_read };
          continue;
        }
        ids[index] = undefined;
        if (status === 200) {
          next_ms = Math.min(next_ms, meta.refresh_after_ms);
          if (!taken_apart(this.questions[id]!).as_of) look_at(meta);
        }
        this.take(id, status === 200 ? { result, meta } : new ApiError(status, error.code, error.message));
        // Each is drawn by itself, so that who clicks meanwhile does not wait for all.
        await next_task();
        first_answer.value = "there";
      }
      if (running.signal.aborted) return;
      this.fail(ids, new ApiError(0, "away", "the answer broke off"));
    } catch (problem) {
      if (running.signal.aborted) return;
      const error = problem instanceof ApiError ? problem : new ApiError(0, "away", "the answer broke off");
      next_ms = error.retry_after_ms || RETRY_MS;
      this.fail(ids, error);
    }
    first_answer.value = "there";
    this.running = undefined;
    this.schedule(Number.isFinite(next_ms) ? next_ms : RETRY_MS);
  }

  private schedule(after_ms: number): void {
    this.due_at = Date.now() + after_ms;
    this.timer = setTimeout(() => {
      if (!document.hidden) this.ask(true);
    }, after_ms);
  }

  private take(id: string, outcome: Answer | ApiError): void {
    const tile = this.tiles(id);
    const before = tile.peek();
    if (!before) return;
    const asked = { ...before, asked_at: 0 };
    if (outcome instanceof ApiError) asked.error = outcome;
    else if (taken_apart(before.question).as_of) Object.assign(asked, { answer: { ...outcome, changed: this.newest[id]?.changed }, error: undefined });
    else {
      const newest = this.newest[id];
      asked.answer = this.newest[id] = { ...outcome, changed: changed_buckets(newest, outcome) };
      asked.error = undefined;
      // The same answer may be given again; what came before it is counted once.
      asked.late += newest && newest.meta.computed_at !== outcome.meta.computed_at ? (outcome.meta.late ?? 0) : 0;
    }
    if (!(outcome instanceof ApiError)) seen.set(id, outcome.meta.as_of ?? "");
    tile.value = asked;
  }

  private fail(ids: (string | undefined)[], error: ApiError): void {
    batch(() => {
      for (const id of ids) {
        const tile = id === undefined ? undefined : this.known.get(id);
        const asked = tile?.peek();
        if (tile && asked?.asked_at) tile.value = { ...asked, error, asked_at: 0 };
      }
    });
  }
}

/** The buckets that were over and have other numbers now, with those of the answers before. */
function changed_buckets(before: Answer | undefined, now: Answer): string[] {
  const [was, is] = [before?.result, now.result] as (Partial<Chart> | undefined)[];
  if (!Array.isArray(was?.buckets) || !Array.isArray(was.series) || !Array.isArray(is?.buckets) || !Array.isArray(is.series)) return [];
  const key = ({ name, breakdown, kind }: Chart["series"][number]) => JSON.stringify([name, breakdown, kind]);
  const known = new Map(was.series.map((series) => [key(series), series.values]));
  // Other lines, or a range that has moved, are other numbers by themselves: what is summed up begins elsewhere.
  const is_same = was.buckets[0] === is.buckets[0] && was.series.length === is.series.length && is.series.every((series) => known.has(key(series)));
  const differs = (bucket: string) => {
    const [at, then] = [is.buckets!.indexOf(bucket), was.buckets!.indexOf(bucket)];
    return is_same && is.series!.some((series) => known.get(key(series))![then] !== series.values[at]);
  };
  const is_closed = ({ buckets, partial }: Partial<Chart>, bucket: string) => partial?.[buckets!.indexOf(bucket)] === false;
  const closed = is.buckets.filter((bucket) => is_closed(was, bucket) && is_closed(is, bucket));
  return closed.filter((bucket) => before!.changed?.includes(bucket) || differs(bucket));
}

/** Up to when the answers reach that are behind; empty while none are. The server's clock alone decides. */
export const behind = signal("");
const MOST_BEHIND_MS = 60_000;
/** For so long nothing else was said by an answer. */
const FORGOTTEN_MS = 120_000;
let told_at = "";
let forgetting: ReturnType<typeof setTimeout> | undefined;

function look_at({ computed_at, data_through }: Meta): void {
  // Of the newest answer: others were kept.
  if (!data_through || Date.parse(computed_at) < Date.parse(told_at || computed_at)) return;
  told_at = computed_at;
  behind.value = Date.parse(computed_at) - Date.parse(data_through) > MOST_BEHIND_MS ? data_through : "";
  // A page without questions hears of no end.
  clearTimeout(forgetting);
  forgetting = setTimeout(() => (behind.value = told_at = ""), FORGOTTEN_MS);
}

/** The lines of an answer, each as soon as it is there; of those that come together, by what was asked first. */
async function* lines(response: Response): AsyncGenerator<unknown> {
  const reader = response.body!.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    const parts = (rest + decoder.decode(value, { stream: !done })).split("\n");
    rest = parts.pop() ?? "";
    yield* parts.filter(Boolean).map((part) => JSON.parse(part)).sort((left, right) => left.index - right.index);
    if (done) return;
  }
}

/** Asks a question anew, for its statements. */
export function statements_of({ report, body }: Question): Promise<Statements> {
  return json<Statements>(`/v1/query/${report}/explain`, { method: "POST", body: JSON.stringify(body) });
}

/** One question that no board holds, asked once. */
export async function ask_once<T>({ report, body }: Question, signal?: AbortSignal): Promise<Answer<T>> {
  const response = await request(`/v1/query/${report}`, { method: "POST", body: JSON.stringify(body), signal });
  return (await response.json()) as Answer<T>;
}
