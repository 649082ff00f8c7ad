// The ways that sessions take, from a beginning or to an end.
import { useAnswers } from "../api/ask";
import type { Paths, Question } from "../api/types";
import { draw_paths } from "../draw/paths";
import { range } from "../time";
import { filters_of_page } from "../ui/filters";
import { Choice, FieldPicker, ValuePicker } from "../ui/picker";
import { Tile } from "../ui/tile";
import { change, here } from "../url";
import { asked_bots, asked_range, Page } from "./page";

export default function PathsPage() {
  const { params } = here.value;
  const { zone } = range();
  const node = params.get("node") ?? "type";
  const side = params.get("side") === "end" ? "end" : "start";
  const at = params.get("at") ?? "";
  const body = {
    ...asked_range(), ...asked_bots(), filters: filters_of_page(), node, steps: Number(params.get("steps")) || 5, limit: Number(params.get("limit")) || 7,
    ...(at ? { [side]: at } : {}), ...(params.get("collapse") === "0" ? { collapse: false } : {}),
  };
  const asked: Record<string, Question> = { paths: { report: "paths", body } };
  const { tiles, cancel, again } = useAnswers(asked);
  return (
    <Page title="Paths" questions={asked} has={{ range: true, interval: false }}>
      <section class="builder" aria-label="What is asked">
        <div class="step">
          <label class="choice"><span>Ways through</span><FieldPicker label="Ways through" value={node} onChange={(field) => change({ node: field === "type" ? null : field || null, at: null })} /></label>
          <Choice label="Looking" value={side} of={[["start", "forwards from"], ["end", "backwards from"]]} onChange={(side) => change({ side: side === "end" ? side : null })} />
          <ValuePicker label="Where they begin or end" field={node} value={at} placeholder={side === "end" ? "any last one" : "any first one"} onChange={(at) => change({ at: at || null })} />
          <Choice label="Steps" value={params.get("steps") ?? "5"} of={["2", "3", "4", "5", "6", "8", "10"].map((count): [string, string] => [count, count])} onChange={(steps) => change({ steps: steps === "5" ? null : steps })} />
          <Choice label="Most of a step" value={params.get("limit") ?? "7"} of={["3", "5", "7", "10", "15"].map((count): [string, string] => [count, count])} onChange={(limit) => change({ limit: limit === "7" ? null : limit })} />
          <Choice label="The same again" value={params.get("collapse") ?? ""} of={[["", "is one step"], ["0", "is another step"]]} onChange={(collapse) => change({ collapse: collapse || null })} />
        </div>
      </section>
      <div class="tiles">
        <Tile<Paths> id="paths" title="Ways of sessions" wide keep asked={tiles("paths")} zone={zone} onCancel={cancel} onAgain={again} drawing={draw_paths(asked.paths!, "paths")} />
      </div>
    </Page>
  );
}
