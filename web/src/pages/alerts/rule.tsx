// One rule: how it stands, what it saw and did, the chart that it watches with the people behind it, and what can be said to it.
import { useState } from "preact/hooks";
import { forget_rule, path_of, say, WITHOUT_END_MS, type History, type Rule, type Said, type ShownAlert } from "../../api/alerts";
import { useAnswers } from "../../api/ask";
import { Table } from "../../chart/table";
import { session, type ApiError } from "../../api/client";
import { usePolled } from "../../api/polled";
import type { Question } from "../../api/types";
import { can_be_drawn, useDraw } from "../../draw/loaded";
import { plural, shown } from "../../format";
import { bucket_label, day_of, days_later, intervals_later, LATEST_MS, local_time, moment } from "../../time";
import { SaveButtons } from "../../ui/save";
import { Untold } from "../../ui/send";
import { is_sure } from "../../ui/sure";
import { Tile, useIsTable } from "../../ui/tile";
import { change, changed, go, here, page_of } from "../../url";
import { Page } from "../page";
import { Builder } from "./builder";
import { Verdicts, verdicts_note, verdicts_table } from "./verdicts";
import { condition_words, drafted, episodes_of, happened_words, line_name, reduced, remarks_of, rule_words, unit_of } from "./words";

/** Slots of the history, and lines of it: at most, since long ones are fewer. */
const SHOWN = 200;
/** What a chart of such slots shows. */
const AROUND: Record<string, string> = { minute: "-3h", hour: "-6d/d", day: "-29d/d", week: "-11w/w", month: "-11M/M" };
/** How many slots are shown on each side of one that was opened. */
const BESIDE: Record<string, number> = { minute: 90, hour: 72, day: 15, week: 6, month: 6 };

/** The slot that the address names, as notices do, in the words of the API. */
function opened_slot(): string {
  const at = Date.parse(here.value.params.get("slot") ?? "");
  return at > 0 && at < LATEST_MS ? new Date(at).toISOString().replace(".000Z", "Z") : "";
}

/** The time that a chart shows beside what was seen. */
function span_of(rule: Rule, slot: string): { from: string; to: string } {
  const { interval = "hour", timezone = "UTC" } = rule;
  if (!slot) return { from: AROUND[interval] ?? "-6d/d", to: "now" };
  const beside = BESIDE[interval] ?? 15;
  const [from, to] = [-beside, beside + 1].map((count) => intervals_later(slot, count, interval, timezone)) as [string, string];
  return { from, to: Date.parse(to) < Date.now() ? to : "now" };
}

/** Up to which slot the history is asked for; all without one. */
function history_before(rule: Rule, slot: string): string {
  const asked = here.value.params.get("before") ?? "";
  if (asked || !slot) return asked;
  const { to } = span_of(rule, slot);
  return to === "now" ? "" : new Date(Date.parse(to)).toISOString();
}

export function RulePage({ id }: { id: string }) {
  const [asked, set_asked] = useState(0);
  const { known, problem } = usePolled<ShownAlert>(path_of(id), asked);
  const [refused, set_refused] = useState("");
  const draft = drafted(here.value.params.get("rule") ?? "");
  const rule = known?.rule;
  const zone = rule?.timezone ?? "UTC";
  const slot = opened_slot();
  const by = rule?.report === "retention" ? { period: rule.interval ?? "day" } : { interval: rule?.report === "funnel" ? undefined : rule?.interval ?? "hour" };
  const question: Question | null = rule && can_be_drawn(rule.report) ? { report: rule.report, body: { ...rule.question, ...span_of(rule, slot), timezone: zone, ...by } } : null;
  const { tiles, cancel, again } = useAnswers({ watched: question });
  const draw = useDraw(rule?.report ?? "");
  const act = (work: Promise<unknown>) => work.then(() => { set_refused(""); set_asked(Date.now()); }, (problem: ApiError) => set_refused(problem.message));
  if (known && draft) {
    // That of the rule from which the one in the address was made, whatever has been saved since: each draft of the history has its own.
    const version = here.value.params.get("version") ?? "";
    return <Page title={known.name}><Builder key={version} rule={draft} id={id} version={Number(version) || known.version} /></Page>;
  }
  return (
    <Page title={known?.name ?? id} questions={{ watched: question }} aside={known && <State alert={known} />}>
      {(problem || refused) && <p class="failed" role="alert">{refused || problem}</p>}
      {known && rule && (
        <>
          <p class="summary">{rule_words(rule)}{reduced(rule.reduce) && `, ${reduced(rule.reduce)}`}{rule.condition && `; wrong ${condition_words(rule.condition, unit_of(rule))}`}{rule.report_at && rule.channels?.length ? <>, to <bdi>{rule.channels.join(", ")}</bdi></> : ""}. {judged_words(known)}
            {rule.report === "board" && <> <a href={page_of(`/boards/${encodeURIComponent(String(rule.question?.board ?? ""))}`)}>Its board</a></>}</p>
          {known.state === "delayed" && <p class="banner" role="alert">It cannot be {rule.report_at ? "sent" : "judged"}: data is missing. Nothing is concluded until it is there.</p>}
          {rule.report_at && !rule.channels?.length && <p class="banner" role="alert">It is sent to nobody: “Change” it and choose a channel.</p>}
          {known.missing_channels?.length ? <p class="banner" role="alert"><Untold by={known.missing_channels} /></p> : null}
          <Actions alert={known} act={act} />
          <div class="tiles">
            <Past id={id} alert={known} asked={asked} slot={slot} />
            {question && <Tile id="watched" title="What is watched" wide asked={draw && tiles("watched")} zone={zone} onCancel={cancel} onAgain={again} drawing={draw?.(question, "watched")} />}
            <Lines alert={known} />
          </div>
        </>
      )}
    </Page>
  );
}

