// An empty project: what to do first, and the first event as it arrives.
import { useEffect, useState } from "preact/hooks";
import { ask_once, type Known } from "../api/ask";
import { session } from "../api/client";
import { useLive } from "../api/live";
import type { Chart } from "../api/types";

/** Whether the project has ever had an event: `null` while that is not known. Asked only where a page has none. */
function useIsEmpty(total: number | null): boolean | null {
  const [is_empty, set_is_empty] = useState<boolean | null>(null);
  useEffect(() => {
    if (total !== 0) return;
    const body = { from: "1970-01-01", interval: "month", include_bots: true, series: [{}] };
    const years = { ...body, from: "-20y" };
    ask_once<Chart>({ report: "trends", body: years }).then((answer) => set_is_empty(answer.result.series[0]?.total === 0), () => undefined);
  }, [total]);
  return total === 0 ? is_empty : false;
}

/** Shown where an answer has nothing of a measure, and never had. */
export function FirstSteps({ asked, measure }: { asked: Known<Chart>; measure: string }) {
  const total = asked.value?.answer?.result.series.find((series) => series.name === measure)?.total ?? null;
  return useIsEmpty(total) ? <Steps /> : null;
}

function Steps() {
  const { events, is_open } = useLive({ has_bots: true });
  const line = `curl ${location.origin}/v1/events -H "Authorization: Bearer WRITE_KEY" \\\n  -d '{"type": "signup", "anonymousId": "ada"}'`;
  return (
    <section class="tile wide first" aria-labelledby="first-title">
      <h2 id="first-title">Nothing has arrived yet in {session.value?.project.name}</h2>
      <p>Send a first event. The write key was printed when pulse started; <code>pulse keys</code> prints it again.</p>
      <pre tabIndex={0} aria-label="A first event">{line}</pre>
      <p role="status">
        {events.length ? <>Arrived: <strong><bdi>{events[0]!.type}</bdi></strong> by <bdi>{events[0]!.userId ?? events[0]!.anonymousId}</bdi>. This page shows it in a moment.</>
          : is_open ? "Waiting for it…" : "Connecting…"}
      </p>
    </section>
  );
}
