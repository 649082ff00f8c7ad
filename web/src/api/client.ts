// Talks to the server that the page came from, for the holder of one read key.
import { computed, signal } from "@preact/signals";
import { next_task } from "../tasks";
import { early_answer } from "./early";
import type { Who } from "./openapi";

/** A refusal, as the server worded it, or what kept it from answering. */
export class ApiError extends Error {
  constructor(readonly status: number, readonly code: string, message: string, readonly retry_after_ms = 0) {
    super(message);
  }
}

/** Who is signed in. The rules of the project are not known before the server has said them. */
export type Session = Omit<Who, "rules"> & Partial<Pick<Who, "rules">>;

/** Who is signed in: not known yet, nobody, or somebody. */
export const session = signal<Session | null | undefined>(undefined);

/** Whether this browser is signed in to another project than the page shows: another tab did that, and all have one cookie. */
export const is_other_project = signal(false);

/** Whether somebody is signed in: not known yet, no, or yes. Of this and what follows, what is drawn by it is drawn again only where it changes: who it
 * is comes later than what is known from the last time, and is mostly the same. */
export const is_signed_in = computed(() => session.value && true);
export const project_name = computed(() => session.value?.project.name ?? "");
export const project_zone = computed(() => session.value?.project.timezone ?? "UTC");

/** Whether what is shown may be asked for: somebody is signed in, to its project. */
export const may_ask = computed(() => Boolean(session.value) && !is_other_project.value);

/** Where it is kept which project this browser is signed in to, and its zone: pages ask at once, while the server says whether it is so. */
const SIGNED_IN = "pulse_project";
const ZONE = "pulse_zone";

/** The key until there is a cookie for it, and where the server has no sessions: kept in this page alone. */
let own_key = "";
let exchanged: Promise<unknown> = Promise.resolve();
/** Somebody, where the server does not say who. */
export const UNKNOWN: Session = { project: { name: "default", timezone: "UTC" }, key: { name: "read key", kind: "read" }, user: null };

/** A request as who is signed in sends it, or who holds another key where one is given. */
export function signed(init: RequestInit, key = ""): RequestInit & { headers: Headers } {
  const headers = new Headers(init.headers);
  if (key || own_key) headers.set("authorization", `Bearer ${key || own_key}`);
  if (init.body) headers.set("content-type", "application/json");
  // What is asked and written for the project that is shown goes to no other.
  const project = key ? "" : shown_project();
  if (project) headers.set("x-pulse-project", encodeURIComponent(project));
  return { ...init, headers, credentials: "same-origin" };
}

/** The project that is shown, where the server or this browser has said which. */
function shown_project(): string {
  const shown = session.peek();
  return !shown || shown === UNKNOWN ? "" : shown.project.name;
}

/** Sends a request to `/v1/…`; with a key that is not of who is signed in where one is given. */
export async function request(path: string, init: RequestInit = {}, key = ""): Promise<Response> {
  const project = key ? "" : shown_project();
  const sent = signed(init, key);
  let response: Response;
  try {
    response = await (early_answer(path, sent) ?? fetch(path, sent));
  } catch (problem) {
    if ((problem as Error).name === "AbortError") throw new ApiError(0, "cancelled", "cancelled");
    throw new ApiError(0, "away", "the server cannot be reached");
  }
  if (!response.ok && response.status !== 304) {
    const refused = await refusal(response, !key);
    if (refused.code === "other_project" && project === session.peek()?.project.name) is_other_project.value = true;
    throw refused;
  }
  return response;
}

/** Notices that another tab signs in to another project; calls it off with what is returned. */
export function watch_project(): () => void {
  const look = () => {
    const [kept, shown] = [localStorage.getItem(SIGNED_IN), session.peek()];
    if (kept && shown && shown !== UNKNOWN && !own_key) is_other_project.value = kept !== shown.project.name;
  };
  look();
  addEventListener("storage", look);
  document.addEventListener("visibilitychange", look);
  return () => {
    removeEventListener("storage", look);
    document.removeEventListener("visibilitychange", look);
  };
}

async function refusal(response: Response, is_of_session: boolean): Promise<ApiError> {
  const said = (await response.json().catch(() => ({}))) as { code?: string; message?: string };
  if (response.status === 401 && is_of_session) session.value = null;
  const retry_after_ms = 1_000 * Number(response.headers.get("retry-after") ?? 0) || 0;
  return new ApiError(response.status, said.code ?? `http_${response.status}`, said.message ?? response.statusText, retry_after_ms);
}

