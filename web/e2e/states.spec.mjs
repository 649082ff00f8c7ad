// What a page is like when something is not as ever, for everybody: refused, away, slow, revoked, on paper, beside another tab.
import { ask, EMPTY_KEY, expect, fits, KEY, LOOKS, open, own_board, reach, settled, STEPS, table, test, tile, WEEK_BEFORE, with_note } from "./screen.mjs";

test("a server that has too much to do, is slow or away, and a key that was revoked", async ({ page }) => {
  await open(page, "/trends?b=country");
  const refuse = (status, code, headers = {}) => page.route("**/v1/query", (route) => route.fulfill({ status, headers, json: { code, message: `${code}, said the server` } }));
  await refuse(429, "too_many_queries", { "retry-after": "1" });
  await page.getByLabel("Broken down by", { exact: true }).fill("browser");
  await page.getByLabel("Broken down by", { exact: true }).press("Enter");
  await expect(tile(page, "trends").getByRole("alert")).toContainText("too_many_queries (429)");
  await fits(page, "too many questions");
  // It is asked again by itself.
  await page.unroute("**/v1/query");
  await expect(tile(page, "trends").getByRole("alert")).toHaveCount(0);
  await page.route("**/v1/query", (route) => route.abort());
  await expect(tile(page, "trends").getByRole("alert")).toContainText("The server cannot be reached");
  await fits(page, "away");
  await page.unroute("**/v1/query");
  await expect(tile(page, "trends").getByRole("alert")).toHaveCount(0);
  await page.route("**/v1/query", () => {});
  await page.getByLabel("Broken down by", { exact: true }).fill("os");
  await page.getByLabel("Broken down by", { exact: true }).press("Enter");
  await expect(tile(page, "trends").getByRole("button", { name: "Stop" })).toBeVisible();
  await fits(page, "slow");
  await refuse(401, "unknown_key");
  await tile(page, "trends").getByRole("button", { name: "Stop" }).click();
  await tile(page, "trends").getByRole("button", { name: "Ask again" }).click();
  await expect(page.getByLabel("Read key")).toBeVisible();
  await expect(page.locator("[data-tile]")).toHaveCount(0);
  await fits(page, "signed out");
});

test("dialogs and a shared board", async ({ page, browser }) => {
  await open(page, "/trends?b=country");
  await tile(page, "trends").getByRole("button", { name: /^Keep/ }).click();
  await fits(page, "keep");
  await page.keyboard.press("Escape");
  await page.locator("main").focus();
  await page.keyboard.press("?");
  await expect(page.getByRole("dialog", { name: "Keys" })).toBeVisible();
  await fits(page, "keys");
  await page.keyboard.press("Escape");
  await page.getByLabel("Compare with").selectOption("own");
  await page.locator(".own-range").waitFor();
  await fits(page, "days of one's own");
  await own_board("shown-to-guests");
  await open(page, "/boards/shown-to-guests");
  await page.getByRole("button", { name: "Share", exact: true }).click();
  await page.getByRole("button", { name: "Make a link" }).click();
  const link = await page.getByRole("textbox", { name: "The link" }).inputValue();
  await fits(page, "share");
  await page.getByRole("button", { name: /^End the link/ }).last().waitFor();
  const context = await browser.newContext();
  const guest = await context.newPage();
  await guest.goto(link);
  await settled(guest);
  await fits(guest, "a shared board");
  await context.close();
  await page.getByRole("button", { name: /^End the link/ }).last().click();
  await page.keyboard.press("Escape");
});

