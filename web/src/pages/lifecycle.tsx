// Of each period: who is new, who stays, who is back, and who is gone.
import { useAnswers } from "../api/ask";
import type { Chart, Question } from "../api/types";
import { draw_lifecycle } from "../draw/lifecycle";
import { range } from "../time";
import { filters_of_page } from "../ui/filters";
import { EventPicker } from "../ui/picker";
import { Tile } from "../ui/tile";
import { change, here } from "../url";
import { asked_bots, asked_breakdown, asked_compare, asked_range, BreakdownChoice, Page } from "./page";

function fitting(interval: string): string {
  return ["day", "week", "month"].includes(interval) ? interval : "day";
}

export default function Lifecycle() {
  const { zone, interval: chosen } = range();
  const interval = fitting(chosen);
  const event = here.value.params.get("event") ?? "";
  const question: Question = { report: "lifecycle", body: { ...asked_range(), ...asked_bots(), interval, filters: filters_of_page(), ...(event ? { event } : {}), ...asked_breakdown(5), ...asked_compare() } };
  const asked = { lifecycle: question };
  const { tiles, cancel, again } = useAnswers(asked);
  return (
    <Page title="Lifecycle" questions={asked} has={{ range: true, compare: true }}>
      <section class="builder" aria-label="What is asked"><div class="step"><span class="word">Active is who has</span><EventPicker label="Event" value={event} onChange={(name) => change({ event: name || null })} /><BreakdownChoice /></div></section>
      <div class="tiles">
        <Tile<Chart> id="lifecycle" title="New, staying, back and gone" wide keep asked={tiles("lifecycle")} zone={zone} onCancel={cancel} onAgain={again} drawing={draw_lifecycle(question, "lifecycle", true)} />
      </div>
    </Page>
  );
}
