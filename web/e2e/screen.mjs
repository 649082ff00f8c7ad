// What the tests share: signing in, asking the API what the page must show, and a page that fails a test by any error of its own.
import AxeBuilder from "@axe-core/playwright";
import { test as base, expect } from "@playwright/test";

export { expect };
export const ADDRESS = process.env.ADDRESS;
export const KEY = process.env.READ_KEY;
export const EMPTY_KEY = process.env.EMPTY_READ_KEY;
export const EMPTY_WRITE_KEY = process.env.EMPTY_WRITE_KEY;
/** Of a project in which nothing happens but what one test sends. */
export const LATE_KEY = process.env.LATE_READ_KEY;
export const LATE_WRITE_KEY = process.env.LATE_WRITE_KEY;
/** Of a project whose keys are managed, and what manages those of the first one. */
export const SHOP_KEY = process.env.SHOP_READ_KEY;
export const SHOP_ADMIN_KEY = process.env.SHOP_ADMIN_KEY;
export const ADMIN_KEY = process.env.ADMIN_KEY;

export const STEPS = `step={"event":"page"}&step={"event":"product_viewed"}&step={"event":"order"}`;

/** Every page, with what it needs in its address. */
export const PAGES = [
  "/", "/trends?b=country", `/funnel?${STEPS}&b=country`, "/retention?period=day", "/lifecycle", "/stickiness", "/paths", "/paths?node=page_path", "/sessions", "/people", "/people/user-3",
  "/events", "/events?live=1", "/boards", "/boards/shop", "/alerts", "/alerts/visitors", `/alerts?rule={"name":"Few","report":"trends","interval":"day","question":{"series":[{"event":"page"}]}}`, "/health", "/settings",
];

/** A page in whose console nothing may appear, and whose content may do nothing. */
export const test = base.extend({
  // On a machine that has much else to do Chromium hangs now and then before it has started, which is no fault of a page.
  browser: [async ({ playwright, launchOptions }, use) => {
    let browser;
    for (let attempts = 0; !browser; attempts++) {
      browser = await playwright.chromium.launch({ ...launchOptions, timeout: 60_000 }).catch((problem) => {
        if (attempts === 2) throw problem;
      });
    }
    await use(browser);
    await browser.close();
  }, { scope: "worker", timeout: 240_000 }],
  page: async ({ page }, use) => {
    const problems = [];
    page.on("pageerror", (error) => problems.push(`error: ${error.message}`));
    page.on("console", (message) => {
      const is_answer = /Failed to load resource/.test(message.text());
      if (message.type() === "error" && !is_answer) problems.push(`console: ${message.text()}`);
    });
    // What a link asks of somebody who is in another project, and whether something is to be gone for good; anything else was made by a hostile text.
    const is_ours = (dialog) => dialog.type() === "confirm" && /^(You are signed in to “[a-z]+”\. Change to “[a-z]+”, as this link asks|Delete “[^”]+”|Take “[^”]+” off the board|End the link until [\w ,:]+)\?$/.test(dialog.message());
    page.on("dialog", (dialog) => {
      if (is_ours(dialog)) return dialog.accept();
      problems.push(`dialog: ${dialog.message()}`);
      return dialog.dismiss();
    });
    await use(page);
    expect(problems).toEqual([]);
  },
});

/** Opens a page as the one who holds the key. */
export async function open(page, path, key = KEY) {
  // Also where only what stands behind `#` would change.
  if (page.url() === new URL(path, ADDRESS).href) await page.goto("about:blank");
  // The page waits for no cookie; what a test does next may need it.
  const given = page.waitForResponse((response) => response.url().endsWith("/v1/session") && response.request().method() === "POST");
  await page.goto(`${path}#key=${key}`);
  await given;
  await page.locator("main h1").waitFor();
  await settled(page);
}

/** Waits until every tile has its answer, or an error, and is drawn. */
export async function settled(page) {
  await expect(page.locator(".running")).toHaveCount(0);
  await expect(page.locator('[aria-busy="true"]')).toHaveCount(0);
}

/** Does something as one who does not want it after all when it is asked about. */
export async function unsure(page, act) {
  await page.evaluate(() => {
    const asks = window.confirm;
    window.was_asked = false;
    window.confirm = (question) => {
      window.confirm = asks;
      asks(question);
      window.was_asked = true;
      return false;
    };
  });
  await act();
  await page.waitForFunction(() => window.was_asked);
}

