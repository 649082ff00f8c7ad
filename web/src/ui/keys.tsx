// What is done often has a key. Keys work wherever nothing is being written.
import { signal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { RANGES } from "../time";
import { change, here } from "../url";

const is_shown = signal(false);

const KEYS: [key: string, what: string][] = [
  ...RANGES.filter((range) => range.key).map((range): [string, string] => [range.key!, range.name]),
  ["←", "the time before"],
  ["→", "the time after"],
  ["x", "compare with the period before, or not"],
  ["Esc", "close what is open; with nothing open, take the filters away"],
  ["?", "these keys"],
];

export function listen_for_keys(): () => void {
  const press = (event: KeyboardEvent) => {
    const target = event.target as HTMLElement;
    const is_writing = /^(INPUT|SELECT|TEXTAREA)$/.test(target.tagName) || target.isContentEditable;
    if (is_writing || event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    const range = RANGES.find((range) => range.key === event.key);
    if (range) change({ from: range.from, to: range.to, i: null });
    else if (event.key === "x") {
      // The choice knows what is compared with where the address says nothing; without one there is nothing to compare.
      const choice = document.querySelector<HTMLSelectElement>("[data-compare]");
      if (!choice) return;
      choice.value = choice.value === "previous" ? "none" : "previous";
      choice.dispatchEvent(new Event("change"));
    } else if (event.key === "ArrowLeft" || event.key === "ArrowRight") {
      // Only where a range is chosen, and not in what arrows move themselves.
      if (event.shiftKey || target.closest("[tabindex='0'], dialog") || !document.querySelector(".range")) return;
      document.querySelector<HTMLButtonElement>(`.range [data-step="${event.key === "ArrowRight" ? "next" : "before"}"]`)?.click();
    } else if (event.key === "Escape") {
      if (document.querySelector("dialog[open]") || !here.value.params.has("f")) return;
      change({ f: null });
    } else if (event.key === "?") is_shown.value = true;
    else return;
    event.preventDefault();
  };
  addEventListener("keydown", press);
  return () => removeEventListener("keydown", press);
}

export function KeyHelp() {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    if (is_shown.value && !dialog.current!.open) dialog.current!.showModal();
  }, [is_shown.value]);
  return (
    <dialog ref={dialog} class="keys" aria-label="Keys" onClose={() => (is_shown.value = false)}>
      {is_shown.value && (
        <>
          <h2>Keys</h2>
          <dl>{KEYS.map(([key, what]) => <div key={key}><dt><kbd>{key}</kbd></dt><dd>{what}</dd></div>)}</dl>
          <button type="button" onClick={() => dialog.current!.close()}>Close</button>
        </>
      )}
    </dialog>
  );
}