/** How far it has come; when a report was sent last stands in its history. */
function judged_words({ judged_through, rule: { report_at, timezone = "UTC" } }: ShownAlert): string {
  if (!judged_through) return report_at ? "Not due yet." : "Not judged yet.";
  return report_at ? "" : `Judged through ${moment(judged_through, timezone)} ${timezone}.`;
}

export function State({ alert }: { alert: Pick<ShownAlert, "state" | "flapping"> }) {
  return <span class={`state ${alert.state}`} data-state={alert.state}>{alert.state.replace("_", " ")}{alert.flapping && ", to and fro"}</span>;
}

/** How long somebody is at it; without hours until the next morning of the project, or as long as the alert lasts. */
const ACKS: [until: string, words: string][] = [["", "until it is over"], ["1", "for an hour"], ["8", "for 8 hours"], ["morning", "until tomorrow 09:00"]];
const SILENCES: [hours: number, words: string][] = [[1, "an hour"], [8, "8 hours"], [24, "a day"], [168, "7 days"]];

function Actions({ alert, act }: { alert: ShownAlert; act(work: Promise<unknown>): Promise<void> }) {
  const { id, version, episode, silence, file, rule } = alert;
  const ack = alert.ack && alert.ack.until > Date.now() ? alert.ack : null;
  const zone = rule.timezone ?? "UTC";
  const is_silent = silence && silence.until > Date.now();
  const submit = (what: "ack" | "silence") => (event: SubmitEvent) => {
    event.preventDefault();
    const form = new FormData(event.currentTarget as HTMLFormElement);
    const text = (name: string) => String(form.get(name) ?? "").trim();
    void act(say(id, what, { ...(text("by") ? { by: text("by") } : {}), note: text("note"), ...until_of(text("until")) }));
  };
  const remove = () => forget_rule(id, version!).then(() => go(page_of("/alerts")));
  return (
    <section class="builder" aria-label="What to do">
      {episode && <p class="summary">It began {moment(episode, zone)}{alert.firing > 1 && `, in ${plural(alert.firing, "line")}`}.</p>}
      {episode && (!ack || alert.unacknowledged > 0) && (
        <form class="step" onSubmit={submit("ack")} aria-label="Acknowledge">
          {session.value?.user ? <span class="word"><bdi>{session.value.user}</bdi></span> : <input name="by" aria-label="Who is at it" placeholder="your name" maxLength={100} />}<input name="note" aria-label="Note" placeholder="what is known" maxLength={500} />
          <select name="until" aria-label="Until when">{ACKS.map(([until, words]) => <option key={until} value={until}>{words}{until === "morning" && ` ${project_zone()}`}</option>)}</select>
          <button type="submit">I am at it</button>
        </form>
      )}
      {ack && <SaidLine what={ack.until < WITHOUT_END_MS ? `At it until ${moment(ack.until, zone)} ${zone}` : "At it"} said={ack} zone={zone} />}
      {ack && alert.unacknowledged > 0 && <p class="summary">{plural(alert.unacknowledged, "line")} became an alert since then.</p>}
      {is_silent
        ? <div class="step"><SaidLine what={`Nobody is told until ${moment(silence.until, zone)} ${zone}`} said={silence} zone={zone} /><button type="button" onClick={() => void act(say(id, "silence", { until: new Date(Date.now() - 1_000).toISOString() }))}>Tell again</button></div>
        : (
          <form class="step" onSubmit={submit("silence")} aria-label="Silence">
            <span class="word">Tell nobody for</span>
            <select name="until" aria-label="For how long">{SILENCES.map(([hours, words]) => <option key={hours} value={hours}>{words}</option>)}</select>
            <input name="note" aria-label="Why" placeholder="why" maxLength={500} /><button type="submit">Silence</button>
          </form>
        )}
      {file
        ? <p class="note">The file <bdi>{file}</bdi> says this {rule.report_at ? "report" : "rule"}: it is changed there.</p>
        : <div class="step"><button type="button" onClick={() => change({ rule: JSON.stringify(rule), version: String(version) })}>Change</button><button type="button" onClick={() => is_sure(rule.name || id) && void act(remove())}>Delete this {rule.report_at ? "report" : "rule"}</button></div>}
      {rule.runbook && /^https?:\/\//.test(rule.runbook) && <p><a href={rule.runbook} target="_blank" rel="noreferrer">What to do</a></p>}
      {rule.annotations?.description && <p class="note"><bdi>{rule.annotations.description}</bdi></p>}
    </section>
  );
}

const project_zone = () => session.value?.project.timezone ?? "UTC";

/** A time of so many hours from now, or of tomorrow in the morning; none where nothing is said. */
function until_of(chosen: string): { until?: string } {
  if (!chosen) return {};
  const zone = project_zone();
  if (chosen === "morning") return { until: local_time(days_later(day_of(Date.now(), zone), 1), "09:00", zone) };
  return { until: new Date(Date.now() + Number(chosen) * 3_600_000).toISOString() };
}

function SaidLine({ what, said, zone }: { what: string; said: Said; zone: string }) {
  return <p>{what}: <bdi>{said.by}</bdi>, {moment(said.at, zone)}{said.note && <>: <bdi>{said.note}</bdi></>}</p>;
}

/** What was seen and what happened, the newest first, or as it was around the slot that was opened. */
function Past({ id, alert, asked, slot }: { id: string; alert: ShownAlert; asked: number; slot: string }) {
  const { rule } = alert;
  const before = history_before(rule, slot);
  const { known, problem } = usePolled<History>(`${path_of(id)}/history?limit=${SHOWN}${before && `&before=${encodeURIComponent(before)}`}`, asked);
  const zone = rule.timezone ?? "UTC";
  const slots = [...(known?.slots ?? [])].reverse();
  const history = known?.history ?? [];
  const time = (at: string) => bucket_label(at, rule.interval ?? "hour", zone);
  const opened = (at: string) => changed({ slot: at, before: null });
  const episodes = episodes_of(history);
  const [is_table, set_is_table] = useIsTable("verdicts");
  const table = () => verdicts_table(rule, slots, unit_of(rule));
  return (
    <>
      {!rule.report_at && <section class="tile wide" data-tile="verdicts" aria-labelledby="title-verdicts" aria-busy={!known && !problem}>
        <header>
          <h2 id="title-verdicts">What it saw</h2>
          <div class="tools">
            {slots.length > 0 && <button type="button" class="quiet" aria-pressed={is_table} onClick={() => set_is_table(!is_table)}>Table</button>}
            {slots.length > 0 && <SaveButtons title={`${rule.name ?? ""}: what it saw`} note={() => verdicts_note(rule, slots)} table={table} />}
            {known?.next?.slots && <button type="button" class="quiet" onClick={() => change({ before: known.next!.slots!, slot: null })}>Earlier</button>}
            {(before || slot) && <button type="button" class="quiet" onClick={() => change({ before: null, slot: null })}>Up to now</button>}
          </div>
        </header>
        {problem && <p class="failed" role="alert">{problem}</p>}
        {known && (slots.length ? is_table ? <div class="drawn"><Table caption="What it saw" data={table()} /></div> : <Verdicts rule={rule} slots={slots} label="What it saw" remarks={remarks_of(history, unit_of(rule), slot)} /> : <p class="nothing">Nothing {before ? "was judged before that" : "has been judged yet"}.</p>)}
      </section>}
      {episodes.length > 0 && (
        <section class="tile wide" data-tile="episodes" aria-labelledby="title-episodes">
          <h2 id="title-episodes">Its alerts</h2>
          <ul class="people">
            {episodes.map(({ line, fired, resolved }) => (
              <li key={`${fired} ${line}`} data-episode={fired}><a href={opened(fired)} aria-current={fired === slot ? "true" : undefined}>{time(fired)}{line && <>: <bdi>{line_name(line)}</bdi></>}</a><span>{resolved ? `over with ${time(resolved)}` : "not over"}</span></li>
            ))}
          </ul>
        </section>
      )}
      <section class="tile wide" data-tile="history" aria-labelledby="title-history" aria-busy={!known && !problem}>
        <header>
          <h2 id="title-history">What happened</h2>
          <div class="tools">{known?.next?.history && <button type="button" class="quiet" onClick={() => change({ before: known.next!.history!, slot: null })}>Older</button>}</div>
        </header>
        {known && !known.history.length && <p class="nothing">Nothing yet.</p>}
        <ul class="happened">
          {history.map((one, index) => (
            <li key={`${one.slot} ${one.at} ${index}`} data-event={one.event}><a href={opened(one.slot)}><time dateTime={one.slot} title={`noted ${moment(one.at, zone)}`}>{time(one.slot)}</time></a><span><bdi>{happened_words(one, unit_of(rule))}</bdi></span></li>
          ))}
        </ul>
      </section>
    </>
  );
}

function Lines({ alert }: { alert: ShownAlert }) {
  const { lines, rule } = alert;
  if (!lines.some(({ line }) => line)) return null;
  return (
    <section class="tile wide" aria-labelledby="title-lines">
      <h2 id="title-lines">Its lines</h2>
      <ul class="people">{lines.slice(0, SHOWN).map(({ line, state, since, value }) => <li key={line}><bdi>{line_name(line)}</bdi><span>{state.replace("_", " ")}{since && ` since ${moment(since, rule.timezone ?? "UTC")}`}, {shown(value, unit_of(rule))}</span></li>)}</ul>
    </section>
  );
}
