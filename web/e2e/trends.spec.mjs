import { readFileSync } from "node:fs";
import { ask, expect, open, settled, STEPS, table, test, tile, with_note, written, WEEK_BEFORE } from "./screen.mjs";
import { HOSTILE } from "./seed.mjs";
import { area_path, band_path, line_path } from "../src/chart/path.ts";

const WEEK = { from: "-6d/d", to: "now", timezone: "UTC" };

test("a breakdown shows the API's numbers, and the people behind each are as many", async ({ page }) => {
  // What an address of another release says beside is passed over.
  await open(page, "/trends?b=country&compare=previous&no_such_choice=1");
  const asked = await ask("trends", { ...WEEK, interval: "day", series: [{ math: "unique_users" }], breakdown: "country", limit: 7, compare: WEEK_BEFORE });
  // The names stand at the ends of the lines too, the first one in any case.
  const [first] = asked.series;
  await expect(tile(page, "trends").locator("svg .end").first()).toHaveText(first.kind === "none" ? "(none)" : first.breakdown);
  const rows = await table(page, "trends");
  const columns = [...asked.series, ...asked.compare.series];
  expect(rows[0].slice(1)).toEqual(columns.map((series) => written(series.total)));
  asked.buckets.forEach((_, index) => expect(rows[index + 1].slice(1)).toEqual(columns.map((series) => written(series.values[index]))));
  for (let column = 0; column < columns.length; column += 2) {
    const cell = tile(page, "trends").locator("tbody tr").nth(column % 3 ? 0 : 2).locator("td").nth(column).getByRole("button");
    const number = (await cell.innerText()).trim();
    await cell.click();
    await expect(page.locator("[data-total]")).toHaveText(number);
    await page.keyboard.press("Escape");
    await expect(page.locator("dialog.panel")).toHaveCount(0);
  }
});

test("filters of an address may be written as in a question, and what is none is left out", async ({ page }) => {
  const filters = [{ field: "country", op: "eq", value: "GB" }, 7, null];
  await open(page, `/trends?s=${encodeURIComponent(JSON.stringify({ event: "page", filters }))}`);
  await expect(page.locator(".builder .chip")).toHaveText(/country is GB/);
  const { series } = await ask("trends", { ...WEEK, interval: "day", series: [{ event: "page", filters: filters.slice(0, 1) }] });
  expect((await table(page, "trends"))[0][1]).toBe(written(series[0].total));
  const left_out = page.getByRole("status").filter({ hasText: "A filter of this address cannot be shown here: it is left out." });
  await expect(left_out).toBeVisible();
  await open(page, `/funnel?step={"event":"page","filters":"x"}&step={"event":["order"]}`);
  await expect(page.getByLabel("Step 1", { exact: true })).toHaveValue("page");
  await expect(left_out).toBeVisible();
  // Those of the whole page too; that there is one or another is more than the page can show.
  await open(page, `/trends?f=${encodeURIComponent(JSON.stringify(filters[0]))}`);
  await expect(page.locator(".chip")).toHaveText(/country is GB/);
  await expect(left_out).toHaveCount(0);
  await open(page, `/trends?f=${encodeURIComponent(JSON.stringify({ any: [filters[0]] }))}`);
  await expect(left_out).toBeVisible();
  await expect(page.locator(".chip")).toHaveCount(0);
});

test("a question is built by hand: events, a filter, a formula", async ({ page }) => {
  await open(page, "/trends");
  await page.getByLabel("Event 1").focus();
  await expect(page.locator('datalist option[value="product_viewed"]').first()).toBeAttached();
  await page.getByLabel("Event 1").fill("product_viewed");
  await page.getByLabel("Event 1").press("Enter");
  await page.getByRole("button", { name: "where…" }).click();
  await page.getByLabel("Field of the filter").fill("properties.price");
  await page.getByLabel("Value of the filter").fill("7");
  await page.getByRole("button", { name: "Add", exact: true }).click();
  await expect(page.locator(".builder .chip")).toHaveText(/properties.price is 7/);
  await settled(page);
  const series = { event: "product_viewed", math: "unique_users", filters: [{ field: "properties.price", op: "eq", value: 7 }] };
  const one = await ask("trends", { ...WEEK, interval: "day", series: [series] });
  expect(one.series[0].total).toBeGreaterThan(0);
  await expect.poll(async () => (await table(page, "trends"))[0]?.[1]).toBe(written(one.series[0].total));
  await page.getByRole("button", { name: "+ Series" }).click();
  await page.getByLabel("Event 2").fill("page");
  await page.getByLabel("Event 2").press("Enter");
  await page.getByLabel("Formula").fill("A/B");
  await page.getByLabel("Formula").press("Enter");
  const both = await ask("trends", { ...WEEK, interval: "day", series: [series, { event: "page" }], formula: "A/B" });
  await expect.poll(async () => (await table(page, "trends")).map((row) => row[1])).toEqual([both.series[0].total, ...both.series[0].values].map(written));
});

