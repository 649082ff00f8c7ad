// What the answers of reports are drawn by, wherever they stand beside others.
import type { Draw } from "../ui/drawing";
import { draw_funnel } from "./funnel";
import { draw_lifecycle } from "./lifecycle";
import { draw_paths } from "./paths";
import { draw_retention } from "./retention";
import { draw_sessions } from "./sessions";
import { draw_stickiness } from "./stickiness";
import { draw_trend } from "./trend";

export const DRAWS: Record<string, Draw> = {
  trends: draw_trend, sessions: draw_sessions, funnel: draw_funnel, retention: draw_retention, lifecycle: draw_lifecycle, stickiness: draw_stickiness, paths: draw_paths,
};
