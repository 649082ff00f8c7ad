// Numbers by time as lines or bars. A cursor goes over them by pointer and by keys, and says in words what it stands on; buckets that
// are not over, or cut by the range, are hatched, and lines to and from them dashed, so that they never look like a fall.
import { useId, useMemo, useState } from "preact/hooks";
import { by_bucket, useNotes } from "../api/notes";
import { axis_label, bucket_label, moment } from "../time";
import { brief, shown, type Unit } from "../format";
import { BESIDE, beside, ends, MOST_BESIDE } from "./ends";
import { measured } from "./measured";
import { area_path, band_path, line_path, mark, type Points } from "./path";
import { label_step, value_scale } from "./scale";
import { useWidth } from "./width";

export interface Line {
  name: string;
  values: (number | null)[];
  /** Of the period that it is compared with. */
  is_compared?: boolean;
  /** Which of its numbers are not complete, where that is not as the chart says. */
  partial?: boolean[];
  /** Which of the colours, dashes and marks it has. */
  place: number;
}

export interface LineChartProps {
  label: string;
  buckets: string[];
  partial: boolean[];
  lines: Line[];
  /** The buckets of those that are compared with. */
  before?: string[];
  interval: string;
  zone: string;
  unit?: Unit;
  /** Stacked bars, which may be below zero, in place of lines. */
  is_stacked?: boolean;
  /** What a bucket is called, where it is not a time. */
  name_of?: (bucket: string) => string;
  /** The same, below the axis. */
  short_name_of?: (bucket: string) => string;
  height?: number;
  /** Buckets from and to, the last one included, that are marked as wrong. */
  alarms?: [from: number, to: number][];
  /** What is to be known of a bucket; nothing where it is empty. Such buckets are marked. */
  remarks?: string[];
  /** From where to where a number is as expected, by bucket. */
  band?: ([low: number, high: number] | null)[];
  /** Lines across, which can be moved where `onThreshold` says so. */
  thresholds?: { name: string; value: number }[];
  onThreshold?(index: number, value: number): void;
  onPick?: (line: number, bucket: number) => void;
}

const LEFT = 46;
/** Below the plot: what the axis says, and the zone in which it says it. */
const BELOW = { labels: 24, zone: 14 };
const TOP = 10;
const RIGHT = 8;
/** Half of the widest label below the axis. */
const HALF_LABEL = 24;

/** The colours, and what tells lines apart without them. */
export const COLOURS = 8;
const DASHES = ["", "7 3", "2 3", "9 3 2 3", "4 2", "12 4", "1 4", "6 2 1 2"];

export function dash(place: number): string {
  return DASHES[place % DASHES.length]!;
}

