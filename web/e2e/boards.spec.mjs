// Boards: a chart is kept where it was made, shown beside others in one request, and nobody's change is lost.
import { createServer } from "node:http";
import { ADDRESS, answered, ask, expect, KEY, open, own_board, people_behind, settled, STEPS, table, test, tile, unsure, WEEK_BEFORE, written } from "./screen.mjs";

const WEEK = { from: "-6d/d", to: "now", timezone: "UTC" };

test("a chart is kept on a board, which shows the same and leads back", async ({ page }) => {
  await open(page, `/funnel?${STEPS}`);
  await tile(page, "funnel").getByRole("button", { name: /^Keep/ }).click();
  await page.getByLabel("Title", { exact: true }).fill("Buying <b>now</b>");
  await page.locator("select[name=board]").selectOption("");
  await page.getByLabel("Title of a new one").fill("Kept charts");
  await page.getByRole("button", { name: "Keep", exact: true }).click();
  await page.getByRole("link", { name: "the board" }).click();
  await expect(page.getByRole("heading", { name: "Kept charts", level: 1 })).toBeVisible();
  const { groups } = await ask("funnel", { ...WEEK, window: "14d", steps: ["page", "product_viewed", "order"].map((event) => ({ event })) });
  const counts = tile(page, "tile0").locator("[data-count]");
  await expect(counts.nth(2)).toHaveAttribute("data-count", String(groups[0].steps[2].count));
  await counts.nth(2).click();
  await expect(page.locator("[data-total]")).toHaveAttribute("data-total", String(groups[0].steps[2].count));
  await page.keyboard.press("Escape");

  // Another chart on the same one; both come with one request.
  await open(page, "/trends?b=country");
  await tile(page, "trends").getByRole("button", { name: /^Keep/ }).click();
  await page.locator("select[name=board]").selectOption("kept-charts");
  await page.getByRole("button", { name: "Keep", exact: true }).click();
  const asked = [];
  page.on("request", (request) => request.url().includes("/v1/query") && asked.push(request.url()));
  await page.getByRole("link", { name: "the board" }).click();
  await settled(page);
  await expect(tile(page, "tile1").getByRole("slider")).toBeVisible();
  expect(asked.filter((url) => !url.endsWith("/v1/query"))).toEqual([]);
  const trends = await ask("trends", { ...WEEK, interval: "day", series: [{ math: "unique_users" }], breakdown: "country", limit: 7 });
  expect((await table(page, "tile1"))[0].slice(1)).toEqual(trends.series.map((series) => written(series.total)));
  await page.getByRole("link", { name: "Buying <b>now</b>", exact: true }).click();
  await expect(page.getByLabel("Step 3", { exact: true })).toHaveValue("order");
  await page.goBack();
  await tile(page, "tile0").getByRole("link", { name: "An alert on Buying <b>now</b>" }).click();
  await expect(page.locator("[data-fired]")).toBeVisible();
  expect(JSON.parse(new URL(page.url()).searchParams.get("rule"))).toMatchObject({ report: "funnel", question: { steps: [{ event: "page" }, {}, { event: "order" }] } });
});

test("a change that another one has overtaken is refused, and the board is shown as it is", async ({ page }) => {
  const path = `${ADDRESS}/v1/boards/shared`;
  const headers = { authorization: `Bearer ${KEY}`, "content-type": "application/json" };
  const question = { ...WEEK, interval: "day", series: [{ math: "unique_users" }] };
  const put = async (title) => {
    const response = await fetch(path, { method: "PUT", headers, body: JSON.stringify({ title, tiles: [{ title: "One", report: "trends", question }, { title: "Two", report: "trends", question }] }) });
    expect(response.status).toBe(200);
  };
  await put("First");
  await open(page, "/boards/shared");
  await expect(page.getByRole("heading", { name: "First", level: 1 })).toBeVisible();
  await page.getByRole("button", { name: "Change" }).click();
  await page.getByRole("button", { name: "Move Two forward" }).click();
  await expect(tile(page, "tile0").getByRole("heading")).toHaveText("Two");
  await put("Second");
  await page.getByRole("button", { name: "Take One off the board" }).click();
  await expect(page.locator("main > .failed")).toContainText("Somebody else has changed this board");
  await expect(page.getByRole("heading", { name: "Second", level: 1 })).toBeVisible();
  await expect(page.locator("[data-tile]")).toHaveCount(2);
  // What a file says is changed there alone.
  const written = await fetch(path, { method: "PUT", headers: { ...headers, "x-pulse-file": "config/boards.toml" }, body: JSON.stringify({ title: "Third", tiles: [] }) });
  expect(written.status).toBe(200);
  await open(page, "/boards/shared");
  await expect(page.getByText("The file config/boards.toml says this board: it is changed there.")).toBeVisible();
  await expect(page.getByRole("button", { name: "Change" })).toHaveCount(0);
  await open(page, "/boards");
  await expect(page.getByRole("listitem").filter({ hasText: "Third" })).toContainText("of config/boards.toml");
});

