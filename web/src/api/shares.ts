// Links to boards: made and revoked by those who may read everything, opened by those who have one.
import { json, request } from "./client";
import type { Share, SharedBoard, ShareRequest } from "./openapi";
import type { Bar, Sent } from "./ask";
import type { Answer, Question, Users } from "./types";

export type { Share, SharedBoard };

const of_board = (id: string) => `/v1/boards/${encodeURIComponent(id)}/shares`;

export async function shares(board: string): Promise<Share[]> {
  return (await json<{ shares: Share[] }>(of_board(board))).shares;
}

/** Makes a link, or the frame of one that pages of others may hold; its token is said this once. */
export async function share(board: string, body: ShareRequest): Promise<string> {
  const { id, token, embed } = await json<Share>(of_board(board), { method: "POST", body: JSON.stringify(body) });
  // Behind `#`: what a browser sends to no server is in nobody's log.
  if (embed.length === 0) return `${location.origin}/shared#${token}`;
  return `<iframe src="${location.origin}/embed/${id}#${token}" width="100%" height="800" title="pulse" sandbox="allow-scripts allow-same-origin"></iframe>`;
}

export async function revoke(id: string): Promise<void> {
  await request(`/v1/shares/${encodeURIComponent(id)}`, { method: "DELETE" });
}

const shared_path = (token: string) => `/v1/shared/${encodeURIComponent(token)}`;

export function shared_board(token: string): Promise<SharedBoard> {
  return json<SharedBoard>(shared_path(token));
}

/** Its place on the board. */
export const tile_number = (id: string) => Number(id.replace("tile", ""));

/** Asks all tiles of a shared board, whichever of them are open: `tile0` is the first. */
export function shared_tiles(token: string, query: string, open: [id: string, question: Question][], signal: AbortSignal): Sent {
  const ids: (string | undefined)[] = [];
  for (const [id] of open) ids[tile_number(id)] = id;
  return { response: request(`${shared_path(token)}/tiles${query && `?${query}`}`, { signal }), ids };
}

/** Who is behind a bar of a tile, or behind that of the period that it compares with. */
export function shared_people(token: string, query: string, { of, bar, compare }: Bar): Promise<Answer<Users>> {
  const body = { bar, ...(compare ? { compare } : {}), limit: 100 };
  return json<Answer<Users>>(`${shared_path(token)}/tiles/${tile_number(of)}/people${query && `?${query}`}`, { method: "POST", body: JSON.stringify(body) });
}
