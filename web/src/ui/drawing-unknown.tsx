// A report that has no picture here: what the API says.
import type { Draw, Drawing } from "./drawing";

export const draw_unknown: Draw = (): Drawing => ({
  draw: ({ result }) => <pre tabIndex={0} aria-label="The answer">{JSON.stringify(result, null, 1).slice(0, 4_000)}</pre>,
  table: () => ({ head: [], rows: [] }),
  summary: () => "",
});
