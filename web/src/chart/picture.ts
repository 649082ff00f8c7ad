// A chart as a picture that stands for itself: its title, its time and zone, how far its data reaches and its legend are in it.

/** What of the page's style a picture needs; as attributes, for it has no style of its own. */
const STYLES = ["fill", "fill-opacity", "stroke", "stroke-width", "stroke-dasharray", "stroke-linejoin", "stroke-linecap", "opacity", "font-size", "font-family", "font-weight", "text-anchor"];
const MARGIN = 16;
const LINE = 18;
const HEAD = 2 * LINE + MARGIN;
const NAMESPACE = "http://www.w3.org/2000/svg";

export interface Caption {
  title: string;
  /** The time, the zone, and what is to be known of the data. */
  note: string;
}

interface Text {
  x: number;
  y: number;
  size: number;
  weight?: number;
  colour: string;
}

/** The SVG of the chart that is drawn in a tile; null where it draws none. */
export function svg_of(tile: HTMLElement, { title, note }: Caption): SVGSVGElement | null {
  const drawn = tile.querySelector<SVGSVGElement>(".plot svg, .sankey svg");
  if (!drawn) return null;
  const { width, height } = drawn.getBoundingClientRect();
  const page = getComputedStyle(tile);
  const [soft, font] = [getComputedStyle(tile.querySelector(".health") ?? tile).color, page.fontFamily];
  const legend = [...tile.querySelectorAll<HTMLElement>(".legend li")].map((item) => ({ name: item.innerText.trim(), colour: getComputedStyle(item.querySelector("svg") ?? item).color }));
  const picture = element("svg", { xmlns: NAMESPACE, width: width + 2 * MARGIN, height: height + HEAD + 2 * MARGIN + (legend.length ? LINE : 0), "font-family": font });
  picture.append(element("rect", { width: "100%", height: "100%", fill: page.backgroundColor }));
  picture.append(text(title, { x: MARGIN, y: MARGIN + 12, size: 15, weight: 600, colour: page.color }), text(note, { x: MARGIN, y: MARGIN + 12 + LINE, size: 12, colour: soft }));
  const chart = styled(drawn);
  chart.setAttribute("x", String(MARGIN));
  chart.setAttribute("y", String(HEAD));
  chart.setAttribute("width", String(width));
  chart.setAttribute("height", String(height));
  picture.append(chart);
  let x = MARGIN;
  for (const { name, colour } of legend) {
    picture.append(element("rect", { x, y: HEAD + height + 6, width: 10, height: 10, fill: colour }), text(name, { x: x + 15, y: HEAD + height + 15, size: 12, colour: page.color }));
    x += 30 + 7 * name.length;
  }
  return picture as SVGSVGElement;
}

function element(name: string, attributes: Record<string, string | number>): SVGElement {
  const made = document.createElementNS(NAMESPACE, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, String(value));
  return made;
}

function text(words: string, { x, y, size, weight = 400, colour }: Text): SVGElement {
  const made = element("text", { x, y, "font-size": size, "font-weight": weight, fill: colour });
  made.textContent = words;
  return made;
}

/** A copy with what the page's style says of each part. */
function styled(drawn: SVGSVGElement): SVGSVGElement {
  const copy = drawn.cloneNode(true) as SVGSVGElement;
  const [parts, copies] = [[drawn, ...drawn.querySelectorAll("*")], [copy, ...copy.querySelectorAll("*")]];
  parts.forEach((part, index) => {
    const style = getComputedStyle(part);
    for (const name of STYLES) copies[index]!.setAttribute(name, style.getPropertyValue(name));
  });
  copy.querySelectorAll(".cursor").forEach((cursor) => cursor.remove());
  return copy;
}

export function svg_file(picture: SVGSVGElement): Blob {
  return new Blob([new XMLSerializer().serializeToString(picture)], { type: "image/svg+xml" });
}

/** The same as pixels, twice as many as are shown. */
export async function png_file(picture: SVGSVGElement): Promise<Blob> {
  const image = new Image();
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(new XMLSerializer().serializeToString(picture))}`;
  await image.decode();
  const canvas = document.createElement("canvas");
  canvas.width = 2 * Number(picture.getAttribute("width"));
  canvas.height = 2 * Number(picture.getAttribute("height"));
  const context = canvas.getContext("2d")!;
  context.scale(2, 2);
  context.drawImage(image, 0, 0);
  return new Promise((done, failed) => canvas.toBlob((blob) => (blob ? done(blob) : failed(new Error("the picture cannot be made"))), "image/png"));
}
