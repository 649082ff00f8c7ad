// One event as a line that opens: its time, name and person, and all it carries.
import type { ShownEvent } from "../api/types";
import { clock, moment } from "../time";
import { has_address, PersonLink } from "./person-link";

export interface AnyEvent extends Partial<ShownEvent> {
  eventId: string;
  type: string;
  timestamp: string;
  receivedAt: string;
  properties: Record<string, unknown>;
}

export function EventRow({ event, zone, has_person = true, is_live }: { event: AnyEvent; zone: string; has_person?: boolean; is_live?: boolean }) {
  const person = event.userId ?? event.anonymousId ?? "";
  const { properties, context, ...rest } = event;
  return (
    <li class="event">
      <details>
        <summary>
          <time dateTime={event.timestamp}>{is_live ? clock(event.timestamp, zone) : moment(event.timestamp, zone)}</time>
          <strong><bdi>{event.type}</bdi></strong>
          <span class="note"><bdi>{brief(event)}</bdi></span>
        </summary>
        {has_person && person && has_address(person) && <p><PersonLink id={person}>All of <bdi>{person}</bdi></PersonLink></p>}
        <Facts of={properties} title="Properties" />
        {context && <Facts of={flat(context)} title="Context" />}
        <Facts of={flat(rest)} title="Event" />
      </details>
    </li>
  );
}

/** What tells most of an event in a line. */
function brief(event: AnyEvent): string {
  const page = (event.context?.page as any)?.path ?? (event as any).page;
  const properties = Object.entries(event.properties).slice(0, 3).map(([name, value]) => `${name}: ${typeof value === "string" ? value : JSON.stringify(value)}`);
  return [event.userId ?? event.anonymousId, page, ...properties].filter(Boolean).join(" · ");
}

function flat(of: Record<string, unknown>, prefix = ""): Record<string, unknown> {
  const all = Object.entries(of).filter(([, value]) => value !== null && value !== undefined);
  return Object.fromEntries(all.flatMap(([name, value]) => (typeof value === "object" && !Array.isArray(value) ? Object.entries(flat(value as Record<string, unknown>, `${prefix}${name}.`)) : [[prefix + name, value]])));
}

export function Facts({ of, title }: { of: Record<string, unknown>; title: string }) {
  const all = Object.entries(of);
  if (!all.length) return null;
  return (
    <>
      <h3>{title}</h3>
      <dl class="facts">{all.map(([name, value]) => <div key={name}><dt><bdi>{name}</bdi></dt><dd><bdi>{typeof value === "string" ? value : JSON.stringify(value)}</bdi></dd></div>)}</dl>
    </>
  );
}
