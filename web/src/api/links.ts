// Short links: an address that is too long to be sent stands under its hash.
import { json } from "./client";
import type { Link } from "./openapi";

/** Programs that send addresses cut what is longer. */
export const LONGEST_ADDRESS = 1_500;

/** The short form of an address of this screen that has a link. */
export function short_form({ id, address }: Link): string {
  return `${address.split("?")[0]}?l=${id}`;
}

/** The link of an address; the same for the same. */
export function make_link(address: string): Promise<Link> {
  return json<Link>("/v1/links", { method: "POST", body: JSON.stringify({ address }) });
}

/** Where a short link leads. */
export function find_link(id: string): Promise<Link> {
  return json<Link>(`/v1/links/${encodeURIComponent(id)}`);
}
