// What this screen was let in with, and what it counts.
import { useEffect, useState } from "preact/hooks";
import { ApiError, json, session } from "../api/client";
import { add_note, KINDS, remove_note, useNotes } from "../api/notes";
import type { NoteRequest } from "../api/openapi";
import { moment, range, start_of_day } from "../time";
import { change, here } from "../url";
import { Page } from "./page";

interface Cohorts {
  cohorts: { name: string; version: number }[];
}

export default function Settings() {
  const { project, key } = session.value!;
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
          </dl>
          <p class="note">Names, time zones and what is left out are set in <code>config/pulse.toml</code> under <code>[projects.NAME]</code>; keys are made and revoked by <code>pulse keys</code>.</p>
        </section>
        <section class="tile">
          <h2>Bots and own traffic</h2>
          <label class="check"><input type="checkbox" checked={has_bots} onChange={() => change({ bots: has_bots ? null : "1" })} /> Count them too, on the pages reached from here</label>
        </section>
        <Notes />
        <SavedCohorts />
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
          <li key={note.id}><span><bdi>{note.text}</bdi></span><span>{note.kind}, {moment(note.at, zone)} <button type="button" class="quiet" aria-label={`Remove the note ${note.text}`} onClick={() => void remove_note(note.id).catch(refused)}>×</button></span></li>
        ))}
      </ul>
    </section>
  );
}

function SavedCohorts() {
  const [cohorts, set_cohorts] = useState<Cohorts["cohorts"] | null>(null);
  const [problem, set_problem] = useState("");
  useEffect(() => {
    json<Cohorts>("/v1/cohorts").then(({ cohorts }) => set_cohorts(cohorts), (refused: ApiError) => set_problem(refused.message));
  }, []);
  return (
    <section class="tile">
      <h2>Saved filters</h2>
      {problem && <p class="failed" role="alert">{problem}</p>}
      {cohorts?.length === 0 && <p class="note">None yet. <code>PUT /v1/cohorts/NAME</code> saves one.</p>}
      {cohorts && cohorts.length > 0 && <ul class="people">{cohorts.map(({ name, version }) => <li key={name}><bdi>{name}</bdi><span>version {version}</span></li>)}</ul>}
    </section>
  );
}
