// When something is wrong: strings that want to be more than text, a server that is away, slow, or refuses.
import { answered, ask, EMPTY_KEY, EMPTY_WRITE_KEY, expect, fits, LATE_KEY, LATE_WRITE_KEY, open, settled, test, tile } from "./screen.mjs";
import { HOSTILE, send } from "./seed.mjs";

test("what events carry reaches the page as text alone", async ({ page }) => {
  for (const path of ["/trends?b=type", "/trends?b=page_path", "/trends?b=referrer_domain"]) {
    await open(page, path);
    expect(await page.evaluate(() => [window.hurt, document.querySelectorAll("main img, main script, main iframe").length])).toEqual([undefined, 0]);
  }
  await open(page, "/?from=-1h&to=now");
  const names = await tile(page, "actions").locator(".rows .name").allInnerTexts();
  expect(names).toContain(HOSTILE[0]);
  // A name that reads like the word for others is a name.
  await tile(page, "actions").getByRole("button", { name: HOSTILE[0], exact: true }).click();
  await expect(page.locator(".chip")).toContainText(HOSTILE[0]);
  await settled(page);
  await tile(page, "actions").locator(".rows [data-value]").first().click();
  await expect(page.locator("[data-total]")).toHaveText("1");
  expect(await page.evaluate(() => window.hurt)).toBeUndefined();
  // A name that turns what follows turns nothing of the sentence that it stands in.
  const turning = HOSTILE.find((text) => text.startsWith("\u202e"));
  await open(page, `/trends?s=${encodeURIComponent(JSON.stringify({ event: turning }))}`);
  await expect(tile(page, "trends").locator(".summary")).toHaveText(/^\u2068gnp\.exe\u2069: \d+ in all/);
});

test("a server that is away leaves what was known, says so, and is asked again", async ({ page }) => {
  await open(page, "/");
  const visitors = await page.locator('[data-measure="visitors"]').getAttribute("data-value");
  await page.route("**/v1/query", (route) => route.abort());
  await expect(tile(page, "events").getByRole("alert")).toContainText("The server cannot be reached");
  await expect(tile(page, "events").getByRole("alert")).toContainText("Shown is what was known at");
  await expect(page.locator('[data-measure="visitors"]')).toHaveAttribute("data-value", visitors);
  await fits(page, "what was known before the server went away");
  await page.unroute("**/v1/query");
  await expect(tile(page, "events").getByRole("alert")).toHaveCount(0);
});

test("a tile that fails costs itself, and what is stale or late says so", async ({ page }) => {
  let round = 0;
  await page.route("**/v1/query", async (route) => {
    const response = await answered(route);
    const lines = (await response.text()).trim().split("\n").map((line) => {
      const answer = JSON.parse(line);
      if (answer.id === "places") return JSON.stringify({ index: answer.index, id: answer.id, status: 504, error: { code: "timed_out", message: "the question took longer than 30s" } });
      if (answer.id === "events") {
        Object.assign(answer.meta, { stale: true, refresh_after_ms: 500, late: 312 });
        // Late events change a day that is over, and what came in since is not counted for two minutes.
        if (round++) answer.result.series.find(({ name }) => name === "visitors").values[2] += 312;
        answer.meta.computed_at = new Date(Date.parse(answer.meta.computed_at) + 120_000 + round).toISOString();
      }
      return JSON.stringify(answer);
    });
    await route.fulfill({ response, body: `${lines.join("\n")}\n` });
  });
  await open(page, "/");
  await expect(tile(page, "places").getByRole("alert")).toContainText("timed_out (504)");
  await expect(tile(page, "places").getByRole("alert")).toContainText("the question took longer than 30s");
  await expect(tile(page, "devices").locator(".rows li").first()).toBeVisible();
  await expect(tile(page, "events").locator(".health")).toContainText("stale");
  await expect(tile(page, "events").locator(".health")).toContainText("late events since you opened this");
  await expect(page.locator("[data-behind]")).toContainText("what came in since is not counted yet");
  await expect(tile(page, "events").locator(".remark")).toHaveCount(1);
  await fits(page, "what is stale, late and behind");
  await tile(page, "events").getByRole("slider").focus();
  await page.keyboard.press("Home");
  await page.keyboard.press("ArrowRight");
  await page.keyboard.press("ArrowRight");
  await expect(tile(page, "events").getByRole("slider")).toHaveAttribute("aria-valuetext", /late events have changed it since you opened this/);
  await page.getByRole("navigation").getByRole("link", { name: "Settings" }).click();
  await expect(page.locator("[data-behind]")).toBeVisible();
});

