// Puts a chart on a board: one that is there, or a new one.
import { useEffect, useRef, useState } from "preact/hooks";
import { board, boards, id_of, save, type ListedBoard } from "../api/boards";
import type { ApiError } from "../api/client";
import type { Question } from "../api/types";
import { changed, page_of } from "../url";

export function KeepButton({ title, question }: { title: string; question: Question }) {
  const [is_open, set_is_open] = useState(false);
  return (
    <>
      <button type="button" class="quiet" onClick={() => set_is_open(true)} aria-label={`Keep ${title} on a board`}>Keep</button>
      {is_open && <Keep title={title} question={question} onDone={() => set_is_open(false)} />}
    </>
  );
}

interface KeepProps {
  title: string;
  question: Question;
  onDone(): void;
}

function Keep({ title, question, onDone }: KeepProps) {
  const dialog = useRef<HTMLDialogElement>(null);
  const [known, set_known] = useState<ListedBoard[]>([]);
  const [problem, set_problem] = useState("");
  const [kept, set_kept] = useState("");
  useEffect(() => {
    dialog.current!.showModal();
    // What a file says is changed there.
    boards().then((all) => set_known(all.filter(({ file }) => !file)), (refused: ApiError) => set_problem(refused.message));
  }, []);
  const keep = async (event: SubmitEvent) => {
    event.preventDefault();
    const form = new FormData(event.currentTarget as HTMLFormElement);
    const text = (name: string) => String(form.get(name) ?? "").trim();
    // Without the people that may be open beside it.
    const view = { page: changed({ people: null }) };
    const tile = { title: text("title") || title, report: question.report, question: question.body, view };
    try {
      const chosen = text("board");
      const of = chosen ? await board(chosen) : { id: id_of(text("new")), version: 0, title: text("new") || "Board", tiles: [] };
      await save({ ...of, tiles: [...of.tiles, tile] });
      set_kept(of.id);
    } catch (refused) {
      set_problem((refused as ApiError).message);
    }
  };
  return (
    <dialog ref={dialog} class="keep" aria-label="Keep on a board" onClose={onDone}>
      {kept
        ? <p role="status">It is on <a href={page_of(`/boards/${encodeURIComponent(kept)}`)}>the board</a>.</p>
        : (
          <form class="form" onSubmit={keep}>
            <label>Title<input name="title" defaultValue={title} maxLength={100} /></label>
            <label>Board<select name="board">{known.map(({ id, title }) => <option key={id} value={id}>{title}</option>)}<option value="">a new one</option></select></label>
            <label>Title of a new one<input name="new" maxLength={100} placeholder="Board" /></label>
            {problem && <p class="failed" role="alert">{problem}</p>}
            <button type="submit">Keep</button>
          </form>
        )}
      <button type="button" class="quiet" onClick={() => dialog.current!.close()}>Close</button>
    </dialog>
  );
}
