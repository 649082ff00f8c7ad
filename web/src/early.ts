// Asks what the page will ask while the script of the page, which is larger, is still on its way. By the functions of the page itself, so that it is
// the same question; built as a file of its own, without Preact (`still.ts`). A head start and no more: the page asks by itself where this does not,
// or where something else is to be asked.
import { first_request } from "./api/ask";
import { linked_key, remembered, session, signed } from "./api/client";
import { QUESTIONS } from "./api/early";
import { questions as of_overview } from "./pages/overview";
import { questions as of_trends } from "./pages/trends";
import { here } from "./url";

/** By the first part of the path. */
const ASKED = { "": of_overview, trends: of_trends };

function ask(): void {
  const { page, params } = here.value;
  const who = remembered();
  // A link may bring another key, and a short one stands for another address.
  if (window.pulse_early === null || !who || !Object.hasOwn(ASKED, page) || linked_key() || params.get("l")) return;
  session.value = who;
  const running = new AbortController();
  const sent = signed({ ...first_request(ASKED[page as keyof typeof ASKED]()), signal: running.signal });
  const answer = fetch(QUESTIONS, sent);
  // Who takes it says what went wrong.
  answer.catch(() => undefined);
  window.pulse_early = { body: sent.body, project: sent.headers.get("x-pulse-project"), answer, running };
}

try {
  ask();
} catch {
  // The page says what is wrong, if it finds it so.
}