test("a tile whose answer cannot be drawn says so, and is drawn with the next one that can be", async ({ page }) => {
  let has_series = false;
  await page.route("**/v1/query", async (route) => {
    const response = await answered(route);
    const { result, meta, ...answer } = JSON.parse(await response.text());
    if (!has_series) delete result.series;
    await route.fulfill({ response, body: `${JSON.stringify({ ...answer, result, meta: { ...meta, refresh_after_ms: 500 } })}\n` });
  });
  await open(page, "/trends");
  await expect(tile(page, "trends").getByRole("alert")).toContainText("This cannot be drawn");
  has_series = true;
  await expect(tile(page, "trends").getByRole("slider")).toBeVisible();
  await expect(tile(page, "trends").getByRole("alert")).toHaveCount(0);
});

test("an event of yesterday that comes while the page is open is told, and marks its day", async ({ page }) => {
  // Long enough ago to be of a day that is over, and of the week that the page shows.
  const timestamp = new Date(Date.now() - 26 * 3_600_000).toISOString();
  const arrive = (anonymousId) => send(process.env.ADDRESS, LATE_WRITE_KEY, [{ type: "page", anonymousId, timestamp, context: { userAgent: "Mozilla/5.0 (X11; Linux x86_64; rv:127.0) Gecko/20100101 Firefox/127.0" } }]);
  await arrive("ada");
  await expect.poll(async () => (await ask("trends", { from: "-6d/d", series: [{}] }, LATE_KEY)).series[0].total).toBe(1);
  await open(page, "/", LATE_KEY);
  await expect(page.locator('[data-measure="visitors"]')).toHaveAttribute("data-value", "1");
  await expect(tile(page, "events").locator(".health")).not.toContainText("late event");
  await arrive("bob");
  await expect(tile(page, "events").locator(".health")).toContainText("+1 late event since you opened this");
  await expect(page.locator('[data-measure="visitors"]')).toHaveAttribute("data-value", "2");
  await expect(tile(page, "events").locator(".remark")).toHaveCount(1);
});

test("a question that takes long shows how long, and can be stopped", async ({ page }) => {
  await page.route("**/v1/query", () => {});
  await page.goto(`/trends#key=${process.env.READ_KEY}`);
  await expect(tile(page, "trends").locator(".running")).toContainText(/[2-9] s/);
  await tile(page, "trends").getByRole("button", { name: "Stop" }).click();
  await expect(tile(page, "trends").getByRole("alert")).toContainText("You stopped this question");
  await page.unroute("**/v1/query");
  await tile(page, "trends").getByRole("button", { name: "Ask again" }).click();
  await expect(tile(page, "trends").getByRole("slider")).toBeVisible();
});