test("what is left on a board is asked again when it would have been", async ({ page }) => {
  const question = { ...WEEK, interval: "day", series: [{ math: "unique_users" }] };
  const body = JSON.stringify({ title: "Fewer", tiles: [{ title: "One", report: "trends", question }, { title: "Two", report: "trends", question }] });
  const put = await fetch(`${ADDRESS}/v1/boards/fewer`, { method: "PUT", headers: { authorization: `Bearer ${KEY}`, "content-type": "application/json" }, body });
  expect(put.status).toBe(200);
  await page.route("**/v1/query", async (route) => {
    const response = await answered(route);
    const soon = (line) => {
      const answer = JSON.parse(line);
      answer.meta.refresh_after_ms = 1_000;
      return JSON.stringify(answer);
    };
    await route.fulfill({ response, body: `${(await response.text()).trim().split("\n").map(soon).join("\n")}\n` });
  });
  await open(page, "/boards/fewer");
  await page.getByRole("button", { name: "Change" }).click();
  const take_off = page.getByRole("button", { name: "Take Two off the board" });
  await unsure(page, () => take_off.click());
  await expect(page.locator("[data-tile]")).toHaveCount(2);
  await take_off.click();
  await expect(page.locator("[data-tile]")).toHaveCount(1);
  await page.waitForRequest("**/v1/query");
});

test("what is noted stands on the chart, in words too", async ({ page }) => {
  // Days are those of the zone of the page, which is many hours from UTC.
  await open(page, "/settings?tz=Pacific/Auckland");
  const day = new Intl.DateTimeFormat("sv-SE", { timeZone: "Pacific/Auckland" }).format(Date.now() - 2 * 86_400_000);
  await page.getByLabel("What happened").fill("Release <4.2>");
  await page.getByLabel("Kind of note").selectOption("release");
  await page.getByLabel("When").fill(day);
  await tile(page, "notes").getByRole("button", { name: "Add" }).click();
  const noted = tile(page, "notes").locator("li").filter({ hasText: "Release <4.2>" });
  await expect(noted).toContainText(/00:00:00, by read [0-9a-f]{8}/);
  await open(page, "/trends?tz=Pacific/Auckland");
  await page.getByRole("slider").focus();
  await page.keyboard.press("End");
  await page.keyboard.press("ArrowLeft");
  await page.keyboard.press("ArrowLeft");
  await expect(page.getByRole("slider")).toHaveAttribute("aria-valuetext", /noted: Release <4.2>/);
  await expect(page.locator(".tip")).toContainText("Release <4.2>");
  await open(page, "/settings");
  await expect(page.locator('[data-rule="sessions"]')).toHaveText("after 30 min without an event, 1 d after its first event");
  await expect(page.locator('[data-rule="internal"]')).toHaveText("is not told from that of others");
  const remove = page.getByRole("button", { name: "Remove the note Release <4.2>" });
  await unsure(page, () => remove.click());
  await expect(remove).toBeVisible();
  await remove.click();
  await expect(noted).toHaveCount(0);
});