export async function json<T>(path: string, init?: RequestInit, key?: string): Promise<T> {
  return (await (await request(path, init, key)).json()) as T;
}

/** What is said where others were faster: they have `changed` what a write was made from, or `taken` its name. */
interface Faster {
  changed: string;
  taken: string;
}

/** Saves something in the place of the `version` that it was made from; what has none yet, only where there is nothing of its name. Its version then. */
export async function put_version(path: string, version: number | null, body: unknown, { changed, taken }: Faster): Promise<number> {
  const headers: Record<string, string> = version ? { "if-match": `"${version}"` } : { "if-none-match": "*" };
  try {
    return (await json<{ version: number }>(path, { method: "PUT", headers, body: JSON.stringify(body) })).version;
  } catch (problem) {
    if (!(problem instanceof ApiError) || problem.code !== "version_mismatch") throw problem;
    throw new ApiError(412, problem.code, version ? changed : taken);
  }
}

function signed_in(now: Session): void {
  const shown = session.peek();
  session.value = now;
  is_other_project.value = false;
  keep(SIGNED_IN, now.project.name);
  keep(ZONE, now.project.timezone);
  // What was asked in the meantime was for the project that is remembered.
  if (shown && shown.project.name !== now.project.name) location.reload();
}

/** Writing takes long, and tells all tabs: only what is another. */
function keep(place: string, text: string): void {
  if (localStorage.getItem(place) !== text) localStorage.setItem(place, text);
}

/** Who was signed in when a page was open last. */
export function remembered(): Session | undefined {
  const [name, timezone] = [SIGNED_IN, ZONE].map((place) => localStorage.getItem(place));
  return name && timezone ? { ...UNKNOWN, project: { name, timezone } } : undefined;
}

/** Changes the key for a cookie that scripts cannot read; nobody waits for it. Whose key it is may be known. */
export async function sign_in(key: string, known?: Session): Promise<void> {
  own_key = key;
  try {
    signed_in(known ?? (await json<Session>("/v1/session")));
    const given = () => {
      if (own_key === key) own_key = "";
    };
    // Also where the page is left at once.
    exchanged = request("/v1/session", { method: "POST", keepalive: true }).then(given, () => undefined);
  } catch (problem) {
    // A server without sessions, or one that is older than the page: the key stays here. Whether it is one, a question tells.
    if (!(problem instanceof ApiError) || problem.status !== 404) {
      own_key = "";
      throw problem;
    }
    await request("/v1/query/properties", { method: "POST", body: JSON.stringify({ from: "-1h", limit: 1, values: 1 }) });
    session.value = UNKNOWN;
  }
}

export async function sign_out(): Promise<void> {
  await exchanged;
  if (!own_key) await request("/v1/session", { method: "DELETE" }).catch(() => undefined);
  own_key = "";
  session.value = null;
  localStorage.removeItem(SIGNED_IN);
}

/** Whose a key is; nobody's if the server says so. */
async function owner_of(key: string): Promise<Session | undefined> {
  const response = await fetch("/v1/session", { headers: { authorization: `Bearer ${key}` }, credentials: "omit" }).catch(() => null);
  return response?.ok ? ((await response.json()) as Session) : undefined;
}

/** The key that a link brings along. */
export function linked_key(): string | null {
  return new URLSearchParams(location.hash.slice(1)).get("key");
}

/** Signs in with the key behind `#key=` of the address, which is taken out of it, or with the cookie that is there. A link does not decide who is
 * signed in: who is in another project is asked, and a key that is none takes nothing away. */
export async function resume(): Promise<string> {
  let key = linked_key();
  if (location.hash) history.replaceState(history.state, "", location.pathname + location.search);
  // What was signed in to in this browser: the cookie itself is not for scripts.
  const was = localStorage.getItem(SIGNED_IN);
  let owner: Session | undefined;
  if (key && was) {
    owner = await owner_of(key);
    const is = owner?.project.name;
    if (!is || (is !== was && !confirm(`You are signed in to “${was}”. Change to “${is}”, as this link asks?`))) key = null;
  }
  const before = key ? undefined : remembered();
  if (before) {
    session.value = before;
    // What the page asks is sent first.
    await next_task();
  }
  try {
    if (key) await sign_in(key, owner);
    else signed_in(await json<Session>("/v1/session"));
    return "";
  } catch (problem) {
    const { status, message } = problem as ApiError;
    // Who was signed in still is, as far as is known; what is asked says that the server is away.
    if (before && !status) return "";
    session.value = null;
    localStorage.removeItem(SIGNED_IN);
    return status === 401 && !key || status === 404 ? "" : message;
  }
}
