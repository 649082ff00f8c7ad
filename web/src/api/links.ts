// Short links: an address that is too long to be sent stands under its hash.
import { json } from "./client";

/** Programs that send addresses cut what is longer. */
export const LONGEST = 1_500;

interface Link {
  id: string;
  address: string;
}

/** The short form of an address of this screen; the same for the same. */
export async function shortened(address: string): Promise<string> {
  const { id } = await json<Link>("/v1/links", { method: "POST", body: JSON.stringify({ address }) });
  return `${address.split("?")[0]}?l=${id}`;
}

/** Where a short link leads. */
export async function linked(id: string): Promise<string> {
  return (await json<Link>(`/v1/links/${encodeURIComponent(id)}`)).address;
}
