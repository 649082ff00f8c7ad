import { earlyStore, indexedStore, memoryStore } from "./store.js";
import type { Options, Problem, Store } from "./types.js";

/** Most characters of a batch; of one whose request may outlive its page, for browsers take 64 KiB of them at a time. */
const BATCH = 200_000;
const LAST = 28_000;
/** What is longer is compressed. */
const COMPRESS = 1_000;
/** Longest wait for an answer, and first and longest wait before another attempt. */
const PATIENCE = 30_000;
const FIRST_RETRY = 1_000;
const LONGEST_RETRY = 300_000;
/** Longest that a server may ask to be left alone. */
const LONGEST_AFTER = 3_600_000;

type Queued = [id: string, event: string];

/** What became of a request: it is settled, is to be sent in smaller pieces, or again after some time. */
type Fate = "done" | "smaller" | { again: number; code: string; message: string };

export interface Sender {
  report(code: string, message: string): void;
  add(id: string, event: string): void;
  /** Sends what waits; whether nothing is left. */
  flush(): Promise<boolean>;
  close(timeout?: number): Promise<boolean>;
  /** Sends what this page has made, in a way that outlives it. */
  leave(): void;
  forget(): Promise<void>;
}

export function createSender(options: Options, isPage: boolean): Sender {
  const { key, host, flushAt = 20, flushInterval = 2_000, maxQueue = 10_000 } = options;
  const url = `${host.replace(/\/+$/, "")}/v1/events?key=${encodeURIComponent(key)}`;
  const name = `pulse:${key}`;
  /** Whether other pages have the same store. */
  const isShared = isPage && !options.store;
  const store = options.store ?? (isPage ? indexedStore(name) : memoryStore());
  /** Where an event waits until the store has it, for as long as it takes: this alone is done before `add` returns, whatever becomes of the page
   * then. */
  const early = isShared ? earlyStore(`${name}+`) : memoryStore();
  /** Made here and not known to be sent; `kept` once the store has it. */
  const fresh = new Map<string, { event: string; kept: boolean }>();
  /** On their way in a request that outlives the page, or there already and not to be taken out of the store. */
  const flying = new Set<string>();
  let waiting = 0;
  /** Events in the store; -1 where it gave no answer, and -2 where it could not be read. */
  let total = 0;
  let failures = 0;
  let most = 500;
  let isResting = false;
  /** Whether the server has asked for it. */
  let isAsked = false;
  let isAgain = false;
  /** Of the last request. */
  let current: AbortController | undefined;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let running: Promise<boolean> | undefined;
  let told = "";

  const report = (code: string, message: string, eventId?: string) => {
    const problem = { code, message, eventId } as Problem;
    try {
      options.onError!(problem);
    } catch {
      // There is none, or it fails.
      console.warn("pulse", problem);
    }
  };

  /** Waits for nothing. */
  const calm = () => {
    clearTimeout(timer);
    timer = undefined;
    isResting = false;
  };

  const wake = (delay: number) => {
    if (isResting) return;
    if (!delay) calm();
    timer ??= setTimeout(rouse, delay);
  };

  const rouse = (): Promise<boolean> => {
    calm();
    return send();
  };

  const add = (id: string, event: string) => {
    if (Math.max(waiting, fresh.size) >= maxQueue) return report("queue_full", `${maxQueue} events wait already`, id);
    waiting++;
    const one = { event, kept: false };
    fresh.set(id, one);
    early
      .add(id, event)
      .then(
        () => isShared,
        () => false,
      )
      .then((isEarly) =>
        store.add(id, event).then(
          () => ((one.kept = true), early.remove([id])),
          (problem) => isEarly || report("not_kept", `it waits in memory alone: ${problem}`, id),
        ),
      )
      .catch(() => {});
    wake(fresh.size < flushAt ? flushInterval : 0);
  };

  /** The next batch: what is kept, by whatever page, and what is not kept yet. */
  const take = async (): Promise<Queued[]> => {
    const known = [...fresh].filter(([, { kept }]) => kept);
    const count = most + flying.size;
    const read = async (from: Store) => from.first(count).catch((problem) => ({ events: [] as Queued[], total: problem ? -2 : -1 }));
    const { events: others } = await read(early);
    const { events } = ({ total } = await read(store));
    const all = new Map([...events, ...others]);
    // What was kept and is not there any more was sent by another page.
    if (total === events.length) known.forEach(([id]) => all.has(id) || fresh.delete(id));
    for (const [id, { event }] of fresh) all.set(id, event);
    waiting = Math.max(total, fresh.size);
    let size = 0;
    let taken = 0;
    return [...all].filter(([id, event]) => !flying.has(id) && taken < most && ((size += event.length) < BATCH || !taken) && ++taken);
  };

  const settle = async (batch: Queued[]) => {
    const ids = batch.map(([id]) => id);
    ids.forEach((id) => fresh.delete(id));
    waiting = Math.max(0, waiting - ids.length);
    // One that could not be read has given none of them.
    for (const one of [early, store]) await one.remove(ids).catch(() => (one === store && total < 0) || ids.forEach((id) => flying.add(id)));
  };

  const judge = async (batch: Queued[], response: Response): Promise<Fate> => {
    const { status, headers } = response;
    const answer = await response.json().catch(() => null);
    // Anything may stand between: what does not speak as pulse does has taken nothing.
    if ((status === 200 || status === 400) && Array.isArray(answer?.rejected)) {
      for (const { eventId, code, message } of answer.rejected) report(code, message, eventId);
      return "done";
    }
    if ((status === 400 && answer?.code) || status === 413) {
      if (batch.length > 1) return "smaller";
      report(answer?.code ?? "refused", answer?.message ?? `the server answers ${status}`, batch[0]![0]);
      return "done";
    }
    const after = headers.get("retry-after");
    const seconds = Number(after) || (Date.parse(after!) - Date.now()) / 1000 || 0;
    const isRefused = status > 400 && status < 500 && status !== 429 && status !== 408;
    // A date may have passed, by this clock.
    isAsked = !isRefused && seconds > 0;
    return { again: isRefused ? LONGEST_RETRY : isAsked ? seconds * 1000 : 0, code: answer?.code ?? "unreachable", message: `the server answers ${status}` };
  };

  const post = async (batch: Queued[], isLast?: boolean): Promise<Fate> => {
    const aborter = (current = new AbortController());
    const patience = setTimeout(() => aborter.abort(), PATIENCE);
    const ids = batch.map(([id]) => id);
    try {
      const text = `{"batch":[${batch.map(([, event]) => event).join()}],"sentAt":${Date.now()}}`;
      let body = new Blob([text], { type: "text/plain" });
      if (!isLast && text.length > COMPRESS && typeof CompressionStream === "function") {
        const bytes = await new Response(body.stream().pipeThrough(new CompressionStream("gzip"))).arrayBuffer();
        body = new Blob([bytes], { type: "text/plain" });
      }
      const keepalive = isPage && body.size <= LAST;
      if (keepalive) ids.forEach((id) => flying.add(id));
      // Nothing in it that would make a browser ask first.
      return await judge(batch, await fetch(url, { method: "POST", body, keepalive, credentials: "omit", signal: aborter.signal }));
    } catch (problem) {
      return { again: 0, code: "unreachable", message: String(problem) };
    } finally {
      clearTimeout(patience);
      ids.forEach((id) => flying.delete(id));
    }
  };

  /** Batch after batch; whether nothing is left. */
  const sendAll = async (): Promise<boolean> => {
    for (let batch: Queued[]; (batch = await take()).length; ) {
      isAsked = false;
      const fate = await post(batch);
      if (fate === "smaller") most = Math.ceil(batch.length / 2);
      else if (fate === "done") {
        failures = 0;
        told = "";
        most = Math.min(500, most * 2);
        await settle(batch);
      } else {
        if (told !== fate.message) report(fate.code, (told = fate.message));
        calm();
        // Full jitter: clients that failed together do not come back together.
        wake(Math.min(fate.again, LONGEST_AFTER) + Math.random() * Math.min(LONGEST_RETRY, FIRST_RETRY * 2 ** failures++));
        isResting = true;
        return false;
      }
    }
    // Other pages may have left something there.
    if (total === -1) wake(flushInterval);
    return true;
  };

  const locks = isShared && (navigator as { locks?: LockManager }).locks;
  // Of all pages one sends at a time; what two send all the same counts once, for it has one id.
  const alone = async (): Promise<boolean> => {
    if (!locks) return sendAll();
    return locks.request(name, { ifAvailable: true }, async (lock) => (lock ? sendAll() : (wake(flushInterval), false)));
  };

  const sendWhile = async (): Promise<boolean> => {
    let sent = false;
    // What was made since the last batch was read.
    while (isAgain && !isResting) {
      isAgain = false;
      sent = await alone().catch(() => (wake(flushInterval), false));
    }
    running = undefined;
    return sent;
  };

  const send = async (): Promise<boolean> => {
    if (isResting) return false;
    isAgain = true;
    return (running ??= sendWhile());
  };

  // The server may be back long before a pause is over, and those who ask may be about to end.
  const flush = () => (isAsked ? send() : rouse());

  const close = async (timeout = 10_000): Promise<boolean> => {
    // For one attempt more before the end, whatever was asked for.
    let spare = Math.min(timeout / 5, PATIENCE);
    let end = performance.now() + timeout - spare;
    const isOver = (late = 0) => performance.now() > end + late;
    let watch;
    // Nobody's patience is longer than that of who closes: a request is given up and, a second after the end, a store that does not answer.
    const over = new Promise<boolean>((done) => {
      watch = setInterval(() => isOver() && (current?.abort(), isOver(spare + 1_000) && done(false)), 50);
    });
    let sent = await Promise.race([flush(), over]);
    while (!sent && (spare || !isOver())) {
      await new Promise((done) => setTimeout(done, 50));
      sent = await Promise.race([spare && isOver() ? ((end += spare), (spare = 0), rouse()) : send(), over]);
    }
    clearInterval(watch);
    // The next event wakes it.
    if (!sent) calm();
    return sent;
  };

  const leave = async () => {
    let left = LAST - 99;
    const batch: Queued[] = [];
    for (const [id, { event, kept }] of fresh) {
      const size = new Blob([event]).size + 1;
      // One that is to be left alone is, unless this is the only place where an event is.
      if (flying.has(id) || (isResting && kept) || size >= left) continue;
      left -= size;
      batch.push([id, event]);
    }
    if (batch.length && (await post(batch, true)) === "done") await settle(batch);
  };

  const forget = async () => {
    fresh.clear();
    waiting = 0;
    for (const one of [early, store]) {
      try {
        await one.clear();
      } catch {}
    }
  };

  if (isPage) {
    addEventListener("online", rouse);
    // What an earlier page could not send.
    wake(flushInterval);
  }
  return { report, add, flush, close, leave, forget };
}