test("sessions stand on a board one by one, and a guest sees who is behind a number of the time before", async ({ page, browser }) => {
  const headers = { authorization: `Bearer ${KEY}` };
  const trend = { ...WEEK, interval: "day", series: [{ event: "page", math: "unique_users" }], compare: WEEK_BEFORE };
  const mixed = { ...WEEK, to: "now/d", interval: "day", series: [{ math: "sessions" }, { math: "bounce_rate" }, { math: "median_duration_ms" }] };
  const tiles = [{ title: "One by one", report: "sessions", question: { ...WEEK, list: true, limit: 5 } }, { title: "Beside", report: "trends", question: trend }, { title: "Of each kind", report: "sessions", question: mixed }];
  await fetch(`${ADDRESS}/v1/boards/singly`, { method: "PUT", headers, body: JSON.stringify({ title: "Singly", tiles }) });
  const { token } = await (await fetch(`${ADDRESS}/v1/boards/singly/shares`, { method: "POST", headers, body: JSON.stringify({ people: true }) })).json();
  await open(page, "/boards/singly");
  await expect(tile(page, "tile0").locator(".list li")).toHaveCount(5);
  await expect(tile(page, "tile0").locator('.list a[href^="/sessions/"]')).toHaveCount(5);
  // They are no number that could be watched.
  await expect(tile(page, "tile0").getByRole("link", { name: /^An alert on/ })).toHaveCount(0);
  await expect(tile(page, "tile1").getByRole("link", { name: /^An alert on/ })).toHaveCount(1);
  // A count, a share and a length have a chart each, and stand as what they are in one table.
  await expect(tile(page, "tile2").getByRole("slider")).toHaveCount(3);
  const [sessions, bounces] = (await ask("sessions", mixed)).series;
  const [, first] = await table(page, "tile2");
  expect(first[1]).toBe(written(sessions.values[0]));
  expect(first[2]).toBe(new Intl.NumberFormat("en", { style: "percent", maximumFractionDigits: 1 }).format(bounces.values[0]));
  expect(first[3]).toMatch(/ (ms|s|min|h)/);
  const context = await browser.newContext();
  const guest = await context.newPage();
  await guest.goto(`/shared#${token}`);
  await settled(guest);
  await expect(tile(guest, "tile0").locator(".list li")).toHaveCount(5);
  await expect(tile(guest, "tile0").getByRole("link")).toHaveCount(0);
  const { compare } = await ask("trends", trend);
  const [[, , before]] = await table(guest, "tile1");
  expect(before).toBe(written(compare.series[0].total));
  await tile(guest, "tile1").locator("tbody tr").first().getByRole("button").nth(1).click();
  await expect(guest.locator("[data-total]")).toHaveAttribute("data-total", String(compare.series[0].total));
  await context.close();
  await fetch(`${ADDRESS}/v1/boards/singly`, { method: "DELETE", headers });
});

test("a guest who chooses a time sees all tiles, each by an interval that it knows", async ({ page }) => {
  const headers = { authorization: `Bearer ${KEY}` };
  const tiles = [
    { title: "By day", report: "lifecycle", question: { ...WEEK, interval: "day" } }, { title: "How often", report: "stickiness", question: WEEK },
    { title: "One by one", report: "sessions", question: { ...WEEK, list: true, interval: null, limit: 5 } }, { title: "In all", report: "sessions", question: { ...WEEK, list: false } },
    { title: "Nobody", report: "sessions", question: { ...WEEK, list: true, filters: [{ field: "country", op: "eq", value: "none" }] } },
  ];
  await fetch(`${ADDRESS}/v1/boards/timely`, { method: "PUT", headers, body: JSON.stringify({ title: "Timely", tiles }) });
  try {
    const { token } = await (await fetch(`${ADDRESS}/v1/boards/timely/shares`, { method: "POST", headers, body: JSON.stringify({ dates: true, people: true }) })).json();
    await page.goto(`/shared#${token}`);
    await page.getByLabel("Time").selectOption("Today");
    await settled(page);
    await expect(page.locator("[data-tile]")).toHaveCount(tiles.length);
    await expect(page.getByRole("alert")).toHaveCount(0);
    // What is said of the question is what was asked.
    for (const [index, interval] of ["day", undefined, null, "hour", undefined].entries()) {
      await tile(page, `tile${index}`).getByRole("button", { name: /^How / }).click();
      const [, asked] = /^[a-z]+ (.*)$/s.exec(await tile(page, `tile${index}`).getByLabel("The question").innerText());
      expect(JSON.parse(asked).interval, tiles[index].title).toBe(interval);
    }
    await expect(tile(page, "tile4").getByText("No sessions in this time.")).toHaveCount(1);
    await expect(tile(page, "tile4")).not.toContainText("0 sessions");
  } finally {
    await fetch(`${ADDRESS}/v1/boards/timely`, { method: "DELETE", headers });
  }
});

