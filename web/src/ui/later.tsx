// What a page draws after its first chart: what people come for is not to wait for what stands round it.
import { signal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useEffect } from "preact/hooks";
import { first_answer } from "../api/ask";

const is_due = signal(false);
/** An answer that takes longer than this is waited for no more. */
const PATIENCE_MS = 100;

/** Draws its children once the first answer of the page is drawn; at once where the page asks nothing, or is on it for long. */
export function Later({ children }: { children: ComponentChildren }) {
  useEffect(() => {
    if (is_due.value) return;
    // What was asked early is taken by a page that may not be loaded yet.
    const is_asked = first_answer.value === "asked" || window.pulse_early;
    const timer = setTimeout(() => (is_due.value = true), is_asked ? PATIENCE_MS : 0);
    return () => clearTimeout(timer);
  }, []);
  return is_due.value || first_answer.value === "there" ? <>{children}</> : <span hidden aria-busy="true" />;
}
