// Who comes back in the periods after they began.
import { useAnswers } from "../api/ask";
import type { Question, Retention } from "../api/types";
import { draw_retention } from "../draw/retention";
import { range, RANGES, type RangeName } from "../time";
import { filters_of_page } from "../ui/filters";
import { Choice, EventPicker, FieldPicker } from "../ui/picker";
import { Matches, matched_to_api, read_matched, type Matched } from "../ui/matched";
import { Tile } from "../ui/tile";
import { change, here } from "../url";
import { asked_bots, asked_breakdown, asked_compare, asked_range, BreakdownChoice, Page } from "./page";

function question(): Question {
  const { params } = here.value;
  const event = (name: string) => matched_to_api(read_matched<Matched>(params.get(name) ?? "") ?? {});
  const body = {
    ...asked_range(otherwise()), ...asked_bots(), filters: filters_of_page(), period: period(), periods: Number(params.get("periods")) || 8, cohort_event: event("start"), return_event: event("return"),
    ...(params.get("type") === "recurring" ? { type: "recurring" } : {}), ...(params.get("mode") === "on_or_after" ? { mode: "on_or_after" } : {}),
    ...(params.get("rolling") === "1" ? { rolling: true } : {}), ...(params.get("sum") ? { value: { sum: params.get("sum") } } : {}), ...asked_breakdown(5), ...asked_compare(),
  };
  return { report: "retention", body };
}

/** Enough periods to see somebody come back. */
function otherwise(): RangeName {
  const name = { day: "30 days", week: "12 weeks", month: "12 months" }[period()];
  return RANGES.find((range) => range.name === name)!;
}

function period(): string {
  const period = here.value.params.get("period");
  return period === "day" || period === "month" ? period : "week";
}

export default function RetentionPage() {
  const asked = { retention: question() };
  const { tiles, cancel, again } = useAnswers(asked);
  const { params } = here.value;
  const { zone } = range();
  const picker = (name: string, what: string) => {
    const matched = read_matched<Matched>(params.get(name) ?? "") ?? {};
    const set = (changes: Matched) => change({ [name]: JSON.stringify({ ...matched, ...changes }) });
    return (
      <div class="step">
        <span class="word">{what}</span>
        <EventPicker label={what} value={matched.event ?? ""} onChange={(event) => set({ event: event || undefined })} />
        <Matches matched={matched} onChange={(filters) => set({ filters })} />
      </div>
    );
  };
  return (
    <Page title="Retention" questions={asked} otherwise={otherwise()} has={{ range: true, interval: false, compare: true }}>
      <section class="builder" aria-label="What is asked">
        {picker("start", "They begin with")}
        {picker("return", "and come back with")}
        <div class="step">
          <Choice label="By" value={period()} of={[["day", "day"], ["week", "week"], ["month", "month"]]} onChange={(period) => change({ period: period === "week" ? null : period })} />
          <Choice label="Periods" value={params.get("periods") ?? "8"} of={["4", "8", "12", "24", "30"].map((count): [string, string] => [count, count])} onChange={(periods) => change({ periods: periods === "8" ? null : periods })} />
          <Choice label="They begin" value={params.get("type") ?? "first_time"} of={[["first_time", "once, the first time ever"], ["recurring", "again in each period"]]} onChange={(type) => change({ type: type === "recurring" ? type : null })} />
          <Choice label="They are back" value={params.get("mode") ?? "on"} of={[["on", "in that period"], ["on_or_after", "in that or a later one"]]} onChange={(mode) => change({ mode: mode === "on_or_after" ? mode : null })} />
          <Choice label="Periods begin" value={params.get("rolling") ?? ""} of={[["", "by the calendar"], ["1", "with the person"]]} onChange={(rolling) => change({ rolling: rolling || null })} />
          <label class="choice"><span>The sum of</span><FieldPicker label="The sum of" value={params.get("sum") ?? ""} placeholder="no sum: people" onChange={(field) => change({ sum: field.trim() || null })} /></label>
          <BreakdownChoice />
        </div>
      </section>
      <div class="tiles">
        <Tile<Retention> id="retention" title="Who comes back" wide keep asked={tiles("retention")} zone={zone} onCancel={cancel} onAgain={again} drawing={draw_retention(asked.retention, "retention", true)} />
      </div>
    </Page>
  );
}
