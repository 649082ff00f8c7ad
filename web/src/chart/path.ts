// Lines as paths: what is drawn again whenever a width changes, of many points. Places are in pixels.

export interface Points {
  values: (number | null)[];
  /** Where each of them is from the left. */
  x: number[];
  y(value: number): number;
}

/** By how much a path may pass beside a point that it leaves out: less than can be seen. */
const STRAY = 0.2;
/** Tenths of a pixel, which is as fine as a path says a place. */
const KNOWN = 20_000;
const texts = new Array<string | undefined>(KNOWN);

/** A place as a path says it. The same are said again and again. */
function tenths(place: number): string {
  const at = Math.round(10 * place);
  return at >= 0 && at < KNOWN ? (texts[at] ??= String(at / 10)) : String(at / 10);
}

/** A line from one number to another, with none missing between them. */
interface Stretch {
  from: number;
  to: number;
  /** Its points, from the first on: `12,3.4L56,7.8`. */
  path: string;
}

/** What there is of a line from one index to another, both included. Points that lie on the way between others are left out. */
function stretches({ values, x, y }: Points, from: number, to: number): Stretch[] {
  const all: Stretch[] = [];
  let current: Stretch | undefined;
  // The last point of the path, and how steep a line from there may be to pass all points since.
  let [x0, y0, low, high] = [0, 0, -Infinity, Infinity];
  let last_y = 0;
  const turn = (index: number) => {
    current!.path += `L${tenths(x[index]!)},${tenths(last_y)}`;
    [x0, y0, low, high] = [x[index]!, last_y, -Infinity, Infinity];
  };
  for (let index = from; index <= to; index++) {
    const value = values[index] ?? null;
    if (value === null) {
      if (current && current.to > current.from) turn(current.to);
      current = undefined;
      continue;
    }
    const at = y(value);
    if (!current) {
      current = { from: index, to: index, path: `${tenths(x[index]!)},${tenths(at)}` };
      all.push(current);
      [x0, y0, low, high] = [x[index]!, at, -Infinity, Infinity];
    } else {
      let steep = (at - y0) / (x[index]! - x0);
      if (steep < low || steep > high) {
        turn(current.to);
        steep = (at - y0) / (x[index]! - x0);
      }
      const spare = STRAY / (x[index]! - x0);
      low = Math.max(low, steep - spare);
      high = Math.min(high, steep + spare);
      current.to = index;
    }
    last_y = at;
  }
  if (current && current.to > current.from) turn(current.to);
  return all;
}

/** The path through the points from one index to another, both included; broken where a number is missing. */
export function line_path(points: Points, from = 0, to = points.values.length - 1): string {
  return stretches(points, from, to).map(({ path }) => `M${path}`).join("");
}

/** What lies between the points and `base`. */
export function area_path(points: Points, base: number): string {
  const below = (index: number) => `${tenths(points.x[index]!)},${tenths(base)}`;
  return stretches(points, 0, points.values.length - 1).map(({ from, to, path }) => `M${below(from)}L${path}L${below(to)}Z`).join("");
}

/** What lies between two lines; nothing where there is none. */
export function band_path(between: ([low: number, high: number] | null)[], x: number[], y: (value: number) => number): string {
  const side = (which: 0 | 1) => stretches({ values: between.map((of) => of && of[which]), x, y }, 0, between.length - 1);
  const tops = side(1);
  return side(0).map(({ path }, index) => `M${path}L${tops[index]!.path.split("L").reverse().join("L")}Z`).join("");
}

/** What stands at points, so that lines are told apart without their colours: a circle, a cross, a diamond, a square, a star, a triangle, a Y. */
const MARKS = [
  "M3,0A3,3,0,1,1,-3,0A3,3,0,1,1,3,0",
  "M-3.5,-1.2H-1.2V-3.5H1.2V-1.2H3.5V1.2H1.2V3.5H-1.2V1.2H-3.5Z",
  "M0,-4.9L2.8,0L0,4.9L-2.8,0Z",
  "M-2.6,-2.6H2.6V2.6H-2.6Z",
  "M0,-5L1.1,-1.5H4.8L1.8,0.6L2.9,4L0,1.9L-2.9,4L-1.8,0.6L-4.8,-1.5H-1.1Z",
  "M0,-4.6L4,2.3H-4Z",
  "M1.4,0.8V3.7H-1.4V0.8L-3.9,-0.6L-2.5,-3.1L0,-1.7L2.5,-3.1L3.9,-0.6Z",
];

export function mark(place: number): string {
  return MARKS[place % MARKS.length]!;
}
