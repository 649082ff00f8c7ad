// The people behind a bar. The address carries the bar and what its chart has seen; the question is the chart's own, so both say the same
// number, also while events arrive.
import { useEffect, useRef } from "preact/hooks";
import { named_bar, seen_by, useAnswers, type Bar } from "../api/ask";
import type { Question, Users } from "../api/types";
import { plural, shown } from "../format";
import { moment } from "../time";
import { change } from "../url";
import { times_of } from "./drawing";
import { PersonLink } from "./person-link";
import { Tile } from "./tile";

/** Shows the people of a bar: those whom its chart has seen, whatever has arrived since. */
export function show_people(bar: Bar): void {
  change({ people: JSON.stringify({ ...bar, as_of: seen_by(bar.of) }) });
}

/** Shows the people of the bar that the address names, if it is one of `questions`. */
export function PeoplePanel({ questions }: { questions: Record<string, Question | null> }) {
  const bar = named_bar();
  const question = bar && questions[bar.of];
  return bar && question ? <Panel bar={bar} question={question} /> : null;
}

function Panel({ bar, question }: { bar: Bar; question: Question }) {
  const { zone } = times_of(question);
  const of = { report: question.report, ...question.body, ...bar.bar, ...(bar.as_of ? { as_of: bar.as_of } : {}) };
  const users: Question = { report: "users", body: { of, ...(bar.compare ? { compare: true } : {}), limit: 100 } };
  const { tiles, cancel, again } = useAnswers({ people: users });
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    const element = dialog.current!;
    if (!element.open) element.showModal();
  }, []);
  const close = () => change({ people: null });
  return (
    <dialog ref={dialog} class="panel" aria-label="People" onClose={close} onClick={(event) => event.target === dialog.current && dialog.current!.close()}>
      <header><p><bdi>{bar.name}</bdi></p><button type="button" onClick={() => dialog.current!.close()}>Close</button></header>
      <Tile<Users> id="people" title="The people" asked={tiles("people")} zone={zone} onCancel={cancel} onAgain={again}
        table={(answer) => ({
          head: ["Person", "Events", "First", "Last"],
          rows: answer.result.users.map((user) => [{ text: user.user }, { text: shown(user.events), value: user.events }, { text: moment(user.first_seen, zone) }, { text: moment(user.last_seen, zone) }]),
        })}>
        {(answer) => (
          <>
            <p class="total"><strong data-total={answer.result.total}>{shown(answer.result.total)}</strong> {answer.result.total === 1 ? "person" : "people"}</p>
            <ul class="people">
              {answer.result.users.map((user) => (
                <li key={user.user}>
                  <PersonLink id={user.user} />
                  <span>{plural(user.events, "event")}, last {moment(user.last_seen, zone)}</span>
                </li>
              ))}
            </ul>
            {answer.result.next && <p class="note">The first {shown(answer.result.users.length)} are shown.</p>}
          </>
        )}
      </Tile>
    </dialog>
  );
}
