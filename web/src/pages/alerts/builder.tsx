// A rule in the making: all of it stands in the address, and what it would have done is tried before it is saved.
import { useEffect, useState } from "preact/hooks";
import { save_rule, try_rule, type Channel, type Condition, type Reduce, type Rule, type Tested } from "../../api/alerts";
import { id_of } from "../../api/boards";
import type { ApiError } from "../../api/client";
import { usePolled } from "../../api/polled";
import { plural, shown } from "../../format";
import { bucket_label } from "../../time";
import { Choice, EventPicker } from "../../ui/picker";
import { OF_PULSE } from "../../ui/bell";
import { SaveButtons } from "../../ui/save";
import { Untold } from "../../ui/send";
import { change, go, here, page_of } from "../../url";
import { drafted, line_name, reduced, rule_words, suggested, unit_of } from "./words";
import { Days, has_own_hours, OfBoard, ReportTimes } from "./report";
import { numbers_of, Verdicts, verdicts_note, verdicts_table } from "./verdicts";

/** How far back a rule is tried each time that it changes: so far that the answer is there in a moment. */
const TRIED: Record<string, [from: string, words: string]> = { minute: ["-3d", "3 days"], hour: ["-30d", "30 days"], day: ["-90d", "90 days"], week: ["-1y", "year"], month: ["-2y", "2 years"] };
/** Most slots that are drawn: what is longer is told. */
const MOST_DRAWN = 4_500;
/** While somebody still moves the threshold. */
const PAUSE_MS = 400;

export interface BuilderProps {
  rule: Rule;
  /** What is changed; a new one without. */
  id?: string;
  /** What it is changed from: the first that is said counts. */
  version?: number | null;
}

export function Builder({ rule, id, version: newest }: BuilderProps) {
  const [version] = useState(newest ?? null);
  const [problem, set_problem] = useState("");
  // Onto what the address says by now: a trial that ends late undoes nothing of what was changed meanwhile.
  const write: PartProps["write"] = (changes, replace = false) => {
    const now = drafted(here.value.params.get("rule") ?? "") ?? rule;
    change({ rule: JSON.stringify({ ...now, ...changes }) }, replace);
  };
  const save = async (event: SubmitEvent) => {
    event.preventDefault();
    const own = id ?? id_of(rule.name ?? "", rule.report_at ? "report" : "rule");
    await save_rule(own, version, rule).then(() => go(page_of(`/alerts/${encodeURIComponent(own)}`)), (refused: ApiError) => set_problem(refused.message));
  };
  return (
    <form class="builder" onSubmit={save} aria-label={`${id ? "Change the" : "A new"} ${rule.report_at ? "report" : "rule"}`}>
      <div class="step">
        <label class="choice"><span>Name</span><input value={rule.name ?? ""} required maxLength={100} onChange={(event) => write({ name: event.currentTarget.value })} /></label>
        {!rule.report_at && <Choice label="Severity" value={rule.severity ?? "warning"} of={["critical", "warning", "info"].map((one) => [one, one])} onChange={(severity) => write({ severity })} />}
        <label class="check"><input type="checkbox" checked={rule.disabled === true} onChange={(event) => write({ disabled: event.currentTarget.checked || undefined })} /> switched off</label>
      </div>
      {rule.report === "board" ? <OfBoard rule={rule} write={write} /> : <Watched rule={rule} write={write} />}
      {rule.report_at ? <ReportTimes rule={rule} write={write} /> : <When rule={rule} write={write} />}
      <Told rule={rule} is_new={!id} write={write} />
      {(!rule.report_at || has_own_hours(rule)) && <Hours rule={rule} write={write} />}
      {!rule.report_at && <Trial rule={rule} id={id} write={write} />}
      {problem && <p class="failed" role="alert">{problem}</p>}
      <div class="step"><button type="submit">Save</button><a class="button quiet" href={page_of(id ? `/alerts/${encodeURIComponent(id)}` : "/alerts")}>Cancel</a></div>
    </form>
  );
}

interface PartProps {
  rule: Rule;
  write(changes: Partial<Rule>, replace?: boolean): void;
}

const KINDS: [string, string][] = [["trends", "events"], ["ledger", "events that cannot be read"], ["lag", "how far pulse is behind"]];

