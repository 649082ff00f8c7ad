// What comes in, as it comes in. A browser has few connections to a server: a stream is open only while somebody looks at it, and of the tabs
// that look at the same one reads it for all.
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
    const query = new URLSearchParams({ include_bots: String(has_bots), filters: kept, ...(type ? { type } : {}) });
    const at: Place = { last_id: "" };
    const take = (told: Told) => set_watched((before) => ("state" in told ? { ...before, ...told.state } : taken({ ...before, is_open: true, problem: "" }, told.message)));
    let leave: (() => void) | undefined;
    const look = () => {
      leave?.();
      leave = document.hidden ? undefined : follow(`/v1/live?${query}`, at, take);
    };
    document.addEventListener("visibilitychange", look);
    look();
    return () => {
      document.removeEventListener("visibilitychange", look);
      leave?.();
    };
  }, [type, is_on, has_bots, is_signed_in, kept]);
  return watched;
}

/** A message of the stream. */
interface Message {
  id: string;
  event: string;
  data: any;
}

/** What the tab that reads a stream tells all who watch it. */
type Told = { message: Message } | { state: Pick<Watched, "is_open" | "problem"> };

/** How far a stream has been read. */
interface Place {
  last_id: string;
}

/** Follows a stream from a place on until it is left. One tab reads it, and the next one goes on when that is closed or hidden; each reads its own
 * where tabs cannot talk to each other. */
function follow(path: string, at: Place, take: (told: Told) => void): () => void {
  const left = new AbortController();
  // Of one project: tabs may be signed in to others.
  const name = `pulse ${session.peek()?.project.name ?? ""} ${path}`;
  const { locks } = navigator as { locks?: LockManager };
  const channel = locks && "BroadcastChannel" in globalThis ? new BroadcastChannel(name) : null;
  let read: Told | undefined;
  const hear = (told: Told) => {
    if ("message" in told) at.last_id = told.message.id || at.last_id;
    take(told);
  };
  const tell = (told: Told) => {
    if (left.signal.aborted) return;
    if ("state" in told) read = told;
    hear(told);
    channel?.postMessage(told);
  };
  const lead = async () => {
    while (!left.signal.aborted) {
      try {
        const response = await request(path, { headers: at.last_id ? { "last-event-id": at.last_id } : {}, signal: left.signal });
        tell({ state: { is_open: true, problem: "" } });
        for await (const message of messages(response)) tell({ message });
      } catch (problem) {
        tell({ state: { is_open: false, problem: (problem as Error).message } });
      }
      await pause(RETRY_MS, left.signal);
    }
  };
  if (channel) {
    // Who comes later is told how it stands.
    channel.onmessage = ({ data }: MessageEvent<Told | "how is it?">) => (data !== "how is it?" ? hear(data) : read && channel.postMessage(read));
    channel.postMessage("how is it?");
    void locks!.request(name, { signal: left.signal }, lead).catch(() => undefined);
  } else void lead();
  return () => {
    left.abort();
    channel?.close();
  };
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((done) => {
    if (signal.aborted) return done();
    setTimeout(done, ms);
    signal.addEventListener("abort", () => done());
  });
}

function taken(before: Watched, { event, data }: Message): Watched {
  if (event === "counters") return { ...before, seconds: [...before.seconds, data].slice(-MOST_SECONDS) };
  if (event === "missed") return { ...before, missed: before.missed + (data.messages ?? data.records ?? 0) };
  if (event === "event") return { ...before, events: [data, ...before.events].slice(0, MOST_EVENTS) };
  return before;
}

async function* messages(response: Response): AsyncGenerator<Message> {
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
