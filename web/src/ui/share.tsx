// The links of a board: a new one, and those that are out.
import { useEffect, useRef, useState } from "preact/hooks";
import type { ApiError } from "../api/client";
import type { ShareRequest } from "../api/openapi";
import { segment } from "../api/segments";
import { revoke, share, shares, type Share } from "../api/shares";
import { moment } from "../time";
import { from_api, read_filters, to_api, words, type Written } from "./filters";
import { LeftOut, Matches } from "./matched";
import { is_sure_to } from "./sure";

export function ShareButton({ board }: { board: string }) {
  const [is_open, set_is_open] = useState(false);
  return (
    <>
      <button type="button" onClick={() => set_is_open(true)}>Share</button>
      {is_open && <Links board={board} onDone={() => set_is_open(false)} />}
    </>
  );
}

/** As a link keeps them: it shows the same for ever, so that it names no segment but has what that says now. */
async function written_out(filters: Written[]): Promise<NonNullable<ShareRequest["filters"]>> {
  const parts = filters.map(async (filter) => (filter[0] === "segment" && filter[1] === "is" ? (await segment(String(filter[2]))).filters : [to_api(filter)]));
  return (await Promise.all(parts)).flat() as NonNullable<ShareRequest["filters"]>;
}

/** A filter as the API has it. */
function filter_words(filter: object): string {
  const written = from_api(filter as Record<string, unknown>);
  return written ? words(written) : JSON.stringify(filter);
}

const DAYS: [days: number, words: string][] = [[1, "a day"], [7, "7 days"], [30, "30 days"], [365, "a year"]];

function Links({ board, onDone }: { board: string; onDone(): void }) {
  const dialog = useRef<HTMLDialogElement>(null);
  const [all, set_all] = useState<Share[] | null>(null);
  const [made, set_made] = useState("");
  // Those of the page that one came from, to begin with.
  const [filters, set_filters] = useState<Written[]>(read_filters());
  const [problem, set_problem] = useState("");
  const refused = (problem: ApiError) => set_problem(problem.message);
  const load = () => shares(board).then(set_all, refused);
  useEffect(() => {
    dialog.current!.showModal();
    void load();
  }, []);
  const make = async (event: SubmitEvent) => {
    event.preventDefault();
    const form = new FormData(event.currentTarget as HTMLFormElement);
    const expires_at = new Date(Date.now() + Number(form.get("days")) * 86_400_000).toISOString();
    set_problem("");
    const embed = String(form.get("embed")).split(/[\s,]+/).filter(Boolean);
    const body = { expires_at, dates: form.has("dates"), people: form.has("people"), embed };
    await written_out(filters).then((filters) => share(board, { ...body, ...(filters.length ? { filters } : {}) })).then(set_made, refused);
    await load();
  };
  return (
    <dialog ref={dialog} class="keep" aria-label="Share this board" onClose={onDone}>
      <div class="chips" role="group" aria-label="Only these events"><span>Only events</span><Matches matched={{ filters }} onChange={(chosen) => set_filters(chosen ?? [])} /><span class="note">{filters.length ? "those who have the link cannot change that" : "all of them, unless you say which"}</span><LeftOut /></div>
      <form class="form" onSubmit={make}>
        <label>For<select name="days">{DAYS.map(([days, words]) => <option key={days} value={days} selected={days === 30}>{words}</option>)}</select></label>
        <label class="check"><span><input type="checkbox" name="dates" /> times can be changed</span></label>
        <label class="check"><span><input type="checkbox" name="people" /> the people behind bars are shown</span></label>
        <label>Pages that may show it in a frame<input name="embed" placeholder="https://shop.example" aria-describedby="embed-note" /></label>
        <p class="note" id="embed-note">Their origins; none without one. Who sees such a page can see the board.</p>
        <button type="submit">Make a link</button>
      </form>
      {made && <label class="form">Shown this once. Those who have it see the board.<input readOnly value={made} aria-label="The link" onFocus={(event) => event.currentTarget.select()} /></label>}
      {problem && <p class="failed" role="alert">{problem}</p>}
      {all && all.length > 0 && <h3>Links that are out</h3>}
      <ul class="people">
        {all?.map(({ id, dates, people, embed, expires_at, filters, by }) => (
          <li key={id}><span>until {moment(expires_at, "UTC")} UTC{dates && ", with times"}{people && ", with people"}{filters && filters.length > 0 && <>, only <bdi>{filters.map(filter_words).join(", ")}</bdi></>}{embed.length > 0 && <>, in <bdi>{embed.join(", ")}</bdi></>}{by && <>, made by <bdi>{by}</bdi></>}</span>
            <button type="button" class="quiet" aria-label={`End the link until ${moment(expires_at, "UTC")}`} onClick={() => is_sure_to(`End the link until ${moment(expires_at, "UTC")} UTC`) && void revoke(id).then(load, refused)}>End it</button></li>
        ))}
      </ul>
      <button type="button" class="quiet" onClick={() => dialog.current!.close()}>Close</button>
    </dialog>
  );
}
