// The reports of a board: when its numbers are sent to whom, and the way to another one.
import { useEffect, useRef, useState } from "preact/hooks";
import { forget_rule, rules, type ListedAlert, type Rule } from "../api/alerts";
import { session, type ApiError } from "../api/client";
import { page_of } from "../url";
import { is_sure } from "./sure";

const DAY_NAMES: Record<string, string> = { mon: "Monday", tue: "Tuesday", wed: "Wednesday", thu: "Thursday", fri: "Friday", sat: "Saturday", sun: "Sunday" };
/** The days of the week as rules name them, in order. */
export const DAYS = Object.keys(DAY_NAMES);

/** A report in the making: of a board, each morning of the project. */
export function report_of(board: string, title: string): Rule {
  return {
    name: title, report: "board", question: board ? { board } : {}, interval: "day", report_at: "09:00", severity: "info",
    timezone: session.value?.project.timezone ?? "UTC",
  };
}

export const report_path = (board = "", title = "") => page_of("/alerts", { rule: JSON.stringify(report_of(board, title)) });

/** When a report is sent, in words. */
export function report_times({ report_at, interval, timezone = "UTC", active }: Rule): string {
  const days = (interval === "day" && Array.isArray(active?.days) ? active.days : []).map((day) => DAY_NAMES[day] ?? day);
  const of_day = days.length ? `each ${days.join(", ")}` : "each day";
  const when = { week: "each Monday", month: "on the 1st of each month" }[interval ?? "hour"] ?? of_day;
  return `${when} at ${report_at ?? ""} ${timezone}`;
}

/** Which channels of a rule are not there, if any: somebody has deleted them, or a file says them no more. */
export function Untold({ by: missing = [] }: { by: string[] | undefined }) {
  if (!missing.length) return null;
  return <span class="warn" data-missing>Nobody is told by <bdi>{missing.join(", ")}</bdi>: there {missing.length > 1 ? "are no such channels" : "is no such channel"}.</span>;
}

export function SendButton({ board, title }: { board: string; title: string }) {
  const [is_open, set_is_open] = useState(false);
  return (
    <>
      <button type="button" onClick={() => set_is_open(true)}>Send</button>
      {is_open && <Reports board={board} title={title} onDone={() => set_is_open(false)} />}
    </>
  );
}

function Reports({ board, title, onDone }: { board: string; title: string; onDone(): void }) {
  const dialog = useRef<HTMLDialogElement>(null);
  const [all, set_all] = useState<ListedAlert[] | null>(null);
  const [problem, set_problem] = useState("");
  const refused = (problem: ApiError) => set_problem(problem.message);
  const load = () => rules().then((known) => { set_problem(""); set_all(known.filter(({ rule }) => rule.report === "board" && rule.question?.board === board)); }, refused);
  useEffect(() => {
    dialog.current!.showModal();
    void load();
  }, []);
  return (
    <dialog ref={dialog} class="keep" aria-label="Send this board" onClose={onDone}>
      <p class="note">A report tells the numbers of every tile, and how they differ from those of the time before, to channels.</p>
      {problem && <p class="failed" role="alert">{problem}</p>}
      {all?.length === 0 && <p class="nothing">Nobody is sent this board yet.</p>}
      <ul class="people">
        {all?.map(({ id, name, version, file, rule, missing_channels }) => (
          <li key={id} data-report={id}>
            <span><a href={page_of(`/alerts/${encodeURIComponent(id)}`)}><bdi>{name}</bdi></a> <Untold by={missing_channels} /></span>
            <span>{report_times(rule)}{rule.channels?.length ? <>, to <bdi>{rule.channels.join(", ")}</bdi></> : ", to nobody"}{file && <>; of <bdi>{file}</bdi></>}
              {!file && version && <button type="button" class="quiet" aria-label={`Delete the report ${name}`} onClick={() => is_sure(name) && void forget_rule(id, version).then(load, refused)}>×</button>}</span>
          </li>
        ))}
      </ul>
      <div class="step"><a class="button" href={report_path(board, title)}>A new report</a><button type="button" class="quiet" onClick={() => dialog.current!.close()}>Close</button></div>
    </dialog>
  );
}
