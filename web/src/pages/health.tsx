// Where every event went: the ledger, how far the table is behind, and what could not be read.
import { useState } from "preact/hooks";
import { json, type ApiError } from "../api/client";
import { usePolled, type Polled } from "../api/polled";
import type { DeadLetter, DeadLetters, Trace } from "../api/openapi";
import { LineChart, Swatch, type Line } from "../chart/line";
import { Table, type TableData } from "../chart/table";
import { duration, plural, shown } from "../format";
import { clock, moment, range } from "../time";
import { OF_PULSE, RuleLink } from "../ui/bell";
import { EventRow } from "../ui/event-row";
import { change, here, page_of } from "../url";
import { has_address, PersonLink } from "../ui/person-link";
import { Choice } from "../ui/picker";
import { SaveButtons } from "../ui/save";
import { useIsTable } from "../ui/tile";
import { Page } from "./page";
import { Pager } from "./sessions";

type Sums = Record<"received" | "stored" | "duplicate" | "filtered" | "rejected" | "dead" | "waiting", number>;

interface Ledger {
  total: Sums & { conflict: number } & Record<string, Record<string, number> | number>;
  minutes: (Sums & { minute: string })[];
  lag: { events: number; estimated: boolean; oldest_ms: number };
  latency_ms: { p50: number | null; p99: number | null; max: number | null } | null;
}

/** What came of dead letters that were read again. */
interface Redriven {
  read: number;
  redriven: number;
  events: number;
  unchanged: Record<string, number>;
  next: string | null;
}

const OUTCOMES: (keyof Sums)[] = ["stored", "duplicate", "filtered", "dead", "waiting"];

export default function Health() {
  const { zone } = range();
  const { params } = here.value;
  const since = params.get("since") ?? "-1h";
  const ledger = usePolled<Ledger>(`/v1/ledger?from=${encodeURIComponent(since)}`);
  const letters_query = new URLSearchParams({ limit: "20", ...(params.get("reason") ? { reason: params.get("reason")! } : {}), ...(params.get("cursor") ? { cursor: params.get("cursor")! } : {}) });
  const letters = usePolled<DeadLetters>(`/v1/dead-letters?${letters_query}`);
  return (
    <Page title="Health" aside={<Choice label="Received since" value={since} of={[["-1h", "an hour"], ["-1d", "a day"], ["-7d", "7 days"], ["1970-01-01", "the beginning"]]} onChange={(since) => change({ since: since === "-1h" ? null : since })} />}>
      <div class="tiles">
        <LedgerTile {...ledger} zone={zone} />
        <LagTile {...ledger} zone={zone} />
        <TraceTile zone={zone} />
        <DeadTile {...letters} zone={zone} />
      </div>
    </Page>
  );
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
  const [is_table, set_is_table] = useIsTable("ledger");
  const total = known?.total;
  const columns = ["received", ...OUTCOMES, "rejected"] as (keyof Sums)[];
  const shown_minutes = [...(known?.minutes ?? [])].reverse();
  // The newest one is not over: what is still to come would look like a fall.
  const running = minutes.at(-1)?.minute;
  const table = (): TableData => ({
    head: ["Minute", ...columns],
    rows: shown_minutes.map((minute) => [{ text: moment(minute.minute, zone) + (minute.minute === running ? " (not complete)" : ""), value: minute.minute }, ...columns.map((name) => ({ text: shown(minute[name]), value: minute[name] }))]),
    besides: { head: ["Complete"], rows: shown_minutes.map(({ minute }) => [minute === running ? "no" : "yes"]) },
  });
  const [first, last] = [known?.minutes[0]?.minute, known?.minutes.at(-1)?.minute];
  const note = () => `${moment(first, zone)} – ${moment(last, zone)}, ${zone}; as of ${moment(Date.now(), zone)}`;
  const is_whole = total && total.received === OUTCOMES.reduce((sum, name) => sum + total[name], 0);
  return (
    <section class="tile wide" data-tile="ledger" aria-labelledby="title-ledger" aria-busy={!known && !problem}>
      <header><h2 id="title-ledger">Where every event went</h2>
        <div class="tools"><button type="button" class="quiet" aria-pressed={is_table} onClick={() => set_is_table(!is_table)}>Table</button>
          {known && <SaveButtons title="Where every event went" note={note} table={table} />}
          <RuleLink rule={{ ...OF_PULSE.ledger, name: "Events that cannot be read", timezone: zone }} /></div></header>
      {problem && <p class="failed" role="alert">{problem}</p>}
      {total && (
        <div class="drawn">
          <p class="sum" data-whole={is_whole}>
            <span><strong data-outcome="received">{shown(total.received)}</strong> received</span> =
            {OUTCOMES.map((name, index) => <span key={name}>{index > 0 && "+ "}<strong data-outcome={name}>{shown(total[name])}</strong> {name}</span>)}
          </p>
          {total.rejected > 0 && <p class="note">{plural(total.rejected, "event")} more {total.rejected === 1 ? "was" : "were"} refused before the log, and the sender told.</p>}
          <Reasons total={total} />
          {is_table
            ? <Table caption="Events by minute of receipt" data={{ ...table(), rows: table().rows.slice(0, 240) }} />
            : minutes.length > 0 && <LineChart label="Events by minute of receipt" buckets={minutes.map(({ minute }) => minute)} partial={minutes.map((_, index) => index === minutes.length - 1)} lines={lines} interval="minute" zone={zone} is_stacked height={180} />}
          <ul class="legend">{lines.map((line) => <li key={line.name}><Swatch line={line} is_fill /> {line.name}</li>)}</ul>
        </div>
      )}
    </section>
  );
}

