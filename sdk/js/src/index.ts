/** The SDK of pulse, for pages and for servers. */
import { newId } from "./id.js";
import { pageOf } from "./page.js";
import { createSender } from "./sender.js";
import type { Extra, Options, Properties, Pulse } from "./types.js";

export type { Extra, Options, Problem, Properties, Pulse, Store } from "./types.js";

const LONGEST_SESSION = 24 * 3_600_000;

/** Ids are numbers in most frameworks, and in what an older SDK has kept of a visitor; pulse takes text. */
const asText = (id: any): string | undefined => id?.toString();

/** What is known of the visitor, as it is kept: anonymous id, user id, session (id, start, last event) and its time zone, and whether it may
 * be collected. */
interface Visitor {
  a?: string | undefined;
  u?: string | undefined;
  s?: [id: string, start: number, last: number] | undefined;
  z?: string | undefined;
  o?: boolean | undefined;
}

export function createPulse<Events extends { [Name in keyof Events]: object } = { [name: string]: Properties }>(options: Options): Pulse<Events> {
  const isPage = typeof document !== "undefined";
  const { key, host, sessionGap = 1_800_000 } = options;
  if (!key || !host) throw new TypeError("pulse: `key` and `host` are needed");
  const place = `pulse:${key}`;
  const sender = createSender(options, isPage);
  const page = isPage ? pageOf() : undefined;
  let visitor: Visitor = {};
  let zone: string | undefined;

  // Read each time: another tab may have changed it.
  const known = (): Visitor => {
    try {
      if (isPage) visitor = JSON.parse(localStorage.getItem(place)!) ?? visitor;
    } catch {}
    return visitor;
  };
  const know = (changed: Visitor) => {
    visitor = changed;
    try {
      if (isPage) localStorage.setItem(place, JSON.stringify(changed));
    } catch {}
  };
  const isAllowed = () => {
    const { globalPrivacyControl, doNotTrack } = (isPage ? navigator : {}) as { globalPrivacyControl?: boolean; doNotTrack?: string };
    const objects = !options.ignorePrivacySignals && (globalPrivacyControl || doNotTrack === "1");
    return known().o ?? !(objects || options.requireOptIn);
  };

  /** The visitor as it is in this event, whose session this is. */
  const present = (userId?: string): Visitor => {
    const { a, u, s, z, o } = known();
    const now = Date.now();
    const goes = s && Math.abs(now - s[2]) <= sessionGap && Math.abs(now - s[1]) <= LONGEST_SESSION;
    // Asked for the first time in a page, a browser takes ten milliseconds and more: of a session it is asked once.
    if (!goes || !z) zone ??= Intl.DateTimeFormat().resolvedOptions().timeZone;
    const session: Visitor["s"] = goes ? [s[0], s[1], now] : [newId(), now, now];
    know({ a: a ?? newId(), u: userId ?? u, s: sessionGap ? session : undefined, z: zone ?? z, o });
    return visitor;
  };

  const send = (type: string, what: object, extra?: Extra, userId?: string) => {
    try {
      if (!isAllowed()) return;
      const { a, u, s, z }: Visitor = isPage ? present(userId) : { u: userId };
      const said: Extra = { anonymousId: a, userId: u, sessionId: s?.[0], ...extra };
      const { eventId = newId(), timestamp = Date.now(), context } = said;
      const ids = { eventId, timestamp, anonymousId: asText(said.anonymousId), userId: asText(said.userId) };
      const event = { type, ...said, ...ids, context: page?.context(z, context) ?? context, ...what };
      sender.add(eventId, JSON.stringify(event));
    } catch (problem) {
      // Nothing of this may end what it is part of.
      sender.report("event_unreadable", String(problem));
    }
  };

  const pulse: Pulse<Events> = {
    track: (name, properties, extra) => send(name, { properties }, extra),
    page: (properties, extra) => send("page", { properties }, extra),
    identify: (userId, traits, extra) => send("identify", { traits }, extra, asText(userId)),
    group: (groupId, traits, extra) => send("group", { properties: { ...traits, groupId } }, extra),
    reset: () => know({ o: known().o }),
    optIn: () => know({ ...known(), o: true }),
    optOut: () => (know({ o: false }), void sender.forget()),
    flush: sender.flush,
    close: sender.close,
  };
  page?.begin(options, pulse as unknown as Pulse, () => isAllowed() && sender.leave());
  // In another tab somebody has objected: what this one has made waits in its memory, too.
  if (isPage) addEventListener("storage", (changed) => changed.key === place && known().o === false && sender.forget());
  return pulse;
}
