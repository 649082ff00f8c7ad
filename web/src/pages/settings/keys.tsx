// The keys of the project: made, given another secret and revoked by those who have its admin key, which this page keeps until it is left.
import { useRef, useState } from "preact/hooks";
import { session, type ApiError } from "../../api/client";
import { end_key, make_key, managed_keys, rotate_key, type KeyRequest, type MadeKey, type ManagedKey } from "../../api/keys";
import { shown } from "../../format";
import { days_later, moment, start_of_day } from "../../time";

/** What each kind opens. */
const KINDS: [kind: NonNullable<KeyRequest["kind"]>, words: string][] = [
  ["write", "write: sends events"], ["read", "read: asks questions, signs in here"], ["import", "import: brings history, writes notes"], ["admin", "admin: manages keys"],
];
/** How long the secret before stays valid. */
const OVERLAPS: [overlap: string, words: string][] = [["7d", "for 7 days more"], ["1d", "for a day more"], ["1h", "for an hour more"], ["0s", "no longer"]];

export function Keys() {
  const { name } = session.value!.project;
  const [admin, set_admin] = useState("");
  const [all, set_all] = useState<ManagedKey[]>([]);
  const [made, set_made] = useState<MadeKey | null>(null);
  const [problem, set_problem] = useState("");
  const refused = (problem: ApiError) => set_problem(problem.message);
  /** The key as it is now, for answers that come when it may be another. */
  const held = useRef("");
  /** The key with which something is under way. */
  const busy = useRef("");
  const [has_to_wait, set_has_to_wait] = useState(false);
  const title = useRef<HTMLHeadingElement>(null);
  const hold = (key: string, keys: ManagedKey[]) => { held.current = key; set_admin(key); set_all(keys); };
  const forget = () => { hold("", []); set_made(null); set_has_to_wait(false); };
  const load = async (key: string) => {
    const { project, keys } = await managed_keys(key);
    if (project !== name) return set_problem(`That is the admin key of “${project}”, and you are signed in to “${name}”.`);
    hold(key, keys);
  };
  const enter = (event: SubmitEvent) => {
    event.preventDefault();
    set_problem("");
    void load(String(new FormData(event.currentTarget as HTMLFormElement).get("admin")).trim()).catch(refused);
  };
  /** Whether it was done: what is listed is what there is then, also where it was not. */
  const act = async (work: (key: string) => Promise<MadeKey | void>): Promise<boolean> => {
    const key = held.current, is_held = () => held.current === key;
    // A second click would make a second key.
    if (busy.current === key) {
      set_has_to_wait(true);
      return false;
    }
    busy.current = key;
    set_problem("");
    set_made(null);
    const is_done = await work(key).then((made) => { if (is_held()) set_made(made ?? null); return true; }, (problem: ApiError) => { if (is_held()) refused(problem); return false; });
    if (is_held()) {
      await managed_keys(key).then(({ keys }) => { if (is_held()) set_all(keys); }, (problem: ApiError) => {
        if (!is_held()) return;
        refused(problem);
        if (problem.status === 401) forget();
      });
    }
    if (busy.current === key) {
      busy.current = "";
      set_has_to_wait(false);
    }
    return is_done;
  };
  return (
    <section class="tile wide" data-tile="keys" aria-labelledby="title-keys">
      <header><h2 id="title-keys" ref={title} tabIndex={-1}>Keys</h2>{admin && <div class="tools"><button type="button" class="quiet" onClick={forget}>Forget the admin key</button></div>}</header>
      {/* Where there is none, nothing: an empty text would be a child, and the form behind it made anew. */}
      {problem ? <p class="failed" role="alert">{problem}</p> : null}
      {has_to_wait ? <p class="note" role="status">What was asked before is still under way: nothing else is done until it is over.</p> : null}
      {made && <Secret key={made.key} made={made} />}
      {admin
        ? (
          <>
            {!all.length && <p class="nothing">None yet but those of the keys file.</p>}
            <ul class="people">{sorted(all).map((key) => <Listed key={key.id} of={key} onRotate={(overlap) => act((admin) => rotate_key(admin, key.id, overlap))} onEnd={() => act((admin) => end_key(admin, key)).then((is_done) => { if (is_done) title.current?.focus(); return is_done; })} />)}</ul>
            <NewKey onMake={(settings) => act((admin) => make_key(admin, settings))} />
          </>
        )
        : (
          <form class="step" onSubmit={enter} aria-label="Manage keys">
            {/* Called a code that is used once, so that no browser offers to keep it. */}
            <input name="admin" type="password" autocomplete="one-time-code" aria-label="Admin key" placeholder="pulse_ak_…" required />
            <button type="submit">Manage keys</button>
          </form>
        )}
      <p class="note">Keys are managed with the admin key of the project, which <code>pulse keys admin {name}</code> prints; this page forgets it when it is left. <code>pulse keys create {name} --name …</code> makes one too, and those of the keys file are changed there.</p>
    </section>
  );
}

/** Those that are in force first, the newest of them before the others. */
function sorted(all: ManagedKey[]): ManagedKey[] {
  return [...all].sort((a, b) => Number(Boolean(a.revoked_at)) - Number(Boolean(b.revoked_at)) || Date.parse(b.created_at) - Date.parse(a.created_at));
}