test("hostile names, a wall, pages of nothing and an empty project", async ({ page }) => {
  for (const path of ["/?from=-1h&to=now", "/trends?b=type&from=-1h&to=now", "/events?from=-1h&to=now", "/boards/shop?wall=1", "/boards/none", "/people/nobody", "/sessions/none", "/alerts/none", "/health?trace=signup-3", "/trends?b=country&table=trends"]) {
    await open(page, path);
    await fits(page, path);
  }
  // Within the screen: the server knows no such page either.
  await page.evaluate(() => {
    history.pushState(null, "", "/nothing");
    dispatchEvent(new PopStateEvent("popstate"));
  });
  await expect(page.getByRole("heading", { name: "There is no such page" })).toBeVisible();
  await fits(page, "/nothing");
  await open(page, "/?l=none");
  await expect(page.getByRole("heading", { name: "This link leads nowhere" })).toBeVisible();
  await fits(page, "/?l=none");
  await open(page, "/trends");
  await page.route("**/assets/stickiness-*", (route) => route.abort());
  await page.getByRole("navigation", { name: "Pages" }).getByRole("link", { name: "Stickiness" }).click();
  await expect(page.getByRole("heading", { name: "This page cannot be loaded" })).toBeVisible();
  await fits(page, "a page whose script cannot be loaded");
  const empty = ["/trends", `/funnel?${STEPS}`, "/retention", "/lifecycle", "/stickiness", "/paths", "/sessions", "/people", "/events", "/boards", "/alerts", "/health", "/settings"];
  for (const [index, path] of empty.entries()) {
    await open(page, path, EMPTY_KEY);
    await fits(page, `${path} of an empty project`, [LOOKS[index % 2]]);
  }
});

/** Each report with more than one line, and what opens its people where it is drawn. */
const BROKEN_DOWN = [
  [`/funnel?${STEPS}&b=country&compare=previous&without={"event":"cart_added","from":2}&hold=country`, "funnel", "[data-count]"], ["/retention?period=day&from=-3d/d&to=now&periods=4&b=country&compare=previous", "retention", ".heat"],
  ["/lifecycle?from=-3d/d&to=now&b=country&compare=previous", "lifecycle"], ["/stickiness?from=-3d/d&to=now&b=country&compare=previous", "stickiness"], ["/paths?steps=3&limit=3", "paths"], ["/sessions", "sessions"], [`/funnel?${STEPS}`, "trend"],
];

// What they have in common is seen in both looks, by turns.
for (const [index, [path, id, bar]] of BROKEN_DOWN.entries()) {
  test(`the people, the table and the question of ${id}, ${path.split("?")[0]}`, async ({ page }) => {
    const [one, other] = [[LOOKS[index % 2]], [LOOKS[(index + 1) % 2]]];
    await open(page, path);
    await fits(page, `${path}: lines`, one);
    if (bar) {
      await tile(page, id).locator(bar).first().click();
      await page.locator("[data-total]").waitFor();
      await fits(page, `${path}: people`, other);
      await page.keyboard.press("Escape");
    }
    await table(page, id);
    await tile(page, id).getByRole("button", { name: /^How .* was asked$/ }).click();
    await tile(page, id).getByRole("button", { name: "Show the SQL" }).click();
    await tile(page, id).locator("[data-sql]").first().waitFor();
    await fits(page, `${path}: table and question`, other);
    await tile(page, id).locator("td button").first().click();
    await page.locator("[data-total]").waitFor();
    await fits(page, `${path}: people beside a table`, one);
  });
}

test("forms that are open, a board that is changed, tables of the ledger and of what an alert saw", async ({ page }) => {
  await open(page, `/trends?f=["country","eq","GB"]`);
  await page.getByRole("button", { name: "Save as a segment" }).click();
  await fits(page, "a segment in the making");
  await page.getByRole("button", { name: "Cancel" }).click();
  await page.getByRole("button", { name: "+ Filter" }).click();
  await page.getByRole("button", { name: "where…" }).click();
  await fits(page, "filters in the making");
  await own_board("looked-at");
  await open(page, "/boards/looked-at");
  await page.getByRole("button", { name: "Change", exact: true }).click();
  await fits(page, "a board that is changed");
  await tile(page, "tile0").getByRole("button", { name: "How Visitors was asked" }).click();
  await tile(page, "tile0").getByLabel("Beside").selectOption({ label: "Buying" });
  await fits(page, "two questions side by side");
  for (const [path, id] of [["/alerts/visitors?table=verdicts", "verdicts"], ["/health?table=ledger", "ledger"]]) {
    await open(page, path);
    await expect(tile(page, id).getByRole("table")).toBeVisible();
    await fits(page, path);
  }
});