/** The number that is watched: that of a chart as it was asked, or one of few words. */
function Watched({ rule, write }: PartProps) {
  const series = rule.question?.series as { event?: string; math?: string; name?: string }[] | undefined;
  const is_plain = rule.report === "trends" && series?.length === 1 && Object.keys(rule.question ?? {}).length === 1 && Object.keys(series[0]!).every((key) => key === "event" || key === "math");
  const kind = is_plain || rule.report === "ledger" || rule.report === "lag" ? rule.report : "chart";
  const choose = (report: string) => {
    // A threshold of other numbers means nothing, and of the lag none can be found: nothing is known of its past.
    const begun = report === "lag" || report === "ledger" ? { ...OF_PULSE[report], report_at: undefined } : { report, question: { series: [{ math: "total" }] }, condition: null };
    if (report !== "chart") write({ ...begun, reduce: "last", resolve: null, line: "" });
  };
  const set = (changes: object) => write({ question: { series: [{ ...series![0], ...changes }] } });
  return (
    <div class="step">
      <Choice label="Watch" value={kind} of={kind === "chart" ? [["chart", "a chart"], ...KINDS] : KINDS} onChange={choose} />
      {is_plain && <Choice is_bare label="Count of" value={series[0]!.math ?? "total"} of={[["total", "events"], ["unique_users", "people"], ["unique_sessions", "sessions"]]} onChange={(math) => set({ math })} />}
      {is_plain && <EventPicker label="Event" value={series[0]!.event ?? ""} onChange={(event) => set({ event: event || undefined })} />}
      {kind === "chart" && <span><bdi>{rule_words(rule)}</bdi></span>}
      {!rule.question?.formula && (series?.length ?? 0) > 1 && (
        <Choice label="Line" value={rule.line ?? ""} of={[["", series![0]!.name ?? "the first"], ...series!.slice(1).filter((one) => one.name).map((one): [string, string] => [one.name!, one.name!])]} onChange={(line) => write({ line })} />
      )}
      {rule.report !== "lag" && !rule.report_at && <Choice label="By" value={rule.interval ?? "hour"} of={["minute", "hour", "day", "week", "month"].map((one) => [one, one])} onChange={(interval) => write({ interval })} />}
      {!rule.report_at && <span class="word">{rule.timezone ?? "UTC"}</span>}
    </div>
  );
}

const REDUCES: [string, string][] = [["last", "the number itself"], ["sum", "sum of so many"], ["average", "average of so many"], ["least", "least of so many"], ["most", "most of so many"],
  ["change previous", "change against the one before"], ["change day", "change against the day before"], ["change week", "change against the week before"], ["anomaly", "how unusual it is"]];

function reduce_key(reduce: Reduce = "last"): string {
  if (typeof reduce === "string") return reduce;
  const [[kind, of]] = Object.entries(reduce) as [[string, string]];
  return kind === "change" ? `change ${of}` : kind;
}

/** What becomes of the number at which it is right again when the threshold moves: as far from it as it was; with `outside` it says how far inside. */
function moved({ condition: before, resolve }: Rule, condition: Condition): Partial<Rule> {
  if (typeof resolve !== "number" || !before) return { condition };
  if ("outside" in condition) return { condition, resolve: Math.min(resolve, (condition.outside[1] - condition.outside[0]) / 2) };
  const [was, is] = [before, condition].map((one) => Object.values(one)[0] as number) as [number, number];
  return { condition, resolve: Number((resolve + is - was).toPrecision(12)) };
}

