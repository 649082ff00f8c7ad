// Saved filters, and what else a page knows by name: segments, goals, the events of a session.
import { ADDRESS, ask, expect, KEY, open, own_board, settled, table, test, tile, written } from "./screen.mjs";

const WEEK = { from: "-6d/d", to: "now", timezone: "UTC" };
const api = async (path, init) => fetch(`${ADDRESS}${path}`, { headers: { authorization: `Bearer ${KEY}` }, ...init });

test("filters are saved as a segment, used as one filter, shared with a board, changed and deleted", async ({ page, browser }) => {
  await open(page, `/trends?f=["country","eq","GB"]`);
  await page.getByRole("button", { name: "Save as a segment" }).click();
  await page.getByLabel("Name of the segment").fill("From Britain");
  await page.getByRole("form", { name: "Save these filters" }).getByRole("button", { name: "Save" }).click();
  await expect(page.locator(".chip")).toHaveText(/in the segment from-britain/);
  await settled(page);
  const british = await ask("trends", { ...WEEK, interval: "day", series: [{ math: "unique_users" }], filters: [{ field: "country", op: "eq", value: "GB" }] });
  expect((await table(page, "trends"))[0][1]).toBe(written(british.series[0].total));
  // It is offered wherever filters are made; one name is not saved twice.
  await open(page, `/trends?f=["country","eq","US"]`);
  await page.getByRole("button", { name: "Save as a segment" }).click();
  await page.getByLabel("Name of the segment").fill("from-britain");
  await page.getByRole("form", { name: "Save these filters" }).getByRole("button", { name: "Save" }).click();
  await expect(page.getByRole("alert")).toContainText("There is a segment “from-britain” already");
  await page.getByRole("button", { name: "where…" }).click();
  await page.getByLabel("Segment", { exact: true }).selectOption("from-britain");
  await expect(page.locator(".builder .chip")).toHaveText(/in the segment from-britain/);
  // So are all others than those of it.
  await open(page, "/trends");
  await page.getByRole("button", { name: "+ Filter" }).click();
  await page.getByLabel("Segment", { exact: true }).selectOption("not from-britain");
  await expect(page.locator(".chip")).toHaveText(/not in the segment from-britain/);
  await settled(page);
  const others = await ask("trends", { ...WEEK, interval: "day", series: [{ math: "unique_users" }], filters: [{ cohort: "from-britain", not: true }] });
  expect(others.series[0].total).toBeGreaterThan(0);
  expect((await table(page, "trends"))[0][1]).toBe(written(others.series[0].total));
  // A link to a board with it: those who have the link see nothing else.
  await own_board("lent-in-part");
  await open(page, `/boards/lent-in-part?f=["segment","is","from-britain"]`);
  await page.getByRole("button", { name: "Share", exact: true }).click();
  await expect(page.getByRole("group", { name: "Only these events" })).toContainText("in the segment from-britain");
  await page.getByRole("button", { name: "Make a link" }).click();
  const context = await browser.newContext();
  const guest = await context.newPage();
  await guest.goto(await page.getByRole("textbox", { name: "The link" }).inputValue());
  const { groups } = await ask("funnel", { from: "-6d/d", steps: ["page", "product_viewed", "order"].map((event) => ({ event })), filters: [{ field: "country", op: "eq", value: "GB" }] });
  await expect(tile(guest, "tile1").locator("[data-count]").first()).toHaveAttribute("data-count", String(groups[0].steps[0].count));
  await context.close();
  await page.getByRole("button", { name: /^End the link/ }).last().click();
  await page.keyboard.press("Escape");

  await open(page, "/settings");
  const segments = tile(page, "segments");
  await segments.getByRole("button", { name: "Change from-britain" }).click();
  await expect(segments.locator(".chip")).toHaveText(/country is GB/);
  // Somebody else was faster.
  await api("/v1/cohorts/from-britain", { method: "PUT", body: JSON.stringify({ filters: [{ field: "country", op: "eq", value: "SE" }] }) });
  const add = async () => {
    await segments.getByRole("button", { name: "where…" }).click();
    await segments.getByLabel("Field of the filter").fill("browser");
    await segments.getByLabel("Value of the filter").fill("Firefox");
    await segments.getByRole("button", { name: "Add", exact: true }).click();
  };
  await add();
  await expect(segments.getByRole("alert")).toContainText("Somebody else has changed it meanwhile");
  await expect(segments.locator(".chip")).toHaveText([/country is SE/]);
  await add();
  await expect(segments.locator(".chip")).toHaveText([/country is SE/, /browser is Firefox/]);
  await segments.getByRole("button", { name: "Delete from-britain" }).click();
  await expect(segments.locator('[data-segment="from-britain"]')).toHaveCount(0);
});

