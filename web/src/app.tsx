// The frame round the pages: who is signed in, where one can go, light or dark.
import { signal } from "@preact/signals";
import type { ComponentType } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { ApiError, is_other_project, is_signed_in, project_name, resume, session, sign_in, sign_out, watch_project } from "./api/client";
import { find_link, LONGEST_ADDRESS, make_link, short_form } from "./api/links";
import { KeyHelp, listen_for_keys } from "./ui/keys";
import { Later } from "./ui/later";
import Overview from "./pages/overview";
import { address, here, page_of, put_short, show_link } from "./url";

/** A page: the first part of its path, its name, and where its code is. */
interface PageEntry {
  path: string;
  name: string;
  load(): Promise<{ default: ComponentType }>;
}

/** A page is a file of that name in `pages/` and a line here; `src/query/screen.rs` answers its path. */
const PAGES: PageEntry[] = [
  { path: "", name: "Overview", load: async () => ({ default: Overview }) },
  { path: "trends", name: "Trends", load: () => import("./pages/trends") },
  { path: "funnel", name: "Funnel", load: () => import("./pages/funnel") },
  { path: "retention", name: "Retention", load: () => import("./pages/retention") },
  { path: "lifecycle", name: "Lifecycle", load: () => import("./pages/lifecycle") },
  { path: "stickiness", name: "Stickiness", load: () => import("./pages/stickiness") },
  { path: "paths", name: "Paths", load: () => import("./pages/paths") },
  { path: "sessions", name: "Sessions", load: () => import("./pages/sessions") },
  { path: "people", name: "People", load: () => import("./pages/people") },
  { path: "events", name: "Events", load: () => import("./pages/events") },
  { path: "boards", name: "Boards", load: () => import("./pages/boards") },
  { path: "alerts", name: "Alerts", load: () => import("./pages/alerts") },
  { path: "health", name: "Health", load: () => import("./pages/health") },
  { path: "settings", name: "Settings", load: () => import("./pages/settings") },
];

/** The page whose code cannot be loaded. */
const failed = signal<string | null>(null);
const loaded = signal<Record<string, ComponentType>>({ "": Overview });

/** Loads the code of a page, unless it is there. */
export async function load(page: string): Promise<void> {
  const entry = entry_of(page);
  if (!entry || loaded.peek()[page]) return;
  // Whether it can be loaded is said where it is to be shown.
  const module = await entry.load().catch(() => null);
  // One that comes later says nothing of another one.
  if (!module) failed.value = page;
  else if (failed.peek() === page) failed.value = null;
  if (module) loaded.value = { ...loaded.peek(), [page]: module.default };
}

/** Opened by a link alone, by itself and in a frame: nobody signs in there. */
const SHARED_BOARDS = ["shared", "embed"].map((path): PageEntry => ({ path, name: "A board", load: () => import("./pages/shared") }));

function entry_of(page: string): PageEntry | undefined {
  return [...PAGES, ...SHARED_BOARDS].find(({ path }) => path === page);
}

export function App() {
  const [problem, set_problem] = useState("");
  const is_shared = SHARED_BOARDS.some(({ path }) => path === here.value.page);
  const [resumed] = useState(() => (is_shared ? undefined : resume()));
  useEffect(() => {
    if (is_shared) return;
    void resumed?.then(set_problem);
  }, []);
  if (is_shared) return <Shown />;
  if (is_signed_in.value === undefined) return <p class="unseen" role="status">Signing in…</p>;
  if (is_signed_in.value === null) return <SignIn problem={problem} />;
  const is_other = is_other_project.value;
  // Nothing that is written there and not saved yet is lost.
  return <><div hidden={is_other}><Frame /></div>{is_other && <OtherProject />}<Later><Listening /></Later></>;
}

/** To other tabs, and to keys. */
function Listening() {
  useEffect(() => {
    const ends = [watch_project(), listen_for_keys()];
    return () => ends.forEach((end) => end());
  }, []);
  return null;
}

/** Nothing more is shown, asked or written under the name of the project that this tab was opened for. A dialog above all others: one that is open there
 * stays open, and would let nobody use anything else. */
function OtherProject() {
  const dialog = useRef<HTMLDialogElement>(null);
  const show = () => dialog.current?.showModal();
  useLayoutEffect(show, []);
  return (
    <dialog ref={dialog} class="sign-in" aria-labelledby="other-project" onClose={show}>
      <h1 id="other-project">Another project</h1>
      <form onSubmit={(event) => { event.preventDefault(); location.reload(); }}>
        <p role="alert">This tab is of <bdi>{project_name}</bdi>, and another tab has signed in to another project: a browser is signed in to one.</p>
        <button type="submit" autofocus>Show that one</button>
        <p class="note">Once you are signed in to <bdi>{project_name}</bdi> again, in any tab, this one goes on with what is written in it. “Show that one” leaves that.</p>
      </form>
    </dialog>
  );
}

