// The names at the ends of lines.
import type { Line } from "./line";
import { text_width } from "./width";

/** From the end of the lines to the names beside it, and behind those. */
export const BESIDE = 10;
/** Most of a name that stands beside its line, and what that may take. */
const MOST_LETTERS = 16;
export const MOST_BESIDE = 130;
const LINE_HEIGHT = 13;

interface Beside {
  text: string;
  width: number;
}

export function beside(name: string): Beside {
  const letters = [...name];
  const text = letters.length > MOST_LETTERS ? `${letters.slice(0, MOST_LETTERS - 1).join("")}…` : name;
  const width = text_width(text);
  return width > MOST_BESIDE ? { text: "", width: 0 } : { text, width };
}

/** Where the names of lines stand, where they do not lie on one another: the first lines first. The legend has all. */
export function ends(lines: Line[], names: Beside[], y: (value: number) => number): { place: number; top: number }[] {
  const kept: { place: number; top: number }[] = [];
  lines.forEach(({ values }, place) => {
    const last = values.at(-1) ?? null;
    if (last === null || !names[place]!.text) return;
    const top = y(last);
    if (kept.every((other) => Math.abs(other.top - top) >= LINE_HEIGHT)) kept.push({ place, top });
  });
  return kept;
}
