// Boards as the API keeps them: a write carries the version that it saw, and none overwrites another unseen.
import { json, put_version, request } from "./client";
import type { SavedBoard as Kept, Tile } from "./openapi";

/** A tile; its `view` says where it was made: the address of its page. */
export type BoardTile = Tile;

/** A board, whose tiles are a list whatever was written. */
export type SavedBoard = Omit<Kept, "tiles" | "description" | "file" | "by"> & { description?: string | null; file?: string | null; by?: string | null; tiles: Tile[] };

export type ListedBoard = Pick<SavedBoard, "id" | "version" | "title" | "file" | "by">;

const path = (id: string) => `/v1/boards/${encodeURIComponent(id)}`;

export async function boards(): Promise<ListedBoard[]> {
  return (await json<{ boards: ListedBoard[] }>("/v1/boards")).boards;
}

export function board(id: string): Promise<SavedBoard> {
  return json<SavedBoard>(path(id));
}

/** Saves a board in the place of the version that it was made from; a new one only where there is none of its id. */
export function save({ id, version, title, description, tiles }: SavedBoard): Promise<number> {
  return put_version(path(id), version, { title, ...(description ? { description } : {}), tiles }, {
    changed: "Somebody else has changed this board meanwhile. Nothing was lost: it is shown as it is now.", taken: "There is a board of this name already: choose another one.",
  });
}

export async function forget({ id, version }: ListedBoard): Promise<void> {
  await request(path(id), { method: "DELETE", headers: { "if-match": `"${version}"` } });
}

/** An id that says what it is of: where the title has no letters that an id may have, what `kind` it is. */
export function id_of(title: string, kind = "board"): string {
  const words = title.normalize("NFKD").toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-+|-+$/g, "").slice(0, 40);
  return words || `${kind}-${Date.now().toString(36)}`;
}
