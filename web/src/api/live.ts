// What comes in, as it comes in. The stream is open only while somebody looks at it: a browser has few connections to a server.
import { useEffect, useState } from "preact/hooks";
import { request, session } from "./client";

export interface LiveEvent {
  eventId: string;
  type: string;
  timestamp: string;
  receivedAt: string;
  userId?: string;
  anonymousId?: string;
  page?: string;
  channel?: string;
  country?: string;
  city?: string;
  browser?: string;
  os?: string;
  deviceType?: string;
  bot?: string;
  late?: boolean;
  properties: Record<string, unknown>;
}

export interface Counters {
  at: string;
  events: number;
  persons: number;
  bots: number;
  late: number;
  rejected: number;
  dead: number;
  by_type: { type: string; events: number }[];
}

export interface Watched {
  events: LiveEvent[];
  seconds: Counters[];
  missed: number;
  is_open: boolean;
  problem: string;
}

/** Events that are shown, and seconds that are kept. */
const MOST_EVENTS = 100;
const MOST_SECONDS = 60;
const RETRY_MS = 2_000;
const NOTHING: Watched = { events: [], seconds: [], missed: 0, is_open: false, problem: "" };

interface Watching {
  type?: string;
  is_on?: boolean;
  /** Filters as the API reads them. */
  filters?: Record<string, unknown>[];
  has_bots?: boolean;
}

/** Watches events, of one type or of all; those that the filters keep. */
export function useLive({ type = "", is_on = true, filters = [], has_bots = false }: Watching): Watched {
  const kept = JSON.stringify(filters);
  const [watched, set_watched] = useState(NOTHING);
  const is_signed_in = Boolean(session.value);
  useEffect(() => {
    set_watched(NOTHING);
    if (!is_on || !is_signed_in) return;
    let running = new AbortController();
    let last_id = "";
    let timer = 0;
    const open = async () => {
      clearTimeout(timer);
      running.abort();
      running = new AbortController();
      const own = running;
      try {
        const headers: Record<string, string> = last_id ? { "last-event-id": last_id } : {};
        const query = new URLSearchParams({ include_bots: String(has_bots), filters: kept, ...(type ? { type } : {}) });
        const response = await request(`/v1/live?${query}`, { headers, signal: own.signal });
        set_watched((before) => ({ ...before, is_open: true, problem: "" }));
        for await (const { id, event, data } of messages(response)) {
          last_id = id || last_id;
          set_watched((before) => taken(before, event, data));
        }
      } catch (problem) {
        if (!own.signal.aborted) set_watched((before) => ({ ...before, is_open: false, problem: (problem as Error).message }));
      }
      if (!own.signal.aborted) timer = setTimeout(open, RETRY_MS);
    };
    const look = () => (document.hidden ? running.abort() : void open());
    document.addEventListener("visibilitychange", look);
    if (!document.hidden) void open();
    return () => {
      document.removeEventListener("visibilitychange", look);
      clearTimeout(timer);
      running.abort();
    };
  }, [type, is_on, has_bots, is_signed_in, kept]);
  return watched;
}

function taken(before: Watched, kind: string, data: any): Watched {
  if (kind === "counters") return { ...before, seconds: [...before.seconds, data].slice(-MOST_SECONDS) };
  if (kind === "missed") return { ...before, missed: before.missed + (data.messages ?? data.records ?? 0) };
  if (kind === "event") return { ...before, events: [data, ...before.events].slice(0, MOST_EVENTS) };
  return before;
}

async function* messages(response: Response): AsyncGenerator<{ id: string; event: string; data: any }> {
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n\n");
    rest = parts.pop() ?? "";
    for (const part of parts) {
      const fields = Object.fromEntries(part.split("\n").map((line) => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 2)]));
      if (fields.event && fields.data) yield { id: fields.id ?? "", event: fields.event, data: JSON.parse(fields.data) };
    }
  }
}