test("who wants no motion sees none", async ({ page }) => {
  await open(page, "/trends");
  await page.route("**/v1/query", () => {});
  await page.getByLabel("Broken down by", { exact: true }).fill("os");
  await page.getByLabel("Broken down by", { exact: true }).press("Enter");
  const moving = () => page.locator(".running .bar").evaluate((bar) => [getComputedStyle(bar, "::after").animationName, document.getAnimations().length]);
  await page.emulateMedia({ reducedMotion: "no-preference" });
  await expect.poll(moving).toEqual(["run", 1]);
  await page.emulateMedia({ reducedMotion: "reduce" });
  await expect.poll(moving).toEqual(["none", 0]);
});

test("two tabs do not disturb each other, and who signs out is out in both", async ({ page, context }) => {
  await open(page, "/trends?b=country");
  const other = await context.newPage();
  await open(other, "/");
  await other.getByRole("button", { name: /^Sessions/ }).click();
  await tile(other, "devices").locator(".rows .name").first().click();
  await expect(other.locator(".chip")).toHaveCount(1);
  expect(new URL(page.url()).search).toBe("?b=country");
  await expect(page.locator(".chip")).toHaveCount(0);
  await other.getByRole("button", { name: "Sign out" }).click();
  await expect(other.getByLabel("Read key")).toBeVisible();
  // The first one hears of it when it asks again.
  await expect(page.getByLabel("Read key")).toBeVisible();
  await other.close();
});

test("a tab whose browser was signed in to another project says so, and asks and writes nothing there", async ({ page, context }) => {
  await open(page, "/alerts");
  // What is written and not saved yet, and a dialog that is open: both are there again once the tab may go on.
  await page.getByLabel("Id of the channel").fill("half-writ");
  await page.keyboard.press("Escape");
  await page.locator("main").focus();
  await page.keyboard.press("?");
  await expect(page.getByRole("dialog", { name: "Keys" })).toBeVisible();
  const before = (await page.locator(".project").innerText()).trim();
  const other = await context.newPage();
  other.on("dialog", (dialog) => dialog.accept());
  const sign_in = async (key, project) => {
    await open(other, "/", key);
    await expect(other.locator(".project")).toHaveText(project);
  };
  await sign_in(EMPTY_KEY, "empty");
  await expect(page.getByRole("alert")).toContainText(`This tab is of ${before}`);
  await page.keyboard.press("Escape");
  await expect(page.getByRole("dialog", { name: "Another project" })).toBeVisible();
  await expect(page.getByRole("dialog")).toHaveCount(1);
  const goes_on = page.waitForResponse("**/v1/alerts");
  await sign_in(KEY, before);
  await goes_on;
  await expect(page.getByRole("dialog", { name: "Keys" })).toBeVisible();
  await page.keyboard.press("Escape");
  await expect(page.getByRole("heading", { name: "Alerts", level: 1 })).toBeVisible();
  await expect(page.getByLabel("Id of the channel")).toHaveValue("half-writ");
  // Where no tab says it, as of two servers of one host, which have one cookie, the server does.
  await page.evaluate(() => addEventListener("storage", (event) => event.stopImmediatePropagation(), { capture: true }));
  await sign_in(EMPTY_KEY, "empty");
  expect(await page.evaluate(async (project) => (await fetch("/v1/boards/of-another-one", { method: "PUT", headers: { "x-pulse-project": project }, body: "{}" })).status, before)).toBe(412);
  await expect(page.getByRole("alert")).toContainText(`This tab is of ${before}`);
  await expect(page.locator(".frame")).toBeHidden();
  await fits(page, "another project");
  await page.getByRole("button", { name: "Show that one" }).click();
  await expect(page.locator(".project")).toHaveText("empty");
  await other.close();
});

