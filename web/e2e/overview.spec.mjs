import { ask, expect, KEY, open, settled, table, test, tile, WEEK_BEFORE, written } from "./screen.mjs";

const WEEK = { from: "-6d/d", to: "now", timezone: "UTC" };

test("every number of the overview is the one of the API", async ({ page }) => {
  await open(page, "/");
  const pages = { field: "type", op: "in", value: ["page"] };
  const trends = await ask("trends", { ...WEEK, interval: "day", series: [{ math: "unique_users" }, { filters: [pages] }, {}], compare: WEEK_BEFORE });
  const sessions = await ask("sessions", { ...WEEK, interval: "day", series: ["sessions", "bounce_rate", "median_duration_ms"].map((math) => ({ math })) });
  const expected = { visitors: trends.series[0], pages: trends.series[1], events: trends.series[2], sessions: sessions.series[0], bounce: sessions.series[1], duration: sessions.series[2] };
  for (const [key, series] of Object.entries(expected)) {
    await expect(page.locator(`[data-measure="${key}"]`)).toHaveAttribute("data-value", String(series.total));
  }
  // The chart, point by point, beside the period before.
  const rows = await table(page, "events");
  expect(rows[0].slice(1)).toEqual([written(trends.series[0].total), written(trends.compare.series[0].total)]);
  expect(rows.slice(1).map((row) => row[1])).toEqual(trends.series[0].values.map(written));
  expect(rows.slice(1).map((row) => row[2])).toEqual(trends.compare.series[0].values.map(written));
  // Whole days stand beside whole ones, and the part of today beside the same part of a day.
  expect(trends.compare.partial).toEqual(trends.partial);
  expect(rows.at(-1)[0]).toContain("(not complete)");
  await expect(tile(page, "events").locator("tbody tr").last().locator("td").last()).toContainText("(not complete)");
  // The lists.
  const lists = [
    ["sources", "sessions", "session.channel", { math: "visitors" }],
    ["devices", "sessions", "session.device_type", { math: "visitors" }],
    ["places", "sessions", "session.country", { math: "visitors" }],
    ["pages", "trends", "page_path", { math: "unique_users", filters: [pages] }],
    ["actions", "trends", "type", { math: "unique_users" }],
  ];
  for (const [id, report, breakdown, series] of lists) {
    const { series: asked } = await ask(report, { ...WEEK, interval: "month", breakdown, limit: 9, series: [series] });
    const shown = await tile(page, id).locator(".rows [data-value]").evaluateAll((buttons) => buttons.map((button) => Number(button.dataset.value)));
    expect(shown.sort((a, b) => b - a), id).toEqual(asked.map((one) => one.total).filter(Boolean).sort((a, b) => b - a));
  }
});

test("the people behind a bar are the bar, and Back is undo", async ({ page }) => {
  await open(page, "/");
  for (const id of ["sources", "pages", "places", "devices", "actions"]) {
    const button = tile(page, id).locator(".rows [data-value]").first();
    const number = await button.getAttribute("data-value");
    await button.click();
    await expect(page.locator("[data-total]"), id).toHaveAttribute("data-total", number);
    await page.goBack();
    await expect(page.locator("dialog.panel")).toHaveCount(0);
  }
  // Each point of the chart of visitors, from its table; also of the period before.
  const rows = await table(page, "events");
  for (const column of [1, 2]) {
    for (const row of [0, 3, rows.length - 1]) {
      await tile(page, "events").locator("tbody tr").nth(row).locator("td").nth(column - 1).getByRole("button").click();
      await expect(page.locator("[data-total]")).toHaveText(rows[row][column]);
      await page.keyboard.press("Escape");
      await expect(page.locator("dialog.panel")).toHaveCount(0);
    }
  }
});