test("a board is shared by a link that shows the same without a key, no people, and nothing once it is ended", async ({ page, browser }) => {
  await own_board("lent");
  await open(page, "/boards/lent");
  const count = await tile(page, "tile1").locator("[data-count]").first().getAttribute("data-count");
  // In which parts the questions of two tiles differ.
  await tile(page, "tile0").getByRole("button", { name: "How Visitors was asked" }).click();
  await tile(page, "tile0").getByLabel("Beside").selectOption({ label: "Buying" });
  await expect(tile(page, "tile0").locator(".explained tbody tr").first().locator("th, td")).toHaveText(["report", "trends", "funnel"]);
  await page.getByRole("link", { name: "On the wall" }).click();
  await expect(page.locator("nav")).toHaveCount(0);
  await expect(tile(page, "tile1").locator("[data-count]").first()).toHaveAttribute("data-count", count);
  await page.getByRole("link", { name: "Off the wall" }).click();
  await page.getByRole("button", { name: "Share", exact: true }).click();
  await page.getByRole("button", { name: "Make a link" }).click();
  const link = await page.getByRole("textbox", { name: "The link" }).inputValue();
  await expect(page.getByRole("dialog").getByRole("listitem").first()).toContainText(/made by read [0-9a-f]{8}/);
  const context = await browser.newContext();
  const guest = await context.newPage();
  await guest.goto(link);
  await expect(guest.getByRole("heading", { name: "The shop", level: 1 })).toBeVisible();
  await expect(tile(guest, "tile1").locator("[data-count]").first()).toHaveAttribute("data-count", count);
  await tile(guest, "tile1").locator("[data-count]").first().click();
  await expect(guest.getByRole("status")).toContainText("does not show who is behind");
  // A question that is stopped is not asked again by itself.
  let asked = 0;
  await guest.route("**/tiles", () => void asked++);
  await guest.goto("about:blank");
  await guest.goto(link);
  await tile(guest, "tile1").getByRole("button", { name: "Stop" }).click();
  await expect(tile(guest, "tile1").getByRole("alert")).toContainText("You stopped this question");
  expect(asked).toBe(1);
  await guest.unroute("**/tiles");
  await tile(guest, "tile1").getByRole("button", { name: "Ask again" }).click();
  await expect(tile(guest, "tile1").locator("[data-count]").first()).toHaveAttribute("data-count", count);
  // In a frame of a page that is named, and of no other: real ones, for a browser asks where a page came from.
  let frame = "";
  const hosts = createServer((_, answer) => answer.setHeader("content-type", "text/html").end(`<!doctype html>${frame}`)).listen(0, "127.0.0.1");
  await new Promise((listening) => hosts.on("listening", listening));
  const origin = (name) => `http://${name}.localhost:${hosts.address().port}`;
  await page.getByRole("textbox", { name: "Pages that may show it in a frame" }).fill(origin("shop"));
  await page.getByRole("button", { name: "Make a link" }).click();
  await expect(page.getByRole("textbox", { name: "The link" })).toHaveValue(/^<iframe /);
  frame = await page.getByRole("textbox", { name: "The link" }).inputValue();
  const host = await context.newPage();
  await host.goto(origin("other"));
  await expect.poll(() => host.frames()[1]?.url()).toMatch(/^chrome-error:/);
  await host.goto(origin("shop"));
  await expect(host.frameLocator("iframe").getByRole("heading", { name: "The shop", level: 1 })).toBeVisible();
  await expect(host.frameLocator("iframe").locator('[data-tile="tile1"] [data-count]').first()).toHaveAttribute("data-count", count);
  await host.close();
  hosts.closeAllConnections();
  hosts.close();
  const ends = page.getByRole("button", { name: /^End the link/ });
  await unsure(page, () => ends.last().click());
  await expect(ends).toHaveCount(2);
  await ends.last().click();
  await expect(ends).toHaveCount(1);
  await ends.first().click();
  await expect(ends).toHaveCount(0);
  await expect(async () => {
    await guest.reload();
    await expect(guest.getByRole("alert")).toContainText("opens nothing", { timeout: 5_000 });
  }).toPass();
  await context.close();
});