function Reasons({ total }: { total: Ledger["total"] }) {
  const all = ["filtered", "rejected", "dead"].flatMap((outcome) => Object.entries((total[`${outcome}_by_reason`] ?? {}) as Record<string, number>).map(([reason, events]) => ({ outcome, reason, events })));
  if (!all.length) return null;
  return <ul class="legend">{all.map(({ outcome, reason, events }) => <li key={`${outcome} ${reason}`}>{outcome}, <bdi>{reason}</bdi>: <b>{shown(events)}</b></li>)}</ul>;
}

function LagTile({ known, problem, zone }: Polled<Ledger> & { zone: string }) {
  const { lag, latency_ms } = known ?? {};
  // What is imported is not measured, and nothing takes no time.
  const measured = latency_ms?.max ? latency_ms : null;
  const is_behind = lag && lag.oldest_ms > 60_000;
  return (
    <section class="tile" data-tile="lag" aria-labelledby="title-lag" aria-busy={!known && !problem}>
      <header><h2 id="title-lag">How far behind</h2>
        <div class="tools"><RuleLink rule={{ ...OF_PULSE.lag, name: "How far pulse is behind", timezone: zone }} /></div></header>
      {is_behind && <p class="banner" role="alert">Events wait for {duration(lag.oldest_ms)}: charts are behind by as much.</p>}
      {lag && (
        <dl class="facts">
          <div><dt>Waiting</dt><dd>{plural(lag.events, "event")}{lag.estimated && ", estimated"}</dd></div>
          <div><dt>The oldest waits</dt><dd>{lag.oldest_ms ? duration(lag.oldest_ms) : "–"}</dd></div>
          <div><dt>From receipt to charts, half within</dt><dd>{shown(measured?.p50, "duration")}</dd></div>
          <div><dt>99 of 100 within</dt><dd>{shown(measured?.p99, "duration")}</dd></div>
        </dl>
      )}
      {lag && <footer class="health"><span>as of {clock(Date.now(), "UTC")} UTC</span></footer>}
    </section>
  );
}

function DeadTile({ known, problem, zone }: Polled<DeadLetters> & { zone: string }) {
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
      {known && <ul class="events">{known.letters.map((letter, index) => <LetterRow key={`${letter.receivedAt} ${letter.line} ${index}`} letter={letter} zone={zone} />)}</ul>}
      {known && known.letters.length > 0 && <Redrive key={reason} reason={reason} />}
      {known && <Pager next={known.next} />}
    </section>
  );
}

function LetterRow({ letter, zone }: { letter: DeadLetter; zone: string }) {
  return (
    <li class="event">
      <details>
        <summary><time dateTime={letter.receivedAt ?? undefined}>{moment(letter.receivedAt, zone)}</time> <strong>{letter.reason}</strong> <span class="note"><bdi>{letter.message}</bdi></span></summary>
        {letter.source && <p class="note"><bdi>{letter.source}</bdi>{letter.line !== null && `, line ${shown(letter.line)}`}</p>}
        <pre tabIndex={0} aria-label="What was sent">{letter.original}</pre>
        {letter.bytes > 8192 && <p class="note">The first 8,192 of {shown(letter.bytes)} bytes.</p>}
      </details>
    </li>
  );
}

