// Sends a small shop's month: the same people doing the same things each time, so that tests know what must be on the screen.
// Called with an address and a write key; `seed` is what the tests call.

const DAY = 86_400_000;
const QUIET = 3_600_000;

/** Numbers from 0 to 1 that are the same each time. */
function numbers(start) {
  let state = start >>> 0;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 4_294_967_296;
  };
}

const SOURCES = [
  ["https://www.google.com/", ""],
  ["https://www.google.com/", ""],
  ["https://news.ycombinator.com/item?id=1", ""],
  ["", "?utm_source=spring&utm_medium=email&utm_campaign=spring-sale"],
  ["https://www.facebook.com/", "?utm_source=facebook&utm_medium=cpc&utm_campaign=autumn"],
  ["", ""],
];
const AGENTS = [
  "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36",
  "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Safari/605.1.15",
  "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1",
  "Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Mobile Safari/537.36",
  "Mozilla/5.0 (X11; Linux x86_64; rv:127.0) Gecko/20100101 Firefox/127.0",
];
const ADDRESSES = ["8.8.8.8", "81.2.69.142", "175.16.199.1", "2.125.160.216", "89.160.20.112"];
const PATHS = ["/", "/shop", "/shop/tea", "/shop/coffee", "/blog/first-flush", "/about"];

/** One visit of one person: what they do, minute by minute. */
function visit(random, person, at) {
  const [referrer, search] = SOURCES[person % SOURCES.length];
  const context = { userAgent: AGENTS[person % AGENTS.length], ip: ADDRESSES[person % ADDRESSES.length], locale: person % 2 ? "de-DE" : "en-GB" };
  const events = [];
  let clock = at;
  const add = (type, properties, path, first) => {
    const page = { url: `https://shop.example${path}${first ? search : ""}`, referrer: first ? referrer : "https://shop.example/", title: path };
    const who = person % 3 === 0 && type !== "page" ? { userId: `user-${person}` } : {};
    events.push({
      eventId: `${person}-${at}-${events.length}`, type, anonymousId: `visitor-${person}`, ...who,
      timestamp: new Date(clock).toISOString(), context: { ...context, page }, properties,
    });
    clock += 5_000 + Math.floor(random() * 90_000);
  };
  const pages = 1 + Math.floor(random() * 4);
  for (let page = 0; page < pages; page++) add("page", {}, PATHS[Math.floor(random() * PATHS.length)], page === 0);
  if (random() < 0.5) {
    add("product_viewed", { product: person % 2 ? "tea" : "coffee", price: 5 + (person % 7) }, "/shop/tea");
    if (random() < 0.6) {
      add("cart_added", { product: person % 2 ? "tea" : "coffee", price: 5 + (person % 7) }, "/shop/tea");
      if (random() < 0.6) add("order", { total: 10 + (person % 20), plan: person % 4 ? "free" : "pro" }, "/checkout");
    }
  }
  return events;
}

/** Everything that is sent, in order. `now` is milliseconds since 1970. */
export function events(now, people = 260, days = 60) {
  const random = numbers(7);
  const all = [];
  const today = Math.floor(now / DAY) * DAY;
  // The periods that charts are compared with end at this time of an earlier day, and go on while the tests look: nothing happens then.
  const is_quiet = (at) => (((at - now) % DAY) + DAY) % DAY < QUIET;
  for (let person = 0; person < people; person++) {
    const born = Math.floor(random() * days);
    const drawn = today - (days - born) * DAY + Math.floor(random() * DAY * 0.9);
    // Everybody signs up, whenever the tests run.
    const signup = is_quiet(drawn) || is_quiet(drawn + 2_000) ? drawn - QUIET - 10_000 : drawn;
    all.push({
      eventId: `signup-${person}`, type: "signup", anonymousId: `visitor-${person}`, timestamp: new Date(signup).toISOString(),
      context: { userAgent: AGENTS[person % AGENTS.length], page: { url: "https://shop.example/signup" } }, properties: { plan: person % 4 ? "free" : "pro" },
    });
    if (person % 3 === 0) {
      all.push({
        eventId: `identify-${person}`, type: "identify", anonymousId: `visitor-${person}`, userId: `user-${person}`, timestamp: new Date(signup + 1_000).toISOString(),
        properties: { name: `Person ${person}`, plan: person % 4 ? "free" : "pro" },
      });
    }
    for (let day = born; day <= days; day++) {
      if (day !== born && random() > 0.16) continue;
      const at = today - (days - day) * DAY + Math.floor(random() * DAY);
      if (at < now) all.push(...visit(random, person, Math.max(at, signup + 2_000)).filter((event) => Date.parse(event.timestamp) < now));
    }
  }
  return all.filter((event) => !is_quiet(Date.parse(event.timestamp)));
}

/** What nobody should be able to do to a page: markup, script and trickery where names and values are. */
export const HOSTILE = ["<img src=x onerror=window.hurt=1>", "\"><script>window.hurt=1</script>", "javascript:window.hurt=1", "\u202egnp.exe", "a".repeat(180), "' OR 1=1 --", "$none", "$other", "=HYPERLINK(\"https://a.example/{{7*7}}\")"];

export function hostile(now) {
  return HOSTILE.map((text, index) => ({
    eventId: `hostile-${index}`, type: text.startsWith("$") ? "odd" : text, anonymousId: text, userId: `u ${text}`.slice(0, 190), timestamp: new Date(now - 60_000 * (index + 2)).toISOString(),
    context: { page: { url: `https://shop.example/${encodeURIComponent(text)}`, referrer: `https://${index}.example/${encodeURIComponent(text)}`, title: text } },
    properties: { [text.replace(/\./g, "")]: text, note: text },
  }));
}

/** Sends events in batches; throws if one is refused. */
export async function send(address, key, batch) {
  for (let at = 0; at < batch.length; at += 500) {
    const response = await fetch(`${address}/v1/events`, {
      method: "POST", headers: { authorization: `Bearer ${key}`, "content-type": "application/json" }, body: JSON.stringify({ batch: batch.slice(at, at + 500) }),
    });
    const answer = await response.json();
    if (!response.ok || answer.rejected.length) throw new Error(`refused: ${JSON.stringify(answer).slice(0, 500)}`);
  }
}

if (process.argv[1] === new URL(import.meta.url).pathname) {
  const [, , address, key, with_hostile] = process.argv;
  const now = Date.now();
  const all = [...events(now), ...(with_hostile ? hostile(now) : [])];
  await send(address, key, all);
  console.log(`sent ${all.length} events`);
}