export function LineChart(props: LineChartProps) {
  const { label, buckets, partial, lines, interval, zone, unit = "number", height = 250, is_stacked, onPick, before, thresholds = [], remarks = [], band: usual = [] } = props;
  const { ref, width } = useWidth();
  const [at, set_at] = useState<number | null>(null);
  const [picked, set_picked] = useState(0);
  const hatch = useId();
  const is_time = !props.name_of;
  const BOTTOM = BELOW.labels + (is_time ? BELOW.zone : 0);
  const all_notes = useNotes();
  const notes = useMemo(() => (is_time ? by_bucket(all_notes, buckets) : []), [is_time, all_notes, buckets]);
  const own = lines.filter((line) => !line.is_compared);
  const { stacks, extent, has_whole } = useMemo(() => measured(lines, is_stacked ? buckets.length : 0), [lines, is_stacked, buckets.length]);
  const has_grain = is_stacked && own.length > 1;
  const has_names = !is_stacked && !thresholds.length && own.length > 1 && own.length <= COLOURS && width >= 4 * MOST_BESIDE;
  const names = useMemo(() => (has_names ? own.map(({ name }) => beside(name)) : []), [lines, has_names]);
  const right = Math.max(RIGHT, ...names.map(({ width }) => BESIDE + width));
  const inner = Math.max(0, width - LEFT - right);
  const band = inner / Math.max(1, buckets.length);
  const x = (index: number) => LEFT + band * (index + 0.5);
  const xs = useMemo(() => buckets.map((_, index) => x(index)), [band, buckets.length]);
  const scale = value_scale([...extent, ...thresholds.map(({ value }) => value), ...usual.flatMap((of) => of ?? [])], height - TOP - BOTTOM, unit === "number" && has_whole);
  const y = (value: number) => TOP + scale.y(value);
  // The same as long as every point is where it was.
  const places = `${band} ${height} ${BOTTOM} ${buckets.length} ${scale.ticks[0]} ${scale.ticks.at(-1)}`;
  const name = (index: number) => props.name_of?.(buckets[index]!) ?? bucket_label(buckets[index]!, interval, zone);
  const words = (index: number) => {
    const said = lines.map((line) => `${line.name} ${shown(line.values[index], unit)}${line.partial?.[index] ? " (not complete)" : ""}`);
    const noted = (notes[index] ?? []).map((note) => `; noted: ${note.text}`).join("");
    const expected = usual[index] ? `; expected ${between(usual[index], unit)}` : "";
    return `${name(index)}${partial[index] ? ", not complete" : ""}: ${said.join(", ")}${expected}${remarks[index] ? `; ${remarks[index]}` : ""}${noted}`;
  };
  const pick = (index: number | null) => index !== null && own.length && onPick?.(Math.min(picked, own.length - 1), index);

  const move = (event: KeyboardEvent) => {
    const last = buckets.length - 1;
    const from = at ?? last;
    const to = { ArrowLeft: from - 1, ArrowRight: from + 1, Home: 0, End: last, PageUp: from - 7, PageDown: from + 7 }[event.key];
    if (to !== undefined) set_at(Math.max(0, Math.min(last, to)));
    else if (event.key === "ArrowUp") set_picked((picked + own.length - 1) % Math.max(1, own.length));
    else if (event.key === "ArrowDown") set_picked((picked + 1) % Math.max(1, own.length));
    else if (event.key === "Enter" || event.key === " ") pick(at ?? last);
    else if (event.key === "Escape" && at !== null) set_at(null);
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  const index_of = (event: MouseEvent) => {
    const place = event.clientX - ref.current!.getBoundingClientRect().left - LEFT;
    return Math.max(0, Math.min(buckets.length - 1, Math.floor(place / band)));
  };
  // The last label stays inside.
  const below = (x: number) => (x > width - HALF_LABEL ? { x: width, "text-anchor": "end" as const } : { x, "text-anchor": "middle" as const });
  const current = at !== null && at < buckets.length ? at : null;
  const step = label_step(buckets.length, inner, interval === "minute" || interval === "hour" ? 54 : 62);

  const plot = (
    <div class="plot" ref={ref} tabIndex={0} role="slider" aria-label={`${label}: points of the chart`} aria-orientation="horizontal" aria-valuemin={0}
      aria-valuemax={Math.max(0, buckets.length - 1)} aria-valuenow={current ?? Math.max(0, buckets.length - 1)}
      aria-valuetext={buckets.length ? words(current ?? buckets.length - 1) : "no points"} onKeyDown={move} onBlur={() => set_at(null)}
      onMouseMove={(event) => set_at(index_of(event))} onMouseLeave={() => set_at(null)} onClick={(event) => pick(index_of(event))}>
      {width > 0 && (
        <svg width={width} height={height} aria-hidden="true" class={onPick ? "can-pick" : ""}>
          <defs>
            <pattern id={hatch} width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">
              <line x1="0" y1="0" x2="0" y2="6" class="hatch" />
            </pattern>
            {has_grain && own.map(({ place }) => <Grain key={place} id={`${hatch}-${place}`} place={place} />)}
          </defs>
          {scale.ticks.map((tick) => (
            <g key={tick}>
              <line class={tick === 0 ? "axis" : "rule"} x1={LEFT} x2={width - right} y1={y(tick)} y2={y(tick)} />
              <text class="tick" x={LEFT - 8} y={y(tick) + 4} text-anchor="end">{brief(tick, unit)}</text>
            </g>
          ))}
          {buckets.map((bucket, index) => index % step === 0 && (
            <text key={bucket} class="tick" {...below(x(index))} y={height - BOTTOM + 18}>{props.short_name_of?.(bucket) ?? axis_label(bucket, interval, zone)}</text>
          ))}
          {is_time && <text class="tick zone" x={width} y={height - 3} text-anchor="end">{zone}</text>}
          {partial.map((is_partial, index) => is_partial && (
            <rect key={index} class="partial" x={LEFT + band * index} y={TOP} width={band} height={height - TOP - BOTTOM} fill={`url(#${hatch})`} />
          ))}
          {usual.length > 0 && <path class="usual" d={band_path(usual, xs, y)} />}
          {props.alarms?.map(([from, to]) => <rect key={from} class="alarm" x={LEFT + band * from} y={TOP} width={Math.max(2, band * (to - from + 1))} height={height - TOP - BOTTOM} />)}
          {thresholds.map(({ value }, index) => <line key={index} class="threshold" x1={LEFT} x2={width - right} y1={y(value)} y2={y(value)} />)}
          {notes.map((of, index) => of.length > 0 && (
            <g key={index} class="noted"><line x1={x(index)} x2={x(index)} y1={TOP} y2={height - BOTTOM} /><path d="M0,-7l5,7h-10Z" transform={`translate(${x(index)},${height - BOTTOM})`} /></g>
          ))}
          {remarks.map((remark, index) => remark && <path key={index} class="remark" d="M0,-5l5,5l-5,5l-5,-5Z" transform={`translate(${x(index)},${TOP + 5})`} />)}
          {current !== null && <rect class="cursor" x={LEFT + band * current} y={TOP} width={band} height={height - TOP - BOTTOM} />}
          {is_stacked
            ? stacks.map((parts, place) => parts.map((part, index) => part.from !== part.to && (
              <rect key={`${place}-${index}`} class={`fill c${own[place]!.place % COLOURS}`} style={has_grain ? { fill: `url(#${hatch}-${own[place]!.place})` } : undefined} x={LEFT + band * index + band * 0.12} width={Math.max(1, band * 0.76)}
                y={Math.min(y(part.from), y(part.to))} height={Math.max(1, Math.abs(y(part.from) - y(part.to)))} />
            )))
            : lines.map((one, index) => <Path key={index} line={one} points={{ values: one.values, x: xs, y }} places={places} current={current} is_single={own.length === 1} partial={one.partial ?? partial} />)}
          {has_names && ends(own, names, y).map(({ place, top }) => <text key={place} class="end" x={width - right + 6} y={top + 4}>{names[place]!.text}</text>)}
        </svg>
      )}
      {current !== null && width > 0 && (
        <div class={`tip ${x(current) > width / 2 ? "left" : ""}`} style={{ left: `${x(current)}px` }}>
          <strong>{name(current)}</strong>{partial[current] && <em> not complete</em>}
          {before?.[current] && <div class="note">before: {bucket_label(before[current]!, interval, zone)}</div>}
          {lines.slice(0, 12).map((one, index) => (
            <div key={index} class={own[picked] === one && own.length > 1 ? "picked" : ""}><Swatch line={one} /> <bdi>{one.name}</bdi> <b>{shown(one.values[current], unit)}</b>{one.partial?.[current] && <em> not complete</em>}</div>
          ))}
          {usual[current] && <div class="note">expected {between(usual[current], unit)}</div>}
          {remarks[current] && <div class="note">◆ <bdi>{remarks[current]}</bdi></div>}
          {(notes[current] ?? []).slice(0, 5).map((note) => <div key={note.id} class="note">▲ <bdi>{note.text}</bdi>, {moment(note.at, zone)}</div>)}
          {onPick && <small>Click or Enter: the people</small>}
        </div>
      )}
    </div>
  );
  const { onThreshold } = props;
  if (!onThreshold) return plot;
  return (
    <div class="plotted">
      {plot}
      {width > 0 && thresholds.map((one, index) => <Handle key={index} {...one} unit={unit} top={y(one.value)} value_at={(top) => scale.value(top - TOP)} step={step_of(scale.ticks)} onMove={(value) => onThreshold(index, value)} />)}
    </div>
  );
}

function between([low, high]: [number, number], unit: Unit): string {
  return `${shown(low, unit)} to ${shown(high, unit)}`;
}

/** A twentieth of what lies between two ticks: fine enough by keys. */
function step_of(ticks: number[]): number {
  return (((ticks[1] ?? 1) - (ticks[0] ?? 0)) || 1) / 20;
}

/** Without the digits that nobody meant. */
function rounded(value: number, step: number): number {
  const digits = Math.max(0, Math.min(12, Math.ceil(-Math.log10(Math.abs(step) || 1)) + 1));
  return Number(value.toFixed(digits));
}

interface HandleProps {
  name: string;
  value: number;
  unit: Unit;
  /** Where it lies, in pixels, and which value lies elsewhere. */
  top: number;
  value_at(top: number): number;
  step: number;
  onMove(value: number): void;
}

/** Takes hold of a line across: by pointer, or by keys as any slider. It stands beside the plot, not in it: a slider holds no other. */
function Handle({ name, value, unit, top, value_at, step, onMove }: HandleProps) {
  const to = (next: number) => onMove(rounded(next, step));
  const press = (event: KeyboardEvent) => {
    const by = { ArrowUp: 1, ArrowRight: 1, ArrowDown: -1, ArrowLeft: -1, PageUp: 10, PageDown: -10 }[event.key];
    if (by === undefined) return;
    to(value + by * step);
    event.preventDefault();
    event.stopPropagation();
  };
  const drag = (event: PointerEvent) => {
    const handle = event.currentTarget as HTMLElement;
    if (!handle.hasPointerCapture(event.pointerId)) return;
    to(value_at(event.clientY - handle.parentElement!.getBoundingClientRect().top));
  };
  return (
    <div class="handle" style={{ top: `${top}px` }} tabIndex={0} role="slider" aria-orientation="vertical" aria-label={name} aria-valuenow={value} aria-valuetext={shown(value, unit)}
      onKeyDown={press} onPointerDown={(event) => { event.currentTarget.setPointerCapture(event.pointerId); event.preventDefault(); event.currentTarget.focus(); }} onPointerMove={drag}>
      <span>{name} {shown(value, unit)}</span>
    </div>
  );
}

interface PathProps {
  line: Line;
  points: Points;
  /** What the places of the points follow from. */
  places: string;
  current: number | null;
  is_single: boolean;
  partial: boolean[];
}

/** A line as paths: below it where it stands alone, what is complete, and what is not; and the points that no line leads to. */
function paths_of({ line: one, points, is_single, partial }: PathProps): { area: string; closed: string; open: string; lone: number[] } {
  // What leads to a number that is not complete, or from it, is dashed: it is no fall, and no rise.
  const is_open = (index: number) => Boolean(partial[index] || partial[index + 1]);
  const parts = runs(one.values.length - 1, is_open);
  const closed = parts.length ? parts.filter(({ is_open }) => !is_open) : [{ from: 0, to: one.values.length - 1 }];
  const stretch = (of: { from: number; to: number }[]) => of.map(({ from, to }) => line_path(points, from, to)).join("");
  return {
    area: is_single && !one.is_compared ? area_path(points, points.y(0)) : "", closed: stretch(closed), open: stretch(parts.filter(({ is_open }) => is_open)),
    lone: one.values.flatMap((value, index) => (value !== null && alone(one.values, index) ? [index] : [])),
  };
}

function Path(props: PathProps) {
  const { line: one, points, places, current, is_single, partial } = props;
  const colour = `c${one.place % COLOURS}`;
  // A cursor moves often, the lines seldom.
  const paths = useMemo(() => paths_of(props), [one.values, one.is_compared, places, is_single, partial]);
  const few = one.values.length <= 31;
  const marked = one.is_compared ? [] : few ? one.values.keys() : new Set([...paths.lone, ...(current === null ? [] : [current])]);
  const shown = [...marked].filter((index) => (one.values[index] ?? null) !== null);
  return (
    <g class={`line ${colour} ${one.is_compared ? "compared" : ""}`}>
      {paths.area && <path class="area" d={paths.area} />}
      <path class="stroke" d={paths.closed} stroke-dasharray={one.is_compared ? "3 3" : dash(one.place)} />
      {paths.open && <path class="stroke open" d={paths.open} stroke-dasharray={one.is_compared ? "1 6" : "3 3"} />}
      {shown.map((index) => <path key={index} class="mark" d={mark(one.place)} transform={`translate(${points.x[index]},${points.y(one.values[index]!)})`} />)}
    </g>
  );
}

/** The steps of a line that are alike, one after the other: from which point to which. */
function runs(steps: number, is_open: (step: number) => boolean): { from: number; to: number; is_open: boolean }[] {
  const all: { from: number; to: number; is_open: boolean }[] = [];
  for (let step = 0; step < steps; step++) {
    const last = all.at(-1);
    if (last?.is_open === is_open(step)) last.to = step + 1;
    else all.push({ from: step, to: step + 1, is_open: is_open(step) });
  }
  return all;
}

/** Whether no line leads to a point. */
function alone(values: (number | null)[], index: number): boolean {
  return (values[index - 1] ?? null) === null && (values[index + 1] ?? null) === null;
}

/** What bars are told apart by without their colours; nothing that looks like the hatch of what is not over. */
const GRAINS = ["", "M0,3h6", "M2,2h1.5M5,5h1.5", "M3,0v6", "M0,3h6M3,0v6", "M0,1h6M0,3h6", "M2,2h3v3h-3Z", "M1,0v3M4,3v3"];

function Grain({ id, place }: { id: string; place: number }) {
  return (
    <pattern id={id} width="6" height="6" patternUnits="userSpaceOnUse" class={`c${place % COLOURS}`}>
      <rect class="fill" width="6" height="6" />
      <path class="grain" d={GRAINS[place % GRAINS.length]} />
    </pattern>
  );
}

function FillSwatch({ place }: { place: number }) {
  const id = useId();
  return <svg class="swatch" width="14" height="12" aria-hidden="true"><defs><Grain id={id} place={place} /></defs><rect width="14" height="12" fill={`url(#${id})`} /></svg>;
}

export function Swatch({ line: one, is_fill }: { line: Pick<Line, "place" | "is_compared">; is_fill?: boolean }) {
  if (is_fill) return <FillSwatch place={one.place} />;
  return (
    <svg class={`swatch c${one.place % COLOURS} ${one.is_compared ? "compared" : ""}`} width="22" height="10" aria-hidden="true">
      <line class="stroke" x1="0" x2="22" y1="5" y2="5" stroke-dasharray={one.is_compared ? "3 3" : dash(one.place)} />
      {!one.is_compared && <path class="mark" d={mark(one.place)} transform="translate(11,5)" />}
    </svg>
  );
}
