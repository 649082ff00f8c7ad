// The ways that sessions take, from a beginning or to an end.
import { useAnswers } from "../api/ask";
import type { Answer, Paths, Question } from "../api/types";
import { Sankey } from "../chart/sankey";
import type { TableData } from "../chart/table";
import { label, shown } from "../format";
import { range } from "../time";
import { filters_of_page } from "../ui/filters";
import { Choice, FieldPicker, ValuePicker } from "../ui/picker";
import { show_people } from "../ui/people-panel";
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
        <Tile<Paths> id="paths" title="Ways of sessions" wide asked={tiles.paths} zone={zone} onCancel={cancel} onAgain={again} table={table} summary={summary}>
          {({ result }) => (result.nodes.length ? <Sankey paths={result} onNode={of_node} onLink={of_link} onDrop={of_drop} /> : <p class="nothing">No sessions in this time.</p>)}
        </Tile>
      </div>
    </Page>
  );
}

type Node = Paths["nodes"][number];
type Link = Paths["links"][number];

const of_node = ({ step, name, kind }: Node) => show_people({ of: "paths", bar: { step, name, kind }, name: `${label(name, kind)} at step ${step}` });
const of_drop = ({ step, name, kind }: Node) => show_people({ of: "paths", bar: { step, name, kind, dropped: true }, name: `ended at ${label(name, kind)}, step ${step}` });
const of_link = ({ step, from, from_kind, to, to_kind }: Link) =>
  show_people({ of: "paths", bar: { step, name: from, kind: from_kind, next: to, next_kind: to_kind }, name: `${label(from, from_kind)} → ${label(to, to_kind)}` });

function table({ result }: Answer<Paths>): TableData {
  const rows = result.nodes.flatMap((node) => {
    const from = label(node.name, node.kind);
    const number = (sessions: number, pick: () => void) => ({ text: shown(sessions), value: sessions, label: `The people of these ${shown(sessions)} sessions`, pick });
    const links = result.links.filter((link) => link.step === node.step && link.from === node.name && link.from_kind === node.kind);
    const drop = result.dropoffs.find((drop) => drop.step === node.step && drop.name === node.name && drop.kind === node.kind);
    return [
      [{ text: `${node.step}. ${from}` }, { text: "" }, number(node.sessions, () => of_node(node))],
      ...links.map((link) => [{ text: `${node.step}. ${from}` }, { text: `→ ${label(link.to, link.to_kind)}` }, number(link.sessions, () => of_link(link))]),
      ...(drop ? [[{ text: `${node.step}. ${from}` }, { text: "ends here" }, number(drop.sessions, () => of_drop(node))]] : []),
    ];
  });
  return { head: ["At", "Then", "Sessions"], rows };
}

function summary({ result }: Answer<Paths>): string {
  const first = result.nodes.filter((node) => node.step === 1);
  const sessions = first.reduce((sum, node) => sum + node.sessions, 0);
  const most = result.links.filter((link) => link.step === 1).sort((left, right) => right.sessions - left.sessions)[0];
  return `${shown(sessions)} sessions${most ? `; most go from ${label(most.from, most.from_kind)} to ${label(most.to, most.to_kind)} (${shown(most.sessions)})` : ""}.`;
}
