// What a tile shows as a picture that stands for itself: its title, its time and zone, how far its data reaches and its legend are in it.
// Charts are SVG already; what is drawn as a page (a funnel, a grid, a list) becomes rectangles and texts where the browser has put them.

/** What of the page's style a picture needs; as attributes, for it has no style of its own. */
const STYLES = ["fill", "fill-opacity", "stroke", "stroke-width", "stroke-dasharray", "stroke-linejoin", "stroke-linecap", "opacity", "font-size", "font-family", "font-weight", "font-style", "text-anchor"];
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
  size: number | string;
  weight?: number | string;
  /** Slanted or not. */
  style?: string;
  colour: string;
}

/** The SVG of what is drawn in a tile; null where nothing is. */
export function svg_of(tile: HTMLElement, { title, note }: Caption): SVGSVGElement | null {
  const drawn = tile.querySelector<HTMLElement>(".drawn");
  if (!drawn) return null;
  // Without what scrolls away.
  drawn.classList.add("whole");
  const { left, top } = drawn.getBoundingClientRect();
  const page = getComputedStyle(tile);
  const soft = getComputedStyle(tile.querySelector(".health") ?? tile).color;
  const content = element("g", { transform: `translate(${MARGIN - left},${HEAD - top})` });
  const size = { right: left + drawn.clientWidth, bottom: top };
  draw(drawn, content, size);
  drawn.classList.remove("whole");
  const picture = element("svg", { xmlns: NAMESPACE, width: Math.ceil(size.right - left + 2 * MARGIN), height: Math.ceil(size.bottom - top + HEAD + MARGIN), "font-family": page.fontFamily });
  picture.append(hatch(soft), element("rect", { width: "100%", height: "100%", fill: page.backgroundColor }));
  picture.append(text(title, { x: MARGIN, y: MARGIN + 12, size: 15, weight: 600, colour: page.color }), text(note, { x: MARGIN, y: MARGIN + 12 + LINE, size: 12, colour: soft }), content);
  return picture as SVGSVGElement;
}

/** How far to the right and down something was drawn. */
interface Extent {
  right: number;
  bottom: number;
}

const NOTHING = "rgba(0, 0, 0, 0)";

/** Draws an element of the page and what is in it, where it stands; nothing of what is only said. */
function draw(of: HTMLElement, into: SVGElement, size: Extent): void {
  if (of.matches(".unseen, .tip, .handle, input, select, details:not([open]) > :not(summary)")) return;
  const style = getComputedStyle(of);
  if (style.display === "none" || style.visibility === "hidden") return;
  const place = of.getBoundingClientRect();
  const reach = () => {
    size.right = Math.max(size.right, place.right);
    size.bottom = Math.max(size.bottom, place.bottom);
  };
  if (style.backgroundColor !== NOTHING && place.width && place.height) {
    into.append(element("rect", { x: place.left, y: place.top, width: place.width, height: place.height, rx: parseFloat(style.borderRadius) || 0, fill: style.backgroundColor, opacity: style.opacity }));
    // Hatched is what is not over.
    if (style.backgroundImage.startsWith("repeating-linear-gradient")) into.append(element("rect", { x: place.left, y: place.top, width: place.width, height: place.height, fill: `url(#${HATCH})` }));
    reach();
  }
  if (parseFloat(style.borderBottomWidth) && !parseFloat(style.borderTopWidth)) into.append(element("line", { x1: place.left, x2: place.right, y1: place.bottom, y2: place.bottom, stroke: style.borderBottomColor }));
  for (const child of of.childNodes) {
    if (child instanceof SVGSVGElement) {
      const of_chart = child.getBoundingClientRect();
      const chart = styled(child);
      for (const [name, value] of Object.entries({ x: of_chart.left, y: of_chart.top, width: of_chart.width, height: of_chart.height, color: getComputedStyle(child).color })) chart.setAttribute(name, String(value));
      into.append(chart);
      size.bottom = Math.max(size.bottom, of_chart.bottom);
    } else if (child instanceof HTMLElement) draw(child, into, size);
    else if (child instanceof globalThis.Text) {
      for (const line of lines_of(child)) {
        into.append(text(line.words, { x: line.left, y: line.bottom - (line.bottom - line.top) * 0.24, size: style.fontSize, weight: style.fontWeight, style: style.fontStyle, colour: style.color }));
        size.right = Math.max(size.right, line.right);
        size.bottom = Math.max(size.bottom, line.bottom);
      }
    }
  }
}

interface TextLine {
  words: string;
  left: number;
  right: number;
  top: number;
  bottom: number;
}

/** The lines into which the browser has broken a text. */
function lines_of(node: globalThis.Text): TextLine[] {
  const all: TextLine[] = [];
  const range = document.createRange();
  // By what is seen as one character: parts of one have no place of their own.
  for (const { segment, index } of new Intl.Segmenter().segment(node.data)) {
    range.setStart(node, index);
    range.setEnd(node, index + segment.length);
    const place = range.getClientRects()[0];
    if (!place?.width) continue;
    const last = all[all.length - 1];
    if (last && Math.abs(last.top - place.top) < 2) {
      last.words += segment;
      // Some are written from right to left.
      [last.left, last.right] = [Math.min(last.left, place.left), Math.max(last.right, place.right)];
    } else all.push({ words: segment, left: place.left, right: place.right, top: place.top, bottom: place.bottom });
  }
  return all.filter(({ words }) => words.trim());
}

function element(name: string, attributes: Record<string, string | number>): SVGElement {
  const made = document.createElementNS(NAMESPACE, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, String(value));
  return made;
}

function text(words: string, { x, y, size, weight = 400, style = "normal", colour }: Text): SVGElement {
  const made = element("text", { x, y, "font-size": size, "font-weight": weight, "font-style": style, fill: colour, "xml:space": "preserve" });
  made.textContent = words;
  return made;
}

const HATCH = "picture-hatch";

/** What the page hatches by a gradient. */
function hatch(colour: string): SVGElement {
  const pattern = element("pattern", { id: HATCH, width: 6, height: 6, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" });
  pattern.append(element("line", { x1: 0.5, x2: 0.5, y1: 0, y2: 6, stroke: colour, "stroke-opacity": 0.5 }));
  const made = element("defs", {});
  made.append(pattern);
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
