// People: who was here, and one of them with traits, ids and events.
import { useEffect, useState } from "preact/hooks";
import { useAnswers } from "../api/ask";
import { ApiError, json, request, session } from "../api/client";
import type { Person, Tie } from "../api/openapi";
import type { Answer, Question, ShownEvent, Users } from "../api/types";
import type { TableData } from "../chart/table";
import { plural, shown } from "../format";
import { moment, range } from "../time";
import { EventRow, Facts } from "../ui/event-row";
import { filters_of_page } from "../ui/filters";
import { has_address, person_page, PersonLink } from "../ui/person-link";
import { EventPicker } from "../ui/picker";
import { Tile } from "../ui/tile";
import { change, go, here } from "../url";
import { asked_bots, asked_range, Page } from "./page";
import { Pager } from "./sessions";

export default function PeoplePage() {
  const { rest } = here.value;
  return rest ? <Person key={rest} id={rest} /> : <People />;
}

function People() {
  const { params } = here.value;
  const { zone } = range();
  const event = params.get("event") ?? "";
  const cursor = params.get("cursor");
  const [refused, set_refused] = useState("");
  const body = { ...asked_range(), ...asked_bots(), filters: filters_of_page(), limit: 50, ...(event ? { event } : {}), ...(cursor ? { cursor } : {}) };
  const asked: Record<string, Question> = { list: { report: "users", body } };
  const { tiles, cancel, again } = useAnswers(asked);
  const find = (submitted: SubmitEvent) => {
    submitted.preventDefault();
    const id = String(new FormData(submitted.currentTarget as HTMLFormElement).get("id")).trim();
    set_refused(has_address(id) ? "" : `“${id}” cannot stand in an address: their events are those of the filter user_id or anonymous_id.`);
    if (id && has_address(id)) go(person_page(id));
  };
  return (
    <Page title="People" has={{ range: true, interval: false }}>
      <section class="builder" aria-label="What is asked">
        {refused && <p class="failed" role="alert">{refused}</p>}
        <div class="step">
          <span class="word">Who had</span><EventPicker label="Event" value={event} onChange={(name) => change({ event: name || null, cursor: null })} />
          <form class="step" onSubmit={find}><input name="id" aria-label="Any id of a person" placeholder="any id of a person" /><button type="submit">Find</button></form>
        </div>
      </section>
      <div class="tiles">
        <Tile<Users> id="list" title="People" wide asked={tiles("list")} zone={zone} onCancel={cancel} onAgain={again} table={(answer) => table(answer, zone)}
          summary={({ result }) => `${plural(result.total, "person", "people")} in this time.`}>
          {({ result }) => (
            <>
              <ul class="list">
                {result.users.map((user) => (
                  <li key={user.user}>
                    <PersonLink id={user.user} />
                    <span>{plural(user.events, "event")}</span><span class="note">{moment(user.first_seen, zone)} – {moment(user.last_seen, zone)}</span>
                  </li>
                ))}
              </ul>
              <Pager next={result.next} words={["The first", "More"]} />
            </>
          )}
        </Tile>
      </div>
    </Page>
  );
}

function table({ result }: Answer<Users>, zone: string): TableData {
  return {
    head: ["Person", "Events", "First", "Last"],
    rows: result.users.map((user) => [{ text: user.user }, { text: shown(user.events), value: user.events }, { text: moment(user.first_seen, zone), value: user.first_seen }, { text: moment(user.last_seen, zone), value: user.last_seen }]),
  };
}

interface Page_ {
  events: ShownEvent[];
  next: string | null;
}

/** What is known of a person; asked again when something was changed. */
function useKnown<T>(path: string, again: number): { known?: T; problem: string } {
  const [state, set_state] = useState<{ known?: T; problem: string }>({ problem: "" });
  const is_signed_in = Boolean(session.value);
  useEffect(() => {
    const running = new AbortController();
    if (is_signed_in) {
      json<any>(path, { signal: running.signal }).then(
        (answer) => set_state({ known: answer.result ?? answer, problem: "" }),
        (refused: ApiError) => running.signal.aborted || set_state((before) => ({ ...before, problem: refused.message })),
      );
    }
    return () => running.abort();
  }, [path, again, is_signed_in]);
  return state;
}

function Person({ id }: { id: string }) {
  const { zone } = range();
  const [again, set_again] = useState(0);
  const cursor = here.value.params.get("cursor");
  const path = `/v1/people/${encodeURIComponent(id)}`;
  const { known, problem } = useKnown<Person>(path, again);
  const { known: page, problem: of_events } = useKnown<Page_>(`${path}/events?limit=50${cursor ? `&cursor=${encodeURIComponent(cursor)}` : ""}`, again);
  return (
    <Page title={id}>
      {problem && <p class="failed" role="alert">{problem}</p>}
      <div class="tiles">
        <section class="tile" data-tile="person" aria-busy={!known && !problem}>
          <h2>Who it is</h2>
          {known && (
            <>
              <p class="summary">{plural(known.events, "event")}, {moment(known.first_seen, zone)} – {moment(known.last_seen, zone)} {zone}</p>
              <Facts of={known.traits} title="Traits" />
            </>
          )}
        </section>
        <section class="tile" data-tile="ids" aria-busy={!known && !problem}>
          <h2>Ids</h2>
          {known && <ul class="people">{known.ids.map(({ id, kind }) => <li key={`${kind} ${id}`}><bdi>{id}</bdi><span>{kind ?? ""}</span></li>)}</ul>}
          {known && known.ties.length > 0 && <><h3>Ties</h3><ul class="people">{known.ties.map((tie) => <TieRow key={JSON.stringify(tie)} tie={tie} zone={zone} onChanged={() => set_again(again + 1)} />)}</ul></>}
        </section>
        <section class="tile wide" data-tile="timeline" aria-busy={!page && !of_events}>
          <h2>Events</h2>
          {of_events && <p class="failed" role="alert">{of_events}</p>}
          {page && <ul class="events">{page.events.map((event) => <EventRow key={event.eventId} event={event} zone={zone} has_person={false} />)}</ul>}
          {page && <Pager next={page.next} />}
        </section>
      </div>
    </Page>
  );
}

/** Two ids that are one person: undone and made again here. */
function TieRow({ tie, zone, onChanged }: { tie: Tie; zone: string; onChanged(): void }) {
  const [problem, set_problem] = useState("");
  const from = tie.anonymousId === undefined ? { previousId: tie.previousId } : { anonymousId: tie.anonymousId };
  const rule = (what: string) => request(`/v1/identities/${what}`, { method: "POST", body: JSON.stringify({ ...from, userId: tie.userId }) }).then(onChanged, (refused: ApiError) => set_problem(refused.message));
  const how = tie.undone_at ? `undone ${moment(tie.undone_at, zone)}` : tie.merged_at ? `made here ${moment(tie.merged_at, zone)}` : `by an event, ${moment(tie.event?.timestamp, zone)}`;
  return (
    <li>
      <span><bdi>{tie.anonymousId ?? tie.previousId}</bdi> = <bdi>{tie.userId}</bdi></span>
      <span>{how} <button type="button" onClick={() => void rule(tie.undone_at ? "merge" : "unmerge")}>{tie.undone_at ? "One person again" : "Two people"}</button></span>
      {problem && <p class="failed" role="alert">{problem}</p>}
    </li>
  );
}
