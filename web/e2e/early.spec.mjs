// What a page asks before its script is there: once, the same that it would ask itself, and nothing hangs on it.
import { ADDRESS, expect, open, settled, test, tile } from "./screen.mjs";

const QUESTIONS = `${ADDRESS}/v1/query`;
const PAGES = ["/", "/?goal=order&show=sessions", "/trends", `/trends?s={"event":"order","math":"sum","property":"total"}&b=country&compare=previous&i=week&tz=Asia/Kathmandu&f=["device_type","neq","mobile"]&bots=1`];

/** Counts the questions that a page sends until its first answer is drawn; what it asks again later is another matter. */
async function count_questions(page) {
  await page.addInitScript(() => {
    window.sent = [];
    const ask = window.fetch;
    window.fetch = (path, init) => {
      if (path === "/v1/query" && !document.querySelector(".drawn")) window.sent.push(init.body);
      return ask(path, init);
    };
  });
}

test("a page asks once, before its script has run", async ({ page }) => {
  await open(page, "/");
  await count_questions(page);
  for (const path of PAGES) {
    let is_asked;
    const asked = new Promise((done) => (is_asked = done));
    // The script comes once the question is on its way: if it waited for the script, neither ever came.
    await page.route("**/assets/screen-*.js", async (route) => {
      await asked;
      await route.continue();
    });
    const request = page.waitForRequest(QUESTIONS);
    await page.goto("about:blank");
    await page.goto(path, { waitUntil: "commit" });
    const headers = await (await request).allHeaders();
    expect([headers.prefer, headers["x-pulse-project"], headers["content-type"]], path).toEqual(["progress", "default", "application/json"]);
    expect(await page.locator("#app > *").count(), path).toBe(0);
    is_asked();
    await expect(page.locator(".drawn").first()).toBeVisible();
    await settled(page);
    expect(await page.evaluate(() => window.sent.length), path).toBe(1);
    await page.unroute("**/assets/screen-*.js");
  }
});

test("what asks early may be away, fail or ask something else: the page asks itself", async ({ page }) => {
  await open(page, "/");
  await count_questions(page);
  const own = JSON.stringify({ queries: [{ id: "trends", report: "trends", from: "-6d/d", to: "now", timezone: "UTC", interval: "day", filters: [], series: [{ name: "any event, people", math: "unique_users" }] }] });
  const shown = async (what, sent) => {
    await page.goto("about:blank");
    await page.goto("/trends", { waitUntil: "commit" });
    await expect(tile(page, "trends").getByRole("slider"), what).toBeVisible();
    expect(await page.evaluate(() => window.sent), what).toEqual(sent);
    await page.unrouteAll();
  };
  await page.route("**/assets/early-*.js", (route) => route.abort());
  await shown("away", [own]);
  await page.route(QUESTIONS, (route) => route.abort(), { times: 1 });
  await shown("kept from its answer", [own, own]);
  await page.route("**/assets/early-*.js", async (route) => {
    await expect(tile(page, "trends").getByRole("slider")).toBeVisible();
    await route.continue();
  });
  const late = page.waitForResponse("**/assets/early-*.js");
  await shown("late", [own]);
  await late;
  await page.waitForLoadState("load");
  expect(await page.evaluate(() => window.pulse_early)).toBe(null);
  for (const [what, body, project] of [["of another question", "{}", "default"], ["of another project", own, "other"]]) {
    const other = `window.pulse_early = { body: ${JSON.stringify(body)}, project: "${project}", answer: new Promise(() => {}), running: (window.other = new AbortController()) };`;
    await page.route("**/assets/early-*.js", (route) => route.fulfill({ contentType: "text/javascript", body: other }));
    await page.route("**/assets/screen-*.js", async (route) => {
      await page.waitForFunction(() => window.other);
      await route.continue();
    });
    await shown(what, [own]);
    expect(await page.evaluate(() => window.other.signal.aborted), what).toBe(true);
  }
});

test("nothing is asked early for nobody, or for the one whom a link may replace", async ({ page }) => {
  await count_questions(page);
  await page.goto("/trends");
  await expect(page.getByLabel("Read key")).toBeVisible();
  expect(await page.evaluate(() => window.sent)).toEqual([]);
  await open(page, "/trends");
  const waits = page.waitForRequest((request) => request.url().endsWith("/v1/session"));
  await page.goto("about:blank");
  await page.goto("/trends#key=pulse_rk_none", { waitUntil: "commit" });
  await waits;
  expect(await page.evaluate(() => window.pulse_early ?? null)).toBe(null);
  await expect(tile(page, "trends").getByRole("slider")).toBeVisible();
  await page.getByRole("button", { name: "Sign out" }).click();
  await expect(page.getByLabel("Read key")).toBeVisible();
  await page.goto("about:blank");
  await page.goto("/");
  await expect(page.getByLabel("Read key")).toBeVisible();
  expect(await page.evaluate(() => window.sent)).toEqual([]);
});
