// Each report on its page: the numbers are the API's, and the people behind each are as many.
import { ADDRESS, ask, expect, KEY, open, people_behind, reach, settled, STEPS, table, test, tile, written, WEEK_BEFORE } from "./screen.mjs";

const WEEK = { from: "-6d/d", to: "now", timezone: "UTC" };

test("a funnel, its drop-offs and those of the period before", async ({ page }) => {
  await open(page, `/funnel?${STEPS}&compare=previous`);
  const steps = ["page", "product_viewed", "order"].map((event) => ({ event }));
  const asked = await ask("funnel", { ...WEEK, window: "14d", steps, compare: WEEK_BEFORE });
  const all = [...asked.groups[0].steps, ...asked.compare.groups[0].steps];
  expect(all[0].count).toBeGreaterThan(all[2].count);
  await people_behind(page, tile(page, "funnel").locator("[data-count]"), all.map((step) => step.count));
  await people_behind(page, tile(page, "funnel").locator("[data-dropped]"), all.filter((_, index) => index % 3).map((step) => step.dropped));
  const trend = await ask("funnel", { ...WEEK, window: "14d", steps, view: "trend", interval: "day" });
  const shares = trend.groups[0].rate.map((rate) => (rate === null ? "–" : new Intl.NumberFormat("en", { style: "percent", maximumFractionDigits: 1 }).format(rate)));
  expect((await table(page, "trend")).slice(1).map((row) => row[1])).toEqual(shares);
  // Behind a share are those who entered, and those of them who came to the end.
  const [{ entered, converted }] = trend.groups;
  await people_behind(page, tile(page, "trend").locator("tbody tr").nth(2).locator("td:nth-child(n+3):nth-child(-n+4) button"), [entered[1], converted[1]]);
});

test("a funnel by country, and one made with the keyboard alone", async ({ page }) => {
  await open(page, `/funnel?${STEPS}&b=country`);
  const steps = ["page", "product_viewed", "order"].map((event) => ({ event }));
  const asked = await ask("funnel", { ...WEEK, window: "14d", steps, breakdown: "country", limit: 5 });
  const counts = asked.groups.flatMap((group) => group.steps.map((step) => step.count));
  expect(await tile(page, "funnel").locator("[data-count]").evaluateAll((all) => all.map((one) => Number(one.dataset.count)))).toEqual(counts);
  await tile(page, "funnel").locator("[data-count]").nth(4).click();
  await expect(page.locator("[data-total]")).toHaveAttribute("data-total", String(counts[4]));

  await open(page, "/funnel");
  await page.getByLabel("Step 1").focus();
  await page.keyboard.type("page");
  await page.keyboard.press("Enter");
  await expect(page).toHaveURL(/step=/);
  for (let presses = 0; presses < 12 && !(await page.getByLabel("Step 2").evaluate((input) => input === document.activeElement)); presses++) await page.keyboard.press("Tab");
  await page.keyboard.type("order");
  await page.keyboard.press("Enter");
  const two = await ask("funnel", { ...WEEK, window: "14d", steps: [{ event: "page" }, { event: "order" }] });
  const last = tile(page, "funnel").locator("[data-count]").nth(1);
  await expect(last).toHaveAttribute("data-count", String(two.groups[0].steps[1].count));
  for (let presses = 0; presses < 80 && !(await last.evaluate((button) => button === document.activeElement)); presses++) await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  await expect(page.locator("[data-total]")).toHaveAttribute("data-total", String(two.groups[0].steps[1].count));
});

