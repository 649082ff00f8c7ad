// One event as a line that opens: its time, name and person, and all it carries.
import type { ShownEvent } from "../api/types";
import { isolated } from "../format";
import { clock, moment } from "../time";
import { events_with } from "./filters";
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
        <Facts of={properties} title="Properties" field_of={(name) => (name.includes(".") ? "" : `properties.${name}`)} />
        {context && <Facts of={flat(context)} title="Context" field_of={(name) => FIELDS[name] ?? ""} />}
        <Facts of={flat(rest)} title="Event" field_of={(name) => FIELDS[name] ?? ""} />
      </details>
    </li>
  );
}

/** What tells most of an event in a line. */
function brief(event: AnyEvent): string {
  const page = (event.context?.page as any)?.path ?? (event as any).page;
  const properties = Object.entries(event.properties).slice(0, 3).map(([name, value]) => `${isolated(name)}: ${isolated(typeof value === "string" ? value : JSON.stringify(value))}`);
  return [...[event.userId ?? event.anonymousId, page].filter(Boolean).map((text) => isolated(String(text))), ...properties].join(" · ");
}

function flat(of: Record<string, unknown>, prefix = ""): Record<string, unknown> {
  const all = Object.entries(of).filter(([, value]) => value !== null && value !== undefined);
  return Object.fromEntries(all.flatMap(([name, value]) => (typeof value === "object" && !Array.isArray(value) ? Object.entries(flat(value as Record<string, unknown>, `${prefix}${name}.`)) : [[prefix + name, value]])));
}

/** What filters call what an event is shown with. */
const FIELDS: Record<string, string> = {
  type: "type", userId: "user_id", anonymousId: "anonymous_id", page: "page_url", channel: "channel", country: "country", city: "city", browser: "browser", os: "os", deviceType: "device_type",
  "page.path": "page_path", "page.title": "page_title", "page.host": "page_host", "referrer.domain": "referrer_domain", "referrer.channel": "channel", "campaign.source": "campaign_source", "campaign.medium": "campaign_medium",
  "campaign.name": "campaign_name", "geo.country": "country", "geo.region": "region", "geo.city": "city", "device.type": "device_type", "browser.name": "browser", "browser.version": "browser_version",
  "os.name": "os", "os.version": "os_version", locale: "locale", "app.name": "app_name", "app.version": "app_version",
};

interface FactsProps {
  of: Record<string, unknown>;
  title: string;
  /** What filters call a fact, if they know it: its value leads to the events that have it. */
  field_of?(name: string): string;
}

export function Facts({ of, title, field_of }: FactsProps) {
  const all = Object.entries(of);
  if (!all.length) return null;
  return (
    <>
      <h3>{title}</h3>
      <dl class="facts">{all.map(([name, value]) => <div key={name}><dt><bdi>{name}</bdi></dt><dd><FactValue value={value} field={field_of?.(name) ?? ""} /></dd></div>)}</dl>
    </>
  );
}

function FactValue({ value, field }: { value: unknown; field: string }) {
  const text = <bdi>{typeof value === "string" ? value : JSON.stringify(value)}</bdi>;
  const is_plain = ["string", "number", "boolean"].includes(typeof value);
  return field && is_plain ? <a href={events_with(field, value)} title="The events that have it">{text}</a> : text;
}
