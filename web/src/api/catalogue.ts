// What can be chosen: names of events, of fields, and their values. Who chooses from a list wants it at once: of many events a sample is asked.
import { useEffect, useState } from "preact/hooks";
import { ask_once } from "./ask";
import { ApiError, json, session } from "./client";
import type { Chart } from "./types";

/** The columns of events that people choose most, and those of sessions. */
export const COLUMNS = [
  "type", "page_path", "page_title", "page_host", "referrer_domain", "channel", "campaign_source", "campaign_medium", "campaign_name", "country", "region", "city",
  "device_type", "browser", "browser_version", "os", "os_version", "language", "locale", "app_name", "app_version", "screen_width", "user_id", "anonymous_id",
];
export const SESSION_COLUMNS = [
  "channel", "referrer_domain", "campaign_source", "campaign_medium", "campaign_name", "entry_page", "exit_page", "country", "device_type", "browser", "os",
  "pages", "events", "duration_ms", "is_bounce",
].map((name) => `session.${name}`);

/** Answers that were asked for, of each project, for as long as the page is open: pickers ask for the same again and again. */
const kept = new Map<string, Promise<string[]>>();

function once(what: string, ask: () => Promise<string[]>): Promise<string[]> {
  const key = `${session.peek()?.project.name} ${what}`;
  let known = kept.get(key);
  if (!known) {
    known = ask();
    known.catch(() => kept.delete(key));
    kept.set(key, known);
  }
  return known;
}

/** Asks the catalogue; a server that has none is asked as reports are. */
async function from_catalogue<T>(path: string, otherwise: () => Promise<T>): Promise<T> {
  try {
    return await json<T>(path);
  } catch (problem) {
    if (problem instanceof ApiError && problem.status === 404) return otherwise();
    throw problem;
  }
}

async function top_values(field: string, event: string): Promise<string[]> {
  const body = { from: "-30d", interval: "month", series: [event ? { event } : {}], breakdown: field, limit: 50 };
  const { result } = await ask_once<Chart>({ report: "trends", body });
  return result.series.filter((series) => series.kind === "value").map((series) => String(series.breakdown));
}

export function event_names(): Promise<string[]> {
  return once("events", async () => {
    const answer = await from_catalogue<{ events: { name: string }[] }>("/v1/catalogue/events?limit=200", async () => ({ events: (await top_values("type", "")).map((name) => ({ name })) }));
    return answer.events.map(({ name }) => name);
  });
}

export function field_names(event: string): Promise<string[]> {
  return once(`fields ${event}`, async () => {
    const properties = async () => {
      const body = { from: "-30d", values: 1, limit: 200, sample: true, ...(event ? { event } : {}) };
      const { result } = await ask_once<{ properties: { name: string }[] }>({ report: "properties", body });
      return { fields: result.properties.map(({ name }) => ({ name: `properties.${name}` })) };
    };
    const query = new URLSearchParams({ sample: "true", ...(event ? { event } : {}) });
    const { fields } = await from_catalogue<{ fields: { name: string }[] }>(`/v1/catalogue/fields?${query}`, properties);
    return [...new Set([...COLUMNS, ...fields.map(({ name }) => name), ...SESSION_COLUMNS])];
  });
}

export function values_of(field: string, event: string): Promise<string[]> {
  return once(`values ${event} ${field}`, async () => {
    const query = new URLSearchParams({ field, sample: "true", ...(event ? { event } : {}) });
    const { values } = await from_catalogue<{ values: unknown[] }>(`/v1/catalogue/values?${query}`, async () => ({ values: await top_values(field, event) }));
    return values.map((value) => String((value as any)?.value ?? value));
  });
}

/** What a picker offers; nothing while it is asked, or where it cannot be. */
export function useOffered(ask: (() => Promise<string[]>) | null, key: string): string[] {
  const [offered, set_offered] = useState<string[]>([]);
  useEffect(() => {
    let is_shown = true;
    set_offered([]);
    ask?.().then((found) => is_shown && set_offered(found), () => undefined);
    return () => {
      is_shown = false;
    };
  }, [key]);
  return offered;
}
