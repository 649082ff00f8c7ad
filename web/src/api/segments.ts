// Saved filters under a name, as the API keeps them: a write carries the version that it saw.
import { json, put_version, request } from "./client";

/** One of the list. */
export interface ListedSegment {
  name: string;
  version: number;
  /** The file that says it; it is changed there. */
  file?: string | null;
  /** Who saved it. */
  by?: string | null;
}

export interface Segment extends ListedSegment {
  /** As the API reads them. */
  filters: Record<string, unknown>[];
}

const path = (name: string) => `/v1/cohorts/${encodeURIComponent(name)}`;

export async function segments(): Promise<ListedSegment[]> {
  return (await json<{ cohorts: ListedSegment[] }>("/v1/cohorts")).cohorts;
}

export function segment(name: string): Promise<Segment> {
  return json<Segment>(path(name));
}

/** Saves filters in the place of the version that they were made from; new ones, of version 0, only where there are none of that name. */
export async function save_segment({ name, version, filters }: Segment): Promise<void> {
  await put_version(path(name), version, { filters }, {
    changed: "Somebody else has changed it meanwhile. Nothing was lost: it is shown as it is now.", taken: `There is a segment “${name}” already.`,
  });
}

export async function forget_segment({ name, version }: ListedSegment): Promise<void> {
  await request(path(name), { method: "DELETE", headers: { "if-match": `"${version}"` } });
}