/** Notes that something has happened, for as long as `test` lasts: other tests look at the notes of the project too. */
export async function with_note(note, test) {
  const headers = { authorization: `Bearer ${KEY}` };
  const { id } = await (await fetch(`${ADDRESS}/v1/notes`, { method: "POST", headers, body: JSON.stringify(note) })).json();
  try {
    await test();
  } finally {
    await fetch(`${ADDRESS}/v1/notes/${id}`, { method: "DELETE", headers });
  }
}

/** Makes a board like “The shop” for one test that makes links to it: those of a board are in one list. */
export async function own_board(id) {
  const headers = { authorization: `Bearer ${KEY}` };
  const { title, tiles } = await (await fetch(`${ADDRESS}/v1/boards/shop`, { headers })).json();
  const put = await fetch(`${ADDRESS}/v1/boards/${id}`, { method: "PUT", headers, body: JSON.stringify({ title, tiles }) });
  expect(put.status).toBe(200);
}

/** Goes on by Tab until an element has the focus. */
export async function reach(page, locator) {
  for (let presses = 0; presses < 400; presses++) {
    if (await locator.evaluate((element) => element === document.activeElement)) return;
    await page.keyboard.press("Tab");
  }
  throw new Error("not reached by Tab");
}

/** Narrow and light, and wide and dark. */
export const LOOKS = [["light", 360], ["dark", 1280]];

/** Looks at a page in each of `looks`: nothing scrolls sideways, and axe finds nothing. */
export async function fits(page, what, looks = LOOKS) {
  for (const [theme, width] of looks) {
    await page.emulateMedia({ colorScheme: theme });
    await page.setViewportSize({ width, height: 800 });
    await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
    expect(await page.evaluate(() => document.documentElement.scrollWidth - innerWidth), `${what}, ${width} pixels, scrolls sideways`).toBeLessThanOrEqual(0);
    const { violations } = await new AxeBuilder({ page }).analyze();
    const found = violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => `${node.target} ${node.any[0]?.message ?? ""}`).slice(0, 3).join("; ")}`);
    expect(found, `${what}, ${theme}, ${width} pixels`).toEqual([]);
  }
}

/** The seven days before the last seven, to this time of the day: what pages compare these with. */
export const WEEK_BEFORE = { from: "-13d/d", to: "-7d" };

export async function ask(report, body, key = KEY) {
  const response = await fetch(`${ADDRESS}/v1/query/${report}`, { method: "POST", headers: { authorization: `Bearer ${key}` }, body: JSON.stringify(body) });
  const answer = await response.json();
  if (!response.ok) throw new Error(`${report}: ${JSON.stringify(answer)}`);
  return answer.result;
}

/** The answers to what a page asks, all of them at once: without the lines between them that say how far a question is on a machine that is slow. */
export function answered(route) {
  const { prefer, ...headers } = route.request().headers();
  expect(prefer).toBe("progress");
  return route.fetch({ headers });
}

export function tile(page, id) {
  return page.locator(`[data-tile="${id}"]`);
}

/** The numbers of a tile's table, row by row, as they are shown; without what stands beside them. */
export async function table(page, id) {
  const button = tile(page, id).getByRole("button", { name: "Table", exact: true });
  if ((await button.count()) && (await button.getAttribute("aria-pressed")) === "false") await button.click();
  if (await button.count()) await expect(button).toHaveAttribute("aria-pressed", "true");
  await expect(tile(page, id).locator('[aria-busy="true"]')).toHaveCount(0);
  return tile(page, id).locator("tbody tr").evaluateAll((rows) => rows.map((row) => [...row.cells].map((cell) => (cell.querySelector("button") ?? cell).innerText.trim())));
}

/** A number as the page writes it. */
export function written(value) {
  if (value === null || value === undefined) return "–";
  return Number.isInteger(value) ? new Intl.NumberFormat("en").format(value) : new Intl.NumberFormat("en", { maximumFractionDigits: 2 }).format(value);
}

/** Clicks every one of some numbers, and looks how many people are behind it. */
export async function people_behind(page, buttons, expected) {
  const count = await buttons.count();
  expect(count).toBe(expected.length);
  for (let at = 0; at < count; at++) {
    await buttons.nth(at).click();
    await expect(page.locator("[data-total]"), `number ${at}`).toHaveAttribute("data-total", String(Math.abs(expected[at])));
    await page.keyboard.press("Escape");
    await expect(page.locator("dialog.panel")).toHaveCount(0);
  }
}
