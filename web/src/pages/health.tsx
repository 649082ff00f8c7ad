// Where every event went: the ledger, how far the table is behind, and what could not be read.
import { useEffect, useState } from "preact/hooks";
import { ApiError, json, session } from "../api/client";
import { LineChart, Swatch, type Line } from "../chart/line";
import { Table } from "../chart/table";
import { duration, plural, shown } from "../format";
import { clock, moment, range } from "../time";
import { change, here } from "../url";
import { Choice } from "../ui/picker";
import { Page } from "./page";
import { Pager } from "./sessions";

type Sums = Record<"received" | "stored" | "duplicate" | "filtered" | "rejected" | "dead" | "waiting", number>;

interface Ledger {
  total: Sums & { conflict: number } & Record<string, Record<string, number> | number>;
  minutes: (Sums & { minute: string })[];
  lag: { events: number; estimated: boolean; oldest_ms: number };
  latency_ms: { p50: number | null; p99: number | null; max: number | null } | null;
}

interface Letters {
  reasons: { reason: string; code: string; letters: number; copies: number }[];
  letters: { receivedAt: string; reason: string; message: string; source: string; line: number; original: string; bytes: number; isCopy: boolean }[];
  next: string | null;
}

const OUTCOMES: (keyof Sums)[] = ["stored", "duplicate", "filtered", "dead", "waiting"];
const REFRESH_MS = 5_000;

/** An answer that is asked for again every few seconds while somebody looks; what was known stays. */
function usePolled<T>(path: string): { known?: T; problem: string } {
  const [state, set_state] = useState<{ known?: T; problem: string }>({ problem: "" });
  const is_signed_in = Boolean(session.value);
  useEffect(() => {
    if (!is_signed_in) return;
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
  }, [path, is_signed_in]);
  return state;
}

export default function Health() {
  const { zone } = range();
  const { params } = here.value;
  const since = params.get("since") ?? "-1h";
  const ledger = usePolled<Ledger>(`/v1/ledger?from=${encodeURIComponent(since)}`);
  const letters_query = new URLSearchParams({ limit: "20", ...(params.get("reason") ? { reason: params.get("reason")! } : {}), ...(params.get("cursor") ? { cursor: params.get("cursor")! } : {}) });
  const letters = usePolled<Letters>(`/v1/dead-letters?${letters_query}`);
  return (
    <Page title="Health" aside={<Choice label="Received since" value={since} of={[["-1h", "an hour"], ["-1d", "a day"], ["-7d", "7 days"], ["1970-01-01", "the beginning"]]} onChange={(since) => change({ since: since === "-1h" ? null : since })} />}>
      <div class="tiles">
        <LedgerTile {...ledger} zone={zone} />
        <LagTile {...ledger} />
        <DeadTile {...letters} zone={zone} />
      </div>
    </Page>
  );
}

interface Polled<T> {
  known?: T;
  problem: string;
}

const MINUTE = 60_000;
const MOST_MINUTES = 1_440;

/** Every minute of a day at most, also those in which nothing came. */
function every_minute(minutes: Ledger["minutes"]): Ledger["minutes"] {
  const first = minutes[0];
  if (!first) return [];
  const known = new Map(minutes.map((minute) => [Date.parse(minute.minute), minute]));
  const last = Math.max(Date.parse(minutes[minutes.length - 1]!.minute), Math.floor(Date.now() / MINUTE) * MINUTE);
  const from = Math.max(Date.parse(first.minute), last - MINUTE * (MOST_MINUTES - 1));
  const nothing = { received: 0, stored: 0, duplicate: 0, filtered: 0, rejected: 0, dead: 0, waiting: 0 };
  return Array.from({ length: (last - from) / MINUTE + 1 }, (_, index) => known.get(from + index * MINUTE) ?? { ...nothing, minute: new Date(from + index * MINUTE).toISOString() });
}