/** A day that is over, with the one after it, and two such days. */
const DAY = { from: "-3d/d", to: "-2d/d", timezone: "UTC" };
const DAYS = { ...DAY, to: "-1d/d" };
const BROKEN_DOWN = { breakdown: "country", limit: 1 };
const COMPARED = { compare: "previous" };
/** An answer and the one that it is compared with. */
const both = (result) => [result, ...(result.compare ? [result.compare] : [])];

/** Puts tiles on a board of their own, for as long as `test` lasts. */
async function with_board(id, tiles, test) {
  const address = `${ADDRESS}/v1/boards/${id}`;
  const headers = { authorization: `Bearer ${KEY}` };
  const put = await fetch(address, { method: "PUT", headers, body: JSON.stringify({ title: id, tiles }) });
  expect(put.status, await put.text()).toBe(200);
  try {
    await test();
  } finally {
    await fetch(address, { method: "DELETE", headers });
  }
}

test("retention on a board: lines, the time before and sums, each number with its people", async ({ page }) => {
  const plain = { ...DAY, period: "day", periods: 2, cohort_event: { event: "page" }, return_event: { event: "product_viewed" }, type: "recurring" };
  const asked = [
    { ...plain, breakdown: ["country", "device_type"], limit: 1, rolling: true }, { ...plain, ...BROKEN_DOWN, ...COMPARED, mode: "on_or_after" }, { ...plain, ...COMPARED, value: { sum: "properties.price" } },
  ];
  await with_board("retentions", asked.map((question, index) => ({ title: `Retention ${index}`, report: "retention", question })), async () => {
    await open(page, "/boards/retentions");
    for (const [index, question] of asked.entries()) {
      const shown = tile(page, `tile${index}`);
      const rows = both(await ask("retention", question)).flatMap(({ cohorts }) => cohorts);
      const cells = (rows) => rows.filter(({ size }) => size).flatMap(({ values }) => values.filter((value) => value !== null));
      expect(await shown.locator(".heat").evaluateAll((all) => all.map((one) => Number(one.dataset.value))), `retention ${index}`).toEqual(cells(rows));
      await people_behind(page, shown.locator("[data-size]"), rows.map(({ size }) => size));
      // Behind a sum are those whose events it is of.
      const { value: _, ...counted } = question;
      await people_behind(page, shown.locator(".heat"), cells(both(await ask("retention", counted)).flatMap(({ cohorts }) => cohorts)));
      expect((await table(page, `tile${index}`)).map((row) => row.slice(-3)), `table ${index}`).toEqual(rows.map(({ size, values }) => [size, ...values].map(written)));
    }
    // A sum is no share, and no people.
    const sums = (await ask("retention", asked[2])).cohorts;
    await tile(page, "tile2").getByRole("button", { name: "Table", exact: true }).click();
    await expect(tile(page, "tile2").locator(".heat").first()).toHaveText(written(sums.find(({ size }) => size).values[0]));
    await expect(tile(page, "tile2").locator(".heat").first()).toHaveAccessibleName(/^[\d,.]+ of price: day 0 of /);
    await expect(tile(page, "tile2")).not.toContainText("%");
    await expect(tile(page, "tile2").locator(".summary")).toContainText("of price");
  });
});

