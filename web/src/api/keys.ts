// Keys of the project, as those manage them who have its admin key: each call shows it, and nothing here keeps it.
import { json, request } from "./client";
import type { KeyRequest, ManagedKey } from "./openapi";

export type { KeyRequest, ManagedKey };

/** A key with its secret, which is said this once. */
export type MadeKey = ManagedKey & { key: string };

export interface ManagedKeys {
  /** Whose they are: that of the admin key. */
  project: string;
  keys: ManagedKey[];
}

const path_of = (id: string) => `/v1/keys/${encodeURIComponent(id)}`;

export function managed_keys(admin: string): Promise<ManagedKeys> {
  return json("/v1/keys", {}, admin);
}

export function make_key(admin: string, settings: KeyRequest): Promise<MadeKey> {
  return json("/v1/keys", { method: "POST", body: JSON.stringify(settings) }, admin);
}

/** Gives a key another secret; the one before is valid for as long as `overlap` says. */
export function rotate_key(admin: string, id: string, overlap: string): Promise<MadeKey> {
  return json(`${path_of(id)}/rotate`, { method: "POST", body: JSON.stringify({ overlap }) }, admin);
}

/** Revokes a key; one that is revoked is deleted. */
export async function end_key(admin: string, { id, version }: ManagedKey): Promise<void> {
  await request(path_of(id), { method: "DELETE", headers: { "if-match": `"${version}"` } }, admin);
}
