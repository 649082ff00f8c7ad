// Lines of trends and sessions, as their question names them.
import { Trend, trend_summary, trend_table, type TrendOptions } from "../chart/trend";
import type { Unit } from "../format";
import { times_of, type Draw } from "../ui/drawing";

/** What a math of sessions measures. */
const UNITS: Record<string, Unit> = { bounce_rate: "share", avg_duration_ms: "duration", median_duration_ms: "duration" };

export const draw_trend: Draw = (question, id) => {
  const { body } = question;
  const series = Array.isArray(body.series) ? (body.series as Record<string, unknown>[]) : [];
  const formula = typeof body.formula === "string" ? body.formula : "";
  const options: TrendOptions = {
    id, ...times_of(question), unit: UNITS[String(series[0]?.math)] ?? "number", is_formula: Boolean(formula),
    names: formula ? [formula] : series.map((one) => String(one.name ?? (question.report === "sessions" ? one.math : one.event) ?? "any event")),
  };
  return {
    draw: (answer) => <Trend answer={answer} options={options} label="Chart" />,
    table: (answer) => trend_table(answer, options),
    summary: (answer) => trend_summary(answer, options),
  };
};
