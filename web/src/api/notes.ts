// What happened when, as people and their scripts have noted it: it stands on every chart of time.
import { signal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { json, request, session } from "./client";
import type { Note, NoteRequest } from "./openapi";

export type { Note };

export const KINDS = ["note", "release", "campaign", "incident", "holiday"];

/** The notes of the last two years; none while they are not known. */
export const notes = signal<Note[]>([]);

const KEPT_MS = 60_000;
const MOST_PAGES = 5;
let asked_at = 0;

export async function load_notes(): Promise<void> {
  asked_at = Date.now();
  const found: Note[] = [];
  let cursor = "";
  for (let page = 0; page < MOST_PAGES; page++) {
    const answer = await json<{ notes: Note[]; next: string | null }>(`/v1/notes?from=-2y${cursor && `&cursor=${encodeURIComponent(cursor)}`}`);
    found.push(...answer.notes);
    if (!answer.next) break;
    cursor = answer.next;
  }
  // Where there were none and are none nothing is drawn again.
  if (found.length || notes.peek().length) notes.value = found;
}

/** Asks for the notes where they were not asked for lately; a server that has none is content without. */
export function useNotes(): Note[] {
  const is_signed_in = Boolean(session.value);
  useEffect(() => {
    if (is_signed_in && Date.now() - asked_at > KEPT_MS) load_notes().catch(() => undefined);
  }, [is_signed_in]);
  return notes.value;
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
