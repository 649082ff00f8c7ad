// Places and steps of axes.
import { max, min, ticks } from "d3-array";

export interface Scale {
  ticks: number[];
  /** The place of a value, in pixels from the top. */
  y(value: number): number;
  /** The value at a place. */
  value(y: number): number;
}

/** A scale from 0, or from the least value if that is below, over `height` pixels. */
export function value_scale(values: Iterable<number | null>, height: number, is_whole: boolean): Scale {
  const all = [...values].filter((value): value is number => value !== null);
  const low = Math.min(0, min(all) ?? 0);
  const high = Math.max(max(all) ?? 0, low === 0 ? (is_whole ? 1 : 0) : 0) || (low === 0 ? 1 : 0);
  let steps = ticks(low, high, 4);
  if (is_whole) steps = steps.filter(Number.isInteger);
  const step = steps.length > 1 ? steps[1]! - steps[0]! : high;
  if (steps[steps.length - 1]! < high) steps.push(steps[steps.length - 1]! + step);
  if (steps[0]! > low) steps.unshift(steps[0]! - step);
  const [bottom, top] = [steps[0]!, steps[steps.length - 1]!];
  const span = top - bottom || 1;
  return { ticks: steps, y: (value) => height - ((value - bottom) / span) * height, value: (y) => bottom + ((height - y) / height) * span };
}

/** Every how many buckets one has its label, so that none lies on another. */
export function label_step(buckets: number, width: number, label_width: number): number {
  const most = Math.max(1, Math.floor(width / label_width));
  return Math.max(1, Math.ceil(buckets / most));
}