function LedgerTile({ known, problem, zone }: Polled<Ledger> & { zone: string }) {
  const minutes = every_minute(known?.minutes ?? []);
  const lines: Line[] = OUTCOMES.map((name, place) => ({ name, place, values: minutes.map((minute) => minute[name]) }));
  const [is_table, set_is_table] = useState(false);
  const total = known?.total;
  const is_whole = total && total.received === OUTCOMES.reduce((sum, name) => sum + total[name], 0);
  return (
    <section class="tile wide" data-tile="ledger" aria-labelledby="title-ledger" aria-busy={!known && !problem}>
      <header><h2 id="title-ledger">Where every event went</h2>
        <div class="tools"><button type="button" class="quiet" aria-pressed={is_table} onClick={() => set_is_table(!is_table)}>Table</button></div></header>
      {problem && <p class="failed" role="alert">{problem}</p>}
      {total && (
        <>
          <p class="sum" data-whole={is_whole}>
            <span><strong data-outcome="received">{shown(total.received)}</strong> received</span> =
            {OUTCOMES.map((name, index) => <span key={name}>{index > 0 && "+ "}<strong data-outcome={name}>{shown(total[name])}</strong> {name}</span>)}
          </p>
          {total.rejected > 0 && <p class="note">{plural(total.rejected, "event")} more {total.rejected === 1 ? "was" : "were"} refused before the log, and the sender told.</p>}
          <Reasons total={total} />
          {is_table
            ? <Table caption="Events by minute of receipt" data={{ head: ["Minute", "received", ...OUTCOMES, "rejected"], rows: [...known.minutes].reverse().slice(0, 240).map((minute) => [{ text: moment(minute.minute, zone) }, ...["received", ...OUTCOMES, "rejected"].map((name) => ({ text: shown(minute[name as keyof Sums]) }))]) }} />
            : minutes.length > 0 && <LineChart label="Events by minute of receipt" buckets={minutes.map(({ minute }) => minute)} partial={minutes.map(() => false)} lines={lines} interval="minute" zone={zone} is_stacked height={180} />}
          <ul class="legend">{lines.map((line) => <li key={line.name}><Swatch line={line} is_fill /> {line.name}</li>)}</ul>
        </>
      )}
    </section>
  );
}

function Reasons({ total }: { total: Ledger["total"] }) {
  const all = ["filtered", "rejected", "dead"].flatMap((outcome) => Object.entries((total[`${outcome}_by_reason`] ?? {}) as Record<string, number>).map(([reason, events]) => ({ outcome, reason, events })));
  if (!all.length) return null;
  return <ul class="legend">{all.map(({ outcome, reason, events }) => <li key={`${outcome} ${reason}`}>{outcome}, <bdi>{reason}</bdi>: <b>{shown(events)}</b></li>)}</ul>;
}

function LagTile({ known, problem }: Polled<Ledger>) {
  const { lag, latency_ms } = known ?? {};
  const is_behind = lag && lag.oldest_ms > 60_000;
  return (
    <section class="tile" data-tile="lag" aria-labelledby="title-lag" aria-busy={!known && !problem}>
      <h2 id="title-lag">How far behind</h2>
      {is_behind && <p class="banner" role="alert">Events wait for {duration(lag.oldest_ms)}: charts are behind by as much.</p>}
      {lag && (
        <dl class="facts">
          <div><dt>Waiting</dt><dd>{plural(lag.events, "event")}{lag.estimated && ", estimated"}</dd></div>
          <div><dt>The oldest waits</dt><dd>{lag.oldest_ms ? duration(lag.oldest_ms) : "–"}</dd></div>
          <div><dt>From receipt to charts, half within</dt><dd>{shown(latency_ms?.p50, "duration")}</dd></div>
          <div><dt>99 of 100 within</dt><dd>{shown(latency_ms?.p99, "duration")}</dd></div>
        </dl>
      )}
      {lag && <footer class="health"><span>as of {clock(Date.now(), "UTC")} UTC</span></footer>}
    </section>
  );
}

function DeadTile({ known, problem, zone }: Polled<Letters> & { zone: string }) {
  const reason = here.value.params.get("reason") ?? "";
  return (
    <section class="tile wide" data-tile="dead" aria-labelledby="title-dead" aria-busy={!known && !problem}>
      <h2 id="title-dead">What could not be read</h2>
      {problem && <p class="failed" role="alert">{problem}</p>}
      {known && !known.letters.length && <p class="nothing">Nothing.</p>}
      {known && known.reasons.length > 0 && (
        <div class="tabs" role="group" aria-label="Reasons">
          <button type="button" aria-pressed={!reason} onClick={() => change({ reason: null, cursor: null })}>All</button>
          {known.reasons.map((one) => <button key={`${one.reason} ${one.code}`} type="button" aria-pressed={reason === one.reason} onClick={() => change({ reason: one.reason, cursor: null })}>{one.reason}{one.code && `: ${one.code}`} ({shown(one.letters)})</button>)}
        </div>
      )}
      {known && (
        <ul class="events">
          {known.letters.map((letter, index) => (
            <li class="event" key={`${letter.receivedAt} ${letter.line} ${index}`}>
              <details>
                <summary><time dateTime={letter.receivedAt}>{moment(letter.receivedAt, zone)}</time> <strong>{letter.reason}</strong> <span class="note"><bdi>{letter.message}</bdi></span></summary>
                {letter.source && <p class="note"><bdi>{letter.source}</bdi>{letter.line > 0 && `, line ${shown(letter.line)}`}</p>}
                <pre tabIndex={0} aria-label="What was sent">{letter.original}</pre>
                {letter.bytes > 8192 && <p class="note">The first 8,192 of {shown(letter.bytes)} bytes.</p>}
              </details>
            </li>
          ))}
        </ul>
      )}
      {known && known.letters.length > 0 && <p class="note"><code>pulse replay --dead</code> reads them again{reason && <> (<code>--reason {reason}</code>)</>}, after what was wrong is mended.</p>}
      {known && <Pager next={known.next} />}
    </section>
  );
}
