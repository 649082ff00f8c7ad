import type { Store } from "./types.js";

/** Longest wait for an IndexedDB, which in some browsers never answers: meanwhile no page of the site sends. One that was waited for in vain is
 * asked nothing before it has answered: all fails with 0. */
const PATIENCE = 5_000;

/** In memory, and gone with it. */
export function memoryStore(): Store {
  const kept = new Map<string, string>();
  return {
    add: async (id, event) => kept.set(id, event),
    first: async (count) => ({ events: [...kept].slice(0, count), total: kept.size }),
    remove: async (ids) => ids.forEach((id) => kept.delete(id)),
    clear: async () => kept.clear(),
  };
}

/** One item an event, so that tabs need not agree on anything. What `add` does is done before it returns. */
function localStore(prefix: string): Store {
  const ids = () => Object.keys(localStorage).filter((key) => key.startsWith(prefix)).sort();
  const remove = (keys: string[]) => keys.forEach((key) => localStorage.removeItem(key));
  return {
    add: async (id, event) => localStorage.setItem(prefix + id, event),
    first: async (count) => {
      const all = ids();
      const read = all.slice(0, count).map((key) => [key.slice(prefix.length), localStorage.getItem(key)]);
      return { events: read.filter((one) => one[1]) as [string, string][], total: all.length };
    },
    remove: async (gone) => remove(gone.map((id) => prefix + id)),
    clear: async () => remove(ids()),
  };
}

/** In the database of a browser, which may refuse it to a page, or have none. */
export function indexedStore(name: string): Store {
  let opening: Promise<IDBDatabase> | undefined;
  let patience = PATIENCE;
  // The browser may take it away, as when the user clears what sites keep: it is opened again.
  const forget = () => (opening = undefined);
  const open = () =>
    (opening ??= new Promise<IDBDatabase>((done, fail) => {
      const request = indexedDB.open(name, 1);
      request.onupgradeneeded = () => request.result.createObjectStore("events");
      request.onerror = () => fail(request.error);
      request.onsuccess = () => {
        const database = request.result;
        database.onclose = forget;
        database.onversionchange = () => (forget(), database.close());
        done(database);
      };
    }));
  const run = <Result extends unknown[]>(mode: IDBTransactionMode, work: (events: IDBObjectStore) => { [I in keyof Result]: IDBRequest<Result[I]> }) =>
    new Promise<Result>((done, refuse) => {
      if (!patience) return refuse(0);
      const timer = setTimeout(() => refuse((patience = 0)), patience);
      const end = () => (clearTimeout(timer), (patience = PATIENCE));
      const fail = (problem: unknown) => (end(), refuse(problem));
      open()
        .then((database) => {
          const transaction = database.transaction("events", mode);
          const requests = work(transaction.objectStore("events"));
          transaction.oncomplete = () => {
            end();
            done(requests.map((request) => request.result) as Result);
          };
          transaction.onabort = () => fail(transaction.error);
          transaction.commit?.();
        })
        .catch((problem) => (forget(), fail(problem)));
    });
  return {
    add: (id, event) => run("readwrite", (events) => [events.put(event, id)]),
    first: async (count) => {
      const [ids, found, total] = await run<[IDBValidKey[], string[], number]>("readonly", (events) => [
        events.getAllKeys(null, count),
        events.getAll(null, count),
        events.count(),
      ]);
      return { events: ids.map((id, at) => [id as string, found[at]!]), total };
    },
    remove: (ids) => run("readwrite", (events) => ids.map((id) => events.delete(id))),
    clear: () => run("readwrite", (events) => [events.clear()]),
  };
}

/** What needs no waiting for. */
export function earlyStore(prefix: string): Store {
  try {
    if (localStorage.length >= 0) return localStore(prefix);
  } catch {}
  return memoryStore();
}
