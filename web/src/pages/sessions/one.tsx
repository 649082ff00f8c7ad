// One session as a timeline: what happened in it, from its beginning to its end, with the time between.
import { useAnswers } from "../../api/ask";
import type { Question, ShownEvent } from "../../api/types";
import { duration, plural } from "../../format";
import { moment, range } from "../../time";
import { EventRow } from "../../ui/event-row";
import { PersonLink } from "../../ui/person-link";
import { Tile } from "../../ui/tile";
import { page_of } from "../../url";
import { asked_bots, asked_range, Page } from "../page";
import { Pager } from "../sessions";

interface List {
  events: ShownEvent[];
  next: string | null;
}

/** Events of a page of the timeline. */
const SHOWN = 200;
/** After a silence that long, it is said how long. */
const SILENCE_MS = 60_000;

export function SessionPage({ id, cursor, days }: { id: string; cursor: string | null; days: string | null }) {
  const { zone } = range();
  const [from, to] = days?.split("..") ?? [];
  const time = from && to ? { from, to, timezone: zone } : asked_range();
  const body = { ...time, ...asked_bots(), filters: [{ field: "session.id", op: "eq", value: id }], limit: SHOWN, ...(cursor ? { cursor } : {}) };
  const asked: Record<string, Question> = { session: { report: "events", body } };
  const { tiles, cancel, again } = useAnswers(asked);
  return (
    <Page title="A session" has={{ range: !days, interval: false, filters: false }} aside={<a class="button quiet" href={page_of("/sessions")}>All sessions</a>}>
      <div class="tiles">
        <Tile<List> id="session" title={id} wide asked={tiles("session")} zone={zone} onCancel={cancel} onAgain={again} summary={({ result }) => summary(result, zone)}
          table={({ result }) => ({ head: ["Time", "Event", "Page", "Properties"], rows: [...result.events].reverse().map((event) => [{ text: moment(event.timestamp, zone), value: event.timestamp }, { text: event.type }, { text: page_path(event) }, { text: JSON.stringify(event.properties) }]) })}>
          {({ result }) => (result.events.length ? <Timeline list={result} zone={zone} /> : <p class="nothing">No event of this session lies in this time. One that began before it, or is older than what is kept, is found in another.</p>)}
        </Tile>
      </div>
    </Page>
  );
}

function page_path(event: ShownEvent): string {
  return String((event.context?.page as { path?: unknown } | undefined)?.path ?? "");
}

function summary({ events, next }: List, zone: string): string {
  const [last, first] = [events[0], events[events.length - 1]];
  if (!first || !last) return "";
  const ms = Date.parse(last.timestamp) - Date.parse(first.timestamp);
  return `${plural(events.length, "event")}${next ? " and more before them" : ""} from ${moment(first.timestamp, zone)} on, within ${duration(ms)}.`;
}

function Timeline({ list: { events, next }, zone }: { list: List; zone: string }) {
  // The API has the newest first.
  const all = [...events].reverse();
  const person = all.find(({ userId }) => userId)?.userId ?? all[0]!.anonymousId;
  return (
    <>
      {person && <p>Of <PersonLink id={person} /></p>}
      {next && <Pager next={next} />}
      <ol class="events timeline">
        {all.map((event, index) => {
          const silence = index ? Date.parse(event.timestamp) - Date.parse(all[index - 1]!.timestamp) : 0;
          return [silence >= SILENCE_MS && <li key={`after ${event.eventId}`} class="note">{duration(silence)} later</li>, <EventRow key={event.eventId} event={event} zone={zone} has_person={false} />];
        })}
      </ol>
      {!next && <Pager next={null} />}
    </>
  );
}
