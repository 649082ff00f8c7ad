// Who cannot see, or has no pointer, or a small screen, in light and dark.
import AxeBuilder from "@axe-core/playwright";
import { ask, EMPTY_KEY, expect, open, PAGES, reach, test, tile, WEEK_BEFORE } from "./screen.mjs";

// Each page is loaded once: what it looks like follows from media and width alone, and so do a few of the rules.
const LOOKS = [["light", 1440], ["dark", 1440], ["dark", 768], ["dark", 360], ["light", 360]];
const OF_LOOKS = ["color-contrast", "link-in-text-block", "scrollable-region-focusable", "target-size"];

for (const half of [0, 1]) {
  test(`no page has a finding of axe or scrolls sideways, light and dark, wide and narrow: ${half ? "every second" : "the others"}`, async ({ page }) => {
    for (const path of PAGES.filter((_, index) => index % 2 === half)) {
      await open(page, path);
      await check(page, path);
      // What events carry is text alone.
      expect(await page.evaluate(() => [window.hurt, document.querySelectorAll("main img, main script, main iframe").length]), path).toEqual([undefined, 0]);
    }
    if (half) {
      await open(page, "/", EMPTY_KEY);
      return check(page, "an empty project");
    }
    await open(page, "/");
    await tile(page, "events").getByRole("button", { name: "Table", exact: true }).click();
    await tile(page, "events").getByRole("button", { name: /How .* was asked/ }).click();
    await tile(page, "events").getByRole("button", { name: "Show the SQL" }).click();
    await expect(tile(page, "events").locator("[data-sql]").first()).toContainText("SELECT");
    await tile(page, "sources").locator(".rows [data-value]").first().click();
    await page.locator("[data-total]").waitFor();
    await check(page, "the people behind a bar");
  });
}

async function check(page, what) {
  for (const [theme, width] of LOOKS) {
    const look = `${what}, ${theme}, ${width} pixels`;
    await page.emulateMedia({ colorScheme: theme });
    await page.setViewportSize({ width, height: 800 });
    // Charts follow the width.
    await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
    expect(await page.evaluate(() => document.documentElement.scrollWidth - innerWidth), `${look} scrolls sideways`).toBeLessThanOrEqual(0);
    expect(await page.evaluate(cut_labels), `${look} cuts labels`).toEqual([]);
    // Between narrow and wide nothing but the width differs.
    if (width === 768) continue;
    const axe = new AxeBuilder({ page });
    const { violations } = await (width === 1440 ? axe : axe.withRules(OF_LOOKS)).analyze();
    const found = violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => `${node.target} ${node.any[0]?.message ?? ""}`).slice(0, 3).join("; ")}`);
    expect(found, look).toEqual([]);
  }
}

/** What is written beyond the edge of its picture. */
function cut_labels() {
  const pictures = [...document.querySelectorAll("main svg")].map((svg) => [svg.getBoundingClientRect(), [...svg.querySelectorAll("text")]]);
  const is_cut = (place, of) => place.left < of.left - 1 || place.right > of.right + 1 || place.top < of.top - 1 || place.bottom > of.bottom + 1;
  return pictures.flatMap(([of, labels]) => labels.filter((label) => is_cut(label.getBoundingClientRect(), of)).map((label) => label.textContent));
}

test("the overview goes by keys alone, and says what it stands on", async ({ page }) => {
  await open(page, "/");
  const { series, buckets } = await ask("trends", { from: "-6d/d", to: "now", timezone: "UTC", interval: "day", series: [{ math: "unique_users" }], compare: WEEK_BEFORE });
  await page.keyboard.press("Tab");
  await expect(page.getByText("To the content")).toBeFocused();
  await page.keyboard.press("Enter");
  await expect(page.locator("main")).toBeFocused();
  // To the second number, and back to the first.
  const measure = (name) => page.getByRole("button", { name: new RegExp(`^${name}`) });
  await reach(page, measure("Sessions"));
  await page.keyboard.press("Enter");
  await expect(measure("Sessions")).toHaveAttribute("aria-pressed", "true");
  await page.keyboard.press("Shift+Tab");
  await page.keyboard.press("Space");
  await expect(measure("Visitors")).toHaveAttribute("aria-pressed", "true");
  const plot = page.getByRole("slider");
  await reach(page, plot);
  await page.keyboard.press("Home");
  for (let index = 0; index < buckets.length; index++) {
    await expect(plot).toHaveAttribute("aria-valuetext", new RegExp(`Visitors ${series[0].values[index]}, Visitors, before \\d+( .not complete.)?$`));
    await page.keyboard.press("ArrowRight");
  }
  await expect(plot).toHaveAttribute("aria-valuetext", /not complete/);
  await page.keyboard.press("Home");
  await page.keyboard.press("ArrowRight");
  await page.keyboard.press("Enter");
  await expect(page.locator("[data-total]")).toHaveText(String(series[0].values[1]));
  await page.keyboard.press("Escape");
  await expect(page.locator("dialog.panel")).toHaveCount(0);
  // Where the one who looks has come from.
  await expect(plot).toBeFocused();
  // Keys for what is done often.
  await page.locator("main").focus();
  await page.keyboard.press("m");
  await expect(page).toHaveURL(/from=-29d\/d/);
  await page.keyboard.press("?");
  await expect(page.getByRole("dialog", { name: "Keys" })).toBeVisible();
  await page.keyboard.press("Escape");
  await expect(page.getByRole("dialog", { name: "Keys" })).toBeHidden();
});

test("a chart reads as a sentence, a slider and a table", async ({ page }) => {
  await open(page, "/");
  await expect(tile(page, "events")).toMatchAriaSnapshot(`
    - region "Visitors":
      - heading "Visitors" [level=2]
      - paragraph: /Visitors:.*in all/
      - slider /Visitors/
      - list
  `);
});
