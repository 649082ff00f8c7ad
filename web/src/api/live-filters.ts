// The filters of the page over events as they come in: only what such an event carries can be told by.
import type { Written } from "../ui/filters";
import type { LiveEvent } from "./live";

const FIELDS: Record<string, keyof LiveEvent> = {
  type: "type", user_id: "userId", anonymous_id: "anonymousId", page_url: "page", channel: "channel", country: "country", city: "city", browser: "browser", os: "os", device_type: "deviceType",
};
const ORDERS: Record<string, (value: number | string, than: number | string) => boolean> = {
  gt: (value, than) => value > than, gte: (value, than) => value >= than, lt: (value, than) => value < than, lte: (value, than) => value <= than,
};

/** No `regex`: here it would be another dialect than the server's, and one without a bound on its time. */
const OPS = ["eq", "neq", "in", "not_in", "contains", "exists", "not_exists", ...Object.keys(ORDERS)];

/** Whether a filter can be told of events as they come in. */
export function is_known([field, op]: Written): boolean {
  return (field in FIELDS || field.startsWith("properties.")) && OPS.includes(op);
}

function value_of(event: LiveEvent, field: string): unknown {
  if (field in FIELDS) return event[FIELDS[field]!];
  // Properties are flat: what was nested has dots in its name.
  return (event.properties as Record<string, unknown>)[field.slice("properties.".length)];
}

/** As the API reads filters: values match by kind, and what is missing is none of any. */
export function matches(event: LiveEvent, [field, op, wanted]: Written): boolean {
  const value = value_of(event, field) ?? null;
  const all = [wanted].flat();
  if (op === "exists") return value !== null;
  if (op === "not_exists") return value === null;
  if (op === "eq" || op === "in") return all.includes(value);
  if (op === "neq" || op === "not_in") return !all.includes(value);
  if (op === "contains") return typeof value === "string" && value.includes(String(wanted));
  const order = ORDERS[op];
  return Boolean(order && typeof value === typeof wanted && order(value as number, wanted as number));
}