/** Reads letters again, a portion at a time; what can be read now is stored, once however often that is done. */
function Redrive({ reason, name = "Read them again" }: { reason: string; name?: string }) {
  const [said, set_said] = useState("");
  const [is_busy, set_is_busy] = useState(false);
  const again = async () => {
    set_is_busy(true);
    const sum = { read: 0, events: 0, unchanged: 0 };
    try {
      for (let cursor: string | null = ""; cursor !== null;) {
        const body = { ...(reason ? { reason } : {}), ...(cursor ? { cursor } : {}) };
        const one: Redriven = await json<Redriven>("/v1/dead-letters/redrive", { method: "POST", body: JSON.stringify(body) });
        sum.read += one.read;
        sum.events += one.events;
        sum.unchanged += Object.values(one.unchanged).reduce((all, letters) => all + letters, 0);
        set_said(`${plural(sum.read, "letter")} read: ${plural(sum.events, "event")} made of them, ${shown(sum.unchanged)} still cannot be read.`);
        cursor = one.next;
      }
    } catch (refused) {
      const { status, message } = refused as ApiError;
      set_said(status === 404 ? "This instance takes no events: run `pulse replay --dead` where one does." : message);
    }
    set_is_busy(false);
  };
  return (
    <div class="step">
      <button type="button" disabled={is_busy} onClick={() => void again()}>{name}</button>
      <span class="note">after what was wrong is mended, such as a limit; <code>pulse replay --dead</code> does the same.</span>
      <p role="status" data-redriven>{said}</p>
    </div>
  );
}

function TraceTile({ zone }: { zone: string }) {
  const id = here.value.params.get("trace") ?? "";
  const look = (event: SubmitEvent) => {
    event.preventDefault();
    change({ trace: String(new FormData(event.currentTarget as HTMLFormElement).get("id")).trim() || null });
  };
  return (
    <section class="tile" data-tile="trace" aria-labelledby="title-trace">
      <h2 id="title-trace">Where is my event?</h2>
      <form class="step" onSubmit={look}><input key={id} name="id" aria-label="Id of the event" placeholder="its eventId" defaultValue={id} maxLength={200} /><button type="submit">Look</button></form>
      {id && <Traced key={id} id={id} zone={zone} />}
    </section>
  );
}

function Traced({ id, zone }: { id: string; zone: string }) {
  const { known, problem } = usePolled<Trace>(`/v1/trace/${encodeURIComponent(id)}`);
  if (problem) return <p class="failed" role="alert">{problem}</p>;
  if (!known) return <p class="note" role="status" aria-busy="true">Looking…</p>;
  return (
    <div data-traced={known.status}>
      {known.status === "unknown" && <p role="status">Nothing with that id was received before {known.data_through ? `${moment(known.data_through, zone)} ${zone}` : "now"}. It is looked for again every few seconds.{has_address(id) && <> Ids of people are not those of events: <PersonLink id={id}>who has this one</PersonLink>.</>}</p>}
      {known.stored.map(({ event, receivedAt, shard, log }) => (
        <div key={`${log.partition} ${log.offset} ${event?.anonymousId}`}>
          <p role="status">Stored: received {moment(receivedAt, zone)}, partition {log.partition}, offset {shown(log.offset)}, shard {shard}. Copies of it are counted as duplicates.</p>
          {event && <ul class="events"><EventRow event={event} zone={zone} /></ul>}
          {event && <p class="note">It counts in every report over {moment(event.timestamp, zone)}{(event as { bot?: string }).bot ? " that asks for bots too" : ""}: <a href={page_of("/trends", { s: JSON.stringify({ event: event.type }) })}>its trend</a>.</p>}
        </div>
      ))}
      {known.dead.length > 0 && <p role="status">It could not be read:</p>}
      {known.dead.length > 0 && <ul class="events">{known.dead.map((letter, index) => <LetterRow key={index} letter={letter} zone={zone} />)}</ul>}
      {[...new Set(known.dead.map(({ reason }) => reason))].map((reason) => <Redrive key={reason} reason={reason} name={`Read all of ${reason} again`} />)}
    </div>
  );
}
