// The links of a board: a new one, and those that are out.
import { useEffect, useRef, useState } from "preact/hooks";
import type { ApiError } from "../api/client";
import { revoke, share, shares, type Share } from "../api/shares";
import { moment } from "../time";

export function ShareButton({ board }: { board: string }) {
  const [is_open, set_is_open] = useState(false);
  return (
    <>
      <button type="button" onClick={() => set_is_open(true)}>Share</button>
      {is_open && <Links board={board} onDone={() => set_is_open(false)} />}
    </>
  );
}

const DAYS: [days: number, words: string][] = [[1, "a day"], [7, "7 days"], [30, "30 days"], [365, "a year"]];

function Links({ board, onDone }: { board: string; onDone(): void }) {
  const dialog = useRef<HTMLDialogElement>(null);
  const [all, set_all] = useState<Share[] | null>(null);
  const [made, set_made] = useState("");
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
    await share(board, { expires_at, dates: form.has("dates"), people: form.has("people"), embed }).then(set_made, refused);
    await load();
  };
  return (
    <dialog ref={dialog} class="keep" aria-label="Share this board" onClose={onDone}>
      <form class="form" onSubmit={make}>
        <label>For<select name="days">{DAYS.map(([days, words]) => <option key={days} value={days} selected={days === 30}>{words}</option>)}</select></label>
        <label class="check"><span><input type="checkbox" name="dates" /> times can be changed</span></label>
        <label class="check"><span><input type="checkbox" name="people" /> the people behind bars are shown</span></label>
        <label>Pages that may show it in a frame<input name="embed" placeholder="https://shop.example" aria-describedby="embed-note" /></label>
        <p class="note" id="embed-note">Their origins; none without one. Who sees such a page can see the board.</p>
        <button type="submit">Make a link</button>
      </form>
      {made && <label class="form">Shown this once. Whoever has it sees the board.<input readOnly value={made} aria-label="The link" onFocus={(event) => event.currentTarget.select()} /></label>}
      {problem && <p class="failed" role="alert">{problem}</p>}
      {all && all.length > 0 && <h3>Links that are out</h3>}
      <ul class="people">
        {all?.map(({ id, dates, people, embed, expires_at }) => (
          <li key={id}><span>until {moment(expires_at, "UTC")} UTC{dates && ", with times"}{people && ", with people"}{embed.length > 0 && <>, in <bdi>{embed.join(", ")}</bdi></>}</span>
            <button type="button" class="quiet" aria-label={`End the link until ${moment(expires_at, "UTC")}`} onClick={() => void revoke(id).then(load, refused)}>End it</button></li>
        ))}
      </ul>
      <button type="button" class="quiet" onClick={() => dialog.current!.close()}>Close</button>
    </dialog>
  );
}