test("in a tab that is signed in to another project nothing of the one before is left: no notes and no names", async ({ page }) => {
  const note = { text: "Of the first project", at: new Date(Date.now() - 10 * 3_600_000).toISOString() };
  await with_note(note, async () => {
    await open(page, "/trends");
    const noted = page.getByLabel("Compare with").locator("option", { hasText: note.text });
    const offered = page.locator('datalist option[value="product_viewed"]');
    const open_names = () => page.getByLabel("Event 1", { exact: true }).focus();
    await expect(noted).toHaveCount(1);
    await open_names();
    await expect(offered.first()).toBeAttached();
    await page.getByRole("button", { name: "Sign out" }).click();
    await page.getByLabel("Read key").fill(EMPTY_KEY);
    const asked = page.waitForResponse("**/v1/notes*");
    await page.getByRole("button", { name: "Sign in" }).click();
    await expect(page.locator(".project")).toHaveText("empty");
    await expect(noted).toHaveCount(0);
    await asked;
    const names = page.waitForResponse("**/v1/catalogue/events*");
    await open_names();
    await names;
    await expect(offered).toHaveCount(0);
  });
});

test("a note of many words, bars on each other, groups of a funnel, and an hour that comes twice", async ({ page }) => {
  const note = { text: "Prices went up in all countries but two, and so did the mails", at: new Date(Date.now() - 9 * 3_600_000).toISOString() };
  await with_note(note, async () => {
    await open(page, "/");
    await expect(page.getByLabel("Compare with").locator("option", { hasText: "Prices went up" })).toHaveCount(1);
    await fits(page, "a note of many words");
  });
  await open(page, "/trends?as=bars&compare=previous&b=country");
  await expect(tile(page, "trends").locator(".legend li").first()).toBeVisible();
  await expect(tile(page, "trends").locator(".legend")).not.toContainText("before");
  await open(page, `/funnel?${STEPS}&b=country`);
  await expect(tile(page, "funnel").locator(".summary")).toHaveText(/^[^:]+: [\d,]+ of [\d,]+ come to the end.*; \d+ more groups?\.$/);
  await open(page, "/trends?from=2025-10-26&to=2025-10-27&tz=Europe/Berlin&i=hour");
  const hours = (await table(page, "trends")).map(([name]) => name);
  expect([hours.length, new Set(hours).size]).toEqual([26, 26]);
  expect(hours.filter((name) => name.includes("02:00"))).toEqual([expect.stringContaining("GMT+2"), expect.stringContaining("GMT+1")]);
  // Where clocks are set back by half an hour, minutes come twice.
  await open(page, "/trends?from=2026-04-04T14:00:00Z&to=2026-04-04T16:00:00Z&tz=Australia/Lord_Howe&i=minute");
  const minutes = (await table(page, "trends")).map(([name]) => name);
  expect([minutes.length, new Set(minutes).size]).toEqual([121, 121]);
  expect(minutes.filter((name) => name.includes("01:45"))).toEqual([expect.stringContaining("GMT+11"), expect.stringContaining("GMT+10:30")]);
});

test("on paper there are the charts, and no buttons", async ({ page }) => {
  await open(page, `/boards/shop`);
  await page.emulateMedia({ media: "print" });
  for (const hidden of ["header.side", ".tools >> nth=0", ".head button >> nth=0"]) await expect(page.locator(hidden)).toBeHidden();
  await expect(tile(page, "tile0").locator(".plot svg")).toBeVisible();
  await expect(tile(page, "tile1").locator("[data-count]").first()).toBeVisible();
  expect((await page.pdf({ format: "A4" })).length).toBeGreaterThan(20_000);
});