test("lifecycle and stickiness on a board: lines and the time before, each number with its people", async ({ page }) => {
  const lines = { ...BROKEN_DOWN, ...COMPARED };
  const tiles = [
    ...[{ event: "page", ...COMPARED }, lines].map((question) => ({ title: "Lifecycle", report: "lifecycle", question: { ...DAY, ...question } })),
    // The time before may have more days.
    ...[{ event: "page", compare: { from: "-6d/d", to: "-3d/d" } }, lines, { ...BROKEN_DOWN, cumulative: true }].map((question) => ({ title: "Stickiness", report: "stickiness", question: { ...DAYS, ...question } })),
  ];
  await with_board("lines", tiles, async () => {
    await open(page, "/boards/lines");
    for (const [index, { report, question }] of tiles.entries()) {
      const result = await ask(report, question);
      const charts = both(result);
      const rows = await table(page, `tile${index}`);
      const of_status = (chart) => Array.from({ length: chart.series.length / 4 }, (_, at) => chart.series.slice(4 * at, 4 * at + 4));
      const numbers = report === "lifecycle"
        ? charts.flatMap((chart) => of_status(chart).flatMap((series) => chart.buckets.map((_, bucket) => series.map(({ values }) => values[bucket]))))
        : Array.from({ length: Math.max(...charts.map(({ times }) => times.length)) }, (_, at) => charts.flatMap(({ series }) => series.map(({ values, at_least }) => (at_least ?? values)[at])));
      expect(rows.map((row) => row.slice(-numbers[0].length)), `${report} ${index}`).toEqual(numbers.map((row) => row.map(written)));
      await people_behind(page, tile(page, `tile${index}`).locator("td button"), numbers.flat().filter((number) => number !== undefined));
    }
    // Each line by its name, as a picture and as a sentence.
    for (const index of [1, 3]) {
      await tile(page, `tile${index}`).getByRole("button", { name: "Table", exact: true }).click();
      await expect(tile(page, `tile${index}`).locator(".summary")).toContainText("more lines");
    }
    await expect(tile(page, "tile1").getByRole("slider")).toHaveCount(6);
    await expect(tile(page, "tile1").locator("h3").filter({ hasText: "before" })).toHaveCount(3);
    await expect(tile(page, "tile3").locator(".legend li")).toHaveCount(6);
    const first = tile(page, "tile3").getByRole("slider");
    const [line] = (await ask("stickiness", tiles[3].question)).series;
    await first.focus();
    await page.keyboard.press("Home");
    await page.keyboard.press("Enter");
    await expect(page.locator("[data-total]")).toHaveAttribute("data-total", String(line.values[0]));
  });
});

test("a funnel on a board: in any order, over time and by how long it takes, each number with its people", async ({ page }) => {
  const steps = { ...DAY, steps: ["page", "product_viewed", "order"].map((event) => ({ event })) };
  const tiles = [
    { ...steps, order: "unordered", ...BROKEN_DOWN }, { ...steps, view: "trend", ...BROKEN_DOWN, ...COMPARED }, { ...steps, view: "time_to_convert", bins: 4, ...BROKEN_DOWN, ...COMPARED },
  ].map((question, index) => ({ title: `Funnel ${index}`, report: "funnel", question }));
  await with_board("funnels", tiles, async () => {
    await open(page, "/boards/funnels");
    const [unordered, trend, times] = await Promise.all(tiles.map(({ question }) => ask("funnel", question)));
    const bars = unordered.groups.flatMap((group) => group.steps);
    await people_behind(page, tile(page, "tile0").locator("[data-count]"), bars.map(({ count }) => count));
    await people_behind(page, tile(page, "tile0").locator("[data-dropped]"), bars.filter((_, index) => index % 3).map(({ dropped }) => dropped));
    await expect(tile(page, "tile0").locator("li strong").nth(2)).toHaveText("all 3 steps");

    const lines = both(trend).flatMap(({ groups }) => groups);
    const totals = ({ entered, converted }) => [entered, converted].map((values) => values.reduce((sum, value) => sum + value, 0));
    const numbers = [lines.flatMap(totals), ...trend.buckets.map((_, bucket) => lines.flatMap(({ entered, converted }) => [entered[bucket], converted[bucket]]))];
    await table(page, "tile1");
    await people_behind(page, tile(page, "tile1").locator("td button"), numbers.flat());
    await tile(page, "tile1").getByRole("button", { name: "Table", exact: true }).click();
    await expect(tile(page, "tile1").locator(".legend li")).toHaveCount(lines.length);
    await tile(page, "tile1").getByRole("slider").focus();
    await page.keyboard.press("Home");
    await page.keyboard.press("Enter");
    await expect(page.locator("[data-total]")).toHaveAttribute("data-total", String(trend.groups[0].converted[0]));
    await page.keyboard.press("Escape");

    const groups = both(times).flatMap(({ groups }) => groups);
    await expect(tile(page, "tile2").getByRole("slider")).toHaveCount(groups.filter(({ bins }) => bins.length).length);
    expect((await table(page, "tile2")).map((row) => row.at(-1))).toEqual(groups.flatMap(({ bins }) => bins.map(({ count }) => written(count))));
    await expect(page.getByText("This cannot be drawn")).toHaveCount(0);
  });
});

