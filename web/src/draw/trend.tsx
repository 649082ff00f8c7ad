// Lines of trends and sessions, as their question names them.
import { Trend, trend_summary, trend_table, type TrendOptions } from "../chart/trend";
import type { TableData } from "../chart/table";
import type { Unit } from "../format";
import { times_of, type Draw } from "../ui/drawing";

/** What a math of sessions measures. */
const UNITS: Record<string, Unit> = { bounce_rate: "share", avg_duration_ms: "duration", median_duration_ms: "duration" };

export const draw_trend: Draw = (question, id) => {
  const { body } = question;
  const series = Array.isArray(body.series) ? (body.series as Record<string, unknown>[]) : [];
  const formula = typeof body.formula === "string" ? body.formula : "";
  const options: TrendOptions = {
    id, ...times_of(question), is_formula: Boolean(formula), averaged: Number(body.moving_average ?? 0),
    names: formula ? [formula] : series.map((one) => String(one.name ?? (question.report === "sessions" ? one.math : one.event) ?? "any event")),
  };
  const units = options.names.map((_, index): Unit => UNITS[String(series[index]?.math)] ?? "number");
  // Each unit has a chart of its own: of a share beside a count nothing would be seen.
  const charts = [...new Set<Unit>(units.length ? units : ["number"])].map((unit): TrendOptions => ({ ...options, unit, only: units.every((other) => other === unit) ? undefined : options.names.filter((_, index) => units[index] === unit) }));
  return {
    draw: (answer) => charts.map((options) => <Trend key={options.unit} answer={answer} options={options} label="Chart" />),
    table: (answer) => charts.map((options) => trend_table(answer, options)).reduce(side_by_side),
    summary: (answer) => charts.map((options) => trend_summary(answer, options)).join(" "),
  };
};

/** Two tables of the same times as one. */
function side_by_side(left: TableData, right: TableData): TableData {
  const units = Object.entries(right.units ?? {}).map(([place, unit]) => [Number(place) + left.head.length - 1, unit]);
  return { ...left, head: [...left.head, ...right.head.slice(1)], units: { ...left.units, ...Object.fromEntries(units) }, rows: left.rows.map((row, at) => [...row, ...right.rows[at]!.slice(1)]) };
}
