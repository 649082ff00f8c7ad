// Goals of the overview: events that somebody chose, with who had them and how many of all visitors that is. The choice stands in the address;
// where that says nothing of goals, the last choice of this browser for the project is put there.
import { useLayoutEffect } from "preact/hooks";
import type { Known } from "../api/ask";
import { project_name } from "../api/client";
import type { Answer, Chart, Question } from "../api/types";
import type { TableData } from "../chart/table";
import { shown } from "../format";
import { filters_of_page, filter_by } from "../ui/filters";
import { show_people } from "../ui/people-panel";
import { EventPicker } from "../ui/picker";
import { Tile } from "../ui/tile";
import { change, here } from "../url";
import { asked_bots, asked_range } from "./page";

const MOST = 7;
const key = () => `pulse-goals ${project_name.value}`;

function goals(): string[] {
  const { params } = here.value;
  if (params.has("goal")) return params.getAll("goal").filter(Boolean).slice(0, MOST);
  try {
    const kept: unknown = JSON.parse(localStorage.getItem(key()) ?? "[]");
    return Array.isArray(kept) ? kept.filter((name): name is string => typeof name === "string").slice(0, MOST) : [];
  } catch {
    return [];
  }
}

function choose(names: string[]): void {
  const all = [...new Set(names)];
  try {
    localStorage.setItem(key(), JSON.stringify(all));
  } catch {
    // Where nothing may be kept, the address says them.
  }
  change({ goal: all.length ? all : [""] });
}

/** All visitors, and those who had each goal; nothing without goals. */
export function goals_question(): Question | null {
  const names = goals();
  if (!names.length) return null;
  const series = [{ name: "visitors", math: "unique_users" }, ...names.map((event) => ({ name: `goal ${event}`, event, math: "unique_users" }))];
  return { report: "trends", body: { ...asked_range(), ...asked_bots(), interval: "month", filters: filters_of_page(), series } };
}

interface GoalsProps {
  asked: Known<Chart>;
  zone: string;
  onCancel(): void;
  onAgain(): void;
}

export function Goals({ asked, ...common }: GoalsProps) {
  const names = goals();
  useLayoutEffect(() => {
    // In place of the address without them: Back leads to what was before, and the questions stay the same.
    if (names.length && !here.value.params.has("goal")) change({ goal: names }, true);
  }, [here.value]);
  const add = names.length < MOST && <EventPicker key={names.join()} label="A goal" placeholder="+ an event" onChange={(name) => name && choose([...names, name])} />;
  if (!names.length) {
    return (
      <section class="tile" data-tile="goals" aria-labelledby="title-goals">
        <header><h2 id="title-goals">Goals</h2></header>
        <p class="note">Events that matter most, with who had them and how many of all visitors that is.</p>
        <div class="step">{add}</div>
      </section>
    );
  }
  // The numbers of other goals may still be there while these are asked.
  const rows = ({ result: { series } }: Answer<Chart>) => names.map((name) => {
    const index = series.findIndex((one) => one.name === `goal ${name}`);
    const [all, people] = [series[0]?.total ?? 0, series[index]?.total ?? 0];
    return { name, index, people, share: all ? people / all : null };
  });
  const table = (answer: Answer<Chart>): TableData => ({
    head: ["Goal", "Visitors", "Of all"],
    rows: rows(answer).map(({ name, people, share }) => [{ text: name }, { text: shown(people), value: people }, { text: shown(share, "share"), value: share }]),
  });
  return (
    <Tile<Chart> id="goals" title="Goals" asked={asked} {...common} table={table}>
      {(answer) => (
        <>
          <ul class="rows">
            {rows(answer).map(({ name, index, people, share }) => (
              <li key={name} data-goal={name}>
                <span class="fillbar" style={{ width: `${100 * (share ?? 0)}%` }} aria-hidden="true" />
                <button type="button" class="name" title={`Only ${name}`} onClick={() => filter_by("type", name, "value")}><bdi>{name}</bdi></button>
                <span>
                  <span class="note" data-share={share ?? ""}>{shown(share, "share")}</span>
                  <button type="button" class="number-button" data-value={people} aria-label={`${shown(people)} people: ${name}`} onClick={() => show_people({ of: "goals", bar: { series_index: index }, name })}>{shown(people)}</button>
                  <button type="button" class="quiet" aria-label={`Take the goal ${name} away`} onClick={() => choose(names.filter((one) => one !== name))}>×</button>
                </span>
              </li>
            ))}
          </ul>
          <div class="step">{add}</div>
        </>
      )}
    </Tile>
  );
}