test("what is shown is in the address: a reload, Back and Forward show the same", async ({ page }) => {
  await open(page, "/");
  await page.getByRole("button", { name: /^Sessions/ }).click();
  await expect(page).toHaveURL(/show=sessions/);
  await tile(page, "places").getByRole("button", { name: "City" }).click();
  await tile(page, "devices").locator(".rows .name").first().click();
  await expect(page.locator(".chip")).toHaveCount(1);
  await settled(page);
  const sessions = await page.locator('[data-measure="sessions"]').getAttribute("data-value");
  const filters = JSON.parse(new URL(page.url()).searchParams.get("f"));
  const asked = await ask("sessions", { ...WEEK, interval: "day", series: [{ math: "sessions" }], filters: [{ field: filters[0], op: filters[1], value: filters[2] }] });
  expect(sessions).toBe(String(asked.series[0].total));
  // Also whether it is the numbers.
  await table(page, "sessions");
  const address = page.url();
  await page.goBack();
  await expect(page.locator(".chip")).toHaveCount(0);
  await page.goForward();
  await expect(page.locator(".chip")).toHaveCount(1);
  expect(page.url()).toBe(address);
  await open(page, new URL(address).pathname + new URL(address).search);
  await expect(page.locator('[data-measure="sessions"]')).toHaveAttribute("data-value", sessions);
  await expect(tile(page, "places").getByRole("button", { name: "City" })).toHaveAttribute("aria-pressed", "true");
  await expect(tile(page, "sessions").locator("tbody tr").first()).toBeVisible();
  // What is too long to be sent is a short link, which leads to the same.
  const names = Array.from({ length: 80 }, (_, index) => `a-path-of-many-letters-${index}`);
  const links = [];
  const followed = [];
  page.on("request", (request) => {
    const { pathname } = new URL(request.url());
    if (pathname === "/v1/links") links.push(request.postDataJSON().address);
    if (pathname.startsWith("/v1/links/")) followed.push(pathname);
  });
  await open(page, `/trends?f=${encodeURIComponent(JSON.stringify(["page_path", "not_in", names]))}`);
  await expect(page).toHaveURL(/\/trends\?l=[\w-]{16}$/);
  await expect(page.locator(".chip")).toContainText(names[79]);
  await page.reload();
  await expect(page.locator(".chip")).toContainText(names[79]);
  await expect(page.getByRole("slider")).toBeVisible();
  await expect(page).toHaveURL(/\/trends\?l=[\w-]{16}$/);
  // What is kept of it leads to what was asked, also where the link is not known; neither Back to it nor a reload asks what it stands for.
  await tile(page, "trends").getByRole("button", { name: /^Keep/ }).click();
  await page.locator("select[name=board]").selectOption("");
  await page.getByLabel("Title of a new one").fill("Kept from a link");
  await page.getByRole("button", { name: "Keep", exact: true }).click();
  await page.getByRole("link", { name: "the board" }).click();
  const made_at = tile(page, "tile0").getByRole("heading").getByRole("link");
  await expect(made_at).toHaveAttribute("href", /^\/trends\?f=.*a-path-of-many-letters-79/);
  await page.goBack();
  await expect(page).toHaveURL(/\/trends\?l=[\w-]{16}$/);
  await expect(page.locator(".chip")).toContainText(names[79]);
  expect(followed).toEqual([]);
  // A link that is followed is not made again.
  const short = new URL(page.url());
  await open(page, short.pathname + short.search);
  await expect(page.locator(".chip")).toContainText(names[79]);
  expect(page.url()).toBe(short.href);
  expect(followed).toHaveLength(1);
  expect(links.filter((address) => address.startsWith("/trends"))).toHaveLength(1);
  await open(page, new URL(address).pathname + new URL(address).search);
  // An alert watches the number that is shown, of what is filtered.
  await tile(page, "sessions").getByRole("link", { name: "An alert on Sessions" }).click();
  await expect(page.locator("[data-fired]")).toBeVisible();
  expect(JSON.parse(new URL(page.url()).searchParams.get("rule"))).toMatchObject({ report: "sessions", question: { series: [{ math: "sessions" }], filters: [{ field: filters[0] }] } });
});

test("one page is one request", async ({ page }) => {
  const asked = [];
  page.on("request", (request) => request.url().includes("/v1/query") && asked.push(request.url()));
  await open(page, "/");
  expect(asked.filter((url) => url.endsWith("/v1/query"))).toHaveLength(1);
  expect(asked.filter((url) => !url.endsWith("/v1/query") && !url.endsWith("/v1/query/properties"))).toEqual([]);
});

test("the first chart takes one trip to the server, and two where a link brings the key", async ({ page }) => {
  await open(page, "/");
  // Whatever else is asked is answered once the chart is there: a chart that waits for it never is.
  let is_held = true;
  const held = [];
  const is_first = (request) => new URL(request.url()).pathname === "/v1/query" || (/key=/.test(address) && request.method() === "GET" && request.url().endsWith("/v1/session"));
  let address = "";
  await page.route("**/v1/**", (route) => (is_held && !is_first(route.request()) ? void held.push(route) : route.continue()));
  for (address of ["/", "/trends?b=country", `/trends?b=country#key=${KEY}`]) {
    await page.goto("about:blank");
    await page.goto(address);
    await expect(page.getByRole("slider")).toBeVisible();
    await expect(page.locator(".project")).toHaveText("default");
  }
  is_held = false;
  for (const route of held) await route.continue().catch(() => undefined);
  await page.unrouteAll({ behavior: "ignoreErrors" });
});

test("a bar and its people look back to the same moment, also after a reload", async ({ page }) => {
  const sent = [];
  page.on("request", (request) => {
    if (request.url().endsWith("/v1/query")) sent.push(...request.postDataJSON().queries);
  });
  await open(page, "/trends?from=-6d/d&to=now");
  const plot = page.getByRole("slider");
  await plot.focus();
  await page.keyboard.press("Home");
  await page.keyboard.press("Enter");
  const total = await page.locator("[data-total]").getAttribute("data-total");
  const { as_of } = JSON.parse(new URL(page.url()).searchParams.get("people"));
  expect(as_of).toMatch(/^1\.\d+\./);
  await settled(page);
  const looks_back = (report, own) => sent.filter((query) => query.report === report && own(query).as_of === as_of);
  expect(looks_back("users", ({ of }) => of)).not.toEqual([]);
  expect(looks_back("trends", (query) => query)).not.toEqual([]);
  await page.reload();
  await expect(page.locator("[data-total]")).toHaveAttribute("data-total", total);
  await page.keyboard.press("Escape");
  await settled(page);
  expect(sent.at(-1).as_of).toBeUndefined();
});