test("every chart reads as a tree: a funnel and its other charts, lines, a grid, ways, bars, the ledger and what an alert saw", async ({ page }) => {
  const trees = [
    [`/funnel?${STEPS}`, "funnel", `
    - region "page → product_viewed → order":
      - heading "page → product_viewed → order" [level=2]
      - paragraph: /come to the end/
      - list:
        - listitem:
          - strong: page
          - button /came to page/
        - listitem:
          - strong: product_viewed
          - button /came to product_viewed/
          - button /stopped before product_viewed/`],
    ["/retention?period=day&from=-3d/d&to=now", "retention", `
    - region "Who comes back":
      - paragraph: /people began/
      - region "Who comes back, by when they began":
        - table:
          - rowgroup:
            - row /Began People 0 1/`],
    [`/funnel?${STEPS}`, "trend", `
    - region "By day of entry":
      - paragraph
      - slider /Share that comes to the end.* points of the chart/`],
    [`/funnel?${STEPS}`, "times", `
    - region "Time to the end":
      - paragraph: /Half take less than/
      - slider /Time to the end.* points of the chart/`],
    ["/trends?b=country", "trends", `
    - region:
      - paragraph
      - slider /points of the chart/
      - list:
        - listitem
        - listitem`],
    ["/sessions", "sessions", `
    - region:
      - paragraph
      - slider /points of the chart/`],
    ["/paths?steps=2&limit=2", "paths", `
    - region:
      - paragraph: /most go from/
      - region "Ways from step to step"`],
    ["/lifecycle?from=-3d/d&to=now", "lifecycle", `
    - region:
      - paragraph: /new/
      - slider /Lifecycle.* points of the chart/
      - list:
        - listitem: new`],
    ["/stickiness", "stickiness", `
    - region:
      - paragraph: /people were active/
      - slider /Stickiness.* points of the chart/`],
    ["/health", "ledger", `
    - region "Where every event went":
      - slider /Events by minute of receipt.* points of the chart/`],
    ["/alerts/visitors", "verdicts", `
    - region "What it saw":
      - slider /What it saw.* points of the chart/`],
  ];
  for (const [path, id, tree] of trees) {
    await open(page, path);
    await expect(tile(page, id), path).toMatchAriaSnapshot(tree);
  }
  // The twin of each is a table whose numbers open their people.
  for (const [path, id, head, row] of [
    ["/lifecycle?from=-3d/d&to=now", "lifecycle", "/Time new returning resurrected dormant/", "button"],
    ["/paths?steps=2&limit=2", "paths", '"At Then Sessions"', "button /The people of these/"],
    ["/sessions", "sessions", "/^Time/", "button /the people behind/"],
  ]) {
    await open(page, `${path}${path.includes("?") ? "&" : "?"}table=${id}`);
    await expect(tile(page, id).getByRole("table"), path).toMatchAriaSnapshot(`
    - table:
      - rowgroup:
        - row ${head}
      - rowgroup:
        - row:
          - cell:
            - ${row}
  `);
  }
});

test("the overview and a funnel by keys alone: tabs, names, filters, ranges, steps and who stopped", async ({ page }) => {
  await open(page, "/");
  const press = async (locator, key = "Enter") => {
    await reach(page, locator);
    await page.keyboard.press(key);
  };
  await press(page.getByRole("button", { name: "The time before" }));
  await expect(page).toHaveURL(/from=-13d\/d/);
  await settled(page);
  await press(tile(page, "places").getByRole("button", { name: "City" }));
  await expect(page).toHaveURL(/places=city/);
  await settled(page);
  await press(tile(page, "devices").locator(".rows .name").first());
  await expect(page.locator(".chip")).toHaveCount(1);
  await press(page.getByRole("button", { name: /^Remove the filter/ }), "Space");
  await expect(page.locator(".chip")).toHaveCount(0);
  await press(tile(page, "events").getByRole("button", { name: "Table", exact: true }));
  await expect(tile(page, "events").getByRole("table")).toBeVisible();

  await open(page, `/funnel?${STEPS}&compare=previous`);
  await reach(page, page.getByRole("button", { name: "where…" }).first());
  await page.keyboard.press("Enter");
  await page.keyboard.press("Shift+Tab");
  await reach(page, page.getByLabel("Field of the filter"));
  await page.keyboard.type("country");
  await reach(page, page.getByLabel("Value of the filter"));
  await page.keyboard.type("GB");
  await press(page.getByRole("button", { name: "Add", exact: true }));
  await expect(page.locator(".builder .chip")).toHaveText(/country is GB/);
  await settled(page);
  const steps = [{ event: "page", filters: [{ field: "country", op: "eq", value: "GB" }] }, { event: "product_viewed" }, { event: "order" }];
  const asked = await ask("funnel", { from: "-6d/d", to: "now", timezone: "UTC", window: "14d", steps, compare: WEEK_BEFORE });
  const lost = tile(page, "funnel").locator("[data-dropped]").first();
  await expect(lost).toHaveAttribute("data-dropped", String(asked.groups[0].steps[1].dropped));
  await press(lost);
  await expect(page.locator("[data-total]")).toHaveAttribute("data-total", String(asked.groups[0].steps[1].dropped));
});
