// Saves what a tile shows: its numbers as CSV, what is drawn as PNG or SVG, each with its title, its time and zone and how far its data reaches.
import { png_file, svg_file, svg_of } from "../chart/picture";
import { csv, download, type TableData } from "../chart/table";

export interface SaveProps {
  title: string;
  /** Its time and zone, and what is to be known of the data. */
  note(): string;
  table(): TableData;
}

export function SaveButtons({ title, note, table }: SaveProps) {
  const caption = () => ({ title, note: note() });
  const save = async (button: HTMLElement, ending: "svg" | "png") => {
    const picture = svg_of(button.closest<HTMLElement>(".tile")!, caption());
    if (picture) download(title, ending, ending === "svg" ? svg_file(picture) : await png_file(picture));
  };
  return (
    <>
      <button type="button" class="quiet" onClick={() => download(title, "csv", new Blob([csv(table(), caption())], { type: "text/csv" }))} aria-label={`Save ${title} as CSV`}>CSV</button>
      <button type="button" class="quiet" onClick={(event) => void save(event.currentTarget, "png")} aria-label={`Save ${title} as PNG`}>PNG</button>
      <button type="button" class="quiet" onClick={(event) => void save(event.currentTarget, "svg")} aria-label={`Save ${title} as SVG`}>SVG</button>
    </>
  );
}
