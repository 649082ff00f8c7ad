// The overview and a funnel by keys alone, each of their controls: what `access.spec.mjs` and `states.spec.mjs` do with a chart, a list, a name and a
// step is not done here again.
import { ask, expect, open, reach, settled, STEPS, test, tile } from "./screen.mjs";

const WEEK = { from: "-6d/d", to: "now", timezone: "UTC" };

/** The list of a choice whose name stands beside it. */
const choice = (page, name) => page.locator("label.choice", { has: page.getByText(name, { exact: true }) }).locator("select");

async function press(page, locator, key = "Enter") {
  await reach(page, locator);
  await page.keyboard.press(key);
}

test("the overview by keys alone: buckets, zone, days of one's own, comparison, files, statements, alert, board, goals and the menu", async ({ page }) => {
  await open(page, "/");
  const events = tile(page, "events");
  await press(page, choice(page, "By"), "ArrowUp");
  await expect(page).toHaveURL(/i=hour/);
  await press(page, choice(page, "Zone"), "ArrowDown");
  await expect(page).toHaveURL(/tz=/);
  await settled(page);
  await press(page, events.getByLabel("Compare with"), "ArrowUp");
  await expect(page).toHaveURL(/compare=none/);
  await settled(page);
  for (const kind of ["CSV", "PNG", "SVG"]) await Promise.all([page.waitForEvent("download"), press(page, events.getByRole("button", { name: `Save Visitors as ${kind}` }))]);
  await press(page, events.getByRole("button", { name: "Keep Visitors on a board" }));
  await expect(page.getByRole("dialog", { name: "Keep on a board" })).toBeVisible();
  await press(page, page.getByRole("dialog").getByRole("button", { name: "Close" }));
  await expect(page.getByRole("dialog", { name: "Keep on a board" })).toHaveCount(0);
  await press(page, events.getByRole("button", { name: "How Visitors was asked" }));
  await press(page, events.getByRole("button", { name: "Show the SQL" }));
  await expect(events.locator("[data-sql]").first()).toContainText("SELECT");
  await press(page, events.getByRole("link", { name: "An alert on Visitors" }));
  await expect(page).toHaveURL(/\/alerts\?.*rule=/);

  await open(page, "/");
  await reach(page, choice(page, "Time"));
  await page.keyboard.type("Other");
  await press(page, page.locator(".own-range").getByRole("button", { name: "Show" }));
  const today = new Date().toISOString().slice(0, 10);
  await expect(page).toHaveURL(new RegExp(`from=${today}`));
  await settled(page);
  await reach(page, page.getByLabel("A goal"));
  await page.keyboard.type("page");
  await page.keyboard.press("Enter");
  await expect(page.locator('[data-goal="page"]')).toBeVisible();
  await settled(page);
  await press(page, page.getByRole("button", { name: "Take the goal page away" }));
  await expect(page.locator('[data-goal="page"]')).toHaveCount(0);

  await page.setViewportSize({ width: 360, height: 800 });
  await open(page, "/");
  await press(page, page.getByRole("button", { name: "Menu" }));
  await press(page, page.getByRole("navigation", { name: "Pages" }).getByRole("link", { name: "Trends" }));
  await expect(page.getByRole("heading", { name: "Trends", level: 1 })).toBeVisible();
});

test("a funnel by keys alone: steps, time, order, counting, breakdown, tables, board and its other charts", async ({ page }) => {
  await open(page, `/funnel?${STEPS}`);
  for (const id of ["trend", "times"]) {
    await press(page, tile(page, id).getByRole("slider"), "Home");
    await expect(tile(page, id).getByRole("slider")).toHaveAttribute("aria-valuenow", "0");
  }
  const write = async (label, text) => {
    await reach(page, page.getByLabel(label, { exact: true }));
    await page.keyboard.press("Control+A");
    await page.keyboard.type(text);
    await page.keyboard.press("Enter");
  };
  await press(page, page.locator(".steps").getByRole("checkbox").first(), "Space");
  await expect(page).toHaveURL(/optional/);
  await page.keyboard.press("Space");
  await expect(page).not.toHaveURL(/optional/);
  await press(page, page.getByRole("button", { name: "Remove step 3" }));
  await expect(page.getByLabel("Step 3", { exact: true })).toHaveCount(0);
  await press(page, page.getByRole("button", { name: "+ Step" }));
  await write("Step 3", "order");
  await expect(page).toHaveURL(/order/);
  await write("Within", "7d");
  await expect(page).toHaveURL(/window=7d/);
  await press(page, choice(page, "Order"), "ArrowDown");
  await press(page, choice(page, "Counting"), "ArrowDown");
  await write("Broken down by", "country");
  await expect(page).toHaveURL(/b=country/);
  await settled(page);
  const steps = ["page", "product_viewed", "order"].map((event) => ({ event }));
  const asked = await ask("funnel", { ...WEEK, window: "7d", order: "strict", count: "sessions", steps, breakdown: "country", limit: 5 });
  const counts = asked.groups.flatMap((group) => group.steps.map((step) => String(step.count)));
  await expect.poll(() => tile(page, "funnel").locator("[data-count]").evaluateAll((all) => all.map((one) => one.dataset.count))).toEqual(counts);

  await press(page, tile(page, "funnel").getByRole("button", { name: "Table", exact: true }));
  await expect(tile(page, "funnel").getByRole("table")).toBeVisible();
  await press(page, tile(page, "funnel").getByRole("button", { name: /^Keep/ }));
  await expect(page.getByRole("dialog", { name: "Keep on a board" })).toBeVisible();
  await page.keyboard.press("Escape");
  await expect(page.getByRole("dialog", { name: "Keep on a board" })).toHaveCount(0);
});

test("d, w, m and y choose a time, and x compares with the period before, or not, from the first press on", async ({ page }) => {
  await open(page, "/");
  await page.locator("main").focus();
  for (const [key, from] of [["d", "now/d"], ["m", "-29d/d"], ["y", "-11M/M"], ["w", "-6d/d"]]) {
    await page.keyboard.press(key);
    await expect.poll(() => new URL(page.url()).searchParams.get("from")).toBe(from);
  }
  await settled(page);
  // The overview compares where its address says nothing.
  const compared = page.getByLabel("Compare with");
  const before = tile(page, "events").locator(".legend li", { hasText: "before" });
  await expect(before).toHaveCount(1);
  await page.keyboard.press("x");
  await expect(compared).toHaveValue("none");
  await expect(before).toHaveCount(0);
  await page.keyboard.press("x");
  await expect(compared).toHaveValue("previous");
  await expect(before).toHaveCount(1);
  await open(page, "/stickiness");
  await page.locator("main").focus();
  await page.keyboard.press("x");
  await expect(page).toHaveURL(/compare=previous/);
  await expect(tile(page, "stickiness").locator(".legend li", { hasText: "before" })).toHaveCount(1);
  // Nothing is compared there, and what is written is no key.
  await open(page, "/paths");
  await page.locator("main").focus();
  await page.keyboard.press("x");
  await page.getByLabel("Ways through").focus();
  await page.keyboard.type("wxyd");
  expect(new URL(page.url()).search).toBe("");
});