function When({ rule, write }: PartProps) {
  const { reduce = "last", condition } = rule;
  const [is_dropped, set_is_dropped] = useState(false);
  const resolve = typeof rule.resolve === "number" ? rule.resolve : null;
  const slots = typeof reduce === "object" ? Object.values(reduce)[0] : undefined;
  const choose = (key: string) => {
    const [kind, of] = key.split(" ") as [string, string?];
    const next = kind === "last" || kind === "anomaly" ? kind : kind === "change" ? { change: of } : { [kind]: typeof slots === "number" ? slots : 3 };
    set_is_dropped(resolve !== null);
    // A threshold of other numbers means nothing: it is found anew.
    write({ reduce: next as Reduce, condition: kind === "anomaly" ? { outside: [-3, 3] } : kind === "change" ? { below: -0.3 } : null, resolve: null, ...(kind === "anomaly" ? { interval: "hour" } : {}) });
  };
  const kind = condition ? Object.keys(condition)[0]! : "below";
  const limits = condition ? [Object.values(condition)[0]].flat() as number[] : [];
  const turn = (next: string) => {
    const [low = 0, high = low] = limits;
    set_is_dropped(resolve !== null);
    write({ condition: (next === "outside" ? { outside: [low, Math.max(low, high)] } : { [next]: next === "above" ? high : low }) as Condition, resolve: null });
  };
  const set = (index: number, text: string) => {
    const value = Number(text);
    if (text === "" || !Number.isFinite(value)) return;
    write(moved(rule, (kind === "outside" ? { outside: limits.map((limit, at) => (at === index ? value : limit)) } : { [kind]: value }) as Condition));
  };
  const write_resolve = (text: string) => {
    set_is_dropped(false);
    write({ resolve: text.trim() === "" || !Number.isFinite(Number(text)) ? null : Number(text) });
  };
  const number = (key: "for" | "keep_firing_for" | "min_count", name: string, least: number) => (
    <label class="choice"><span>{name}</span><input type="number" min={least} value={rule[key] ?? least} onChange={(event) => write({ [key]: Number(event.currentTarget.value) })} /></label>
  );
  return (
    <>
      <div class="step">
        <Choice label="Made of it" value={reduce_key(reduce)} of={REDUCES} onChange={choose} />
        {typeof slots === "number" && <input type="number" min={1} max={1440} aria-label="Of how many" value={slots} onChange={(event) => write({ reduce: { [reduce_key(reduce)]: Number(event.currentTarget.value) } as Reduce })} />}
        <Choice label="It is wrong" value={kind} of={[["above", "above"], ["below", "below"], ["outside", "outside"]]} onChange={turn} />
        {limits.map((limit, index) => <input key={index} type="number" step="any" aria-label={kind === "outside" ? (index ? "Highest" : "Lowest") : "Threshold"} value={limit} onChange={(event) => set(index, event.currentTarget.value)} />)}
        {condition && <label class="choice"><span>{kind === "outside" ? "Right again so far inside" : `Right again ${kind === "above" ? "at or below" : "at or above"}`}</span>
          <input type="number" step="any" value={resolve ?? ""} placeholder={kind === "outside" ? "0" : String(limits[0])} onChange={(event) => write_resolve(event.currentTarget.value)} /></label>}
        {is_dropped && resolve === null && <span class="warn" role="status">At which number it is right again has to be said anew.</span>}
      </div>
      <div class="step">
        {number("for", `For so many ${rule.interval ?? "hour"}s`, 1)}
        {number("keep_firing_for", "And right again for", 0)}
        {number("min_count", "With so much behind it at least", 0)}
        <Choice label="Without numbers" value={rule.no_data ?? "keep"} of={[["keep", "stay as it is"], ["ok", "all is well"], ["alert", "is an alert"]]} onChange={(no_data) => write({ no_data })} />
      </div>
    </>
  );
}

function Told({ rule, is_new, write }: PartProps & { is_new: boolean }) {
  const { known } = usePolled<{ channels: Channel[] }>("/v1/channels");
  const chosen = rule.channels ?? [];
  const all = [...new Set([...(known?.channels ?? []).map(({ id }) => id), ...chosen])];
  const usable = (known?.channels ?? []).filter(({ switched_off }) => !switched_off);
  const only = is_new && !rule.channels && usable.length === 1 ? usable[0]!.id : "";
  // Where there is no choice, a new rule tells whom it can.
  useEffect(() => {
    if (only) write({ channels: [only] }, true);
  }, [only]);
  const turn = (id: string) => write({ channels: chosen.includes(id) ? chosen.filter((one) => one !== id) : [...chosen, id] });
  return (
    <div class="step" role="group" aria-label="Who is told">
      <span class="word">Tell</span>
      {all.map((id) => <label class="check" key={id}><input type="checkbox" checked={chosen.includes(id)} onChange={() => turn(id)} /> <bdi>{id}</bdi></label>)}
      {known && <Untold by={chosen.filter((id) => !known.channels.some((channel) => channel.id === id))} />}
      {known && all.length > 0 && !chosen.length && <span class="warn" role="status">Nobody is told: choose a channel.</span>}
      {known && !all.length && <span class="note">{rule.report_at ? <>No channel yet: nobody is told. <a href={page_of("/alerts")}>Add one</a> first.</> : "No channel yet: it shows on this page only."}</span>}
      {!rule.report_at && <label class="choice"><span>What to do then</span><input value={rule.annotations?.description ?? ""} maxLength={500} placeholder="for those who are told" onChange={(event) => write({ annotations: { ...rule.annotations, description: event.currentTarget.value } })} /></label>}
    </div>
  );
}

