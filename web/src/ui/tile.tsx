// One answer of a page with all that belongs to it: what it is, how far its data reaches, what went wrong, its numbers as a table and
// how it was asked. What goes wrong in a tile stays in it.
import { Component, type ComponentChildren, type ComponentType } from "preact";
import { useContext, useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import type { Asked, Known } from "../api/ask";
import type { Answer, Meta, Question } from "../api/types";
import { Table, type TableData } from "../chart/table";
import { PlaceWidth } from "../chart/width";
import { plural, shown } from "../format";
import { clock, moment, prepare, range_words } from "../time";
import { change, here } from "../url";
import type { Drawing } from "./drawing";
import { Bell } from "./bell";
import type { HowAskedProps } from "./how-asked";
import { KeepButton } from "./keep";
import { SaveButtons } from "./save";

/** Another chart. */
export interface Other {
  title: string;
  question: Question;
}

export interface TileProps<T> {
  id: string;
  title: string;
  asked?: Known<T>;
  zone: string;
  onCancel(): void;
  onAgain(): void;
  /** Draws the answer, where no drawing does. */
  children?(answer: Answer<T>): ComponentChildren;
  /** The answer as a table. */
  table?(answer: Answer<T>): TableData;
  /** The answer in a sentence. */
  summary?(answer: Answer<T>): string;
  /** All three. */
  drawing?: Drawing<T>;
  /** Whether it can be put on a board. */
  keep?: boolean;
  /** What an alert on it watches; what it shows, where it can be put on a board. */
  watched?: Question;
  /** What it can be told apart from: the other charts of its board. */
  beside?: Other[];
  /** Where the title leads. */
  href?: string;
  /** Stands beside the title. */
  tools?: ComponentChildren;
  /** Stands below it. */
  tabs?: ComponentChildren;
  wide?: boolean;
}

/** Whether a tile shows its numbers as a table, as the address says, and what changes that. */
export function useIsTable(id: string): [is_table: boolean, set_is_table: (is_table: boolean) => void] {
  const tables = here.value.params.getAll("table");
  // The same numbers: going back does not bring the picture back.
  const set_is_table = (is_table: boolean) => change({ table: is_table ? [...tables, id] : tables.filter((other) => other !== id) }, true);
  return [tables.includes(id), set_is_table];
}

export function Tile<T>(props: TileProps<T>) {
  const { id, title, zone, drawing, tools, href } = props;
  const asked = props.asked?.value;
  const { draw = props.children, table = props.table, summary = props.summary } = drawing ?? {};
  const [is_table, set_is_table] = useIsTable(id);
  const [is_explained, set_is_explained] = useState(false);
  const width = useRef(0);
  const answer = asked?.answer;
  const watched = props.watched ?? (props.keep ? asked?.question : undefined);
  return (
    <PlaceWidth.Provider value={width}><section class={`tile ${props.wide ? "wide" : ""}`} data-tile={id} data-asked-at={asked?.asked_at || undefined} aria-labelledby={`title-${id}`} aria-busy={Boolean(asked?.asked_at)}>
      <header>
        <h2 id={`title-${id}`}>{href ? <a href={href}>{title}</a> : title}</h2>
        <div class="tools">
          {tools}
          {answer && table && (
            <>
              <button type="button" class="quiet" aria-pressed={is_table} onClick={() => set_is_table(!is_table)}>Table</button>
              <SaveButtons title={title} note={() => note_of(asked!, zone)} table={() => table(answer)} />
            </>
          )}
          {watched && <Bell title={title} question={watched} />}
          {props.keep && asked && <KeepButton title={title} question={watched ?? asked.question} />}
          {asked && <button type="button" class="quiet" aria-expanded={is_explained} onClick={() => set_is_explained(!is_explained)} aria-label={`How ${title} was asked`}>?</button>}
        </div>
      </header>
      {props.tabs}
      {asked?.error && <Failed asked={asked} zone={zone} onAgain={props.onAgain} />}
      {!answer && !asked?.error && <Running since={asked?.asked_at ?? 0} rows={asked?.rows_read} question={asked?.question} zone={zone} onCancel={props.onCancel} />}
      {answer && (
        // A chart beside which its people are shown looks back, and is the same one.
        <Guard key={JSON.stringify(asked?.question, (name, value) => (name === "as_of" ? undefined : value))}>
          <div class="drawn"><Drawn of={() => (
            <>
              {summary && <p class="summary">{summary(answer)}</p>}
              {is_table && table ? <Table data={table(answer)} caption={title} /> : draw?.(answer)}
            </>
          )} /></div>
        </Guard>
      )}
      {is_explained && asked && <Explained asked={asked} zone={zone} beside={props.beside ?? []} />}
      {answer && <Health meta={answer.meta} asked={asked!} zone={zone} />}
    </section></PlaceWidth.Provider>
  );
}

/** What a file of a tile says of itself beside its title. */
function note_of({ question, answer }: Asked, zone: string): string {
  const { from, to } = (question.body.of ?? question.body) as { from?: string; to?: string };
  const through = answer?.meta.data_through ? `; data through ${moment(answer.meta.data_through, zone)}` : "";
  return `${from ? `${range_words(from, to ?? "now", zone)}, ` : ""}${zone}${through}`;
}

/** How far the data of an answer reaches, and what is to be known of it. */
function Health({ meta, asked, zone }: { meta: Meta; asked: Asked; zone: string }) {
  return (
    <footer class="health">
      <span>{meta.data_through ? `data through ${clock(meta.data_through, zone)}` : "data through: not known yet"} {zone}</span>
      {meta.stale && <span class="warn">stale: computed {clock(meta.computed_at, zone)}</span>}
      {asked.error && <span class="warn">not up to date</span>}
      {meta.sampled && <span class="warn">an estimate, from a sample</span>}
      {meta.warnings?.map((warning) => <span key={warning} class="warn">{warning}</span>)}
      {asked.late > 0 && <span class="note">+{plural(asked.late, "late event")} since you opened this</span>}
      {meta.excluded_bots ? <span class="note">without {plural(meta.excluded_bots, "event")} of bots</span> : null}
    </footer>
  );
}

function Failed({ asked, zone, onAgain }: { asked: Asked; zone: string; onAgain(): void }) {
  const { error, answer } = asked;
  const is_away = error!.code === "away";
  return (
    <div class="failed" role="alert">
      <strong>{is_away ? "The server cannot be reached" : error!.status ? `${error!.code} (${error!.status})` : "Stopped"}</strong>
      <span>{is_away && answer ? `Shown is what was known at ${moment(answer.meta.computed_at, zone)}. It is tried again.` : error!.message}</span>
      <button type="button" onClick={onAgain}>Ask again</button>
    </div>
  );
}

interface RunningProps {
  since: number;
  rows?: number;
  question?: Question;
  zone: string;
  onCancel(): void;
}

/** Slow is told from broken: how long it takes already, how many rows have been read, and how to stop it. */
function Running({ since, rows, onCancel, question, zone }: RunningProps) {
  const [now, set_now] = useState(Date.now());
  const place = useRef<HTMLDivElement>(null);
  const width = useContext(PlaceWidth);
  // What the answer is drawn with is made while it is on its way.
  useEffect(() => {
    shown(0);
    prepare(String(question?.body.interval ?? "day"), zone);
  }, []);
  useLayoutEffect(() => {
    const observer = new ResizeObserver(([entry]) => (width.current = Math.floor(entry!.contentRect.width)));
    observer.observe(place.current!);
    return () => observer.disconnect();
  }, []);
  useEffect(() => {
    const timer = setInterval(() => set_now(Date.now()), 500);
    return () => clearInterval(timer);
  }, []);
  const seconds = since ? Math.floor((now - since) / 1_000) : 0;
  return (
    <div class="running" ref={place}>
      <span class="bar" aria-hidden="true" />
      {seconds >= 1 && <p>{seconds} s{rows && `, ${plural(rows, "row")} read so far`} <button type="button" class="quiet" onClick={onCancel}>Stop</button></p>}
    </div>
  );
}

/** How a number came about. Few ask, so what says it is loaded for them. */
function Explained(props: HowAskedProps) {
  const [Loaded, set_loaded] = useState<ComponentType<HowAskedProps> | null>(null);
  const [is_away, set_is_away] = useState(false);
  useEffect(() => {
    import("./how-asked").then(({ HowAsked }) => set_loaded(() => HowAsked), () => set_is_away(true));
  }, []);
  if (is_away) return <p class="failed" role="alert">How it was asked cannot be loaded: the server may be away, or has been updated.</p>;
  return Loaded ? <Loaded {...props} /> : <div class="explained" aria-busy="true" />;
}

/** What `of` makes, made within what guards it. */
function Drawn({ of }: { of(): ComponentChildren }) {
  return <>{of()}</>;
}

/** An answer that this page does not know how to draw costs its own tile. */
class Guard extends Component<{ children: ComponentChildren }, { problem?: string }> {
  override componentDidCatch(problem: unknown): void {
    this.setState({ problem: String(problem) });
  }

  /** What could not be drawn may be by now: another answer, or the table. */
  override componentDidUpdate(before: { children: ComponentChildren }): void {
    if (this.state.problem && before.children !== this.props.children) this.setState({ problem: undefined });
  }

  override render() {
    return this.state.problem ? <div class="failed" role="alert"><strong>This cannot be drawn</strong><span>{this.state.problem}</span></div> : this.props.children;
  }
}
