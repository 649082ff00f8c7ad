// Links to boards: made and revoked by those who may read everything, opened by whoever has one.
import { json, request } from "./client";
import type { Share, SharedBoard, ShareRequest } from "./openapi";
import type { Answer, Users } from "./types";

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

export function shared_tile(token: string, tile: number, query: string, signal: AbortSignal): Promise<Answer> {
  return json<Answer>(`${shared_path(token)}/tiles/${tile}${query && `?${query}`}`, { signal });
}

export function shared_people(token: string, tile: number, query: string, bar: unknown): Promise<Answer<Users>> {
  return json<Answer<Users>>(`${shared_path(token)}/tiles/${tile}/people${query && `?${query}`}`, { method: "POST", body: JSON.stringify({ bar, limit: 100 }) });
}
