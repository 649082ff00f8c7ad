// A board for those who have its link: the same tiles, asked through the link alone.
import { useEffect, useRef, useState } from "preact/hooks";
import { named_bar, useAnswersBy } from "../api/ask";
import type { ApiError } from "../api/client";
import { shared_board, shared_people, shared_tiles, tile_number, type SharedBoard } from "../api/shares";
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
    if (!token()) return set_problem("This link is not whole: what stands behind its `#` opens the board.");
    shared_board(token()).then(show, (refused: ApiError) => set_problem(refused.message));
  }, []);
  useEffect(() => {
    document.title = `${board?.title ?? "A board"} · pulse`;
  }, [board]);
  const { params } = here.value;
  const named = RANGES.find(({ from, to }) => from === params.get("from") && to === params.get("to"));
  // Only what was chosen goes along: a link that leaves no choice refuses any.
  const query = board?.dates && named ? new URLSearchParams({ from: named.from, to: named.to, interval: named.interval }).toString() : "";
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
      {board && <Tiles key={query} board={board} query={query} />}
      {board && <People board={board} query={query} />}
    </main>
  );
}

/** Reports whose numbers stand by an interval, and those of them whose intervals are days, weeks or months. */
const BY_INTERVAL = ["trends", "sessions", "lifecycle", "stickiness"];
const BY_PERIOD = ["lifecycle", "stickiness"];

/** Whether a tile stands by an interval that is chosen for a whole board: else the server, by the same rule (`src/query/shares.rs`), asks it without. */
function stands_by({ report, body }: Question, interval: string): boolean {
  const has_one = (body.interval ?? null) !== null || BY_INTERVAL.includes(report);
  const takes_it = !BY_PERIOD.includes(report) || ["day", "week", "month"].includes(interval);
  return has_one && takes_it && body.list !== true;
}

/** What a tile asks, with what was chosen of the time. */
function question_of(board: SharedBoard, index: number, query: string): Question {
  const tile = board.tiles[index];
  const own: Question = { report: tile?.report ?? "", body: { timezone: board.timezone, ...tile?.question } };
  const { interval, ...times } = Object.fromEntries(new URLSearchParams(query));
  return { ...own, body: { ...own.body, ...times, ...(interval && stands_by(own, interval) ? { interval } : {}) } };
}

/** All tiles, in one request. */
function Tiles({ board, query }: { board: SharedBoard; query: string }) {
  const questions = board.tiles.map((_, index) => question_of(board, index, query));
  const asked = Object.fromEntries(questions.map((question, index) => [`tile${index}`, question]));
  const { tiles, cancel, again } = useAnswersBy((open, signal) => shared_tiles(token(), query, open, signal), asked);
  return (
    <div class="tiles board">
      {board.tiles.map((tile, index) => (
        <Tile key={index} id={`tile${index}`} title={tile.title || tile.report} wide={(tile.width ?? 6) > 6} asked={tiles(`tile${index}`)} zone={times_of(questions[index]!).zone} onCancel={cancel} onAgain={again}
          drawing={(DRAWS[tile.report] ?? draw_unknown)(questions[index]!, `tile${index}`)} />
      ))}
    </div>
  );
}

/** Who is behind a bar, where the link says so. */
function People({ board, query }: { board: SharedBoard; query: string }) {
  const bar = named_bar();
  return bar ? <Panel key={JSON.stringify(bar)} board={board} query={query} /> : null;
}

function Panel({ board, query }: { board: SharedBoard; query: string }) {
  const bar = named_bar()!;
  const { zone } = times_of(question_of(board, tile_number(bar.of), query));
  const [known, set_known] = useState<Answer<Users> | null>(null);
  const [problem, set_problem] = useState(board.people ? "" : "This link does not show who is behind a number.");
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    dialog.current!.showModal();
    if (board.people) shared_people(token(), query, bar).then(set_known, (refused: ApiError) => set_problem(refused.message));
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
