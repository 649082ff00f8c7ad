// Single events: what is stored, the newest first, and above it what comes in while one looks.
import { useState } from "preact/hooks";
import { useAnswers } from "../api/ask";
import { useLive } from "../api/live";
import type { Answer, Question, ShownEvent } from "../api/types";
import type { TableData } from "../chart/table";
import { plural, shown } from "../format";
import { moment, range } from "../time";
import { EventRow } from "../ui/event-row";
import { filters_of_page, read_filters, to_api, words, type Written } from "../ui/filters";
import { EventPicker } from "../ui/picker";
import { Tile } from "../ui/tile";
import { change, here } from "../url";
import { asked_bots, asked_range, Page } from "./page";
import { Pager } from "./sessions";

interface List {
  events: ShownEvent[];
  next: string | null;
}

export default function EventsPage() {
  const { params } = here.value;
  const { zone } = range();
  const is_live = params.get("live") === "1";
  const type = params.get("event") ?? "";
  const cursor = params.get("cursor");
  const body = { ...asked_range(), ...asked_bots(), filters: filters_of_page(), limit: 50, ...(type ? { event: type } : {}), ...(cursor ? { cursor } : {}) };
  const asked: Record<string, Question> = { list: { report: "events", body } };
  const { tiles, cancel, again } = useAnswers(asked);
  return (
    <Page title="Events" has={{ range: true, interval: false, filters: true }}>
      <section class="builder" aria-label="What is shown">
        <div class="step">
          <button type="button" aria-pressed={is_live} onClick={() => change({ live: is_live ? null : "1" })}>As they come in</button>
          <EventPicker label="Event" value={type} onChange={(event) => change({ event: event || null, cursor: null })} />
        </div>
      </section>
      <div class="tiles">
        {is_live && <Live type={type} zone={zone} />}
        <Tile<List> id="list" title={cursor ? "Older events" : "The newest"} wide asked={tiles("list")} zone={zone} onCancel={cancel} onAgain={again} table={(answer) => table(answer, zone)}>
          {({ result }) => (result.events.length
            ? <><ul class="events">{result.events.map((event) => <EventRow key={`${event.eventId} ${event.anonymousId}`} event={event} zone={zone} />)}</ul><Pager next={result.next} /></>
            : <p class="nothing">No events in this time.</p>)}
        </Tile>
      </div>
    </Page>
  );
}

function table({ result }: Answer<List>, zone: string): TableData {
  return {
    head: ["Time", "Event", "Person", "Page", "Properties"],
    rows: result.events.map((event) => [
      { text: moment(event.timestamp, zone), value: event.timestamp }, { text: event.type }, { text: event.userId ?? event.anonymousId ?? "" },
      { text: String((event.context?.page as any)?.path ?? "") }, { text: JSON.stringify(event.properties) },
    ]),
  };
}

/** Whether a filter can be told of events as they come in, which do not know what else there is of their session or person. */
function is_known([field]: Written): boolean {
  return !/^(session\.|person\.|segment$|session_?id$|language$)/i.test(field);
}

function Live({ type, zone }: { type: string; zone: string }) {
  const [is_on, set_is_on] = useState(true);
  const filters = read_filters();
  const known = filters.filter(is_known);
  const unknown = filters.filter((filter) => !is_known(filter));
  const { events, seconds, missed, has_gap, is_open, problem } = useLive({ type, is_on, filters: known.map(to_api), has_bots: "include_bots" in asked_bots() });
  const last = seconds[seconds.length - 1];
  const most = Math.max(1, ...seconds.map((second) => second.events));
  return (
    <section class="tile wide" data-tile="live" aria-labelledby="title-live">
      <header>
        <h2 id="title-live">As they come in</h2>
        <div class="tools"><button type="button" aria-pressed={!is_on} onClick={() => set_is_on(!is_on)}>{is_on ? "Pause" : "Go on"}</button></div>
      </header>
      {problem && <p class="failed" role="alert">{problem}; it is tried again.</p>}
      <p class="summary">{is_open && last ? `${plural(last.events, "event")} of ${plural(last.persons, "visitor")} in the last second${last.rejected ? `, ${shown(last.rejected)} rejected` : ""}${last.dead ? `, ${shown(last.dead)} dead` : ""}.` : is_on ? "Connecting…" : "Paused."}</p>
      <svg class="seconds" width="360" height="40" aria-hidden="true">{seconds.map((second, index) => <rect key={second.at} x={index * 6} width="5" y={40 - (38 * second.events) / most} height={Math.max(1, (38 * second.events) / most)} />)}</svg>
      <ul class="events">{events.map((event) => <EventRow key={`${event.eventId} ${event.receivedAt}`} event={event} zone={zone} is_live />)}</ul>
      {unknown.length > 0 && <p class="warn" role="status">What comes in does not say yet whether it is <bdi>{unknown.map(words).join(", ")}</bdi>: it is shown without regard to that.</p>}
      {!events.length && is_open && <p class="nothing">Nothing {known.length ? "of this " : ""}has come in since you opened this.</p>}
      <footer class="health"><span>straight from the log, before copies are told apart; of many events some are shown</span>{(missed > 0 || has_gap) && <span class="warn">{has_gap ? "some messages" : plural(missed, "message")} missed</span>}</footer>
    </section>
  );
}
