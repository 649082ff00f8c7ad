import { createContext } from "preact";
import { useContext, useLayoutEffect, useRef, useState } from "preact/hooks";

/** How wide what is in a place now is, where something else will be drawn; 0 while that is not known. */
export const PlaceWidth = /* @__PURE__ */ createContext({ current: 0 });

/** The width of an element in pixels, as it changes. It begins with that of its place: to measure, the whole page is to be laid out. */
export function useWidth() {
  const ref = useRef<HTMLDivElement>(null);
  const likely = useContext(PlaceWidth).current;
  const [width, set_width] = useState(likely);
  useLayoutEffect(() => {
    const element = ref.current!;
    // It is called before anything is shown.
    const observer = new ResizeObserver(() => set_width(Math.floor(element.clientWidth)));
    observer.observe(element);
    if (!likely) set_width(Math.floor(element.clientWidth));
    return () => observer.disconnect();
  }, []);
  return { ref, width };
}

let pen: CanvasRenderingContext2D | null = null;

/** How wide a label of a chart is, in pixels, rounded up. */
export function text_width(text: string): number {
  if (!pen) {
    pen = document.createElement("canvas").getContext("2d");
    if (pen) pen.font = `11px ${getComputedStyle(document.body).fontFamily}`;
  }
  return Math.ceil(pen?.measureText(text).width ?? 7 * text.length);
}
