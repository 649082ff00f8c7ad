// Sessions: how many, how long, from where; and one by one, the newest first.
import { useAnswers } from "../api/ask";
import type { Answer, Chart, Question, ShownSession } from "../api/types";
import { Trend, trend_summary, trend_table, type TrendOptions } from "../chart/trend";
import type { TableData } from "../chart/table";
import { duration, plural, shown, type Unit } from "../format";
import { day_of, days_later, moment, range } from "../time";
import { filters_of_page } from "../ui/filters";
import { Choice, Picker } from "../ui/picker";
import { PersonLink } from "../ui/person-link";
import { Tile } from "../ui/tile";
import { change, here, page_of } from "../url";
import { SESSION_COLUMNS } from "../api/catalogue";
import { asked_bots, asked_compare, asked_range, Page } from "./page";
import { SessionPage } from "./sessions/one";

const MATHS: [key: string, name: string, unit: Unit][] = [
  ["sessions", "sessions", "number"], ["visitors", "visitors", "number"], ["bounce_rate", "bounce rate", "share"], ["avg_duration_ms", "average length", "duration"],
  ["median_duration_ms", "median length", "duration"], ["pages_per_session", "pages a session", "number"], ["events_per_session", "events a session", "number"],
];

interface List {
  sessions: ShownSession[];
  next: string | null;
}

export default function SessionsPage() {
  const { rest, params } = here.value;
  return rest ? <SessionPage id={rest} cursor={params.get("cursor")} days={params.get("days")} /> : <AllSessions />;
}

/** The address of a session, with the days that it lies in beside the time and filters of the list. */
function session_page({ id, start, end }: ShownSession, zone: string): string {
  const [from, to] = [day_of(Date.parse(start), zone), days_later(day_of(Date.parse(end), zone), 1)];
  return page_of(`/sessions/${encodeURIComponent(id)}`, { days: `${from}..${to}` });
}

function AllSessions() {
  const { params } = here.value;
  const { interval, zone } = range();
  const [math, name, unit] = MATHS.find(([key]) => key === params.get("math")) ?? MATHS[0]!;
  const breakdown = params.get("b") ?? "";
  const common_body = { ...asked_range(), ...asked_bots(), filters: filters_of_page() };
  const asked: Record<string, Question> = {
    sessions: { report: "sessions", body: { ...common_body, ...asked_compare(), interval, series: [{ math }], ...(breakdown ? { breakdown, limit: 7 } : {}) } },
    list: { report: "sessions", body: { ...common_body, list: true, limit: 50, ...(params.get("cursor") ? { cursor: params.get("cursor") } : {}) } },
  };
  const { tiles, cancel, again } = useAnswers(asked);
  const common = { zone, onCancel: cancel, onAgain: again };
  const options: TrendOptions = { id: "sessions", interval, zone, unit, names: [math], fields: breakdown ? [breakdown] : [], name: (series) => (series.kind === null ? name : String(series.breakdown ?? "")) };
  if (breakdown) delete options.name;
  return (
    <Page title="Sessions" questions={asked} has={{ range: true, compare: true }}>
      <section class="builder" aria-label="What is asked">
        <div class="step">
          <Choice label="Shown" value={math} of={MATHS.map(([key, name]): [string, string] => [key, name])} onChange={(math) => change({ math: math === "sessions" ? null : math })} />
          <label class="choice"><span>Broken down by</span><Picker label="Broken down by" value={breakdown} offered={SESSION_COLUMNS} placeholder="nothing" onChange={(field) => change({ b: field || null })} /></label>
        </div>
      </section>
      <div class="tiles">
        <Tile<Chart> id="sessions" title={name[0]!.toUpperCase() + name.slice(1)} wide keep asked={tiles("sessions")} {...common} table={(answer) => trend_table(answer, options)} summary={(answer) => trend_summary(answer, options)}>
          {(answer) => <Trend answer={answer} options={options} label="Sessions" />}
        </Tile>
        <Tile<List> id="list" title="The newest" wide asked={tiles("list")} {...common} table={(answer) => table(answer, zone)}>
          {(answer) => <Sessions answer={answer} zone={zone} />}
        </Tile>
      </div>
    </Page>
  );
}

function Sessions({ answer: { result }, zone }: { answer: Answer<List>; zone: string }) {
  if (!result.sessions.length) return <p class="nothing">No sessions in this time.</p>;
  return (
    <>
      <ul class="list">
        {result.sessions.map((session) => (
          <li key={session.id}>
            <PersonLink id={session.person} />
            <span><a href={session_page(session, zone)} title="What happened in it">{moment(session.start, zone)}</a></span>
            <span>{duration(session.duration_ms)}, {plural(session.pages, "page")}, {plural(session.events, "event")}{session.is_bounce && ", bounced"}</span>
            <span class="note"><bdi>{[session.channel, session.entry_page && `in at ${session.entry_page}`, session.country, session.browser, session.device_type].filter(Boolean).join(" · ")}</bdi></span>
          </li>
        ))}
      </ul>
      <Pager next={result.next} />
    </>
  );
}

/** Leads to the next page of a list; Back leads back. */
export function Pager({ next }: { next: string | null }) {
  const has_before = here.value.params.has("cursor");
  if (!next && !has_before) return null;
  return (
    <p class="pager">
      {has_before && <button type="button" onClick={() => change({ cursor: null })}>The newest</button>}
      {next && <button type="button" onClick={() => change({ cursor: next })}>Older</button>}
    </p>
  );
}

function table({ result }: Answer<List>, zone: string): TableData {
  return {
    head: ["Person", "Began", "Length", "Pages", "Events", "Channel", "In at", "Out at"],
    rows: result.sessions.map((session) => [
      { text: session.person }, { text: moment(session.start, zone), value: session.start }, { text: duration(session.duration_ms), value: session.duration_ms }, { text: shown(session.pages), value: session.pages },
      { text: shown(session.events), value: session.events }, { text: session.channel ?? "" }, { text: session.entry_page ?? "" }, { text: session.exit_page ?? "" },
    ]),
  };
}
