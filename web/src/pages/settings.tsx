// What this screen was let in with, what it counts, and the keys of the project.
import { useEffect, useState } from "preact/hooks";
import { session, type ApiError } from "../api/client";
import { add_note, KINDS, remove_note, useNotes } from "../api/notes";
import type { NoteRequest, Who } from "../api/openapi";
import { forget_segment, save_segment, segment, segments, type ListedSegment, type Segment } from "../api/segments";
import { duration } from "../format";
import { moment, range, start_of_day } from "../time";
import { from_api, to_api, type Written } from "../ui/filters";
import { Matches } from "../ui/matched";
import { is_sure } from "../ui/sure";
import { change, here, page_of } from "../url";
import { Page } from "./page";
import { Keys } from "./settings/keys";

type Rules = Who["rules"];
const OWN = { networks: "its networks", cookie: "a cookie", parameter: "a parameter of the page" };

/** What ends a session. */
function ends_of(rules: Rules): string[] {
  return [
    `after ${duration(rules.session_gap_ms)} without an event`, `${duration(rules.longest_session_ms)} after its first event`,
    ...(rules.session_cut_at_midnight ? ["at midnight"] : []), ...(rules.session_cut_at_campaign ? ["with an event of another campaign"] : []),
  ];
}

export default function Settings() {
  const { project, rules, key } = session.value!;
  const has_bots = here.value.params.get("bots") === "1";
  return (
    <Page title="Settings">
      <div class="tiles">
        <section class="tile">
          <h2>Project</h2>
          <dl class="facts">
            <div><dt>Name</dt><dd><bdi>{project.name}</bdi></dd></div>
            <div><dt>Time zone</dt><dd>{project.timezone}</dd></div>
            <div><dt>Signed in with</dt><dd><bdi>{key.name}</bdi> ({key.kind})</dd></div>
            {rules && (
              <>
                <div><dt>A session ends</dt><dd data-rule="sessions">{ends_of(rules).join(", ")}</dd></div>
                <div><dt>Own traffic</dt><dd data-rule="internal">{rules.internal.length ? `known by ${rules.internal.map((by) => OWN[by]).join(", ")}, and left out` : "is not told from that of others"}</dd></div>
                <div><dt>Data centres</dt><dd data-rule="data_centres">{rules.exclude_data_centres ? "left out" : "counted"}</dd></div>
              </>
            )}
          </dl>
          <p class="note">Time zones, what ends a session and what is left out are set in <code>config/pulse.toml</code> under <code>[projects.NAME]</code>.</p>
        </section>
        <section class="tile">
          <h2>Bots and own traffic</h2>
          <label class="check"><input type="checkbox" checked={has_bots} onChange={() => change({ bots: has_bots ? null : "1" })} /> Count them too, on the pages reached from here</label>
        </section>
        <Notes />
        <Segments />
        <Keys />
      </div>
    </Page>
  );
}

/** What happened when: it stands on every chart of time. */
function Notes() {
  const all = useNotes();
  const { zone } = range();
  const [problem, set_problem] = useState("");
  const refused = (problem: ApiError) => set_problem(problem.message);
  const add = (event: SubmitEvent) => {
    event.preventDefault();
    const form = event.currentTarget as HTMLFormElement;
    const text = (name: string) => String(new FormData(form).get(name) ?? "").trim();
    set_problem("");
    add_note({ text: text("text"), kind: text("kind") as NoteRequest["kind"], ...(text("at") ? { at: start_of_day(text("at"), zone) } : {}) }).then(() => form.reset(), refused);
  };
  return (
    <section class="tile" data-tile="notes">
      <h2>Notes on charts</h2>
      <form class="step" onSubmit={add}>
        <input name="text" aria-label="What happened" placeholder="what happened" required maxLength={300} />
        <select name="kind" aria-label="Kind of note">{KINDS.map((kind) => <option key={kind} value={kind}>{kind}</option>)}</select>
        <input name="at" aria-label="When" type="date" />
        <button type="submit">Add</button>
      </form>
      <p class="note">Days are those of {zone}; without one it is now. A script that deploys can <code>POST /v1/notes</code>.</p>
      {problem && <p class="failed" role="alert">{problem}</p>}
      <ul class="people">
        {[...all].reverse().slice(0, 50).map((note) => (
          <li key={note.id}><span><bdi>{note.text}</bdi></span><span>{note.kind}, {moment(note.at, zone)}{note.by && <>, by <bdi>{note.by}</bdi></>} <button type="button" class="quiet" aria-label={`Remove the note ${note.text}`} onClick={() => is_sure(note.text) && void remove_note(note.id).catch(refused)}>×</button></span></li>
        ))}
      </ul>
    </section>
  );
}

/** Filters under a name: used as one filter on every page. */
function Segments() {
  const [all, set_all] = useState<ListedSegment[] | null>(null);
  const [open, set_open] = useState<Segment | null>(null);
  const [problem, set_problem] = useState("");
  const refused = (problem: ApiError) => set_problem(problem.message);
  const load = () => segments().then(set_all, refused);
  useEffect(() => void load(), []);
  const look = (name: string) => segment(name).then(set_open, refused);
  const save = async (changed: Segment) => {
    set_problem("");
    await save_segment(changed).catch(refused);
    await Promise.all([load(), look(changed.name)]);
  };
  const forget = async (one: ListedSegment) => {
    set_problem("");
    await forget_segment(one).then(() => set_open(null), refused);
    await load();
  };
  return (
    <section class="tile" data-tile="segments" aria-busy={!all && !problem}>
      <h2>Segments</h2>
      {problem && <p class="failed" role="alert">{problem}</p>}
      {all?.length === 0 && <p class="note">None yet. “Save as a segment” beside filters makes one of them.</p>}
      <ul class="people">
        {all?.map((one) => (
          <li key={one.name} data-segment={one.name}>
            <a href={page_of("/", { f: JSON.stringify(["segment", "is", one.name]) })} title={one.by ? `Saved by ${one.by}` : undefined}><bdi>{one.name}</bdi></a>
            {one.file ? <span>of <bdi>{one.file}</bdi>, which is where it is changed</span> : <span>
              <button type="button" class="quiet" aria-expanded={open?.name === one.name} aria-label={`Change ${one.name}`} onClick={() => (open?.name === one.name ? set_open(null) : void look(one.name))}>Change</button>
              <button type="button" class="quiet" aria-label={`Delete ${one.name}`} onClick={() => is_sure(one.name) && void forget(one)}>×</button>
            </span>}
            {open?.name === one.name && <SegmentFilters segment={open} onChange={(filters) => void save({ ...open, filters })} />}
          </li>
        ))}
      </ul>
      <p class="note">Alerts and boards that name a segment follow its changes; without it they fail. A link to a board has what the segment said when the link was made.</p>
    </section>
  );
}

function SegmentFilters({ segment: { filters }, onChange }: { segment: Segment; onChange(filters: Segment["filters"]): void }) {
  const shown = filters.map(from_api);
  if (shown.includes(null)) return <pre tabIndex={0} aria-label="Its filters">{JSON.stringify(filters, null, 1)}</pre>;
  // One without filters is none.
  return <div class="chips"><Matches matched={{ filters: shown as Written[] }} has_segments={false} onChange={(written) => written && onChange(written.map(to_api))} /></div>;
}