/** When channels are told; it is judged all the time. */
function Hours({ rule, write }: PartProps) {
  const active = typeof rule.active === "object" ? rule.active : null;
  const days = Array.isArray(active?.days) ? active.days : [];
  const set = (changes: Partial<NonNullable<Rule["active"]>>) => write({ active: { from: "09:00", to: "18:00", ...active, ...changes } });
  const time = (key: "from" | "to", name: string) => <label class="choice"><span>{name}</span><input type="time" required value={String(active?.[key] ?? "").slice(0, 5)} onChange={(event) => event.currentTarget.value && set({ [key]: event.currentTarget.value })} /></label>;
  return (
    <div class="step" role="group" aria-label="When they are told">
      <Choice label="Tell them" value={active ? "hours" : "always"} of={[["always", "always"], ["hours", "in some hours"]]} onChange={(when) => (when === "always" ? write({ active: null }) : set({}))} />
      {active && <>{time("from", "From")}{time("to", "To")}</>}
      {active && <Days days={days} onChange={(days) => set({ days })} />}
      {active && <span class="word">{String(active.timezone || rule.timezone || "UTC")}</span>}
    </div>
  );
}

/** What the rule would have done, judged by the code that judges it live. */
function Trial({ rule, id, write }: PartProps & { id?: string }) {
  const [tested, set_tested] = useState<(Tested & { words: string }) | null>(null);
  const [problem, set_problem] = useState("");
  const [is_busy, set_is_busy] = useState(true);
  const needs = !rule.condition && rule.reduce !== "anomaly";
  // What is only written about it changes nothing of what it does; channels may be gone meanwhile.
  const { name: _, annotations: __, channels: ___, runbook: ____, severity: _____, active: ______, disabled: _______, ...judged } = rule;
  const text = JSON.stringify(judged);
  // Minutes of a month take some seconds: they are tried once where somebody asks for it, and not again with each change.
  const [asked_for, set_asked_for] = useState("");
  const is_month = rule.interval === "minute" && asked_for === text;
  const [from, words] = TRIED[is_month ? "hour" : rule.interval ?? "hour"] ?? TRIED.hour!;
  useEffect(() => {
    const running = new AbortController();
    set_is_busy(true);
    const timer = setTimeout(async () => {
      const asked: Rule = needs ? { ...judged, condition: { above: Number.MAX_VALUE } } : judged;
      try {
        const found = await try_rule(id ?? "draft", asked, from, running.signal);
        if (running.signal.aborted) return;
        set_tested({ ...found, words });
        set_problem("");
        if (needs && found.slots) write({ condition: suggested(numbers_of(found.values)) }, true);
      } catch (refused) {
        if (!running.signal.aborted) set_problem((refused as ApiError).message);
      }
      if (!running.signal.aborted) set_is_busy(false);
    }, PAUSE_MS);
    return () => {
      running.abort();
      clearTimeout(timer);
    };
  }, [text, is_month]);
  const unit = unit_of(rule);
  const fired = tested?.changes.filter(({ change }) => change === "fired") ?? [];
  return (
    <section class="tile" data-tile="trial" aria-labelledby="title-trial" aria-busy={is_busy}>
      <header>
        <h2 id="title-trial">What it would have done</h2>
        {tested && tested.slots > 0 && <div class="tools">
          {rule.interval === "minute" && !is_month && <button type="button" class="quiet" onClick={() => set_asked_for(text)}>Try it on 30 days</button>}
          <SaveButtons title={`${rule.name ?? ""}: what it would have seen`} note={() => verdicts_note(rule, tested.values)} table={() => verdicts_table(rule, tested.values, unit)} /></div>}
      </header>
      {problem && <p class="failed" role="alert">{problem}</p>}
      {!tested && !problem && <p class="note" role="status">It is tried on the last {words}…</p>}
      {tested && (
        <>
          {tested.slots > 0 && <p class="summary" role="status">Would have fired <strong data-fired={tested.fired}>{plural(tested.fired, "time")}</strong> in the last {tested.words}: {plural(tested.slots, rule.interval ?? "hour")} judged{reduced(rule.reduce) && `, by the ${reduced(rule.reduce)}`}.
            {tested.slots > MOST_DRAWN && ` The newest ${plural(MOST_DRAWN, "one")} are drawn.`}</p>}
          {tested.slots > 0
            ? <Verdicts rule={rule} slots={tested.values.slice(-MOST_DRAWN)} label="What it would have seen" onCondition={(condition) => write(moved(rule, condition), true)} />
            : <p class="nothing" role="status">It cannot be tried: of the past nothing is known.</p>}
          <ul class="happened">
            {fired.slice(-5).reverse().map((one) => <li key={`${one.slot} ${one.line}`}><time dateTime={one.slot}>{bucket_label(one.slot, rule.interval ?? "hour", rule.timezone ?? "UTC")}</time><span><bdi>{line_name(one.line)}</bdi> {shown(one.value, unit)} {one.reason}</span></li>)}
          </ul>
        </>
      )}
    </section>
  );
}