test("retention, cell by cell", async ({ page }) => {
  await open(page, "/retention?period=day&from=-5d/d&to=now&periods=4");
  const asked = await ask("retention", { from: "-5d/d", to: "now", timezone: "UTC", period: "day", periods: 4 });
  const filled = asked.cohorts.filter((cohort) => cohort.size);
  const cells = filled.flatMap((cohort) => cohort.values.filter((value) => value !== null));
  expect(await tile(page, "retention").locator(".heat").evaluateAll((all) => all.map((one) => Number(one.dataset.value)))).toEqual(cells);
  await people_behind(page, tile(page, "retention").locator("[data-size]"), asked.cohorts.map((cohort) => cohort.size));
  await people_behind(page, tile(page, "retention").locator(".heat"), cells);
  const rows = await table(page, "retention");
  expect(rows.map((row) => row.slice(1))).toEqual(asked.cohorts.map((cohort) => [cohort.size, ...cohort.values].map(written)));
});

test("lifecycle, each status of each day", async ({ page }) => {
  await open(page, "/lifecycle?from=-3d/d&to=now/d");
  const asked = await ask("lifecycle", { from: "-3d/d", to: "now/d", timezone: "UTC", interval: "day" });
  const numbers = asked.buckets.flatMap((_, index) => asked.series.map((series) => series.values[index]));
  expect((await table(page, "lifecycle")).flatMap((row) => row.slice(1))).toEqual(numbers.map(written));
  await people_behind(page, tile(page, "lifecycle").locator("td button"), numbers);
});

test("retention, lifecycle and stickiness are broken down, compared and summed up on their pages", async ({ page }) => {
  const days = { from: "-3d/d", to: "-1d/d", timezone: "UTC" };
  const more = { breakdown: "country", limit: 5, compare: "previous" };
  const lines = async (path, id) => {
    await open(page, `${path}${path.includes("?") ? "&" : "?"}from=-3d/d&to=-1d/d`);
    await page.getByLabel("Broken down by", { exact: true }).focus();
    await page.keyboard.type("country");
    await page.keyboard.press("Enter");
    await expect(page).toHaveURL(/b=country/);
    await page.getByLabel("Compare with").selectOption("previous");
    await expect(page).toHaveURL(/compare=previous/);
    await settled(page);
    return table(page, id);
  };
  const stickiness = await ask("stickiness", { ...days, interval: "day", ...more });
  const all = [...stickiness.series, ...stickiness.compare.series];
  expect((await lines("/stickiness?i=day", "stickiness")).map((row) => row.slice(1))).toEqual(stickiness.times.map((_, at) => all.map(({ values }) => written(values[at]))));
  const lifecycle = await ask("lifecycle", { ...days, interval: "day", ...more });
  const statuses = [lifecycle, lifecycle.compare].flatMap(({ series, buckets }) => series.flatMap((_, at) => (at % 4 ? [] : buckets.map((_, bucket) => series.slice(at, at + 4).map(({ values }) => written(values[bucket]))))));
  expect((await lines("/lifecycle?i=day", "lifecycle")).map((row) => row.slice(2))).toEqual(statuses);
  const rows = ({ cohorts, compare }) => [...cohorts, ...compare.cohorts].map(({ size, values }) => [size, ...values].map(written));
  const of_days = { ...days, period: "day", periods: 4, type: "recurring" };
  expect((await lines("/retention?period=day&periods=4&type=recurring", "retention")).map((row) => row.slice(2))).toEqual(rows(await ask("retention", { ...of_days, ...more })));
  await page.getByLabel("The sum of").fill("properties.price");
  await page.getByLabel("The sum of").press("Enter");
  await expect(page).toHaveURL(/sum=properties.price/);
  await settled(page);
  expect((await table(page, "retention")).map((row) => row.slice(2))).toEqual(rows(await ask("retention", { ...of_days, ...more, value: { sum: "properties.price" } })));
  // A value keeps only it, and a second field stands beside the first.
  await tile(page, "retention").getByRole("button", { name: "Table", exact: true }).click();
  await tile(page, "retention").getByRole("button", { name: "GB", exact: true }).click();
  await expect(page.locator(".chip")).toHaveText(/country is GB/);
  await page.getByLabel("Broken down by, 2", { exact: true }).fill("browser");
  await page.getByLabel("Broken down by, 2", { exact: true }).press("Enter");
  await expect(page).toHaveURL(/b=country&b=browser/);
  await expect(tile(page, "retention").locator(".average th").nth(1)).toContainText("GB · ");
});