test("a cut week of the year before is drawn and told as what it is", async ({ page }) => {
  await open(page, "/trends?from=-3w/w&to=now&i=week&compare=year");
  const asked = await ask("trends", { from: "-3w/w", to: "now", timezone: "UTC", interval: "week", series: [{ math: "unique_users" }], compare: "year" });
  expect([asked.partial[0], asked.compare.partial[0]]).toEqual([false, true]);
  const trends = tile(page, "trends");
  await expect(trends.locator(".summary")).toContainText(/before, what stands beside week of .* is not complete/);
  await expect(trends.locator(".compared .open")).toHaveCount(1);
  await page.getByRole("slider").focus();
  await page.keyboard.press("Home");
  await expect(page.getByRole("slider")).toHaveAttribute("aria-valuetext", /^week of [^(]*, any event, people, before \d+ \(not complete\)$/);
  await expect(trends.locator(".tip")).toContainText("not complete");
  await table(page, "trends");
  await expect(trends.locator("tbody tr").nth(1).locator("td").last()).toContainText("(not complete)");
  await expect(trends.locator("tbody tr").nth(2).locator("td").last()).not.toContainText("(not complete)");
});

test("a refusal is shown as it is, and is over when the question is right again", async ({ page }) => {
  await open(page, "/trends?b=contry");
  await expect(tile(page, "trends").getByRole("alert")).toContainText("unknown field `contry`, did you mean `country`");
  await page.getByLabel("Broken down by", { exact: true }).fill("country");
  await page.getByLabel("Broken down by", { exact: true }).press("Enter");
  await settled(page);
  await expect(tile(page, "trends").getByRole("alert")).toHaveCount(0);
  await expect(tile(page, "trends").locator(".legend li").first()).toBeVisible();
});

for (const zone of ["UTC", "Asia/Kathmandu", "Australia/Lord_Howe", "America/New_York"]) {
  test(`days are those of ${zone}`, async ({ page }) => {
    await open(page, `/trends?tz=${zone}&from=2026-10-30&to=2026-11-05&i=day`);
    const asked = await ask("trends", { from: "2026-10-30", to: "2026-11-05", timezone: zone, interval: "day", series: [{ math: "unique_users" }] });
    await expect(tile(page, "trends").locator(".plot .zone")).toHaveText(zone);
    const rows = await table(page, "trends");
    expect(rows.slice(1).map((row) => row[0].replace(" (not complete)", ""))).toEqual(
      [30, 31, 1, 2, 3, 4].map((day) => expect.stringContaining(`${day} ${day > 20 ? "Oct" : "Nov"} 2026`)));
    expect(rows.map((row) => row[1])).toEqual([asked.series[0].total, ...asked.series[0].values].map(written));
    await expect(tile(page, "trends").locator(".health")).toContainText(zone);
  });
}

test("another zone keeps the question, and only tells days apart elsewhere", async ({ page }) => {
  const path = `/trends?s=${encodeURIComponent(JSON.stringify({ event: "page", math: "unique_users" }))}&b=country&average=3&compare=weekdays&f=["browser","neq","Safari"]&i=day&from=-6d/d&to=now/d`;
  const question = (request) => request.postDataJSON()?.queries?.[0];
  const asked = page.waitForRequest((request) => question(request)?.timezone === "UTC");
  await open(page, path);
  const before = new URL(page.url()).searchParams;
  const again = page.waitForRequest((request) => question(request)?.timezone === "Asia/Tokyo");
  await page.getByLabel("Zone").focus();
  await page.getByLabel("Zone").selectOption("Asia/Tokyo");
  expect(question(await again)).toEqual({ ...question(await asked), timezone: "Asia/Tokyo" });
  await expect(tile(page, "trends").locator(".plot .zone")).toHaveText("Asia/Tokyo");
  expect([...new URL(page.url()).searchParams].filter(([name]) => name !== "tz")).toEqual([...before]);
  // The same from page to page.
  await page.getByRole("navigation", { name: "Pages" }).getByRole("link", { name: "Lifecycle" }).click();
  await expect(tile(page, "lifecycle").locator(".plot .zone").first()).toHaveText("Asia/Tokyo");
});

test("what was nothing before is new, and no share of nothing", async ({ page }) => {
  // These events came minutes before the tests, and never before.
  const filter = `f=${encodeURIComponent(JSON.stringify(["type", "eq", HOSTILE[0]]))}`;
  await open(page, `/?${filter}&from=-29d/d&to=now`);
  await expect(page.getByRole("button", { name: /^Events/ }).locator("small")).toHaveText("new");
  await expect(tile(page, "events").locator(".summary")).toHaveText(/^Visitors: 1 in all, new beside the same from .* on \(0\)/);
  await open(page, `/?f=["type","eq","never-sent"]`);
  await expect(page.getByRole("button", { name: /^Events/ }).locator("small")).toHaveText("");
});

test("behind a smoothed number are the people of its own day, and it is said", async ({ page }) => {
  await open(page, `/trends?s=${encodeURIComponent(JSON.stringify({ event: "page", math: "unique_users" }))}&average=7&from=-6d/d&to=now/d`);
  const question = { from: "-6d/d", to: "now/d", timezone: "UTC", interval: "day", series: [{ event: "page", math: "unique_users" }] };
  const [[own], [smoothed]] = await Promise.all([ask("trends", question), ask("trends", { ...question, moving_average: 7 })].map(async (result) => (await result).series));
  const last = own.values.length - 1;
  expect(smoothed.values[last]).not.toBe(own.values[last]);
  await tile(page, "trends").getByRole("slider").focus();
  await page.keyboard.press("End");
  await page.keyboard.press("Enter");
  await expect(page.locator("[data-total]")).toHaveAttribute("data-total", String(own.values[last]));
  await expect(page.getByRole("dialog", { name: "People" }).locator("> header")).toContainText("these are of this day alone, the chart shows the average of 7");
  await page.keyboard.press("Escape");
  // The total is of all days.
  await table(page, "trends");
  await tile(page, "trends").locator("tbody tr").first().getByRole("button").click();
  await expect(page.locator("[data-total]")).toHaveAttribute("data-total", String(own.total));
  await expect(page.getByRole("dialog", { name: "People" }).locator("> header")).not.toContainText("alone");
});

test("a chart is saved as SVG, PNG and CSV that say what they show", async ({ page }) => {
  await open(page, `/trends?b=country`);
  const saved = async (kind) => {
    const [download] = await Promise.all([page.waitForEvent("download"), tile(page, "trends").getByRole("button", { name: new RegExp(`as ${kind}$`) }).click()]);
    return readFileSync(await download.path());
  };
  const svg = (await saved("SVG")).toString();
  const day = (back) => new Intl.DateTimeFormat("en-GB", { timeZone: "UTC", weekday: "short", day: "numeric", month: "short", year: "numeric" }).format(Date.now() - back * 86_400_000);
  for (const part of ["any event, people", `${day(6)} – ${day(0)}, UTC; data through`, "GB", "<path"]) expect(svg).toContain(part);
  const png = await saved("PNG");
  expect(png.subarray(1, 4).toString()).toBe("PNG");
  expect(png.readUInt32BE(16)).toBeGreaterThan(1_000);
  const asked = await ask("trends", { ...WEEK, interval: "day", series: [{ math: "unique_users" }], breakdown: "country", limit: 7 });
  const [title, note, head, ...rows] = (await saved("CSV")).toString().trim().split("\r\n");
  expect([title, note]).toEqual(['"# any event, people"', expect.stringContaining(`# ${day(6)} – ${day(0)}, UTC; data through`)]);
  expect(head).toMatch(/^Time,.*,Complete$/);
  const cell = (value) => String(value ?? "");
  expect(rows.map((row) => row.split(","))).toEqual([
    ["in all", ...asked.series.map(({ total }) => cell(total)), ""],
    ...asked.buckets.map((bucket, at) => [bucket, ...asked.series.map(({ values }) => cell(values[at])), at < 6 ? "yes" : "no"]),
  ]);
});

test("what a spreadsheet would take for a formula is a text in CSV", async ({ page }) => {
  const formula = HOSTILE.find((text) => text.startsWith("="));
  await open(page, `/trends?b=type&f=${encodeURIComponent(JSON.stringify(["type", "eq", formula]))}`);
  const [download] = await Promise.all([page.waitForEvent("download"), tile(page, "trends").getByRole("button", { name: /as CSV$/ }).click()]);
  const [, , head, all] = readFileSync(await download.path()).toString().split("\r\n");
  expect([head, all]).toEqual([`Time,"'${formula.replaceAll('"', '""')}",Complete`, "in all,1,"]);
  // A name that turns what follows stands in a file without what keeps it apart on the page.
  const turning = HOSTILE.find((text) => text.startsWith("\u202e"));
  await open(page, `/trends?b=type&b=country&f=${encodeURIComponent(JSON.stringify(["type", "eq", turning]))}`);
  const [other] = await Promise.all([page.waitForEvent("download"), tile(page, "trends").getByRole("button", { name: /as CSV$/ }).click()]);
  expect(readFileSync(await other.path()).toString().split("\r\n")[2]).toMatch(/^Time,gnp\.exe · [^,]+,Complete$/);
});

test("what is drawn as a page is a picture too: a funnel, a grid, a list, a tile of a board", async ({ page }) => {
  for (const [path, id, parts] of [
    [`/funnel?${STEPS}&b=country`, "funnel", ["product_viewed", "GB", "come to the end"]],
    ["/retention?period=day&from=-5d/d&to=now", "retention", ["Average", ">100%<", "url(#picture-hatch)", 'font-style="italic"']],
    ["/", "sources", ["organic_search"]],
    ["/boards/shop", "tile1", ["come to the end"]],
    ["/health", "ledger", ["received", "stored"]],
    ["/alerts/visitors", "verdicts", ["Few visitors: what it saw"]],
  ]) {
    await open(page, path);
    const [download] = await Promise.all([page.waitForEvent("download"), tile(page, id).getByRole("button", { name: /as SVG$/ }).click()]);
    const svg = readFileSync(await download.path()).toString();
    for (const part of [...parts, /, UTC; (data through|as of)/]) expect(svg, path).toMatch(part);
    // Beside the ground that each picture has.
    expect(svg.match(/<rect/g).length, path).toBeGreaterThan(1);
    expect(await page.locator(".drawn.whole").count()).toBe(0);
  }
});

test("what is clicked is filtered by, arrows go through time, and Escape takes filters away", async ({ page }) => {
  await open(page, "/trends?b=country");
  await tile(page, "trends").locator(".legend").getByRole("button", { name: "GB", exact: true }).click();
  await expect(page.locator(".chip")).toHaveText(/country is GB/);
  await settled(page);
  await page.locator("main").focus();
  await page.keyboard.press("ArrowLeft");
  await expect(page).toHaveURL(/from=-13d\/d&to=-6d\/d/);
  const before = await ask("trends", { from: "-13d/d", to: "-6d/d", timezone: "UTC", interval: "day", series: [{ math: "unique_users" }], breakdown: "country", limit: 7, filters: [{ field: "country", op: "eq", value: "GB" }] });
  await settled(page);
  expect((await table(page, "trends"))[0].slice(1)).toEqual(before.series.map((series) => written(series.total)));
  await page.locator("main").focus();
  await page.keyboard.press("ArrowRight");
  await expect(page).toHaveURL(/from=-6d\/d&to=now/);
  await expect(page.getByRole("button", { name: "The time after" })).toBeDisabled();
  // Arrows in the chart move its cursor.
  await tile(page, "trends").getByRole("button", { name: "Table", exact: true }).click();
  await page.getByRole("slider").focus();
  await page.keyboard.press("ArrowLeft");
  await expect(page).toHaveURL(/from=-6d\/d&to=now/);
  await page.keyboard.press("Escape");
  await expect(page.locator(".tip")).toHaveCount(0);
  await expect(page.locator(".chip")).toHaveCount(1);
  await page.locator("main").focus();
  await page.keyboard.press("Escape");
  await expect(page.locator(".chip")).toHaveCount(0);
  // A value of an event leads to the events that have it.
  await open(page, "/events?event=order");
  await tile(page, "list").locator("summary").first().click();
  const plan = tile(page, "list").locator(".facts div", { hasText: "plan" }).getByRole("link").first();
  const value = await plan.innerText();
  await plan.click();
  await expect(page.locator(".chip")).toHaveText(new RegExp(`properties.plan is ${value}`));
});

test("a chart stands beside days of one's own, and beside what was before a note", async ({ page }) => {
  await open(page, "/trends");
  await page.getByLabel("Compare with").selectOption("own");
  const form = page.locator(".own-range");
  const day = (back) => new Date(Date.now() - back * 86_400_000).toISOString().slice(0, 10);
  await form.getByLabel("From").fill(day(20));
  await form.getByLabel("To").fill(day(14));
  await form.getByRole("button", { name: "Show" }).click();
  await settled(page);
  const asked = await ask("trends", { ...WEEK, interval: "day", series: [{ math: "unique_users" }], compare: { from: day(20), to: day(13) } });
  expect((await table(page, "trends"))[0].slice(1)).toEqual([asked.series[0].total, asked.compare.series[0].total].map(written));
  // Mondays beside Mondays, which a month before has elsewhere.
  await open(page, "/trends?from=-29d/d&to=now/d&compare=weekdays");
  await expect(page.getByLabel("Compare with")).toHaveValue("weekdays");
  const month = { from: "-29d/d", to: "now/d", timezone: "UTC", interval: "day", series: [{ math: "unique_users" }] };
  const beside = await ask("trends", { ...month, compare: { from: "-64d/d", to: "-35d/d" } });
  expect(beside.compare.buckets.map((bucket) => new Date(bucket).getUTCDay())).toEqual(beside.buckets.map((bucket) => new Date(bucket).getUTCDay()));
  expect((await table(page, "trends"))[0].slice(1)).toEqual([beside.series[0].total, beside.compare.series[0].total].map(written));
  const at = new Date(Date.now() - 3 * 86_400_000).toISOString();
  await with_note({ at, text: "Release 9.9", kind: "release" }, async () => {
    await open(page, "/trends");
    await page.getByLabel("Compare with").selectOption({ label: (await page.getByLabel("Compare with").locator("option", { hasText: "Release 9.9" }).innerText()) });
    await expect(page).toHaveURL(new RegExp(`from=${at.slice(0, 16)}.*compare=previous`));
    await settled(page);
    await expect(tile(page, "trends").locator(".summary")).toContainText("beside the same from");
  });
});

test("a line passes every point by less than can be seen, leaves out what lies on its way, and is broken where a number is missing", () => {
  const x = Array.from({ length: 1_000 }, (_, index) => 46 + 1.15 * (index + 0.5));
  const y = (value) => 240 - value / 4;
  const smooth = x.map((_, index) => Math.round(500 + 400 * Math.sin(index / 30)));
  const rough = x.map((_, index) => (index * 7_919) % 900);
  const gaps = rough.map((value, index) => (index % 97 === 0 || index > 990 ? null : value));
  const points = (path) => path.split("M").filter(Boolean).map((part) => part.split("L").map((point) => point.split(",").map(Number)));
  for (const [values, most] of [[smooth, 300], [rough, 1_000], [gaps, 1_000], [x.map(() => 0), 2], [[null, 5, null], 1]]) {
    const parts = points(line_path({ values, x, y }));
    expect(parts.flat().length).toBeLessThanOrEqual(most);
    values.forEach((value, index) => {
      const part = parts.find((part) => part[0][0] <= x[index] + 0.05 && part.at(-1)[0] >= x[index] - 0.05);
      if (value === null) return expect(part).toBeUndefined();
      const after = part.findIndex((point) => point[0] >= x[index] - 0.05);
      const [[x1, y1], [x2, y2]] = [part[Math.max(0, after - 1)], part[after]];
      const there = x2 > x1 ? y1 + ((y2 - y1) * (Math.min(x[index], x2) - x1)) / (x2 - x1) : y2;
      // A place is rounded to a tenth of a pixel, on steep lines across too.
      expect(Math.abs(there - y(value))).toBeLessThanOrEqual(0.3 + (0.1 * Math.abs(y2 - y1)) / Math.max(1, x2 - x1));
    });
  }
  expect(area_path({ values: [1, null, 2, 4], x: [0, 1, 2, 3], y: (value) => 4 - value }, 4)).toBe("M0,4L0,3L0,4ZM2,4L2,2L3,0L3,4Z");
  expect(band_path([[1, 2], [1, 3], null], [0, 1, 2], (value) => 4 - value)).toBe("M0,3L1,3L1,1L0,2Z");
});