test("trends, sessions and the steps of a funnel on a board: each number of lines and of the time before with its people", async ({ page }) => {
  const more = { ...DAY, ...BROKEN_DOWN, ...COMPARED };
  const tiles = [
    ["trends", { ...more, interval: "day", series: [{ event: "page", math: "unique_users" }], cumulative: true }],
    ["sessions", { ...more, interval: "day", breakdown: "session.country", series: [{ math: "visitors" }] }],
    ["funnel", { ...more, steps: ["page", "product_viewed", "order"].map((event) => ({ event })), attribution: "last", exclusions: [{ event: "cart_added", from_step: 1, to_step: 2 }], hold: ["device_type"] }],
  ].map(([report, question]) => ({ title: report, report, question }));
  await with_board("numbers", tiles, async () => {
    await open(page, "/boards/numbers");
    const [trends, sessions, funnel] = await Promise.all(tiles.map(({ report, question }) => ask(report, question)));
    for (const [id, chart] of [["tile0", trends], ["tile1", sessions]]) {
      const lines = both(chart).flatMap(({ series }) => series);
      const rows = await table(page, id);
      expect(rows.map((row) => row.slice(1))).toEqual([lines.map(({ total }) => written(total)), ...chart.buckets.map((_, bucket) => lines.map(({ values }) => written(values[bucket])))]);
      await people_behind(page, tile(page, id).locator("td button"), [...lines.map(({ total }) => total), ...chart.buckets.flatMap((_, bucket) => lines.map(({ values }) => values[bucket]))]);
    }
    const steps = both(funnel).flatMap(({ groups }) => groups.flatMap((group) => group.steps));
    await people_behind(page, tile(page, "tile2").locator("[data-count]"), steps.map(({ count }) => count));
    await people_behind(page, tile(page, "tile2").locator("[data-dropped]"), steps.filter((_, index) => index % 3).map(({ dropped }) => dropped));
  });
});

