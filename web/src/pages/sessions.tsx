// Sessions: how many, how long, from where; and one by one, the newest first.
import { useAnswers } from "../api/ask";
import type { Chart, Question } from "../api/types";
import { Trend, trend_summary, trend_table, type TrendOptions } from "../chart/trend";
import { Sessions, sessions_table, type SessionList } from "../draw/sessions";
import { label, type Unit } from "../format";
import { range } from "../time";
import { filters_of_page } from "../ui/filters";
import { Choice, Picker } from "../ui/picker";
import { Tile } from "../ui/tile";
import { change, here } from "../url";
import { SESSION_COLUMNS } from "../api/catalogue";
import { asked_bots, asked_compare, asked_range, Page } from "./page";
import { SessionPage } from "./sessions/one";

const MATHS: [key: string, name: string, unit: Unit][] = [
  ["sessions", "sessions", "number"], ["visitors", "visitors", "number"], ["bounce_rate", "bounce rate", "share"], ["avg_duration_ms", "average length", "duration"],
  ["median_duration_ms", "median length", "duration"], ["pages_per_session", "pages a session", "number"], ["events_per_session", "events a session", "number"],
];

export default function SessionsPage() {
  const { rest, params } = here.value;
  return rest ? <SessionPage id={rest} cursor={params.get("cursor")} days={params.get("days")} /> : <AllSessions />;
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
  const options: TrendOptions = { id: "sessions", interval, zone, unit, names: [math], fields: breakdown ? [breakdown] : [], name: (series) => (series.kind === null ? name : label(series.breakdown, series.kind)) };
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
        <Tile<SessionList> id="list" title="The newest" wide asked={tiles("list")} {...common} table={(answer) => sessions_table(answer, zone)}>
          {(answer) => <><Sessions answer={answer} zone={zone} /><Pager next={answer.result.next} /></>}
        </Tile>
      </div>
    </Page>
  );
}

/** Leads to the next page of a list, of one by time unless `words` say otherwise; Back leads back. */
export function Pager({ next, words: [first, more] = ["The newest", "Older"] }: { next: string | null; words?: [first: string, more: string] }) {
  const has_before = here.value.params.has("cursor");
  if (!next && !has_before) return null;
  return (
    <p class="pager">
      {has_before && <button type="button" onClick={() => change({ cursor: null })}>{first}</button>}
      {next && <button type="button" onClick={() => change({ cursor: next })}>{more}</button>}
    </p>
  );
}
