// An answer that is asked for again every few seconds while somebody looks; what was known stays.
import { useEffect, useState } from "preact/hooks";
import { ApiError, json, may_ask } from "./client";

export interface Polled<T> {
  known?: T;
  problem: string;
}

const REFRESH_MS = 5_000;

/** What a path answers, asked at once when `again` changes; nothing without a path. */
export function usePolled<T>(path: string, again: unknown = 0): Polled<T> {
  const [state, set_state] = useState<Polled<T>>({ problem: "" });
  useEffect(() => {
    if (!may_ask.value || !path) return;
    const running = new AbortController();
    let timer = 0;
    const ask = async () => {
      if (!document.hidden) {
        const answer = await json<any>(path, { signal: running.signal }).catch((refused: ApiError) => refused);
        if (running.signal.aborted) return;
        if (answer instanceof ApiError) set_state((before) => ({ ...before, problem: answer.message }));
        else set_state({ known: answer.result ?? answer, problem: "" });
      }
      timer = setTimeout(ask, REFRESH_MS);
    };
    void ask();
    return () => {
      running.abort();
      clearTimeout(timer);
    };
  }, [path, may_ask.value, again]);
  return state;
}
