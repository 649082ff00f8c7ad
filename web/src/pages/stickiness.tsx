// In how many periods people have an event.
import { useAnswers } from "../api/ask";
import type { Question, Stickiness } from "../api/types";
import { draw_stickiness } from "../draw/stickiness";
import { range } from "../time";
import { filters_of_page } from "../ui/filters";
import { Choice, EventPicker } from "../ui/picker";
import { Tile } from "../ui/tile";
import { change, here } from "../url";
import { asked_bots, asked_breakdown, asked_compare, asked_range, BreakdownChoice, Page } from "./page";

export default function StickinessPage() {
  const { zone, interval: chosen } = range();
  const { params } = here.value;
  const interval = ["day", "week", "month"].includes(chosen) ? chosen : "day";
  const event = params.get("event") ?? "";
  const is_cumulative = params.get("cumulative") === "1";
  const body = { ...asked_range(), ...asked_bots(), interval, filters: filters_of_page(), ...(event ? { event } : {}), ...(is_cumulative ? { cumulative: true } : {}), ...asked_breakdown(5), ...asked_compare() };
  const asked: Record<string, Question> = { stickiness: { report: "stickiness", body } };
  const { tiles, cancel, again } = useAnswers(asked);
  return (
    <Page title="Stickiness" questions={asked} has={{ range: true, compare: true }}>
      <section class="builder" aria-label="What is asked">
        <div class="step">
          <span class="word">Active is who has</span><EventPicker label="Event" value={event} onChange={(name) => change({ event: name || null })} />
          <Choice label="In" value={is_cumulative ? "1" : ""} of={[["", `so many ${interval}s`], ["1", "so many or more"]]} onChange={(cumulative) => change({ cumulative: cumulative || null })} />
          <BreakdownChoice />
        </div>
      </section>
      <div class="tiles">
        <Tile<Stickiness> id="stickiness" title={`In how many ${interval}s people are active`} wide keep asked={tiles("stickiness")} zone={zone} onCancel={cancel} onAgain={again} drawing={draw_stickiness(asked.stickiness!, "stickiness", true)} />
      </div>
    </Page>
  );
}
