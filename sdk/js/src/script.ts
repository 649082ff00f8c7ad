/** What one script tag does: `<script defer src="https://pulse.example/sdk/pulse.js" data-key="WRITE_KEY"></script>` makes `window.pulse`. */
import { createPulse } from "./index";
import type { Options, Pulse } from "./types";

const { src, dataset } = document.currentScript as HTMLScriptElement;
const { key, host = new URL(src).origin, ...rest } = dataset;
const calls = (window as { pulse?: unknown }).pulse;
const value = (text = "") => (text === "false" ? false : text === "" || text === "true" ? true : isNaN(Number(text)) ? text : Number(text));
const options = Object.fromEntries(Object.entries(rest).map(([name, text]) => [name, value(text)]));
const pulse = createPulse({ key: key!, host, ...options } as Options);
// Called before this was loaded: `window.pulse = [["track", "order", { total: 12.5 }]]`.
if (Array.isArray(calls)) for (const [name, ...given] of calls) (pulse as any)[name as keyof Pulse]?.(...given);
(window as { pulse?: unknown }).pulse = Object.assign(pulse, { push: ([name, ...given]: [keyof Pulse, ...unknown[]]) => (pulse as any)[name]?.(...given) });
