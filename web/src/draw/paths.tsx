// The ways of sessions, as a picture, a table and a sentence.
import type { Answer, Paths } from "../api/types";
import { Sankey } from "../chart/sankey";
import type { TableData } from "../chart/table";
import { isolated, label, plural, shown } from "../format";
import type { Draw } from "../ui/drawing";
import { show_people } from "../ui/people-panel";

export const draw_paths: Draw = ({ body }, id) => {
  const words = typeof body.end === "string" ? BACKWARDS : FORWARDS;
  const of = bars(id, words);
  // The API's own number where the question says none.
  const steps = Number(body.steps ?? 5);
  return {
    draw: ({ result }) => (result.nodes.length ? <Sankey paths={result} arrow={words.arrow} onNode={of.node} onLink={of.link} onDrop={of.drop} /> : <p class="nothing">No sessions in this time.</p>),
    table: (answer) => table(answer, of, words, (step) => (step < steps ? words.ends : "is the last step that is asked for")),
    summary: (answer) => summary(answer, words),
  };
};

/** Ways are told from where they are counted: with an end, what follows in the answer came before. */
const FORWARDS = { arrow: "→", then: "Then", ends: "ends here", most: "most go from", to: "to" };
const BACKWARDS: typeof FORWARDS = { arrow: "←", then: "Before it", ends: "begins here", most: "most come to", to: "from" };

type Node = Paths["nodes"][number];
type Link = Paths["links"][number];
type Bars = ReturnType<typeof bars>;

/** A node within a sentence. */
const named = (name: unknown, kind: unknown) => isolated(label(name, kind));

/** Shows who is behind a bar of the tile. */
function bars(id: string, { arrow, ends }: typeof FORWARDS) {
  return {
    node: ({ step, name, kind }: Node) => show_people({ of: id, bar: { step, name, kind }, name: `${named(name, kind)} at step ${step}` }),
    drop: ({ step, name, kind }: Node) => show_people({ of: id, bar: { step, name, kind, dropped: true }, name: `${named(name, kind)} ${ends}, step ${step}` }),
    link: ({ step, from, from_kind, to, to_kind }: Link) =>
      show_people({ of: id, bar: { step, name: from, kind: from_kind, next: to, next_kind: to_kind }, name: `${named(from, from_kind)} ${arrow} ${named(to, to_kind)}` }),
  };
}

function table({ result }: Answer<Paths>, of: Bars, { arrow, then }: typeof FORWARDS, ends: (step: number) => string): TableData {
  const rows = result.nodes.flatMap((node) => {
    const from = label(node.name, node.kind);
    const number = (sessions: number, pick: () => void) => ({ text: shown(sessions), value: sessions, label: `The people of these ${shown(sessions)} sessions`, pick });
    const links = result.links.filter((link) => link.step === node.step && link.from === node.name && link.from_kind === node.kind);
    const drop = result.dropoffs.find((drop) => drop.step === node.step && drop.name === node.name && drop.kind === node.kind);
    return [
      [{ text: `${node.step}. ${from}` }, { text: "" }, number(node.sessions, () => of.node(node))],
      ...links.map((link) => [{ text: `${node.step}. ${from}` }, { text: `${arrow} ${label(link.to, link.to_kind)}` }, number(link.sessions, () => of.link(link))]),
      ...(drop ? [[{ text: `${node.step}. ${from}` }, { text: ends(node.step) }, number(drop.sessions, () => of.drop(node))]] : []),
    ];
  });
  return { head: ["At", then, "Sessions"], rows };
}

function summary({ result }: Answer<Paths>, words: typeof FORWARDS): string {
  const first = result.nodes.filter((node) => node.step === 1);
  const sessions = first.reduce((sum, node) => sum + node.sessions, 0);
  const most = result.links.filter((link) => link.step === 1).sort((left, right) => right.sessions - left.sessions)[0];
  return `${plural(sessions, "session")}${most ? `; ${words.most} ${named(most.from, most.from_kind)} ${words.to} ${named(most.to, most.to_kind)} (${shown(most.sessions)})` : ""}.`;
}