test("a question that takes long says how many rows it has read so far, each its own", async ({ page }) => {
  // As the server says it of large tables: lines before the answers to the same request.
  await page.addInitScript(() => {
    const ask = window.fetch;
    window.fetch = async (path, init) => {
      if (path !== "/v1/query" || window.end) return ask(path, init);
      const { queries } = JSON.parse(init.body);
      const { readable, writable } = new TransformStream();
      const to = writable.getWriter();
      window.say = (id, rows_read) => to.write(new TextEncoder().encode(`${JSON.stringify({ index: queries.findIndex((query) => query.id === id), id, progress: { rows_read } })}\n`));
      window.end = async () => {
        to.releaseLock();
        await (await ask(path, init)).body.pipeTo(writable);
      };
      return new Response(readable);
    };
  });
  await page.goto(`/#key=${process.env.READ_KEY}`);
  const running = (id) => tile(page, id).locator(".running");
  await expect(running("events")).toContainText(/[2-9] s Stop/);
  for (const [rows, words] of [[1, "1 row read so far"], [12_345_678, "12,345,678 rows read so far"]]) {
    await page.evaluate((rows) => window.say("events", rows), rows);
    await expect(running("events")).toContainText(words);
  }
  await expect(running("places")).toContainText(/\d s Stop/);
  await fits(page, "rows read so far");
  await page.evaluate(() => window.end());
  await settled(page);
  const { series } = await ask("trends", { from: "-6d/d", interval: "day", series: [{ math: "unique_users" }] });
  await expect(page.locator('[data-measure="visitors"]')).toHaveAttribute("data-value", String(series[0].total));
});

test("a wrong key is refused, and the right one is taken out of the address", async ({ page }) => {
  await page.goto("/#key=pulse_rk_wrong");
  await expect(page.getByRole("alert")).toBeVisible();
  await page.getByLabel("Read key").fill(process.env.READ_KEY);
  await page.getByRole("button", { name: "Sign in" }).click();
  await expect(page.getByRole("heading", { name: "Overview" })).toBeVisible();
  await open(page, "/trends");
  expect(page.url()).not.toContain("key");
});

test("an empty project says what to do first, and shows the first event arrive", async ({ page }) => {
  await open(page, "/", EMPTY_KEY);
  await expect(page.getByRole("heading", { name: /Nothing has arrived yet/ })).toBeVisible();
  await expect(page.getByLabel("A first event")).toContainText("curl");
  await expect(page.getByText("Waiting for it…")).toBeVisible();
  // An event is counted from the second on in which somebody watches.
  await expect(async () => {
    await send(process.env.ADDRESS, EMPTY_WRITE_KEY, [{ type: "hello", anonymousId: "ada" }]);
    await expect(page.getByRole("status")).toContainText("hello", { timeout: 5_000 });
  }).toPass();
});

test("an event is traced by its id, and a dead letter is read again from the page", async ({ page }) => {
  await open(page, `/health?trace=${encodeURIComponent("signup-3")}`);
  await expect(tile(page, "trace").locator("[data-traced]")).toHaveAttribute("data-traced", "stored");
  await expect(tile(page, "trace").getByRole("status")).toContainText(/Stored: received/);
  await page.getByLabel("Id of the event").fill("no-such-event");
  await page.getByRole("button", { name: "Look" }).click();
  await expect(tile(page, "trace").locator("[data-traced]")).toHaveAttribute("data-traced", "unknown");
  const body = JSON.stringify({ eventId: "nameless-1", type: "", anonymousId: "eve" });
  const sent = await fetch(`${process.env.ADDRESS}/v1/import?run=9&source=screen`, { method: "POST", headers: { authorization: `Bearer ${process.env.READ_KEY}` }, body });
  expect(sent.status).toBe(200);
  await expect(tile(page, "dead")).toContainText("event_invalid");
  await tile(page, "dead").getByRole("button", { name: "Read them again" }).click();
  await expect(page.locator("[data-redriven]")).toHaveText("1 letter read: 0 events made of them, 1 still cannot be read.");
  // Where it is found by its id, too.
  await page.getByLabel("Id of the event").fill("nameless-1");
  await page.getByRole("button", { name: "Look" }).click();
  await expect(tile(page, "trace").locator("[data-traced]")).toHaveAttribute("data-traced", "dead");
  await tile(page, "trace").getByRole("button", { name: "Read all of event_invalid again" }).click();
  await expect(tile(page, "trace").locator("[data-redriven]")).toHaveText("1 letter read: 0 events made of them, 1 still cannot be read.");
});
