// What comes in, as it comes in. A browser has few connections to a server: a stream is open only while somebody looks at it, and of the tabs
// that look at the same one reads it for all.
import { useEffect, useState } from "preact/hooks";
import { may_ask, request, session, UNKNOWN } from "./client";

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
  /** Whether more were missed, nobody knows how many. */
  has_gap: boolean;
  is_open: boolean;
  problem: string;
}

/** Events that are shown, and seconds that are kept. */
const MOST_EVENTS = 100;
const MOST_SECONDS = 60;
const RETRY_MS = 2_000;
const NOTHING: Watched = { events: [], seconds: [], missed: 0, has_gap: false, is_open: false, problem: "" };

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
  useEffect(() => {
    set_watched(NOTHING);
    if (!is_on || !may_ask.value) return;
    const query = new URLSearchParams({ include_bots: String(has_bots), filters: kept, ...(type ? { type } : {}) });
    const take = (told: Told) => set_watched((before) => ("state" in told ? { ...before, ...told.state } : taken({ ...before, is_open: true, problem: "" }, told.message)));
    return follow(`/v1/live?${query}`, take);
  }, [type, is_on, has_bots, may_ask.value, kept]);
  return watched;
}

/** A message of the stream. */
interface Message {
  id: string;
  event: string;
  data: any;
}

/** How a stream stands. */
type State = Pick<Watched, "is_open" | "problem">;

/** What is told of a stream. */
type Told = { message: Message } | { state: State };

/** What tabs say to each other; how it stands with the id of the message that was told last. */
type Said = Told | { joined: { state: State; last_id: string } } | "how is it?";

/** Follows a stream until it is left. One of the tabs that are shown reads it for all, and the next one goes on where that one was when it is closed
 * or hidden; a hidden one hears what is read. Where all were hidden and a new one begins, it begins now, and so do they. Where tabs cannot talk to each other, or it is not known whether they are of one project, each reads
 * its own, and once it is shown again what came meanwhile. */
function follow(path: string, take: (told: Told) => void): () => void {
  const left = new AbortController();
  let last_id = "";
  const hear = (told: Told) => {
    if ("message" in told) {
      const { id } = told.message;
      // The tab that reads for all may have begun further back.
      if (!is_newer(id, last_id)) return;
      last_id = id || last_id;
    }
    take(told);
  };
  const read = async (tell: (told: Told) => void, signal: AbortSignal) => {
    const told = (told: Told) => void (signal.aborted || tell(told));
    while (!signal.aborted) {
      try {
        const response = await request(path, { headers: last_id ? { "last-event-id": last_id } : {}, signal });
        told({ state: { is_open: true, problem: "" } });
        for await (const message of messages(response)) told({ message });
      } catch (problem) {
        told({ state: { is_open: false, problem: (problem as Error).message } });
      }
      await pause(RETRY_MS, signal);
    }
  };
  // Of one project: tabs may be signed in to others.
  const whose = session.peek();
  const { locks } = navigator as { locks?: LockManager };
  if (!locks || whose === UNKNOWN || !("BroadcastChannel" in globalThis)) {
    while_shown(left.signal, (signal) => read(hear, signal));
    return () => left.abort();
  }
  const name = `pulse ${whose?.project.name ?? ""} ${path}`;
  const channel = new BroadcastChannel(name);
  /** Of the one that reads. */
  let state: State | undefined;
  channel.onmessage = ({ data }: MessageEvent<Said>) => {
    // Who comes later is told how it stands, and goes on from there if it is the next one to read.
    if (data === "how is it?") return state && channel.postMessage({ joined: { state, last_id } } satisfies Said);
    if (!("joined" in data)) return hear(data);
    last_id ||= data.joined.last_id;
    hear({ state: data.joined.state });
  };
  channel.postMessage("how is it?" satisfies Said);
  const lead = async (signal: AbortSignal) => {
    const tell = (told: Told) => {
      if ("state" in told) state = told.state;
      hear(told);
      channel.postMessage(told satisfies Said);
    };
    await read(tell, signal);
    state = undefined;
  };
  while_shown(left.signal, (signal) => locks.request(name, { signal }, () => lead(signal)));
  return () => {
    left.abort();
    channel.close();
  };
}

/** Does something while the page is shown, until it is left. */
function while_shown(left: AbortSignal, work: (signal: AbortSignal) => Promise<void>): void {
  let shown: AbortController | undefined;
  const look = () => {
    shown?.abort();
    shown = document.hidden ? undefined : new AbortController();
    if (shown) work(shown.signal).catch(() => undefined);
  };
  document.addEventListener("visibilitychange", look);
  left.addEventListener("abort", () => {
    document.removeEventListener("visibilitychange", look);
    shown?.abort();
  });
  look();
}

/** Whether a message came after another one, as far as can be known: the ids of a stream are `STREAM-NUMBER`. */
function is_newer(id: string, last_id: string): boolean {
  const [[stream, number], [last_stream, last_number]] = [id.split("-"), last_id.split("-")];
  return stream !== last_stream || !id || Number(number) > Number(last_number);
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((done) => {
    if (signal.aborted) return done();
    const end = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", end);
      done();
    };
    const timer = setTimeout(end, ms);
    signal.addEventListener("abort", end);
  });
}

function taken(before: Watched, { event, data }: Message): Watched {
  if (event === "counters") return { ...before, seconds: [...before.seconds, data].slice(-MOST_SECONDS) };
  if (event === "missed" && data.messages === null) return { ...before, has_gap: true };
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