test("goals are chosen events with their people and their share of all, in the address and kept for the next time", async ({ page, browser }) => {
  await open(page, "/");
  await tile(page, "goals").getByLabel("A goal").fill("order");
  await tile(page, "goals").getByLabel("A goal").press("Enter");
  const { series } = await ask("trends", { ...WEEK, interval: "month", series: [{ math: "unique_users" }, { event: "order", math: "unique_users" }] });
  const goal = tile(page, "goals").locator('[data-goal="order"]');
  await expect(goal.locator("[data-value]")).toHaveAttribute("data-value", String(series[1].total));
  expect(Number(await goal.locator("[data-share]").getAttribute("data-share"))).toBeCloseTo(series[1].total / series[0].total);
  await goal.locator("[data-value]").click();
  await expect(page.locator("[data-total]")).toHaveAttribute("data-total", String(series[1].total));
  // The address has them also where only the browser knew them: it shows the same to somebody else. They are asked for once.
  await page.goto("/health");
  await settled(page);
  const asked = [];
  page.on("request", (request) => request.url().endsWith("/v1/query") && asked.push(request.postDataJSON().queries.map(({ id }) => id)));
  await page.getByRole("navigation", { name: "Pages" }).getByRole("link", { name: "Overview" }).click();
  await expect(goal.locator("[data-value]")).toHaveAttribute("data-value", String(series[1].total));
  await expect(page).toHaveURL(/\/\?goal=order$/);
  await settled(page);
  expect(asked.filter((ids) => ids.includes("goals"))).toHaveLength(1);
  const other = await browser.newContext();
  const theirs = await other.newPage();
  const { pathname, search } = new URL(page.url());
  await open(theirs, pathname + search);
  await expect(tile(theirs, "goals").locator('[data-goal="order"] [data-value]')).toHaveAttribute("data-value", String(series[1].total));
  await other.close();
  await page.goBack();
  await expect(page.getByRole("heading", { name: "Health", level: 1 })).toBeVisible();
  // What an address says comes before what is kept, and is not kept: also that there are none.
  for (const [path, shown] of [["/?goal=page", ["page"]], ["/?goal=", []], ["/", ["order"]]]) {
    await open(page, path);
    await expect(tile(page, "goals").getByLabel("A goal"), path).toBeVisible();
    expect(await tile(page, "goals").locator("[data-goal]").evaluateAll((all) => all.map((one) => one.dataset.goal)), path).toEqual(shown);
  }
  await goal.getByRole("button", { name: "Take the goal order away" }).click();
  await expect(goal).toHaveCount(0);
  await expect(page).toHaveURL(/\/\?goal=$/);
});

test("a session is a timeline of its own", async ({ page }) => {
  await open(page, "/sessions");
  const { sessions } = await ask("sessions", { ...WEEK, list: true, limit: 50 });
  const at = sessions.findIndex(({ events }) => events > 3);
  await tile(page, "list").locator(".list li").nth(at).getByTitle("What happened in it").click();
  await expect(tile(page, "session").locator(".event")).toHaveCount(sessions[at].events);
  // By an id of the session's own: the person may be called by one that was seen elsewhere.
  await expect(tile(page, "session").locator('p a[href*="/people/"]')).toBeVisible();
  const times = await tile(page, "session").locator(".event time").evaluateAll((all) => all.map((time) => time.dateTime));
  expect(times).toEqual([...times].sort());
  await page.goBack();
  await expect(tile(page, "list")).toBeVisible();
});
