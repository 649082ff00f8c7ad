import { useLayoutEffect, useRef, useState } from "preact/hooks";

/** The width of an element in pixels, as it changes. */
export function useWidth() {
  const ref = useRef<HTMLDivElement>(null);
  const [width, set_width] = useState(0);
  useLayoutEffect(() => {
    const element = ref.current!;
    const observer = new ResizeObserver(() => set_width(Math.floor(element.clientWidth)));
    observer.observe(element);
    set_width(Math.floor(element.clientWidth));
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
