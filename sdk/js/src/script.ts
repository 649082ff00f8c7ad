/** What one script tag does: `<script defer src="https://pulse.example/sdk/pulse.js" data-key="WRITE_KEY"></script>` makes `window.pulse`. */
import { createPulse } from "./index.js";
import type { Options, Pulse } from "./types.js";

function begin({ src, dataset }: HTMLScriptElement, calls: unknown) {
  const { key, host = new URL(src).origin, ...options } = dataset as { [name: string]: any };
  for (const name in options) {
    try {
      options[name] = JSON.parse(options[name] || "true");
    } catch {}
  }
  const pulse = createPulse({ key, host, ...options } as Options);
  const call = ([name, ...given]: [keyof Pulse, ...unknown[]]) => (pulse as any)[name]?.(...given);
  // Called before this was loaded: `window.pulse = [["track", "order", { total: 12.5 }]]`.
  if (Array.isArray(calls)) calls.forEach(call);
  return Object.assign(pulse, { push: call });
}

const page = window as { pulse?: unknown };
// A tag that stands twice in a page does not count it twice.
if (!(page.pulse as Pulse | undefined)?.track) page.pulse = begin(document.currentScript as HTMLScriptElement, page.pulse);
