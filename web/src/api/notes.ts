// What happened when, as people and their scripts have noted it: it stands on every chart of time.
import { signal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { json, project_name, request } from "./client";
import type { Note, NoteRequest } from "./openapi";

export type { Note };

export const KINDS = ["note", "release", "campaign", "incident", "holiday"];

const NONE: Note[] = [];

/** The notes of the last two years, with the project that they are of: in the same tab one may sign in to another one. */
const kept = signal({ project: "", notes: NONE });

const KEPT_MS = 60_000;
const MOST_PAGES = 5;
let asked = { project: "", at: 0 };

async function load_notes(): Promise<void> {
  const project = project_name.value;
  asked = { project, at: Date.now() };
  const found: Note[] = [];
  let cursor = "";
  for (let page = 0; page < MOST_PAGES; page++) {
    const answer = await json<{ notes: Note[]; next: string | null }>(`/v1/notes?from=-2y${cursor && `&cursor=${encodeURIComponent(cursor)}`}`);
    found.push(...answer.notes);
    if (!answer.next) break;
    cursor = answer.next;
  }
  if (project !== asked.project) return;
  // Where there were none and are none nothing is drawn again.
  if (found.length || kept.peek().notes.length) kept.value = { project, notes: found };
}

/** Asks for the notes where they were not asked for lately; none while they are not known. A server that has none is content without. */
export function useNotes(): Note[] {
  const project = project_name.value;
  useEffect(() => {
    if (project && (project !== asked.project || Date.now() - asked.at > KEPT_MS)) load_notes().catch(() => undefined);
  }, [project]);
  const { project: of, notes } = kept.value;
  return of === project ? notes : NONE;
}

export async function add_note(note: NoteRequest): Promise<void> {
  await request("/v1/notes", { method: "POST", body: JSON.stringify(note) });
  await load_notes();
}

export async function remove_note(id: string): Promise<void> {
  await request(`/v1/notes/${encodeURIComponent(id)}`, { method: "DELETE" });
  await load_notes();
}

/** The notes of each bucket of a chart; the last one has those up to now. */
export function by_bucket(all: Note[], buckets: string[]): Note[][] {
  const starts = buckets.map((bucket) => Date.parse(bucket));
  const found: Note[][] = buckets.map(() => []);
  const usual = starts.length > 1 ? starts[1]! - starts[0]! : Infinity;
  for (const note of all) {
    const at = Date.parse(note.at);
    const index = starts.findLastIndex((start) => start <= at);
    if (index >= 0 && (index < starts.length - 1 || at - starts[index]! <= usual)) found[index]!.push(note);
  }
  return found;
}