/** Questions, each with the sentence that says what it counts. */
const EXPLAINED = [
  ["trends", { series: [{ event: "order" }] }, "Shown by day: events of “order”."],
  ["trends", { series: [{ event: "order", math: "unique_users" }], cumulative: true }, "Shown by day: people with “order”. Each number is of all from the beginning of the time to the end of its day."],
  ["trends", { series: [{ event: "product_viewed", math: "sum", property: "price" }], moving_average: 7 },
    "Shown by day: the sum of price over “product_viewed”. Then each is the average of its own and the 6 before it that are shown; totals, and the people behind a number, are as without."],
  ["trends", { series: [{ event: "order", math: "first_time_users" }, { event: "order", math: "p95", property: "total" }, { math: "unique:country" }], formula: "A / B" },
    "Shown by day: people whose first “order” ever is in the day; the 95th percentile of total over “order”; different values of country of any event, put together as A / B."],
  ["trends", { series: [{ event: "page", math: "wau", filters: [{ any: [{ field: "country", value: "GB" }, { field: "country", value: "US" }] }] }] }, "Shown by day: people with “page” (country is GB or country is US) in the 7 days up to it."],
  ["sessions", { series: [{ math: "bounce_rate" }] },
    "A session is what a visitor does without a long pause, and counts whole where it begins. Shown by day: the share of sessions that were a single event, or one page and under ten seconds."],
  ["sessions", { list: true, limit: 3 }, "A session is what a visitor does without a long pause, and counts whole where it begins. Shown are single ones, the newest first."],
  ["funnel", { steps: [{ event: "page" }, { event: "cart_added", optional: true }, { event: "order" }] },
    "Counted are people, each once, with “page”, then “cart_added” (if at all), then “order”, within 14d of the first. A step has all who came at least so far."],
  ["funnel", { steps: [{ event: "page" }, { event: "product_viewed" }, { event: "order" }], order: "strict", window: "1h", hold: ["country", "browser"], exclusions: [{ event: "cart_added", from_step: 2, to_step: 3 }, { event: "identify" }] },
    "Counted are people, each once, with “page”, then “product_viewed”, then “order”, with nothing in between, within 1h of the first. A step has all who came at least so far. "
      + "A way with “cart_added” between step 2 and step 3 does not count. A way with “identify” between step 1 and step 3 does not count. All events of a way have the same country and browser."],
  ["funnel", { steps: [{ event: ["page", "signup"] }, { event: "order" }], order: "unordered" }, "Counted are people, each once, with “page” or “signup” and “order”, in any order, within 14d of the first. A step has all who did so many of them, whichever they are."],
  ["funnel", { steps: [{ event: "page" }, { event: "order" }], count: "totals", complete_windows_only: true, window: "1d" },
    "Counted are attempts with “page”, then “order”, within 1d of the first. A step has all who came at least so far. A first step counts only once its 1d are over."],
  ["funnel", { steps: [{ event: "page" }, { event: "order" }], count: "sessions", view: "trend", interval: "day" },
    "Counted are sessions with “page”, then “order”, within 14d of the first. Shown is the share of those with the first step who come to the last one, by the day of their first."],
  ["funnel", { steps: [{ event: "page" }, { event: "order" }], view: "time_to_convert" }, "Counted are people, each once, with “page”, then “order”, within 14d of the first. Shown is how long those take who come to the last one."],
  ["retention", { period: "week", cohort_event: { event: "signup" }, return_event: { event: "order" } }, "People are put together by the week of their first “signup” ever; a cell has those of them with “order” so many weeks later."],
  ["retention", { type: "recurring", mode: "on_or_after" }, "People are put together by each day in which they have any event; a cell has those of them with any event so many days later, or later still."],
  ["retention", { period: "week", rolling: true, value: { sum: "properties.price" }, return_event: { event: "product_viewed" } },
    "People are put together by the week of their first event ever; a cell has the sum of properties.price over their “product_viewed” so many weeks later. A week is 7 days from when each began."],
  ["lifecycle", { event: "order" }, "Of each day, people with “order”: new ones had none ever before, returning ones had one in the day before, resurrected ones only longer ago; dormant ones had one in the day before and none in this."],
  ["stickiness", { cumulative: true }, "How many people have any event in at least one, two, … days of this time."],
  ["paths", { start: "page", collapse: false }, "The ways that sessions take from one event to the next, from the first “page” of a session on: 5 steps, of each the 10 that most sessions come by, and all others together. What comes twice in a row counts twice."],
  ["paths", { node: "page_path", end: "/checkout", steps: 3, limit: 4 },
    "The ways that sessions take from one page to the next, backwards from the last “/checkout” of a session: 3 steps, of each the 4 that most sessions come by, and all others together. What comes twice in a row counts once."],
];

test("a board of twenty tiles is one request, and each says in a sentence what it counts", async ({ page }) => {
  const more = { breakdown: "country", limit: 3, compare: "weekdays", filters: [{ did: { event: "order", from: "2026-01-01", to: "2026-02-01", times: { gte: 2 } }, not: true }] };
  const tiles = EXPLAINED.map(([report, question], index) => ({ title: `${report} ${index}`, report, question: { ...DAY, ...question, ...(index ? {} : more) } }));
  await with_board("explained", tiles, async () => {
    const asked = [];
    page.on("request", (request) => request.url().includes("/v1/query") && asked.push(request));
    await open(page, "/boards/explained");
    expect(asked.map((request) => [new URL(request.url()).pathname, request.postDataJSON().queries.length])[0]).toEqual(["/v1/query", 20]);
    expect(asked.every((request) => request.postDataJSON().queries.length === 20)).toBe(true);
    await expect(page.getByRole("alert")).toHaveCount(0);
    for (const [index, [, , sentence]] of EXPLAINED.entries()) {
      const shown = tile(page, `tile${index}`);
      await shown.getByRole("button", { name: `How ${tiles[index].title} was asked` }).click();
      await expect(shown.locator(".explained p").first(), tiles[index].title).toHaveText(sentence);
    }
    await expect(tile(page, "tile0").locator(".explained p").nth(1)).toHaveText(
      /^Of [^,]+, [^,]+, in days of UTC, where not of those with “order” at least 2 times from 2026-01-01 to 2026-02-01, each country by itself \(3 lines of most, all others together\)\. Beside it: the same weekdays before\. Bots are left out/,
    );
  });
});
