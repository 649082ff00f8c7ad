// A report in the making: whose numbers are sent, and when.
import { useEffect, useState } from "preact/hooks";
import type { Rule } from "../../api/alerts";
import { boards, type ListedBoard } from "../../api/boards";
import type { ApiError } from "../../api/client";
import { Choice } from "../../ui/picker";
import { DAYS, report_times } from "../../ui/send";
import { page_of } from "../../url";
import { ZoneChoice } from "../page";

interface PartProps {
  rule: Rule;
  write(changes: Partial<Rule>, replace?: boolean): void;
}

export function OfBoard({ rule, write }: PartProps) {
  const [known, set_known] = useState<ListedBoard[] | null>(null);
  const [problem, set_problem] = useState("");
  useEffect(() => void boards().then(set_known, (refused: ApiError) => set_problem(refused.message)), []);
  const chosen = typeof rule.question?.board === "string" ? rule.question.board : "";
  const title_of = (board: string) => known?.find(({ id }) => id === board)?.title ?? board;
  const all = [...new Set([...(chosen ? [chosen] : []), ...(known ?? []).map(({ id }) => id)])];
  return (
    <div class="step">
      <label class="choice"><span>Board</span>
        <select value={chosen} required onChange={(event) => write({ question: { board: event.currentTarget.value }, name: rule.name || title_of(event.currentTarget.value) })}>
          {!chosen && <option value="">choose one</option>}
          {all.map((board) => <option key={board} value={board}>{title_of(board)}</option>)}
        </select>
      </label>
      {known?.length === 0 && <span class="note">No board yet: <a href={page_of("/boards")}>make one</a>.</span>}
      {problem && <span class="failed" role="alert">{problem}</span>}
    </div>
  );
}

const two = (number: number) => String(number).padStart(2, "0");

/** Sent on these days alone: from its time on, a day long, so that a report that comes late is one of its day. */
function active_on(days: string[], at: string): Rule["active"] {
  if (!days.length) return null;
  const [hours = 0, minutes = 0] = at.split(":").map(Number);
  const last = (hours * 60 + minutes + 1_439) % 1_440;
  return { days, from: at, to: `${two(Math.floor(last / 60))}:${two(last % 60)}` };
}

/** Whether its hours are others than days that are chosen here make: they were said elsewhere, and are kept. */
export function has_own_hours({ active, report_at }: Rule): boolean {
  if (typeof active !== "object" || !active) return false;
  const ours = active_on(DAYS, (report_at ?? "").slice(0, 5))!;
  return Boolean(active.timezone) || (["from", "to"] as const).some((key) => String(active[key]).slice(0, 5) !== ours[key]);
}

export function ReportTimes({ rule, write }: PartProps) {
  const { interval = "day", timezone = "UTC" } = rule;
  const at = (rule.report_at ?? "").slice(0, 5);
  const days = Array.isArray(rule.active?.days) ? rule.active.days : [];
  const has_own = has_own_hours(rule);
  const active = (at: string, days: string[]) => (has_own ? {} : { active: active_on(days, at) });
  return (
    <div class="step" role="group" aria-label="When it is sent">
      <Choice label="Each" value={interval} of={["day", "week", "month"].map((one) => [one, one])} onChange={(interval) => write({ interval, ...(interval === "day" || has_own ? {} : { active: null }) })} />
      <label class="choice"><span>At</span><input type="time" required value={at} onChange={({ currentTarget: { value } }) => value && write({ report_at: value, ...active(value, days) })} /></label>
      <ZoneChoice zone={timezone} onChange={(timezone) => write({ timezone, ...active(at, days) })} />
      {interval === "day" && !has_own && <Days days={days} onChange={(days) => write(active(at, days))} />}
      <p class="note">Sent {report_times(rule)}: the numbers of the {interval} that is over then, whatever they are, and how they differ from those of the {interval} before it.</p>
    </div>
  );
}

/** Days of the week that are chosen; none stands for all. */
export function Days({ days, onChange }: { days: string[]; onChange(days: string[]): void }) {
  return <>{DAYS.map((day) => <label class="check" key={day}><input type="checkbox" checked={!days.length || days.includes(day)} onChange={() => onChange(turned(days, day))} /> {day}</label>)}</>;
}

/** Days with one more or one less; none stands for all. */
function turned(days: string[], day: string): string[] {
  const all = days.length ? days : DAYS;
  const next = DAYS.filter((one) => (one === day ? !all.includes(day) : all.includes(one)));
  return next.length === DAYS.length ? [] : next.length ? next : days;
}