test("a funnel leaves ways out, holds fields, waits for whole windows and tells lines apart by any step, by keys alone", async ({ page }) => {
  await open(page, `/funnel?${STEPS}`);
  const write = async (label, text) => {
    await reach(page, page.getByLabel(label, { exact: true }));
    await page.keyboard.type(text);
    await page.keyboard.press("Enter");
  };
  await reach(page, page.getByRole("button", { name: "+ Without" }));
  await page.keyboard.press("Enter");
  await page.keyboard.press("Shift+Tab");
  await write("Without event 1", "cart_added");
  await reach(page, page.getByRole("group", { name: "Without 1" }).getByLabel("between"));
  await page.keyboard.press("ArrowDown");
  await expect.poll(() => JSON.parse(new URL(page.url()).searchParams.get("without"))).toEqual({ event: "cart_added", from: 2, to: 3 });
  await write("The same in all steps", "country");
  await write("The same in all steps, 2", "browser");
  await reach(page, page.getByLabel("only whose time is over"));
  await page.keyboard.press("Space");
  await write("Broken down by", "page_path");
  await reach(page, page.getByLabel("The value at"));
  await page.keyboard.press("ArrowDown");
  await expect(page).toHaveURL(/attribution=last/);
  await settled(page);
  const steps = ["page", "product_viewed", "order"].map((event) => ({ event }));
  const asked = {
    ...WEEK, window: "14d", steps, exclusions: [{ event: "cart_added", from_step: 2, to_step: 3 }], hold: ["country", "browser"], complete_windows_only: true, breakdown: "page_path", limit: 5, attribution: "last",
  };
  const counts = ({ groups }) => groups.flatMap((group) => group.steps.map((step) => String(step.count)));
  const shown = () => tile(page, "funnel").locator("[data-count]").evaluateAll((all) => all.map((one) => one.dataset.count));
  await expect.poll(shown).toEqual(counts(await ask("funnel", asked)));
  // Of a week no window of 14 days is over.
  await page.getByLabel("Within").fill("1d");
  await page.getByLabel("Within").press("Enter");
  await expect.poll(shown).toEqual(counts(await ask("funnel", { ...asked, window: "1d" })));
  // A step that is gone is no end of what is left out.
  await page.getByRole("button", { name: "Remove step 3" }).click();
  await expect(page.getByRole("group", { name: "Without 1" }).getByLabel("between")).toHaveValue("1");
  await page.getByRole("button", { name: "Remove without 1" }).click();
  await expect(page.getByRole("group", { name: "Without 1" })).toHaveCount(0);
  await settled(page);
  await expect(page.getByRole("alert")).toHaveCount(0);
});

test("stickiness, exactly and at least", async ({ page }) => {
  for (const cumulative of [false, true]) {
    await open(page, `/stickiness?from=-6d/d&to=now${cumulative ? "&cumulative=1" : ""}`);
    const asked = await ask("stickiness", { ...WEEK, interval: "day", cumulative });
    const numbers = cumulative ? asked.series[0].at_least : asked.series[0].values;
    expect((await table(page, "stickiness")).map((row) => row[1])).toEqual(numbers.map(written));
    await people_behind(page, tile(page, "stickiness").locator("td button"), numbers);
  }
});

/** The rows of a table of paths: a node, the ways from it, and how many end there; as bars, too. */
function rows_of({ nodes, links, dropoffs }) {
  return nodes.flatMap(({ step, name, kind, sessions }) => {
    const own = { step, name, kind };
    const ways = links.filter((link) => link.step === step && link.from === name && link.from_kind === kind);
    const ends = dropoffs.filter((drop) => drop.step === step && drop.name === name && drop.kind === kind);
    return [
      { sessions, bar: own },
      ...ways.map(({ to, to_kind, sessions }) => ({ sessions, bar: { ...own, next: to, next_kind: to_kind } })),
      ...ends.map(({ sessions }) => ({ sessions, bar: { ...own, dropped: true } })),
    ];
  });
}

