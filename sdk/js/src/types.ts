/** What is said of an event, or of a user: any JSON. */
export type Properties = { [name: string]: unknown };

/** What may be said of one event beside its name and properties. On servers, `userId` or `anonymousId` is needed. */
export interface Extra {
  userId?: string | number;
  anonymousId?: string | number;
  sessionId?: string;
  /** When it happened, if not now. */
  timestamp?: Date | string | number;
  /** Known by this, an event counts once; made up otherwise. */
  eventId?: string;
  /** Added to what is collected, also within `page` and `screen`: see `context` of `POST /v1/events`. */
  context?: Properties;
}

/** Something that was not sent, or not taken. Nothing is dropped without one. */
export interface Problem {
  /** `queue_full`, `not_kept`, `unreachable`, or what the server says. */
  code: string;
  message: string;
  eventId?: string;
}

/** Where events wait to be sent, by ids that sort by time. It may fail: events then wait in memory. */
export interface Store {
  add(id: string, event: string): Promise<unknown>;
  /** The first ones, and how many there are. */
  first(count: number): Promise<{ events: [id: string, event: string][]; total: number }>;
  remove(ids: string[]): Promise<unknown>;
  clear(): Promise<unknown>;
}

export interface Options {
  /** A write key. */
  key: string;
  /** The address of pulse. */
  host: string;
  /** Events that are sent at once (20). */
  flushAt?: number;
  /** Longest wait of an event before it is sent, milliseconds (2,000). */
  flushInterval?: number;
  /** Most events that wait; those beyond are refused with a problem (10,000). */
  maxQueue?: number;
  /** A visit ends after so many milliseconds without an event (30 minutes), 24 hours at most; 0 leaves it to the server. */
  sessionGap?: number;
  /** Nothing is collected until `optIn()`. */
  requireOptIn?: boolean;
  /** Do Not Track and Global Privacy Control are not obeyed. */
  ignorePrivacySignals?: boolean;
  /** A page event when the page is shown and at each navigation of its history (true). */
  pages?: boolean;
  /** Events for links to other sites, for downloads, for forms that are sent, and for web vitals (all false). */
  outbound?: boolean;
  downloads?: boolean;
  forms?: boolean;
  vitals?: boolean;
  /** Where events wait, instead of IndexedDB, localStorage or, on servers, memory. */
  store?: Store;
  /** Is told of each problem; without it, they are warnings on the console. */
  onError?: (problem: Problem) => void;
}

/** `Events` says which events there are and what is said of each: `{ order: { total: number } }`. */
export interface Pulse<Events extends { [Name in keyof Events]: object } = { [name: string]: Properties }> {
  track<Name extends keyof Events & string>(name: Name, properties?: Events[Name], extra?: Extra): void;
  /** A page, the one that is shown unless `extra` says another. Called by itself unless `pages` is false. */
  page(properties?: Properties, extra?: Extra): void;
  /** Says who the visitor is, and what is known of them. */
  identify(userId: string | number, traits?: Properties, extra?: Extra): void;
  /** Says to which group the user belongs. */
  group(groupId: string, traits?: Properties, extra?: Extra): void;
  /** Forgets who the visitor is: the next event is somebody else's. */
  reset(): void;
  /** Collects, whatever the browser signals: somebody has agreed. */
  optIn(): void;
  /** Collects nothing from now on, and forgets what waits and who the visitor is. */
  optOut(): void;
  /** Sends what waits, at once unless the server has asked to be left alone for some time. Whether everything is sent; what is not is kept and
   * sent later. */
  flush(): Promise<boolean>;
  /** Sends what waits, again and again for so many milliseconds (10,000) if need be, and once more before the end whatever the server has asked
   * for; then a request that has no answer is given up. Whether everything is sent. */
  close(timeout?: number): Promise<boolean>;
}
