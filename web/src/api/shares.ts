// Links to boards: made and revoked by those who may read everything, opened by those who have one.
import { json, request } from "./client";
import type { Share, SharedBoard, ShareRequest } from "./openapi";
import type { Sent } from "./ask";
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

/** Asks all tiles of a shared board, whichever of them are open: `tile0` is the first. */
export function shared_tiles(token: string, query: string, open: [id: string, question: Question][], signal: AbortSignal): Sent {
  const ids: (string | undefined)[] = [];
  for (const [id] of open) ids[Number(id.replace("tile", ""))] = id;
  return { response: request(`${shared_path(token)}/tiles${query && `?${query}`}`, { signal }), ids };
}

export function shared_people(token: string, tile: number, query: string, bar: unknown): Promise<Answer<Users>> {
  return json<Answer<Users>>(`${shared_path(token)}/tiles/${tile}/people${query && `?${query}`}`, { method: "POST", body: JSON.stringify({ bar, limit: 100 }) });
}