test("paths: nodes, links and ends", async ({ page }) => {
  await open(page, "/paths?steps=3&limit=3");
  const asked = await ask("paths", { ...WEEK, node: "type", steps: 3, limit: 3 });
  const rows = await table(page, "paths");
  expect(rows.map((row) => row.at(-1))).toEqual(rows_of(asked).map(({ sessions }) => written(sessions)));
  // Bars are sessions; the people are those of the same bar, as the API has them.
  await open(page, "/paths?steps=2&limit=2");
  const fewer = { ...WEEK, node: "type", steps: 2, limit: 2 };
  const bars = rows_of(await ask("paths", fewer)).map(({ bar }) => bar);
  expect(bars.length).toBeGreaterThan(5);
  const people = [];
  for (const bar of bars) people.push((await ask("users", { of: { report: "paths", ...fewer, ...bar } })).total);
  await table(page, "paths");
  await people_behind(page, tile(page, "paths").locator("tbody tr").getByRole("button"), people);
  // Backwards, what follows came before; and the picture is a file too.
  await open(page, "/paths?side=end&at=order&steps=2");
  await expect(tile(page, "paths").locator(".summary")).toContainText(/most come to order from \w+/);
  await Promise.all([page.waitForEvent("download"), tile(page, "paths").getByRole("button", { name: /as SVG$/ }).click()]);
  expect((await table(page, "paths")).map((row) => row[1]).filter((then) => then && !then.startsWith("← "))).not.toContain("ends here");
});

test("sessions: numbers and one by one", async ({ page }) => {
  await open(page, "/sessions?math=visitors");
  const asked = await ask("sessions", { ...WEEK, interval: "day", series: [{ math: "visitors" }] });
  const rows = await table(page, "sessions");
  expect(rows.map((row) => row[1])).toEqual([asked.series[0].total, ...asked.series[0].values].map(written));
  await people_behind(page, tile(page, "sessions").locator("td button"), [asked.series[0].total, ...asked.series[0].values]);
  const list = await ask("sessions", { ...WEEK, list: true, limit: 50 });
  await expect(tile(page, "list").locator(".list li")).toHaveCount(list.sessions.length);
  await tile(page, "list").getByRole("button", { name: "Older" }).click();
  await expect(page).toHaveURL(/cursor=/);
  const older = await ask("sessions", { ...WEEK, list: true, limit: 50, cursor: list.next });
  await expect(tile(page, "list").locator(".list li a").first()).toHaveText(older.sessions[0].person);
  await page.goBack();
  await expect(tile(page, "list").locator(".list li a").first()).toHaveText(list.sessions[0].person);
});

test("people: the list, one of them, and two ids that are one person or not", async ({ page }) => {
  await open(page, "/people");
  const { total } = await ask("users", { ...WEEK, limit: 50 });
  await expect(tile(page, "list").locator(".summary")).toHaveText(`${total} people in this time.`);
  await page.getByLabel("Any id of a person").fill("visitor-6");
  await page.getByRole("button", { name: "Find" }).click();
  await expect(page.getByRole("heading", { name: "visitor-6", level: 1 })).toBeVisible();
  const known = await (await fetch(`${ADDRESS}/v1/people/visitor-6`, { headers: { authorization: `Bearer ${KEY}` } })).json();
  await expect(tile(page, "person")).toContainText(`${known.events} events`);
  await expect(tile(page, "person")).toContainText("Person 6");
  await expect(tile(page, "timeline").locator(".event")).toHaveCount(Math.min(50, known.events));
  await tile(page, "ids").getByRole("button", { name: "Two people" }).click();
  await expect(tile(page, "ids").getByRole("button", { name: "One person again" })).toBeVisible();
  await tile(page, "ids").getByRole("button", { name: "One person again" }).click();
  await expect(tile(page, "ids").getByRole("button", { name: "Two people" })).toBeVisible();
  // Browsers take dots for steps through folders.
  await page.goto("/people");
  await page.getByLabel("Any id of a person").fill("..");
  await page.getByRole("button", { name: "Find" }).click();
  await expect(page.getByRole("alert")).toContainText("cannot stand in an address");
});

