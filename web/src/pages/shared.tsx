// A board for whoever has its link: the same tiles, asked through the link alone.
import { useSignal } from "@preact/signals";
import { useEffect, useRef, useState } from "preact/hooks";
import { named_bar, type Asked } from "../api/ask";
import { ApiError } from "../api/client";
import { shared_board, shared_people, shared_tile, type SharedBoard } from "../api/shares";
import type { Answer, Question, Users } from "../api/types";
import { DRAWS } from "../draw/draws";
import { plural, shown } from "../format";
import { moment, RANGES } from "../time";
import { times_of } from "../ui/drawing";
import { draw_unknown } from "../ui/drawing-unknown";
import { Choice } from "../ui/picker";
import { Tile } from "../ui/tile";
import { change, here } from "../url";

/** The token stays behind `#`, so that a reload shows the same. */
const token = () => location.hash.slice(1);

export default function Shared() {
  const [board, set_board] = useState<SharedBoard | null>(null);
  const [problem, set_problem] = useState("");
  useEffect(() => {
    const { page, rest } = here.value;
    const show = (board: SharedBoard) => {
      // Who may hold this page in a frame is for the link in its path to say, so it shows no other.
      if (page === "embed" && board.id !== rest) set_problem("This address is not the one that was made.");
      else set_board(board);
    };
    shared_board(token()).then(show, (refused: ApiError) => set_problem(refused.message));
  }, []);
  useEffect(() => {
    document.title = `${board?.title ?? "A board"} · pulse`;
  }, [board]);
  const { params } = here.value;
  const named = RANGES.find(({ from, to }) => from === params.get("from") && to === params.get("to"));
  // Only what was chosen goes along: a link that leaves no choice refuses any.
  const query = board?.dates && named ? new URLSearchParams({ from: named.from, to: named.to }).toString() : "";
  return (
    <main id="main" tabIndex={-1}>
      <div class="head">
        <h1>{board?.title ?? "A board"}</h1>
        {board?.dates && <Choice label="Time" value={named?.name ?? ""} of={[["", "as the board says"], ...RANGES.map(({ name }): [string, string] => [name, name])]}
          onChange={(name) => { const chosen = RANGES.find((range) => range.name === name); change({ from: chosen?.from ?? null, to: chosen?.to ?? null }); }} />}
        {board && <span class="note">shared until {moment(board.expires_at, board.timezone)}</span>}
      </div>
      {problem && <p class="failed" role="alert">{problem}</p>}
      {board?.description && <p class="summary"><bdi>{board.description}</bdi></p>}
      <div class="tiles board">{board?.tiles.map((_, index) => <SharedTile key={`${index} ${query}`} board={board} index={index} query={query} />)}</div>
      {board && <People board={board} query={query} />}
    </main>
  );
}

const RETRY_MS = 5_000;

/** What a tile asks, with what was chosen of the time. */
function question_of(board: SharedBoard, index: number, query: string): Question {
  const tile = board.tiles[index];
  return { report: tile?.report ?? "", body: { timezone: board.timezone, ...tile?.question, ...Object.fromEntries(new URLSearchParams(query)) } };
}

/** A tile, asked again when its answer says so, while somebody looks. */
function SharedTile({ board, index, query }: { board: SharedBoard; index: number; query: string }) {
  const tile = board.tiles[index]!;
  const question = question_of(board, index, query);
  const asked = useSignal<Asked>({ question, asked_at: Date.now(), late: 0 });
  const set_asked = (changes: Partial<Asked>) => (asked.value = { ...asked.peek(), ...changes });
  const [round, set_round] = useState(0);
  const running = useRef<AbortController>(undefined);
  useEffect(() => {
    let timer = 0;
    let is_shown = true;
    running.current = new AbortController();
    const { signal } = running.current;
    const take = (changes: Partial<Asked>, after_ms: number) => {
      if (!is_shown || signal.aborted) return;
      set_asked({ asked_at: 0, ...changes });
      timer = setTimeout(ask, after_ms);
    };
    const ask = () => {
      if (document.hidden) return void (timer = setTimeout(ask, RETRY_MS));
      shared_tile(token(), index, query, signal).then((answer) => take({ answer, error: undefined }, answer.meta.refresh_after_ms), (error: ApiError) => take({ error }, error.retry_after_ms || RETRY_MS));
    };
    ask();
    return () => {
      is_shown = false;
      clearTimeout(timer);
      running.current?.abort();
    };
  }, [round]);
  const stop = () => {
    running.current?.abort();
    set_asked({ asked_at: 0, error: new ApiError(0, "cancelled", "You stopped this question.") });
  };
  const again = () => {
    set_asked({ error: undefined, asked_at: Date.now() });
    set_round(round + 1);
  };
  return (
    <Tile id={`tile${index}`} title={tile.title || tile.report} wide={(tile.width ?? 6) > 6} asked={asked} zone={times_of(question).zone} onCancel={stop} onAgain={again}
      drawing={(DRAWS[tile.report] ?? draw_unknown)(question, `tile${index}`)} />
  );
}

/** Who is behind a bar, where the link says so. */
function People({ board, query }: { board: SharedBoard; query: string }) {
  const bar = named_bar();
  return bar ? <Panel key={JSON.stringify(bar)} board={board} query={query} /> : null;
}

function Panel({ board, query }: { board: SharedBoard; query: string }) {
  const bar = named_bar()!;
  const index = Number(bar.of.replace("tile", ""));
  const { zone } = times_of(question_of(board, index, query));
  const [known, set_known] = useState<Answer<Users> | null>(null);
  const [problem, set_problem] = useState(board.people ? "" : "This link does not show who is behind a number.");
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    dialog.current!.showModal();
    if (board.people) shared_people(token(), index, query, bar.bar).then(set_known, (refused: ApiError) => set_problem(refused.message));
  }, []);
  return (
    <dialog ref={dialog} class="panel" aria-label="People" onClose={() => change({ people: null })}>
      <header><p><bdi>{bar.name}</bdi></p><button type="button" onClick={() => dialog.current!.close()}>Close</button></header>
      {problem && <p class="note" role="status">{problem}</p>}
      {known && <p class="total"><strong data-total={known.result.total}>{shown(known.result.total)}</strong> {known.result.total === 1 ? "person" : "people"}</p>}
      <ul class="people">{known?.result.users.map((user) => <li key={user.user}><bdi>{user.user}</bdi><span>{plural(user.events, "event")}, last {moment(user.last_seen, zone)}</span></li>)}</ul>
    </dialog>
  );
}
