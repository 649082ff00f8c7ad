// Sessions: their numbers by time, or one by one, as their question asks.
import { session as signed_in } from "../api/client";
import type { Answer, ShownSession } from "../api/types";
import type { TableData } from "../chart/table";
import { duration, isolated, plural, shown } from "../format";
import { day_of, days_later, moment } from "../time";
import { times_of, type Draw } from "../ui/drawing";
import { PersonLink } from "../ui/person-link";
import { page_of } from "../url";
import { draw_trend } from "./trend";

/** The answer to a question for single sessions. */
export interface SessionList {
  sessions: ShownSession[];
  next: string | null;
}

const NO_SESSIONS = "No sessions in this time.";

export const draw_sessions: Draw = (question, id) => {
  if (!question.body.list) return draw_trend(question, id);
  const { zone } = times_of(question);
  return {
    draw: (answer: Answer<SessionList>) => answer.result.sessions.length > 0 && <Sessions answer={answer} zone={zone} />,
    table: (answer) => sessions_table(answer, zone),
    summary: ({ result }: Answer<SessionList>) => (result.sessions.length ? `${plural(result.sessions.length, "session")}, the newest first.` : NO_SESSIONS),
  };
};

/** The address of a session, with the days that it lies in beside the time and filters of the list. */
function session_page({ id, start, end }: ShownSession, zone: string): string {
  const [from, to] = [day_of(Date.parse(start), zone), days_later(day_of(Date.parse(end), zone), 1)];
  return page_of(`/sessions/${encodeURIComponent(id)}`, { days: `${from}..${to}` });
}

export function Sessions({ answer: { result }, zone }: { answer: Answer<SessionList>; zone: string }) {
  if (!result.sessions.length) return <p class="nothing">{NO_SESSIONS}</p>;
  // The guests of a shared board go nowhere from here.
  const is_guest = !signed_in.value;
  const about = ({ channel, entry_page, country, browser, device_type }: ShownSession) => [channel, entry_page && `in at ${isolated(entry_page)}`, country, browser, device_type].filter(Boolean).join(" · ");
  return (
    <ul class="list">
      {result.sessions.map((session) => (
        <li key={session.id}>
          {is_guest ? <bdi>{session.person}</bdi> : <PersonLink id={session.person} />}
          <span>{is_guest ? moment(session.start, zone) : <a href={session_page(session, zone)} title="What happened in it">{moment(session.start, zone)}</a>}</span>
          <span>{duration(session.duration_ms)}, {plural(session.pages, "page")}, {plural(session.events, "event")}{session.is_bounce && ", bounced"}</span>
          <span class="note"><bdi>{about(session)}</bdi></span>
        </li>
      ))}
    </ul>
  );
}

export function sessions_table({ result }: Answer<SessionList>, zone: string): TableData {
  return {
    head: ["Person", "Began", "Length", "Pages", "Events", "Channel", "In at", "Out at"], units: { 2: "ms" },
    rows: result.sessions.map((session) => [
      { text: session.person }, { text: moment(session.start, zone), value: session.start }, { text: duration(session.duration_ms), value: session.duration_ms }, { text: shown(session.pages), value: session.pages },
      { text: shown(session.events), value: session.events }, { text: session.channel ?? "" }, { text: session.entry_page ?? "" }, { text: session.exit_page ?? "" },
    ]),
  };
}