test("events: what is stored, and what comes in", async ({ page }) => {
  await open(page, "/events?event=order");
  const asked = await ask("events", { ...WEEK, event: "order", limit: 50 });
  await expect(tile(page, "list").locator(".event")).toHaveCount(asked.events.length);
  await tile(page, "list").locator("summary").first().click();
  await expect(tile(page, "list").locator(".event").first()).toContainText(asked.events[0].eventId);
  await page.getByLabel("Event", { exact: true }).fill("");
  await page.getByLabel("Event", { exact: true }).press("Enter");
  await page.getByRole("button", { name: "As they come in" }).click();
  await expect(tile(page, "live")).toContainText("in the last second");
  // What is stored stands below it.
  await expect(tile(page, "list").locator(".event").first()).toBeVisible();
  // With bots, which no other test counts.
  await open(page, "/events?live=1&bots=1");
  await expect(tile(page, "live")).toContainText("in the last second");
  await expect(async () => {
    const body = JSON.stringify({ type: "seen_live", anonymousId: "bot", context: { userAgent: "Googlebot/2.1 (+http://www.google.com/bot.html)" } });
    await fetch(`${ADDRESS}/v1/events`, { method: "POST", headers: { authorization: `Bearer ${process.env.WRITE_KEY}` }, body });
    await expect(tile(page, "live").locator(".event").first()).toContainText("seen_live", { timeout: 5_000 });
  }).toPass();
  // The same filters, of what can be told of an event that comes in.
  await open(page, `/events?live=1&bots=1&f=["properties.plan","eq","pro"]&f=["session.channel","eq","email"]`);
  await expect(tile(page, "live")).toContainText("What comes in does not say yet whether it is session.channel is email");
  await expect(async () => {
    const context = { userAgent: "Googlebot/2.1 (+http://www.google.com/bot.html)" };
    const batch = ["free", "pro"].map((plan) => ({ type: `of_${plan}`, anonymousId: "bot", properties: { plan }, context }));
    await fetch(`${ADDRESS}/v1/events`, { method: "POST", headers: { authorization: `Bearer ${process.env.WRITE_KEY}` }, body: JSON.stringify({ batch }) });
    await expect(tile(page, "live").locator(".event").first()).toContainText("of_pro", { timeout: 5_000 });
  }).toPass();
  await expect(tile(page, "live").locator(".event", { hasText: "of_free" })).toHaveCount(0);
});

/** Hides a tab, as a browser does when another one is chosen, or shows it again. */
const look = (tab, hidden) => tab.evaluate((hidden) => {
  Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
}, hidden);

test("of seven tabs that watch different events the one that is shown reads, and questions are answered", async ({ page, context }) => {
  // A browser has six connections for all of them.
  const streams = new Set();
  context.on("request", (request) => request.url().includes("/v1/live") && streams.add(request));
  for (const ended of ["requestfinished", "requestfailed"]) context.on(ended, (request) => streams.delete(request));
  await open(page, "/events?live=1&bots=1&event=tab_0");
  await expect(tile(page, "live")).toContainText("in the last second");
  let shown = page;
  for (let tab = 1; tab < 7; tab++) {
    await look(shown, true);
    shown = await context.newPage();
    await shown.goto(`/events?live=1&bots=1&event=tab_${tab}`);
    await expect(tile(shown, "live")).toContainText("in the last second");
    await expect.poll(() => streams.size).toBe(1);
  }
  const asks = await context.newPage();
  await asks.goto("/trends");
  await expect(tile(asks, "trends").getByRole("slider")).toBeVisible();
  expect(streams.size).toBe(1);
  await look(shown, true);
  await look(page, false);
  await expect.poll(() => [...streams].map((request) => new URL(request.url()).searchParams.get("type"))).toEqual(["tab_0"]);
});

