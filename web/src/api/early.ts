// What a page has asked before its script was there (`../early.ts`): the first request takes it, if it is the same.

/** Where all questions of a page are asked in one. */
export const QUESTIONS = "/v1/query";

/** A request that is under way. */
export interface Early {
  body: unknown;
  project: string | null;
  answer: Promise<Response>;
  running: AbortController;
}

declare global {
  interface Window {
    /** None once the page has asked by itself: what comes later asks no more. */
    pulse_early?: Early | null;
  }
}

/** The answer to this request where the page has sent it already. There is one, for the first that asks; where that asks otherwise it is given up. */
export function early_answer(path: string, asked: RequestInit & { headers: Headers }): Promise<Response> | undefined {
  const { body, headers, signal } = asked;
  if (path !== QUESTIONS) return undefined;
  const early = window.pulse_early;
  window.pulse_early = null;
  if (!early) return undefined;
  const is_same = body === early.body && headers.get("x-pulse-project") === early.project && !headers.has("authorization") && !signal?.aborted;
  if (!is_same) early.running.abort();
  signal?.addEventListener("abort", () => early.running.abort());
  // What it was kept from is asked in full.
  return is_same ? early.answer.catch(() => fetch(path, asked)) : undefined;
}
