// Boards: what is looked at together, in one request. Each tile leads back to where it was made.
import { useEffect, useState } from "preact/hooks";
import { useAnswers } from "../api/ask";
import { board, boards, forget, id_of, save, type BoardTile, type ListedBoard, type SavedBoard } from "../api/boards";
import { session, type ApiError } from "../api/client";
import type { Question } from "../api/types";
import { DRAWS } from "../draw/draws";
import { times_of } from "../ui/drawing";
import { draw_unknown } from "../ui/drawing-unknown";
import { SendButton } from "../ui/send";
import { ShareButton } from "../ui/share";
import { is_sure, is_sure_to } from "../ui/sure";
import { Tile } from "../ui/tile";
import { changed, go, here, page_of } from "../url";
import { Page } from "./page";

export default function Boards() {
  const { rest } = here.value;
  return rest ? <Board key={rest} id={rest} /> : <List />;
}

function List() {
  const [known, set_known] = useState<ListedBoard[] | null>(null);
  const [problem, set_problem] = useState("");
  const is_signed_in = Boolean(session.value);
  useEffect(() => {
    if (is_signed_in) boards().then(set_known, (refused: ApiError) => set_problem(refused.message));
  }, [is_signed_in]);
  const make = async (event: SubmitEvent) => {
    event.preventDefault();
    const title = String(new FormData(event.currentTarget as HTMLFormElement).get("title")).trim();
    const id = id_of(title);
    await save({ id, version: 0, title, tiles: [] }).then(() => go(page_of(`/boards/${id}`)), (refused: ApiError) => set_problem(refused.message));
  };
  return (
    <Page title="Boards">
      <form class="builder" onSubmit={make} aria-label="A new board"><div class="step"><input name="title" aria-label="Title of a new board" placeholder="title of a new board" required pattern=".*\S.*" maxLength={100} /><button type="submit">Make</button></div></form>
      {problem && <p class="failed" role="alert">{problem}</p>}
      <section class="tile" aria-busy={!known && !problem}>
        <h2>All boards</h2>
        {known?.length === 0 && <p class="nothing">None yet. “Keep” on a chart puts it on one.</p>}
        <ul class="people">{known?.map(({ id, title, file, by }) => <li key={id}><a href={page_of(`/boards/${encodeURIComponent(id)}`)}><bdi>{title}</bdi></a>{file ? <span>of <bdi>{file}</bdi></span> : by && <span>saved by <bdi>{by}</bdi></span>}</li>)}</ul>
      </section>
    </Page>
  );
}

/** Where a tile was made, if that is a page of this screen. */
function made_at({ view }: BoardTile): string | undefined {
  const page = (view as { page?: unknown } | null)?.page;
  if (typeof page !== "string" || !/^\/[a-z]*(\?|$)/.test(page)) return undefined;
  return page;
}

function Board({ id }: { id: string }) {
  const [shown, set_shown] = useState<SavedBoard | null>(null);
  const [problem, set_problem] = useState("");
  const [is_changing, set_is_changing] = useState(false);
  const is_signed_in = Boolean(session.value);
  const load = () => board(id).then(set_shown, (refused: ApiError) => set_problem(refused.message));
  useEffect(() => {
    if (is_signed_in) void load();
  }, [is_signed_in]);
  const question = ({ report, question }: BoardTile): Question => ({ report, body: question });
  const asked = Object.fromEntries((shown?.tiles ?? []).map((tile, index) => [`tile${index}`, question(tile)]));
  const { tiles, cancel, again } = useAnswers(asked);
  const write = async (changes: Partial<SavedBoard>) => {
    const next = { ...shown!, ...changes };
    set_problem("");
    await save(next).then((version) => set_shown({ ...next, version }), async (refused: ApiError) => {
      set_problem(refused.message);
      if (refused.status === 412) await load();
    });
  };
  return (
    <Page title={shown?.title ?? id} questions={asked} aside={shown && <>{!shown.file && <button type="button" aria-pressed={is_changing} onClick={() => set_is_changing(!is_changing)}>Change</button>}<ShareButton board={id} /><SendButton board={id} title={shown.title} /><a class="button" href={changed({ wall: here.value.params.get("wall") ? null : "1" })}>{here.value.params.get("wall") ? "Off the wall" : "On the wall"}</a></>}>
      {problem && <p class="failed" role="alert">{problem}</p>}
      {shown?.file && <p class="note">The file <bdi>{shown.file}</bdi> says this board: it is changed there.</p>}
      {shown && is_changing && <Change board={shown} write={write} onProblem={set_problem} />}
      {shown?.tiles.length === 0 && <p class="nothing">Nothing is on this board yet. “Keep” on a chart puts it here.</p>}
      <div class="tiles board">
        {shown?.tiles.map((tile, index) => (
          <Tile key={`${index} ${JSON.stringify(tile)}`} id={`tile${index}`} title={tile.title || tile.report} href={made_at(tile)} wide={(tile.width ?? 6) > 6} asked={tiles(`tile${index}`)}
            zone={times_of(question(tile)).zone} onCancel={cancel} onAgain={again} drawing={(DRAWS[tile.report] ?? draw_unknown)(question(tile), `tile${index}`)} watched={question(tile)}
            beside={shown.tiles.filter((other) => other !== tile).map((other) => ({ title: other.title || other.report, question: question(other) }))} tools={is_changing && <Tools board={shown} index={index} write={write} />} />
        ))}
      </div>
    </Page>
  );
}

interface ChangeProps {
  board: SavedBoard;
  write(changes: Partial<SavedBoard>): Promise<void>;
}

function Change({ board, write, onProblem }: ChangeProps & { onProblem(problem: string): void }) {
  const rename = (event: SubmitEvent) => {
    event.preventDefault();
    void write({ title: String(new FormData(event.currentTarget as HTMLFormElement).get("title")).trim() });
  };
  const remove = () => forget(board).then(() => go(page_of("/boards")), (refused: ApiError) => onProblem(refused.message));
  return (
    <form class="builder" onSubmit={rename} aria-label="Change the board">
      <div class="step"><input name="title" aria-label="Title of the board" defaultValue={board.title} required pattern=".*\S.*" maxLength={100} /><button type="submit">Rename</button><button type="button" onClick={() => is_sure(board.title) && void remove()}>Delete this board</button></div>
    </form>
  );
}

function Tools({ board, index, write }: ChangeProps & { index: number }) {
  const { tiles } = board;
  const tile = tiles[index]!;
  const with_tile = (at: number) => {
    const others = tiles.filter((_, other) => other !== index);
    return [...others.slice(0, at), tile, ...others.slice(at)];
  };
  const is_wide = (tile.width ?? 6) > 6;
  return (
    <>
      {index > 0 && <button type="button" class="quiet" aria-label={`Move ${tile.title} forward`} onClick={() => void write({ tiles: with_tile(index - 1) })}>↑</button>}
      {index < tiles.length - 1 && <button type="button" class="quiet" aria-label={`Move ${tile.title} back`} onClick={() => void write({ tiles: with_tile(index + 1) })}>↓</button>}
      <button type="button" class="quiet" onClick={() => void write({ tiles: tiles.map((one, at) => (at === index ? { ...one, width: is_wide ? 6 : 12 } : one)) })}>{is_wide ? "Narrow" : "Wide"}</button>
      <button type="button" class="quiet" aria-label={`Take ${tile.title} off the board`} onClick={() => is_sure_to(`Take “${tile.title || tile.report}” off the board`) && void write({ tiles: tiles.filter((_, at) => at !== index) })}>×</button>
    </>
  );
}
