// What is shown is what the address says: pages read their state from here and change it by going somewhere else, so Back is undo,
// a reload changes nothing and an address can be sent to somebody.
import { signal } from "@preact/signals";

export interface Place {
  /** The page: the first part of the path. */
  page: string;
  /** What follows in the path, decoded. */
  rest: string;
  params: URLSearchParams;
}

/** What is shown; beside a short link its entry of the history keeps what that stands for. */
export function address(): string {
  return history.state?.address ?? location.pathname + location.search;
}

function read(): Place {
  const { pathname, searchParams } = new URL(location.origin + address());
  const [page = "", ...rest] = pathname.slice(1).split("/");
  let decoded = rest.join("/");
  try {
    decoded = decodeURIComponent(decoded);
  } catch {
    // Not the address of anything: shown as it is.
  }
  return { page, rest: decoded, params: searchParams };
}

export const here = signal<Place>(read());

/** What a link changes: a text or several, `null` to take it out. */
export type Changes = Record<string, string | string[] | null>;

/** Parameters that mean the same on every page, and go along. */
export const SHARED = ["from", "to", "i", "tz", "compare", "f", "bots"];

function with_changes(params: URLSearchParams, changes: Changes): string {
  const next = new URLSearchParams(params);
  for (const [name, value] of Object.entries(changes)) {
    next.delete(name);
    for (const one of value === null ? [] : [value].flat()) next.append(name, one);
  }
  // Written so that people can read it: only what would end a parameter is escaped.
  const text = [...next].map(([name, value]) => `${name}=${readable(value)}`).join("&");
  return text && `?${text}`;
}

function readable(value: string): string {
  return encodeURIComponent(value).replace(/%(2F|3A|2C|22|5B|5D|7B|7D|40)/gi, (escaped) => decodeURIComponent(escaped)).replace(/%20/g, "+");
}

/** The address of this page with changes. */
export function changed(changes: Changes): string {
  return location.pathname + with_changes(here.value.params, changes);
}

/** The address of another page, for the same time and filters. */
export function page_of(path: string, changes: Changes = {}): string {
  const kept = new URLSearchParams([...here.value.params].filter(([name]) => SHARED.includes(name)));
  return path + with_changes(kept, changes);
}

export function go(to: string, replace = false): void {
  // What stands behind `#` is the token of a link.
  if (replace) history.replaceState(null, "", to + location.hash);
  else if (to !== address()) history.pushState(null, "", to + location.hash);
  here.value = read();
}

/** Puts a short link in the place of the address of what is shown: Back and a reload show the same without asking what it stands for. */
export function put_short(short: string, long: string): void {
  history.replaceState({ address: long }, "", short);
}

/** Shows what a short link stands for. */
export function show_link(short: string, long: string): void {
  put_short(short, long);
  here.value = read();
}

/** Changes the state of this page; each change is a step that Back undoes. */
export function change(changes: Changes, replace = false): void {
  go(changed(changes), replace);
}

/** Lets links within the screen change the address without loading it again. */
export function follow_links(): void {
  addEventListener("popstate", () => (here.value = read()));
  addEventListener("click", (event) => {
    const link = (event.target as Element | null)?.closest?.("a[href]");
    const is_plain = !(event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey);
    if (!(link instanceof HTMLAnchorElement) || !is_plain || link.origin !== location.origin || link.target || link.download) return;
    event.preventDefault();
    go(link.pathname + link.search);
    scrollTo(0, 0);
    document.querySelector<HTMLElement>("main")?.focus({ preventScroll: true });
  });
}
