// Short links: an address that is too long to be sent stands under its hash.
import { json } from "./client";

/** Programs that send addresses cut what is longer. */
export const LONGEST = 1_500;

interface Link {
  id: string;
  address: string;
}

/** The link that was made or followed last: whoever follows one is at its address. */
let last: Link | undefined;

const short = ({ id, address }: Link) => `${address.split("?")[0]}?l=${id}`;

/** The short form of an address of this screen; the same for the same. */
export async function shortened(address: string): Promise<string> {
  last = await json<Link>("/v1/links", { method: "POST", body: JSON.stringify({ address }) });
  return short(last);
}

/** The short form of an address, if it is the one of the last link. */
export function known(address: string): string | undefined {
  return last?.address === address ? short(last) : undefined;
}

/** Where a short link leads. */
export async function linked(id: string): Promise<string> {
  last = await json<Link>(`/v1/links/${encodeURIComponent(id)}`);
  return last.address;
}
