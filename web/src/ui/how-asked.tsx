// How a number came about: what it counts, and the question itself, to read and to ask elsewhere.
import { useState } from "preact/hooks";
import { statements_of, type Asked } from "../api/ask";
import { session, type ApiError } from "../api/client";
import type { Statements } from "../api/openapi";
import type { Question } from "../api/types";
import { Table } from "../chart/table";
import { plural, shown } from "../format";
import { differences, explained } from "./explained";
import { Choice } from "./picker";
import type { Other } from "./tile";

export interface HowAskedProps {
  asked: Asked;
  zone: string;
  /** What it can be told apart from. */
  beside: Other[];
}

export function HowAsked({ asked, zone, beside }: HowAskedProps) {
  const { question, answer } = asked;
  const body = JSON.stringify(question.body, null, 1);
  const curl = `curl ${location.origin}/v1/query/${question.report} -H "Authorization: Bearer $READ_KEY" -d '${JSON.stringify(question.body).replace(/'/g, "'\\''")}'`;
  return (
    <div class="explained">
      {explained(question, zone, answer?.meta.excluded_bots).map((sentence) => <p key={sentence}><bdi>{sentence}</bdi></p>)}
      {answer && <p>{plural(answer.meta.rows_read, "row")} read in {shown(answer.meta.query_ms)} ms{answer.meta.cached ? `, kept for ${shown(answer.meta.age_ms)} ms` : ""}.</p>}
      <pre tabIndex={0} aria-label="The question">{question.report} {body}</pre>
      <button type="button" onClick={() => void navigator.clipboard?.writeText(curl)}>Copy as curl</button>
      {session.value && <Sql key={body} question={question} />}
      {beside.length > 0 && <Beside question={question} others={beside} />}
    </div>
  );
}

/** In which parts the questions of two charts differ. */
function Beside({ question, others }: { question: Question; others: Other[] }) {
  const [chosen, set_chosen] = useState("");
  const other = chosen === "" ? undefined : others[Number(chosen)];
  const parts = other ? differences(question, other.question) : [];
  return (
    <>
      <Choice label="Beside" value={chosen} of={[["", "another chart"], ...others.map(({ title }, index): [string, string] => [String(index), title])]} onChange={set_chosen} />
      {other && !parts.length && <p>They ask the same.</p>}
      {parts.length > 0 && <Table caption="What differs" data={{ head: ["Part", "This one", other!.title], rows: parts.map((texts) => texts.map((text) => ({ text }))) }} />}
    </>
  );
}

/** The statements by which a question is answered, once somebody wants to see them. */
function Sql({ question }: { question: Question }) {
  const [known, set_known] = useState<Statements | null>(null);
  const [problem, set_problem] = useState("");
  const ask = () => statements_of(question).then(set_known, (refused: ApiError) => set_problem(refused.message));
  if (!known) return <> <button type="button" onClick={() => void ask()}>Show the SQL</button>{problem && <p class="failed" role="alert">{problem}</p>}</>;
  return <>{known.statements.map(({ sql, params }, index) => <pre key={index} tabIndex={0} aria-label={`Statement ${index + 1}`} data-sql>{`${sql}\n${Object.entries(params).map(([name, value]) => `-- ${name}: ${value}`).join("\n")}`}</pre>)}</>;
}
