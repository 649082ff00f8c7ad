// The numbers of a chart as a table: the twin that every chart has, and what is exported.
import type { ComponentChildren } from "preact";
import { useEffect, useMemo, useState } from "preact/hooks";
import { next_task } from "../tasks";
import type { Caption } from "./picture";

export interface Cell {
  text: string;
  /** As it is exported; the text without it. */
  value?: string | number | null;
  /** Opens the people behind it. */
  pick?: () => void;
  /** What is to be known of it. */
  note?: string;
  /** What the button is called. */
  label?: string;
}

export interface TableData {
  head: string[];
  rows: Cell[][];
  /** In what columns are exported that are shown in other words, by their places. */
  units?: Record<number, string>;
  /** Columns that are exported besides: what the table says beside its numbers. */
  besides?: { head: string[]; rows: string[][] };
}

/** Of buckets that may be incomplete, whether each is, as it is exported; nothing of one that there is not. */
export function complete(partial: boolean[], bucket: number): string {
  const is_partial = partial[bucket];
  return is_partial === undefined ? "" : is_partial ? "no" : "yes";
}

/** So many rows are put into the page at a time: of thousands of buttons all at once it would answer nobody. */
const AT_ONCE = 100;

export function Table({ data, caption }: { data: TableData; caption: string }) {
  const [count, set_count] = useState(AT_ONCE);
  useEffect(() => {
    let is_shown = true;
    if (count < data.rows.length) void next_task().then(() => is_shown && set_count(count + AT_ONCE));
    return () => {
      is_shown = false;
    };
  }, [count, data.rows.length]);
  const parts = Array.from({ length: Math.ceil(Math.min(count, data.rows.length) / AT_ONCE) }, (_, part) => part);
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label={`${caption}: table`} aria-busy={count < data.rows.length}>
      <table>
        <caption class="unseen">{caption}</caption>
        <thead><tr>{data.head.map((name, index) => <th key={index} scope="col" class={index ? "number" : ""}><bdi>{name}</bdi></th>)}</tr></thead>
        {parts.map((part) => <Part key={part} rows={data.rows} first={part * AT_ONCE} />)}
      </table>
    </div>
  );
}

/** Rows that are drawn once, however many are put behind them. */
function Part({ rows, first }: { rows: Cell[][]; first: number }) {
  return useMemo(() => (
    <tbody>
      {rows.slice(first, first + AT_ONCE).map((row, at) => (
        <tr key={at}>
          {row.map((cell, index) => (index === 0
            ? <th key={index} scope="row"><CellText cell={cell} /></th>
            : <td key={index} class="number"><CellText cell={cell} /></td>))}
        </tr>
      ))}
    </tbody>
  ), [rows, first]);
}

export function CellText({ cell }: { cell: Cell }): ComponentChildren {
  const note = cell.note && <small class="note">{cell.note} </small>;
  if (!cell.pick) return <>{note}<bdi>{cell.text}</bdi></>;
  return <>{note}<button type="button" class="number-button" onClick={cell.pick} aria-label={cell.label}>{cell.text}</button></>;
}

/** As a file that spreadsheets open; what they would take for a formula is a text. Its first lines say what it is, each behind `#`. */
export function csv(data: TableData, { title, note }: Caption): string {
  const field = (value: unknown) => {
    // What keeps names apart where they are shown would be part of them in a file.
    const text = String(value ?? "").replace(/[\u2068\u2069]/g, "");
    const safe = typeof value === "string" && /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
    return /[",\n\r]/.test(safe) ? `"${safe.replace(/"/g, '""')}"` : safe;
  };
  const besides = (index: number) => data.besides?.rows[index] ?? [];
  const values = (row: Cell[], index: number) => [...row.map((cell) => (cell.value === undefined ? cell.text : cell.value)), ...besides(index)];
  const head = data.head.map((name, index) => (data.units?.[index] ? `${name} (${data.units[index]})` : name));
  const rows = [[...head, ...(data.besides?.head ?? [])], ...data.rows.map(values)];
  const said = [title, note].map((line) => field(`# ${line.replace(/\s+/g, " ")}`));
  return `${[...said, ...rows.map((row) => row.map(field).join(","))].join("\r\n")}\r\n`;
}

/** Saves a file under the title of what it shows. */
export function download(name: string, ending: string, content: Blob): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(content);
  link.download = `${name.replace(/[^\p{L}\p{N}]+/gu, "-").slice(0, 60)}.${ending}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1_000);
}
