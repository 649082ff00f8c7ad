// Leads to one person by any of their ids.
import type { ComponentChildren } from "preact";
import { page_of } from "../url";

/** Whether an id can stand in an address: browsers take those of dots for steps through folders, however they are escaped. */
export function has_address(id: string): boolean {
  return id !== "." && id !== "..";
}

export function person_page(id: string): string {
  return page_of(`/people/${encodeURIComponent(id)}`);
}

/** The name alone where no address leads to it. */
export function PersonLink({ id, children }: { id: string; children?: ComponentChildren }) {
  const content = children ?? <bdi>{id}</bdi>;
  return has_address(id) ? <a href={person_page(id)}>{content}</a> : <>{content}</>;
}