function SignIn({ problem: first }: { problem: string }) {
  const [refused, set_refused] = useState("");
  const problem = refused || first;
  const [is_busy, set_is_busy] = useState(false);
  useEffect(() => {
    document.title = "Sign in · pulse";
  }, []);
  const enter = async (event: SubmitEvent) => {
    event.preventDefault();
    const key = new FormData(event.currentTarget as HTMLFormElement).get("key");
    set_is_busy(true);
    await sign_in(String(key).trim()).catch((refused: ApiError) => set_refused(refused.message));
    set_is_busy(false);
  };
  return (
    <main class="sign-in" id="main">
      <h1>pulse</h1>
      <form onSubmit={enter}>
        <label for="key">Read key</label>
        <input id="key" name="key" type="password" autocomplete="current-password" required autofocus placeholder="pulse_rk_…" />
        <button type="submit" disabled={is_busy}>Sign in</button>
        {problem && <p class="failed" role="alert">{problem}</p>}
        <p class="note">It was printed when pulse first started; <code>pulse keys</code> prints it again.</p>
      </form>
    </main>
  );
}

function Frame() {
  const [is_open, set_is_open] = useState(false);
  const { page, params } = here.value;
  useEffect(() => set_is_open(false), [page]);
  useEffect(shorten, [here.value]);
  // On a wall nobody clicks: the page alone, larger.
  if (params.get("wall") === "1") return <div class="wall"><Shown /></div>;
  return (
    <>
      <a class="skip" href="#main" onClick={(event) => { event.preventDefault(); document.getElementById("main")?.focus(); }}>To the content</a>
      <div class="frame">
        <header class="side">
          <a class="logo" href={page_of("/")}>pulse</a>
          <SignedIn />
          <button type="button" class="menu quiet" aria-expanded={is_open} aria-controls="nav" onClick={() => set_is_open(!is_open)}>Menu</button>
          <nav id="nav" class={is_open ? "open" : ""} aria-label="Pages">
            <Later>
              {PAGES.map(({ path, name }) => <a key={path} href={page_of(`/${path}`)} aria-current={path === page ? "page" : undefined}>{name}</a>)}
              <ThemeChoice />
              <button type="button" class="quiet" onClick={() => void sign_out()}>Sign out</button>
            </Later>
          </nav>
        </header>
        <Shown />
      </div>
      <KeyHelp />
    </>
  );
}

function SignedIn() {
  const user = session.value?.user;
  return <span class="project"><bdi>{project_name}</bdi>{user && <small><bdi>{user}</bdi></small>}</span>;
}

/** How long a page shows something before that has a link: on the way to it much is passed by that nobody sends. */
const STANDS_MS = 5_000;

/** Puts a short link in the place of an address that is too long to be sent, once that may be: it stands for some time, or the focus goes
 * elsewhere, as to the address bar. What is shown stays. */
function shorten(): (() => void) | undefined {
  const long = address();
  const has_link = history.state?.address === long;
  if (has_link || long.length <= LONGEST_ADDRESS) return undefined;
  const stop = () => {
    clearTimeout(timer);
    removeEventListener("blur", now);
  };
  const now = () => {
    stop();
    // Where there is none it stays as it is, which is right too.
    make_link(long).then((link) => long === address() && put_short(short_form(link), long), () => undefined);
  };
  const timer = setTimeout(now, STANDS_MS);
  addEventListener("blur", now);
  return stop;
}

/** Goes on to where a short link leads. */
function Opened({ id }: { id: string }) {
  const [problem, set_problem] = useState("");
  useEffect(() => {
    find_link(id).then((link) => show_link(short_form(link), link.address), (refused: ApiError) => set_problem(refused.message));
  }, [id]);
  return <main id="main" tabIndex={-1} aria-busy={!problem}>{problem && <><h1>This link leads nowhere</h1><p class="failed" role="alert">{problem}</p></>}</main>;
}

function Shown() {
  const { page, params } = here.value;
  const Current = loaded.value[page];
  useLayoutEffect(() => void load(page), [page]);
  const link = is_signed_in.value && params.get("l");
  if (link) return <Opened id={link} />;
  if (!entry_of(page)) return <main id="main" tabIndex={-1}><h1>There is no such page</h1><p><a href={page_of("/")}>To the overview</a></p></main>;
  if (Current) return <Current key={page} />;
  if (failed.value !== page) return <main id="main" tabIndex={-1} aria-busy="true" />;
  return <main id="main" tabIndex={-1}><h1>This page cannot be loaded</h1><div class="failed" role="alert"><span>The server may be away, or has been updated.</span> <button type="button" onClick={() => location.reload()}>Load again</button></div></main>;
}

type Theme = "system" | "light" | "dark";
const theme = signal<Theme>(kept_theme());

function kept_theme(): Theme {
  let kept: string | null = null;
  try {
    kept = localStorage.getItem("pulse-theme");
  } catch {
    // In a frame of others a browser may refuse it.
  }
  const known = kept === "light" || kept === "dark" ? kept : "system";
  document.documentElement.dataset.theme = known;
  return known;
}

function ThemeChoice() {
  const choose = (chosen: string) => {
    localStorage.setItem("pulse-theme", chosen);
    theme.value = kept_theme();
  };
  return (
    <select class="small theme" aria-label="Light or dark" value={theme.value} onChange={(event) => choose(event.currentTarget.value)}>
      <option value="system">As the system</option><option value="light">Light</option><option value="dark">Dark</option>
    </select>
  );
}
