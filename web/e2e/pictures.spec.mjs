// The pictures of the README: `make pictures` writes them to docs/, any other run only takes them.
import { statSync } from "node:fs";
import { join } from "node:path";
import { expect, open, test } from "./screen.mjs";

const steps = ["page", "product_viewed", "cart_added", "order"].map((event) => `step={"event":"${event}"}`).join("&");

for (const theme of ["light", "dark"]) {
  test(`pictures of the overview and of a funnel, ${theme}`, async ({ page }, info) => {
    await page.emulateMedia({ colorScheme: theme, reducedMotion: "reduce" });
    for (const [name, path, height] of [["overview", "/?from=-29d/d&to=now/d", 900], ["funnel", `/funnel?${steps}&from=-30d/d&to=now/d`, 860]]) {
      await page.setViewportSize({ width: 1280, height });
      await open(page, path);
      const to = join(process.env.PICTURES ?? info.outputPath(), `${name}-${theme}.png`);
      await page.screenshot({ path: to });
      expect(statSync(to).size).toBeGreaterThan(20_000);
    }
  });
}