function Secret({ made }: { made: MadeKey }) {
  const input = useRef<HTMLInputElement>(null);
  const [said, set_said] = useState("");
  const copy = async () => {
    input.current!.select();
    // Where the page came over plain http there is no clipboard but for what is selected.
    const is_copied = await Promise.resolve().then(() => navigator.clipboard.writeText(made.key)).then(() => true, () => document.execCommand("copy"));
    set_said(is_copied ? "copied" : "it is selected: copy it");
  };
  return (
    <div class="banner">
      <p role="status">The secret of <bdi>{made.name}</bdi>, shown this once:</p>
      <div class="step"><input ref={input} class="secret" readOnly value={made.key} aria-label={`The secret of ${made.name}`} onFocus={(event) => event.currentTarget.select()} /><button type="button" onClick={() => void copy()}>Copy</button><span role="status">{said}</span></div>
    </div>
  );
}

/** What a key may do, and until when. */
function limits_of({ kind, origins, requires_origin, paths, rate, expires_at }: ManagedKey, zone: string): string {
  return [
    kind, origins.length ? `for pages of ${origins.join(", ")}${requires_origin ? " alone" : ""}` : "", paths.length ? `on ${paths.join(", ")}` : "",
    rate ? `${shown(rate)} events a second` : "", expires_at ? `${Date.parse(expires_at) > Date.now() ? "until" : "ended"} ${moment(expires_at, zone)}` : "",
  ].filter(Boolean).join("; ");
}

interface ListedProps {
  of: ManagedKey;
  onRotate(overlap: string): Promise<boolean>;
  onEnd(): Promise<boolean>;
}

function Listed({ of, onRotate, onEnd }: ListedProps) {
  const { name, created_at, revoked_at, secrets } = of;
  const zone = session.value!.project.timezone;
  const [chosen, set_asked] = useState<"" | "rotate" | "revoke">("");
  // Of one that somebody else has revoked meanwhile nothing more is asked.
  const asked = revoked_at ? "" : chosen;
  const valid = secrets.filter(({ ends_at }) => !ends_at || Date.parse(ends_at) > Date.now());
  const close = (is_done: boolean) => {
    if (is_done) set_asked("");
  };
  const rotate = (event: SubmitEvent) => {
    event.preventDefault();
    const overlap = String(new FormData(event.currentTarget as HTMLFormElement).get("overlap"));
    void onRotate(overlap).then(close);
  };
  return (
    <li data-key={of.id}>
      <bdi>{name}</bdi>
      <span>{limits_of(of, zone)}; made {moment(created_at, zone)}
        {revoked_at
          ? <>; <b class="warn">revoked {moment(revoked_at, zone)}</b></>
          : <>; known as {valid.map(({ name, ends_at }) => `${name}${ends_at ? ` until ${moment(ends_at, zone)}` : ""}`).join(" and ")}</>}</span>
      <span>
        {revoked_at
          ? <button type="button" class="quiet" aria-label={`Delete ${name}`} onClick={() => void onEnd()}>×</button>
          : !asked && <><button type="button" class="quiet" aria-label={`Another secret for ${name}`} onClick={() => set_asked("rotate")}>Another secret</button><button type="button" class="quiet" aria-label={`Revoke ${name}`} onClick={() => set_asked("revoke")}>Revoke</button></>}
      </span>
      {asked === "rotate" && (
        <form class="step" onSubmit={rotate} aria-label={`Another secret for ${name}`}>
          <label class="choice"><span>The one before is valid</span><select name="overlap">{OVERLAPS.map(([overlap, words]) => <option key={overlap} value={overlap}>{words}</option>)}</select></label>
          <button type="submit">Make it</button><button type="button" class="quiet" onClick={() => set_asked("")}>Cancel</button>
        </form>
      )}
      {asked === "revoke" && (
        <div class="step" role="group" aria-label={`Revoke ${name}`}>
          <span class="warn">Who uses it is refused at once, for good.</span>
          <button type="button" onClick={() => void onEnd().then(close)}>Revoke it</button><button type="button" class="quiet" onClick={() => set_asked("")}>Cancel</button>
        </div>
      )}
    </li>
  );
}

function NewKey({ onMake }: { onMake(settings: KeyRequest): Promise<boolean> }) {
  const [kind, set_kind] = useState<NonNullable<KeyRequest["kind"]>>("write");
  const sends = kind === "write" || kind === "import";
  const make = async (event: SubmitEvent) => {
    event.preventDefault();
    const form = event.currentTarget as HTMLFormElement;
    const written = new FormData(form);
    const text = (name: string) => String(written.get(name) ?? "").trim();
    const list = (name: string) => text(name).split(/[\s,]+/).filter(Boolean);
    const until = text("until");
    const settings: KeyRequest = {
      name: text("name"), kind, origins: list("origins"), requires_origin: written.has("requires_origin"), paths: list("paths"),
      ...(text("rate") ? { rate: Number(text("rate")) } : {}),
      ...(until ? { expires_at: start_of_day(days_later(until, 1), session.value!.project.timezone) } : {}),
    };
    if (await onMake(settings)) {
      form.reset();
      set_kind("write");
    }
  };
  return (
    <form class="form" onSubmit={make} aria-label="A new key">
      <h3>A new key</h3>
      <label>Name<input name="name" required maxLength={100} placeholder="such as web" /></label>
      <label>It opens<select value={kind} onChange={(event) => set_kind(event.currentTarget.value as typeof kind)}>{KINDS.map(([kind, words]) => <option key={kind} value={kind}>{words}</option>)}</select></label>
      <label>For pages of<input name="origins" placeholder="any; or https://shop.example https://*.shop.example" /></label>
      <label class="check"><span><input type="checkbox" name="requires_origin" /> and for nothing else than pages</span></label>
      <label>On the paths<input name="paths" placeholder="any; or /v1/events" /></label>
      {sends && <label>Events a second, at each instance<input name="rate" type="number" min={1} max={10_000_000} placeholder="as many as come" /></label>}
      <label>Until the end of<input name="until" type="date" /></label>
      <button type="submit">Make the key</button>
    </form>
  );
}
