// Alerts: the rules and how they stand, what is wrong first, the reports that are sent, and the channels by which all that is told.
import { useState } from "preact/hooks";
import { forget_channel, save_channel, try_channel, WITHOUT_END_MS, type Channel, type FailedNotice, type ListedAlert, type Rule } from "../api/alerts";
import { event_names, useOffered } from "../api/catalogue";
import { session, type ApiError } from "../api/client";
import { usePolled } from "../api/polled";
import { moment } from "../time";
import { report_path, Untold } from "../ui/send";
import { is_sure } from "../ui/sure";
import { here, page_of } from "../url";
import { Builder } from "./alerts/builder";
import { RulePage, State } from "./alerts/rule";
import { condition_words, drafted, events_of, reduced, rule_words, unit_of } from "./alerts/words";
import { Page } from "./page";

/** The newest notice that a channel has not taken. */
function NotDelivered({ at, rule, kind, outcome, why }: FailedNotice) {
  return <span class="warn">; <time dateTime={at}>{moment(at, session.value?.project.timezone ?? "UTC")}</time>, {kind.replaceAll("_", " ")} of <bdi>{rule}</bdi>: {outcome.replaceAll("_", " ")}{why && `, ${why}`}</span>;
}

/** What comes first in the list. */
const ORDER = ["firing", "error", "no_data", "delayed", "recovering", "pending", "ok", "new", "disabled"];
/** As many names as the catalogue is asked for: where there are more, one that is not among them may still exist. */
const MOST_NAMES = 200;
const FIRST: Rule = { name: "", report: "trends", interval: "hour", question: { series: [{ math: "total" }] } };

export default function Alerts() {
  const { rest, params } = here.value;
  const draft = drafted(params.get("rule") ?? "");
  // Anew from and to a draft: what is changed, and what is shown once it is saved, is the rule as it is then.
  if (rest) return <RulePage key={`${rest} ${draft ? "draft" : ""}`} id={rest} />;
  if (draft) return <Page title={draft.report_at ? "A new report" : "A new alert"}><Builder rule={draft} /></Page>;
  return <List />;
}

function List() {
  const { known, problem } = usePolled<{ alerts: ListedAlert[] }>("/v1/alerts");
  const names = useOffered(session.value ? event_names : null, String(Boolean(session.value)));
  const all = [...(known?.alerts ?? [])].sort((a, b) => ORDER.indexOf(a.state) - ORDER.indexOf(b.state) || a.name.localeCompare(b.name));
  const [watching, sent] = [all.filter(({ rule }) => !rule.report_at), all.filter(({ rule }) => rule.report_at)];
  const unknown = (rule: Rule) => (names.length && names.length < MOST_NAMES ? events_of(rule).filter((name) => !names.includes(name)) : []);
  return (
    <Page title="Alerts" aside={<><a class="button" href={page_of("/alerts", { rule: JSON.stringify({ ...FIRST, timezone: session.value?.project.timezone ?? "UTC" }) })}>New alert</a><a class="button" href={report_path()}>New report</a></>}>
      {problem && <p class="failed" role="alert">{problem}</p>}
      <div class="tiles">
        <section class="tile wide" data-tile="rules" aria-labelledby="title-rules" aria-busy={!known && !problem}>
          <h2 id="title-rules">Rules</h2>
          {known && !watching.length && <p class="nothing">None yet. “Alert” on a chart makes one that watches it; <code>deploy/alerts</code> has some to begin with.</p>}
          <ul class="list">{watching.map((alert) => <Listed key={alert.id} alert={alert} unknown={unknown(alert.rule)} />)}</ul>
        </section>
        <section class="tile wide" data-tile="reports" aria-labelledby="title-reports" aria-busy={!known && !problem}>
          <h2 id="title-reports">Reports</h2>
          {known && !sent.length && <p class="nothing">None yet. “Send” on a board makes one: its numbers each day, week or month.</p>}
          <ul class="list">{sent.map((alert) => <Listed key={alert.id} alert={alert} unknown={unknown(alert.rule)} />)}</ul>
        </section>
        <Channels />
      </div>
    </Page>
  );
}

