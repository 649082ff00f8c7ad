// What draws the answers of one report, loaded for a page that shows only it: all of them would make it late.
import { useEffect, useState } from "preact/hooks";
import type { Draw } from "../ui/drawing";
import { draw_unknown } from "../ui/drawing-unknown";

const LOADS: Record<string, () => Promise<Draw>> = {
  trends: () => import("./trend").then((module) => module.draw_trend),
  sessions: () => import("./sessions").then((module) => module.draw_sessions),
  funnel: () => import("./funnel").then((module) => module.draw_funnel),
  retention: () => import("./retention").then((module) => module.draw_retention),
  lifecycle: () => import("./lifecycle").then((module) => module.draw_lifecycle),
  stickiness: () => import("./stickiness").then((module) => module.draw_stickiness),
  paths: () => import("./paths").then((module) => module.draw_paths),
};

export function can_be_drawn(report: string): boolean {
  return report in LOADS;
}

/** What draws a report, once it is there; what cannot be loaded is shown as the API says it. */
export function useDraw(report: string): Draw | undefined {
  const [loaded, set_loaded] = useState<{ report: string; draw: Draw }>();
  useEffect(() => {
    const take = (draw: Draw) => set_loaded({ report, draw });
    LOADS[report]?.().then(take, () => take(draw_unknown));
  }, [report]);
  return loaded?.report === report ? loaded.draw : undefined;
}
