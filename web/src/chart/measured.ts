// What a chart of lines or of stacked bars measures before it is drawn.
import type { Line } from "./line";

/** What the scale of a chart follows from, whatever its width. */
interface Measured {
  stacks: Part[][];
  extent: [least: number, most: number] | [];
  has_whole: boolean;
}

export function measured(lines: Line[], stacked_buckets: number): Measured {
  const stacks = stacked_buckets ? stacked(lines, stacked_buckets) : [];
  let [least, most, has_whole] = [Infinity, -Infinity, true];
  const take = (value: number) => {
    if (value < least) least = value;
    if (value > most) most = value;
  };
  for (const { values } of lines) {
    for (const value of values) {
      if (value === null) continue;
      has_whole &&= Number.isInteger(value);
      if (!stacked_buckets) take(value);
    }
  }
  for (const { from, to } of stacks.flat()) {
    take(from);
    take(to);
  }
  return { stacks, extent: least > most ? [] : [least, most], has_whole };
}

interface Part {
  from: number;
  to: number;
}

/** Where the parts of each line begin and end: above zero what is positive, below it what is negative. */
function stacked(lines: Line[], buckets: number): Part[][] {
  const up = new Array<number>(buckets).fill(0);
  const down = new Array<number>(buckets).fill(0);
  return lines.map((line) => line.values.map((value, index) => {
    const side = (value ?? 0) < 0 ? down : up;
    const from = side[index]!;
    side[index] = from + (value ?? 0);
    return { from, to: side[index]! };
  }));
}
