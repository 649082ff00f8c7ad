// What an answer is made of where its question has a breakdown or compares: its lines, and those of the time before.
import type { Question } from "../api/types";
import { isolated, label } from "../format";
import { OnlyButton } from "../ui/filters";
import { show_people } from "../ui/people-panel";

/** A value of the breakdown; both are null where there is none. */
export interface Group {
  breakdown?: unknown;
  kind?: unknown;
}

/** The line of a chart that a bar is of. */
export interface LineOf {
  group: Group;
  is_compared: boolean;
}

export function group_name({ breakdown, kind }: Group): string {
  return kind === null || kind === undefined ? "" : label(breakdown, kind);
}

/** What is of a line, where there is more than one. */
export function of_line(name: string, { group, is_compared }: LineOf): string {
  const own = group_name(group);
  return [name, own && isolated(own), is_compared ? "before" : ""].filter(Boolean).join(", ");
}

/** An answer, and the one that it is compared with. */
export function both<T extends { compare?: T }>(result: T): { chart: T; is_compared: boolean }[] {
  return [{ chart: result, is_compared: false }, ...(result.compare ? [{ chart: result.compare, is_compared: true }] : [])];
}

/** What belongs to each line, in the order of the answer. */
export function by_group<T extends Group>(all: T[]): [group: Group, own: T[]][] {
  const groups = new Map<string, [Group, T[]]>();
  for (const one of all) {
    const key = JSON.stringify([one.breakdown, one.kind]);
    const known = groups.get(key);
    if (known) known[1].push(one);
    else groups.set(key, [one, [one]]);
  }
  return [...groups.values()];
}

/** Shows who is behind a bar of a line of the tile `of`. */
export function show_bar(of: string, line: LineOf, bar: Record<string, unknown>, name: string): void {
  const { group: { breakdown, kind }, is_compared } = line;
  const own = kind === null || kind === undefined ? {} : { breakdown_value: breakdown, breakdown_kind: kind };
  show_people({ of, bar: { ...bar, ...own }, name: of_line(name, line), ...(is_compared ? { compare: true } : {}) });
}

/** The fields of the breakdown, where a click on a value keeps only it. */
export function kept_fields({ body: { breakdown } }: Question, is_filtered = false): string | string[] | undefined {
  return is_filtered && (typeof breakdown === "string" || Array.isArray(breakdown)) ? breakdown : undefined;
}

/** Stands above what is drawn of a line; nothing where there is only one. */
export function GroupHead({ group, is_compared, field }: LineOf & { field?: string | string[] }) {
  const name = group_name(group);
  if (!name && !is_compared) return null;
  return <h3>{name && <OnlyButton field={field} value={group.breakdown} kind={group.kind}>{name}</OnlyButton>} {is_compared && <span class="note">before</span>}</h3>;
}

/** How many lines there are besides the one that a sentence is about. */
export function more_lines(count: number): string {
  return count > 0 ? `; ${count} more ${count === 1 ? "line" : "lines"}` : "";
}
