// The ways of sessions from step to step: nodes as high as they are frequent, links between them, what ends there hatched.
import { useId, useLayoutEffect, useState } from "preact/hooks";
import type { Paths } from "../api/types";
import { label, shown } from "../format";
import { useWidth } from "./width";

interface Placed {
  node: Paths["nodes"][number];
  y: number;
  height: number;
  /** Where the next link leaves and enters, and what ends here. */
  out: number;
  into: number;
  dropped: number;
}

const NODE = 10;
const GAP = 14;
/** Between a node and its label, and what stays free behind the label. */
const BESIDE = 5;
/** The least that lies between two steps; and of a label, before any was measured. */
const COLUMN = 150;

export interface SankeyProps {
  paths: Paths;
  /** Between what a link is from and to. */
  arrow: string;
  onNode(node: Paths["nodes"][number]): void;
  onLink(link: Paths["links"][number]): void;
  onDrop(node: Paths["nodes"][number]): void;
}

const key = (step: number, name: string, kind: string) => JSON.stringify([step, name, kind]);

/** The places of nodes: in each step one below the other, as the answer has them. */
function layout(paths: Paths, height: number): Map<string, Placed> {
  const steps = [...new Set(paths.nodes.map((node) => node.step))];
  const of = (step: number) => paths.nodes.filter((node) => node.step === step);
  const scale = Math.min(...steps.map((step) => (height - GAP * (of(step).length - 1)) / Math.max(1, of(step).reduce((sum, node) => sum + node.sessions, 0))));
  const placed = new Map<string, Placed>();
  for (const step of steps) {
    let y = 8;
    for (const node of of(step)) {
      const drop = paths.dropoffs.find((drop) => drop.step === step && drop.name === node.name && drop.kind === node.kind);
      placed.set(key(step, node.name, node.kind), { node, y, height: Math.max(2, node.sessions * scale), out: y, into: y, dropped: (drop?.sessions ?? 0) * scale });
      y += Math.max(2, node.sessions * scale) + GAP;
    }
  }
  return placed;
}

export function Sankey({ paths, arrow, onNode, onLink, onDrop }: SankeyProps) {
  const { ref, width } = useWidth();
  const hatch = useId();
  const [longest, set_longest] = useState(COLUMN);
  // Each name and number has the room that it needs, whatever font there is; no label depends on that room.
  useLayoutEffect(() => {
    const labels = [...(ref.current?.querySelectorAll<SVGTextElement>("text.label") ?? [])];
    if (labels.length) set_longest(Math.ceil(Math.max(...labels.map((label) => label.getComputedTextLength()))));
  });
  const steps = Math.max(1, ...paths.nodes.map((node) => node.step));
  const most = Math.max(1, ...Array.from({ length: steps }, (_, step) => paths.nodes.filter((node) => node.step === step + 1).length));
  const height = Math.max(240, most * 36);
  const placed = layout(paths, height);
  const room = NODE + 2 * BESIDE + longest;
  const column = Math.max(COLUMN, room, (width - room) / Math.max(1, steps - 1) - 1);
  const bottom = Math.max(height, ...[...placed.values()].map(({ y, height }) => y + height));
  const x = (step: number) => (step - 1) * column;
  const scale = (sessions: number, of: Placed) => (of.height * sessions) / Math.max(1, of.node.sessions);
  return (
    <div class="scroll sankey" ref={ref} tabIndex={0} role="region" aria-label="Ways from step to step">
      {width > 0 && (
        <svg width={x(steps) + room} height={bottom + 16} aria-hidden="true">
          <defs><pattern id={hatch} width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><line x1="0" y1="0" x2="0" y2="6" class="hatch" /></pattern></defs>
          {paths.links.map((link) => {
            const from = placed.get(key(link.step, link.from, link.from_kind));
            const to = placed.get(key(link.step + 1, link.to, link.to_kind));
            if (!from || !to) return null;
            const size = scale(link.sessions, from);
            const [x0, x1, y0, y1] = [x(link.step) + NODE, x(link.step + 1), from.out, to.into];
            from.out += size;
            to.into += size;
            const half = (x0 + x1) / 2;
            const d = `M${x0},${y0}C${half},${y0} ${half},${y1} ${x1},${y1}v${size}C${half},${y1 + size} ${half},${y0 + size} ${x0},${y0 + size}Z`;
            return <path key={key(link.step, link.from, link.to)} class="flow" d={d} onClick={() => onLink(link)}><title>{`${label(link.from, link.from_kind)} ${arrow} ${label(link.to, link.to_kind)}: ${shown(link.sessions)}`}</title></path>;
          })}
          {[...placed.values()].map(({ node, y, height: size, dropped }) => (
            <g key={key(node.step, node.name, node.kind)} transform={`translate(${x(node.step)},${y})`}>
              <title>{`${label(node.name, node.kind)}: ${shown(node.sessions)}`}</title>
              {dropped > 0 && node.step < steps && <rect x={NODE} y={size - dropped} width="26" height={dropped} fill={`url(#${hatch})`} class="dropoff" onClick={() => onDrop(node)} />}
              <rect class="node" width={NODE} height={size} onClick={() => onNode(node)} />
              <text class="label" x={NODE + BESIDE} y={Math.min(size / 2 + 4, 14)} onClick={() => onNode(node)}>{short(label(node.name, node.kind))} {shown(node.sessions)}</text>
            </g>
          ))}
        </svg>
      )}
    </div>
  );
}

function short(name: string): string {
  return name.length > 18 ? `${name.slice(0, 17)}…` : name;
}