test("tabs that watch the same read one stream, and go on where the one that reads it is closed", async ({ page, context }) => {
  await open(page, "/events?live=1&event=seen_by_tabs&bots=1");
  await expect(tile(page, "live")).toContainText("in the last second");
  const streams = [];
  context.on("request", (request) => request.url().includes("/v1/live") && streams.push(request));
  const others = [await context.newPage(), await context.newPage()];
  for (const other of others) {
    await other.goto("/events?live=1&event=seen_by_tabs&bots=1");
    await expect(tile(other, "live")).toContainText("in the last second");
  }
  expect(streams).toHaveLength(0);
  const seen = async (type, tabs = others) => {
    const body = JSON.stringify({ type: "seen_by_tabs", anonymousId: type, context: { userAgent: "Googlebot/2.1 (+http://www.google.com/bot.html)" } });
    await fetch(`${ADDRESS}/v1/events`, { method: "POST", headers: { authorization: `Bearer ${process.env.WRITE_KEY}` }, body });
    for (const other of tabs) await expect(tile(other, "live").locator(".event", { hasText: type })).toHaveCount(1);
  };
  await seen("before-it-is-closed");
  // One that was hidden shows what came meanwhile, and the others do not show it again.
  await look(others[1], true);
  await seen("while-one-is-hidden", [others[0], page]);
  await look(others[1], false);
  await seen("once-it-is-shown", [page, ...others]);
  await expect(tile(others[1], "live").locator(".event", { hasText: "while-one-is-hidden" })).toHaveCount(1);
  expect(streams).toHaveLength(0);
  // The one that reads lets another one go on while it is hidden.
  await look(page, true);
  await expect.poll(() => streams.length).toBe(1);
  expect(await streams[0].headerValue("last-event-id")).toBeTruthy();
  await seen("while-the-first-is-hidden", [page, ...others]);
  await look(page, false);
  expect(streams).toHaveLength(1);
  await others[0].close();
  await expect.poll(() => streams.length).toBe(2);
  expect(await streams[1].headerValue("last-event-id")).toBeTruthy();
  const rest = [page, others[1]];
  await seen("once-it-is-closed", rest);
  for (const other of rest) await expect(tile(other, "live").locator(".event")).toHaveCount(5);
});

test("health: the ledger adds up", async ({ page }) => {
  await open(page, "/health?since=1970-01-01");
  await expect(tile(page, "ledger").locator(".sum")).toHaveAttribute("data-whole", "true");
  const ledger = await (await fetch(`${ADDRESS}/v1/ledger`, { headers: { authorization: `Bearer ${KEY}` } })).json();
  const received = Number((await tile(page, "ledger").locator('[data-outcome="received"]').innerText()).replaceAll(",", ""));
  expect(received).toBeGreaterThan(1_000);
  expect(received).toBeLessThanOrEqual((ledger.result ?? ledger).total.received);
  await expect(tile(page, "lag")).toContainText("99 of 100 within");
  // The minute that runs looks like no fall.
  const minutes = tile(page, "ledger").getByRole("slider");
  await expect(tile(page, "ledger").locator("svg rect.partial")).toHaveCount(1);
  await expect(minutes).toHaveAttribute("aria-valuetext", /, not complete: /);
  await minutes.focus();
  await page.keyboard.press("ArrowLeft");
  await expect(minutes).not.toHaveAttribute("aria-valuetext", /not complete/);
});