function Listed({ alert, unknown }: { alert: ListedAlert; unknown: string[] }) {
  const { id, name, episode, ack, silence, rule, file, severity } = alert;
  const zone = rule.timezone ?? "UTC";
  return (
    <li data-alert={id}>
      <State alert={alert} />
      <a href={page_of(`/alerts/${encodeURIComponent(id)}`)}><bdi>{name}</bdi></a>
      <span class="note">
        {!rule.report_at && `${severity}; `}<bdi>{rule_words(rule)}{reduced(rule.reduce) && `, ${reduced(rule.reduce)}`}{rule.condition && `, ${condition_words(rule.condition, unit_of(rule))}`}</bdi>
        {rule.report_at && (rule.channels?.length ? <>, to <bdi>{rule.channels.join(", ")}</bdi></> : <span class="warn">, to nobody</span>)}
        {episode && <>; since {moment(episode, zone)}</>}
        {ack && ack.until > Date.now() && <>; <bdi>{ack.by}</bdi> is at it{ack.until < WITHOUT_END_MS && ` until ${moment(ack.until, zone)}`}</>}
        {silence && silence.until > Date.now() && <>; silent until {moment(silence.until, zone)}</>}
        {file && <>; of <bdi>{file}</bdi></>}
      </span>
      <Untold by={alert.missing_channels} />
      {unknown.length > 0 && <span class="warn">It can never match: no event is called <bdi>{unknown.join(", ")}</bdi> in the last 30 days.</span>}
    </li>
  );
}

/** What each kind of channel needs, of those that may be saved here: secrets are named by files alone. */
const FIELDS: Record<string, [key: string, placeholder: string][]> = {
  webhook: [["url", "https://…"]],
  slack: [["url", "https://hooks.slack.com/services/…"]],
  alertmanager: [["url", "https://…/api/v2/alerts"]],
  template: [["url", "https://…"], ["template", "{{ title }}"]],
};

function Channels() {
  const [asked, set_asked] = useState(0);
  const { known, problem } = usePolled<{ channels: Channel[] }>("/v1/channels", asked);
  const [kind, set_kind] = useState("webhook");
  const [refused, set_refused] = useState("");
  const [said, set_said] = useState<Record<string, string>>({});
  const act = (work: Promise<unknown>) => work.then(() => { set_refused(""); set_asked(Date.now()); return true; }, (problem: ApiError) => { set_refused(problem.message); return false; });
  const add = async (event: SubmitEvent) => {
    event.preventDefault();
    const form = event.currentTarget as HTMLFormElement;
    const written = [...new FormData(form)].map(([key, value]): [string, string] => [key, String(value).trim()]).filter(([, value]) => value);
    const { id = "", ...channel } = Object.fromEntries(written);
    if (await act(save_channel(id, channel))) form.reset();
  };
  const test = async (id: string) => {
    set_said((before) => ({ ...before, [id]: "telling it…" }));
    const outcome = await try_channel(id).then(({ outcome, why }) => `${outcome}${why && `: ${why}`}`, (problem: ApiError) => problem.message);
    set_said((before) => ({ ...before, [id]: outcome }));
    // One that takes it is on again.
    set_asked(Date.now());
  };
  return (
    <section class="tile wide" data-tile="channels" aria-labelledby="title-channels" aria-busy={!known && !problem}>
      <h2 id="title-channels">Channels</h2>
      {(problem || refused) && <p class="failed" role="alert">{refused || problem}</p>}
      {known && !known.channels.length && <p class="nothing">None yet: alerts show here, and nobody is told.</p>}
      <ul class="people">
        {known?.channels.map(({ id, kind, of, of_file, file, switched_off, waiting, failed }) => (
          <li key={id} data-channel={id}>
            <span><bdi>{id}</bdi>, {kind}{of === "all" && ", of all projects"}{file ? <>, of <bdi>{file}</bdi></> : of_file && ", of a file"}{switched_off && <b class="warn"> switched off: its receiver is gone</b>}
              {waiting > 0 && `, ${waiting} on their way`}{failed && <NotDelivered {...failed} />}</span>
            <span><span role="status">{said[id]}</span> <button type="button" class="quiet" aria-label={`Test ${id}`} onClick={() => void test(id)}>Test</button>
              {!of_file && !file && <button type="button" class="quiet" aria-label={`Delete ${id}`} onClick={() => is_sure(id) && void act(forget_channel(id))}>×</button>}</span>
          </li>
        ))}
      </ul>
      <form class="step" onSubmit={add} aria-label="A new channel">
        <input name="id" aria-label="Id of the channel" placeholder="id, such as ops" required pattern="[A-Za-z0-9._\-]+" maxLength={64} />
        <select name="kind" aria-label="Kind of channel" value={kind} onChange={(event) => set_kind(event.currentTarget.value)}>{Object.keys(FIELDS).map((kind) => <option key={kind} value={kind}>{kind}</option>)}</select>
        {FIELDS[kind]!.map(([key, placeholder]) => <input key={`${kind} ${key}`} name={key} aria-label={key.replace("_", " ")} placeholder={placeholder} required />)}
        <button type="submit">Add</button>
      </form>
      <p class="note">A signed webhook, <code>pagerduty</code> and <code>email</code> need a secret of the server, which only a file may name: they are <code>[channels.id]</code> of a file of <code>alerts.files</code>.</p>
    </section>
  );
}

