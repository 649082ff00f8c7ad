// Alerts: from a chart to a rule that was tried, which fires, and what can be said to it.
import { readFileSync } from "node:fs";
import { ADDRESS, expect, fits, KEY, open, settled, test, tile } from "./screen.mjs";

const headers = { authorization: `Bearer ${KEY}` };
const api = async (path, init) => (await fetch(`${ADDRESS}${path}`, { headers, ...init })).json();
const drafted = (page) => JSON.parse(new URL(page.url()).searchParams.get("rule") ?? "{}");

/** Has a page know these channels alone, whatever other tests save beside it. */
const with_channels = (page, ids) =>
  page.route("**/v1/channels", (route) => route.fulfill({ json: { channels: ids.map((id) => ({ id, kind: "webhook", of: "project", of_file: false, heartbeat_s: null, switched_off: false, waiting: 0, failed: null })) } }));

test("two clicks from a chart make a rule that tells the one channel there is", async ({ page }) => {
  await api("/v1/channels/ops", { method: "PUT", body: JSON.stringify({ kind: "webhook", url: "https://hooks.example/pulse" }) });
  await with_channels(page, ["ops"]);
  await open(page, `/trends?s={"event":"signup"}`);
  await tile(page, "trends").getByRole("link", { name: /^An alert on/ }).click();
  // The one and the other are found at once, and neither undoes the other.
  await expect.poll(() => [drafted(page).channels, Object.keys(drafted(page).condition ?? {}).length]).toEqual([["ops"], 1]);
  await page.getByRole("button", { name: "Save", exact: true }).click();
  await expect(page.getByRole("button", { name: "Delete this rule" })).toBeVisible();
  expect((await api(`/v1${new URL(page.url()).pathname}`)).rule.channels).toEqual(["ops"]);
  await page.getByRole("button", { name: "Delete this rule" }).click();
  await expect(tile(page, "rules")).toBeVisible();
  // Which of two is not for the page to say.
  await page.unroute("**/v1/channels");
  await with_channels(page, ["ops", "own"]);
  await open(page, "/alerts");
  await page.getByRole("link", { name: "New alert" }).click();
  await expect(page.getByText("Nobody is told: choose a channel.")).toBeVisible();
  expect(drafted(page).channels).toBeUndefined();
});

test("a rule about pulse itself begins with a threshold of its own, from the list and from the page of its health", async ({ page }) => {
  await with_channels(page, []);
  await open(page, "/alerts");
  await page.getByRole("link", { name: "New alert" }).click();
  await expect(page.locator("[data-fired]")).toBeVisible();
  // What was found for events is no threshold of seconds.
  await expect.poll(() => drafted(page).condition).toBeTruthy();
  await page.getByLabel("Watch").selectOption("lag");
  await expect.poll(() => drafted(page)).toMatchObject({ report: "lag", interval: "minute", reduce: "last", condition: { above: 300 } });
  await expect(page.getByText("It cannot be tried: of the past nothing is known.")).toBeVisible();
  await page.getByLabel("Watch").selectOption("ledger");
  await expect.poll(() => drafted(page)).toMatchObject({ report: "ledger", question: { outcome: "dead" }, condition: { above: 0 } });
  for (const [name, drafts] of [["An alert on Events that cannot be read", { report: "ledger", condition: { above: 0 } }], ["An alert on How far pulse is behind", { report: "lag", condition: { above: 300 } }]]) {
    await open(page, "/health");
    await page.getByRole("link", { name }).click();
    await expect.poll(() => drafted(page)).toMatchObject(drafts);
  }
  await settled(page);
  await page.getByRole("button", { name: "Save", exact: true }).click();
  await expect(page.getByRole("heading", { name: "How far pulse is behind", level: 1 })).toBeVisible();
  expect((await api(`/v1${new URL(page.url()).pathname}`)).rule).toMatchObject({ report: "lag", condition: { above: 300 } });
  await page.getByRole("button", { name: "Delete this rule" }).click();
  await expect(tile(page, "rules")).toBeVisible();
});

test("the hours of a report that others have said are shown and kept", async ({ page }) => {
  const active = { from: "06:00", to: "12:00" };
  await open(page, `/alerts?rule=${encodeURIComponent(JSON.stringify({ name: "Early", report: "board", question: { board: "shop" }, interval: "day", report_at: "09:00", active }))}`);
  const hours = page.getByRole("group", { name: "When they are told" });
  await expect(hours.getByLabel("From", { exact: true })).toHaveValue("06:00");
  await page.getByLabel("At", { exact: true }).fill("07:30");
  await expect.poll(() => drafted(page)).toMatchObject({ report_at: "07:30", active });
  await hours.getByLabel("Tell them").selectOption("always");
  await expect(hours).toHaveCount(0);
  await expect.poll(() => drafted(page).active).toBeNull();
});

test("a rule by the minute is tried on a month where that is asked for", async ({ page }) => {
  const rule = { report: "trends", interval: "minute", question: { series: [{ event: "page" }] }, condition: { above: 3 } };
  await open(page, `/alerts?rule=${encodeURIComponent(JSON.stringify(rule))}`);
  await expect(tile(page, "trial").locator("p.summary")).toContainText(/in the last 3 days: 4,3\d\d minutes judged/);
  await tile(page, "trial").getByRole("button", { name: "Try it on 30 days" }).click();
  await expect(tile(page, "trial").locator("p.summary")).toContainText(/in the last 30 days: 43,[12]\d\d minutes judged.* The newest 4,500 ones are drawn/);
  const { fired } = await api("/v1/alerts/draft/test", { method: "POST", body: JSON.stringify({ rule, from: "-30d" }) });
  await expect(page.locator("[data-fired]")).toHaveAttribute("data-fired", String(fired));
});

test("a board is sent by the clock: a report is made from it, changed and deleted, and made from the page of alerts", async ({ page }) => {
  const title = "The <b>morning</b>";
  const question = { from: "-6d/d", interval: "day", series: [{ math: "unique_users" }] };
  await api("/v1/boards/morning", { method: "PUT", body: JSON.stringify({ title, tiles: [{ title: "Visitors", report: "trends", question }] }) });
  await api("/v1/channels/mail", { method: "PUT", body: JSON.stringify({ kind: "webhook", url: "https://hooks.example/pulse" }) });
  await with_channels(page, ["mail"]);
  await open(page, "/boards/morning");
  await page.getByRole("button", { name: "Send", exact: true }).click();
  const dialog = page.getByRole("dialog", { name: "Send this board" });
  await expect(dialog).toContainText("Nobody is sent this board yet.");
  await fits(page, "send");
  await dialog.getByRole("link", { name: "A new report" }).click();
  await expect(page.getByRole("heading", { name: "A new report", level: 1 })).toBeVisible();
  await expect.poll(() => drafted(page)).toMatchObject({ name: title, report: "board", question: { board: "morning" }, interval: "day", report_at: "09:00", timezone: "UTC", channels: ["mail"] });
  // It has no threshold and nothing that could be tried.
  await expect(page.getByLabel("It is wrong")).toHaveCount(0);
  await expect(tile(page, "trial")).toHaveCount(0);
  await expect(page.getByRole("group", { name: "When it is sent" }).locator("label.check")).toHaveText(["mon", "tue", "wed", "thu", "fri", "sat", "sun"]);
  await page.getByLabel("sat", { exact: true }).uncheck();
  await page.getByLabel("sun", { exact: true }).uncheck();
  await page.getByLabel("At", { exact: true }).fill("07:30");
  await page.getByRole("combobox", { name: "Zone", exact: true }).focus();
  await page.getByRole("combobox", { name: "Zone", exact: true }).selectOption("Europe/Berlin");
  await expect(page.getByText("Sent each Monday, Tuesday, Wednesday, Thursday, Friday at 07:30 Europe/Berlin: the numbers of the day that is over then")).toBeVisible();
  // All day long, so that one that waits for its data is not left out.
  await expect.poll(() => drafted(page).active).toEqual({ days: ["mon", "tue", "wed", "thu", "fri"], from: "07:30", to: "07:29" });
  await fits(page, "a report in the making");
  await page.getByRole("button", { name: "Save", exact: true }).click();
  await expect(page.getByRole("heading", { name: title, level: 1 })).toBeVisible();
  const path = "/v1/alerts/the-b-morning-b";
  expect((await api(path)).rule).toMatchObject({ report_at: "07:30", timezone: "Europe/Berlin", interval: "day", active: { from: "07:30" }, channels: ["mail"] });
  await expect(tile(page, "verdicts")).toHaveCount(0);
  await settled(page);
  await fits(page, "a report");
  await page.getByRole("button", { name: "Change", exact: true }).click();
  await page.getByRole("combobox", { name: "Each", exact: true }).selectOption("week");
  await expect(page.getByLabel("mon", { exact: true })).toHaveCount(0);
  await page.getByRole("button", { name: "Save", exact: true }).click();
  await expect(page.getByText("the board morning, sent each Monday at 07:30 Europe/Berlin")).toBeVisible();
  const { active, interval } = (await api(path)).rule;
  expect([interval, active ?? null]).toEqual(["week", null]);
  await page.getByRole("link", { name: "Its board" }).click();
  await page.getByRole("button", { name: "Send", exact: true }).click();
  await expect(dialog.locator("[data-report]")).toContainText("each Monday at 07:30 Europe/Berlin, to mail");
  await dialog.getByRole("button", { name: `Delete the report ${title}` }).click();
  await expect(dialog.locator("[data-report]")).toHaveCount(0);
  await open(page, "/alerts");
  await page.getByRole("link", { name: "New report" }).click();
  await page.getByRole("combobox", { name: "Board", exact: true }).selectOption("morning");
  await expect(page.getByLabel("Name", { exact: true })).toHaveValue(title);
  await expect.poll(() => drafted(page).channels).toEqual(["mail"]);
  await page.getByRole("button", { name: "Save", exact: true }).click();
  await expect(page.getByRole("heading", { name: title, level: 1 })).toBeVisible();
  await open(page, "/alerts");
  await expect(tile(page, "reports").locator('[data-alert="the-b-morning-b"]')).toContainText("sent each day at 09:00 UTC, to mail");
  await expect(tile(page, "rules").locator('[data-alert="the-b-morning-b"]')).toHaveCount(0);
  await tile(page, "reports").getByRole("link", { name: title }).click();
  await page.getByRole("button", { name: "Delete this report" }).click();
  await expect(tile(page, "reports").locator('[data-alert="the-b-morning-b"]')).toHaveCount(0);
});

test("a chart becomes a rule that is tried, moved by mouse and keys, saved and changed", async ({ page }) => {
  await with_channels(page, []);
  await open(page, `/trends?s={"event":"page"}`);
  await tile(page, "trends").getByRole("link", { name: /^An alert on/ }).click();
  await expect(page.locator("[data-fired]")).toBeVisible();
  // A threshold was found that fits; it goes by keys…
  await expect.poll(() => drafted(page).condition?.below).toBeGreaterThan(0);
  const first = drafted(page);
  expect(first).toMatchObject({ report: "trends", interval: "day", question: { series: [{ event: "page" }] } });
  const handle = page.getByRole("slider", { name: "below", exact: true });
  await handle.focus();
  await page.keyboard.press("ArrowUp");
  await expect.poll(() => drafted(page).condition.below).toBeGreaterThan(first.condition.below);
  // …and by the mouse, above all numbers.
  const moved = drafted(page).condition.below;
  const place = await handle.boundingBox();
  await page.mouse.move(place.x + 10, place.y + place.height / 2);
  await page.mouse.down();
  await page.mouse.move(place.x + 10, place.y - 40, { steps: 3 });
  await page.mouse.up();
  await expect.poll(() => drafted(page).condition.below).toBeGreaterThan(moved);
  await page.getByLabel("Threshold", { exact: true }).fill("100000");
  await page.getByLabel("Threshold", { exact: true }).press("Tab");
  await expect.poll(() => drafted(page).condition.below).toBe(100000);
  // Where it is right again moves along, and does not vanish unseen.
  await page.getByLabel("Right again at or above").fill("100300");
  await page.getByLabel("Right again at or above").press("Tab");
  await expect.poll(() => drafted(page).resolve).toBe(100300);
  await handle.focus();
  await page.keyboard.press("ArrowUp");
  await expect.poll(() => drafted(page).condition.below).toBeGreaterThan(100000);
  expect(drafted(page).resolve - drafted(page).condition.below).toBeCloseTo(300);
  await page.getByLabel("It is wrong").selectOption("above");
  await expect(page.getByText("has to be said anew")).toBeVisible();
  await page.getByLabel("It is wrong").selectOption("below");
  await page.getByLabel("Threshold", { exact: true }).fill("100000");
  await page.getByLabel("Threshold", { exact: true }).press("Tab");
  await expect.poll(() => drafted(page).condition.below).toBe(100000);
  // Hours and days in which channels are told.
  await page.getByLabel("Tell them").selectOption("hours");
  await page.getByLabel("sun", { exact: true }).uncheck();
  await page.getByLabel("switched off").check();
  await expect.poll(() => drafted(page)).toMatchObject({ disabled: true, active: { from: "09:00", to: "18:00", days: ["mon", "tue", "wed", "thu", "fri", "sat"] } });
  await page.getByLabel("switched off").uncheck();
  await settled(page);
  const { fired } = await api("/v1/alerts/draft/test", { method: "POST", body: JSON.stringify({ rule: drafted(page), from: "-90d" }) });
  expect(fired).toBe(1);
  await expect(page.locator("[data-fired]")).toHaveAttribute("data-fired", "1");
  await page.reload();
  await expect(page.locator("[data-fired]")).toHaveAttribute("data-fired", "1");
  await page.getByLabel("Name", { exact: true }).fill("Few <b>pages</b>");
  await page.getByLabel("Name", { exact: true }).press("Tab");
  await page.getByRole("button", { name: "Save", exact: true }).click();
  await expect(page.getByRole("heading", { name: "Few <b>pages</b>", level: 1 })).toBeVisible();
  // Somebody else changes it meanwhile.
  await page.getByRole("button", { name: "Change", exact: true }).click();
  await settled(page);
  await api("/v1/alerts/few-b-pages-b", { method: "PUT", body: JSON.stringify({ ...drafted(page), name: "Other" }) });
  await page.getByLabel("For so many days").fill("2");
  await page.getByLabel("For so many days").press("Tab");
  await page.goBack();
  await expect(page.getByLabel("For so many days")).toHaveValue("1");
  // Also once the page, which asks again and again, knows of it: what is saved is made from the rule that was opened.
  await page.waitForResponse(async (response) => response.url().endsWith("/v1/alerts/few-b-pages-b") && (await response.json()).name === "Other");
  await page.getByRole("button", { name: "Save", exact: true }).click();
  await expect(page.getByRole("alert")).toContainText("nothing is saved");
  expect((await api("/v1/alerts/few-b-pages-b")).rule.name).toBe("Other");
  await page.getByRole("link", { name: "Cancel" }).click();
  await expect(page.getByRole("heading", { name: "Other", level: 1 })).toBeVisible();
  await page.getByRole("button", { name: "Delete this rule" }).click();
  await expect(tile(page, "rules").locator('[data-alert="few-b-pages-b"]')).toHaveCount(0);
});

test("an alert opens in its own zone, whatever zone the address or the project has", async ({ page }) => {
  const path = "/v1/alerts/tokyo";
  await api(path, { method: "PUT", body: JSON.stringify({ name: "Tokyo", report: "trends", interval: "day", timezone: "Asia/Tokyo", question: { series: [{ event: "page" }] }, condition: { below: 100_000 } }) });
  try {
    await expect.poll(async () => (await api(`${path}/history`)).history.length).toBeGreaterThan(0);
    const { history: [{ slot }] } = await api(`${path}/history`);
    for (const address of ["/alerts/tokyo", "/alerts/tokyo?tz=America/New_York", `/alerts/tokyo?slot=${encodeURIComponent(slot)}&timezone=Asia%2FTokyo`]) {
      await open(page, address);
      await expect(tile(page, "watched").locator(".plot .zone"), address).toHaveText("Asia/Tokyo");
      await expect(tile(page, "verdicts").locator(".plot .zone"), address).toHaveText("Asia/Tokyo");
      const day = new Intl.DateTimeFormat("en-GB", { timeZone: "Asia/Tokyo", weekday: "short", day: "numeric", month: "short", year: "numeric" }).format(new Date(slot));
      await expect(tile(page, "history").locator("time").first(), address).toHaveText(day);
    }
  } finally {
    await api(path, { method: "DELETE" });
  }
});

test("each draft is saved in the place of the rule that it was made from: of one's own last save, and none of the history", async ({ page }) => {
  await with_channels(page, []);
  const path = "/v1/alerts/twice";
  await api(path, { method: "PUT", body: JSON.stringify({ name: "Twice", report: "trends", interval: "day", question: { series: [{ event: "page" }] }, condition: { below: 1 } }) });
  await open(page, "/alerts/twice");
  const change = page.getByRole("button", { name: "Change", exact: true });
  const save_as = async (severity) => {
    await change.click();
    await page.getByLabel("Severity").selectOption(severity);
    await page.getByRole("button", { name: "Save", exact: true }).click();
    await expect(change).toBeVisible();
    expect((await api(path)).rule.severity).toBe(severity);
  };
  await save_as("critical");
  await save_as("info");
  // From the third draft to the first one, at once: each time there was what was opened, what was changed and what was saved.
  await change.click();
  await expect(page.getByLabel("Severity")).toHaveValue("info");
  await page.evaluate(() => history.go(-6));
  await expect(page.getByLabel("Severity")).toHaveValue("warning");
  await page.getByRole("button", { name: "Save", exact: true }).click();
  await expect(page.getByRole("alert")).toContainText("nothing is saved");
  expect((await api(path)).rule.severity).toBe("info");
  await api(path, { method: "DELETE" });
});

test("an alert says what it saw and did, shows its people, and is acknowledged and silenced", async ({ page }) => {
  await open(page, "/alerts/visitors");
  await expect(page.locator("[data-state]")).toHaveAttribute("data-state", "firing");
  await expect(tile(page, "history").locator('[data-event="change"]').first()).toContainText("fires");
  await tile(page, "verdicts").getByRole("button", { name: "Table", exact: true }).click();
  await expect(tile(page, "verdicts").locator("tbody tr").last()).toContainText("wrong");
  await expect(page).toHaveURL(/table=verdicts/);
  const [download] = await Promise.all([page.waitForEvent("download"), tile(page, "verdicts").getByRole("button", { name: /as CSV$/ }).click()]);
  expect(readFileSync(await download.path()).toString()).toMatch(/^# Few visitors: what it saw\r\n"?# .*, UTC; as of .*\r\nTime,Line,Number,Verdict,Why\r\n/);
  await tile(page, "verdicts").getByRole("button", { name: "Table", exact: true }).click();
  // The slot that a notice leads to, with what is watched around it.
  const fired = await tile(page, "episodes").locator("[data-episode]").first().getAttribute("data-episode");
  await tile(page, "episodes").getByRole("link").first().click();
  await expect(page).toHaveURL(new RegExp(`slot=${fired}`));
  const seen = tile(page, "verdicts").getByRole("slider");
  await seen.focus();
  await expect(seen).toHaveAttribute("aria-valuetext", /this is the slot that was opened/);
  await tile(page, "watched").getByRole("button", { name: /How .* was asked/ }).click();
  const from = new Date(Date.parse(fired) - 15 * 86_400_000).toISOString().slice(0, 10);
  await expect(tile(page, "watched").getByLabel("The question")).toContainText(`"from": "${from}"`);
  // One that late events have changed says so; what is older is there too.
  const slots = Array.from({ length: 200 }, (_, at) => ({ slot: new Date(Date.parse(fired) - at * 86_400_000).toISOString().replace(".000Z", "Z"), seen: { "": { value: 7, verdict: "right" } } }));
  const revision = { event: "revision", slot: fired, at: fired, line: "", was: { value: 7, verdict: "wrong" }, is: { value: 9, verdict: "right" } };
  const waited = [{ event: "missed", slots: 12 }, { event: "judging", waited_s: 840 }, { event: "delayed" }].map((one) => ({ ...one, slot: fired, at: fired }));
  await page.route("**/v1/alerts/visitors/history**", (route) => {
    const page_of = route.request().url().includes("before") ? { slots: slots.slice(0, 3), next: {} } : { slots, next: { slots: slots[199].slot } };
    return route.fulfill({ json: { ...page_of, history: [revision, ...waited] } });
  });
  await tile(page, "verdicts").getByRole("button", { name: "Up to now" }).click();
  await expect(seen).toHaveAttribute("aria-valuetext", /judged again: events that came late: 7 was 9 in truth/);
  await expect(tile(page, "history").locator("li > span")).toHaveText([/was 9 in truth/, "12 slots from here on were too many to be judged", "judged again after 14 min", "cannot be judged: data is missing"]);
  await tile(page, "verdicts").getByRole("button", { name: "Earlier" }).click();
  await expect(page).toHaveURL(new RegExp(`before=${slots[199].slot}`));
  await expect(seen).toHaveAttribute("aria-valuemax", "2");
  await page.unroute("**/v1/alerts/visitors/history**");
  await tile(page, "verdicts").getByRole("button", { name: "Up to now" }).click();
  await page.getByLabel("Who is at it").fill("Ada");
  await page.getByLabel("Note", { exact: true }).fill("it is the <i>test</i>");
  await page.getByRole("button", { name: "I am at it" }).click();
  await expect(page.getByText("At it: Ada")).toContainText("it is the <i>test</i>");
  // Who has said until when is at it until then.
  const until = (hours) => api("/v1/alerts/visitors/ack", { method: "POST", body: JSON.stringify({ by: "Bob", until: new Date(Date.now() + hours * 3_600_000).toISOString() }) });
  await until(1);
  await expect(page.getByText(/^At it until .*: Bob/)).toBeVisible();
  await until(-1);
  await expect(page.getByRole("button", { name: "I am at it" })).toBeVisible();
  // The same can be said here.
  const said_until = async () => (await api("/v1/alerts/visitors")).ack.until;
  await page.getByLabel("Until when").selectOption({ label: "for an hour" });
  const now = Date.now();
  await page.getByRole("button", { name: "I am at it" }).click();
  await expect(page.getByText(/^At it until .* UTC: /)).toBeVisible();
  expect(await said_until()).toBeGreaterThanOrEqual(now + 3_600_000);
  await until(-1);
  await page.getByLabel("Until when").selectOption({ label: "until tomorrow 09:00 UTC" });
  await page.getByRole("button", { name: "I am at it" }).click();
  await expect(page.getByText(/^At it until .*, 09:00:00 UTC: /)).toBeVisible();
  const left = (await said_until()) - Date.now();
  expect(left > 0 && left < 2 * 86_400_000).toBe(true);
  await open(page, "/alerts");
  await expect(tile(page, "rules").locator('[data-alert="visitors"]')).toContainText(/is at it until .*, 09:00:00/);
  await open(page, "/alerts/visitors");
  await page.getByLabel("For how long").selectOption({ label: "a day" });
  await page.getByRole("button", { name: "Silence" }).click();
  await expect(page.getByText(/^Nobody is told until/)).toBeVisible();
  await page.getByRole("button", { name: "Tell again" }).click();
  await expect(page.getByLabel("For how long")).toBeVisible();
  await tile(page, "watched").getByRole("button", { name: "Table", exact: true }).click();
  const cell = tile(page, "watched").locator("tbody button").first();
  const number = (await cell.innerText()).trim();
  await cell.click();
  await expect(page.locator("[data-total]")).toHaveText(number);
});

test("an address that is no rule breaks nothing, and what the server thinks of it is said", async ({ page }) => {
  const written = { report: 7, interval: {}, reduce: null, condition: 5, question: { series: ["x", null, { math: 3 }], steps: 1 }, channels: "x", annotations: [] };
  await open(page, `/alerts?rule=${encodeURIComponent(JSON.stringify(written))}`);
  await expect(tile(page, "trial").getByRole("alert")).toBeVisible();
  await expect(page.getByRole("button", { name: "Save", exact: true })).toBeVisible();
});

test("what is unusual is shown beside what was expected", async ({ page }) => {
  const rule = { report: "trends", interval: "hour", reduce: "anomaly", question: { series: [{ event: "page" }] } };
  await open(page, `/alerts?rule=${encodeURIComponent(JSON.stringify(rule))}`);
  const number = page.getByRole("slider", { name: "What was expected: points of the chart" });
  await expect(number).toHaveAttribute("aria-valuetext", /: .* \d+; expected \d.* to \d/);
  await expect(tile(page, "trial").locator("path.usual")).toHaveAttribute("d", /^M/);
  // The same as the history says: what was there, what was expected, and the deviation that the number is.
  const { values } = await api("/v1/alerts/draft/test", { method: "POST", body: JSON.stringify({ rule, from: "-7d" }) });
  const seen = values.at(-1).seen[""];
  expect(seen.reason).toContain(`${seen.expected.value}`);
  expect(seen.value).toBeCloseTo((seen.expected.value - seen.expected.expected) / seen.expected.deviation, 6);
});

test("a rule and a report say by which of their channels nobody is told, because these are gone", async ({ page }) => {
  const put = (path, body) => api(path, { method: "PUT", body: JSON.stringify(body) });
  const channel = { kind: "webhook", url: "https://hooks.example/pulse" };
  const question = { series: [{ event: "page", math: "unique_users" }] };
  await put("/v1/channels/leaving", channel);
  await put("/v1/channels/staying", channel);
  await put("/v1/boards/told", { title: "Told", tiles: [{ title: "Visitors", report: "trends", question: { from: "-6d/d", interval: "day", ...question } }] });
  await put("/v1/alerts/told", { name: "Told", report: "trends", interval: "day", question, condition: { below: 1 }, channels: ["staying", "leaving"] });
  await put("/v1/alerts/told-daily", { name: "Daily", report: "board", question: { board: "told" }, interval: "day", report_at: "09:00", channels: ["leaving"] });
  await open(page, "/alerts");
  const [rule, report] = [tile(page, "rules").locator('[data-alert="told"]'), tile(page, "reports").locator('[data-alert="told-daily"]')];
  await expect(rule).toBeVisible();
  await expect(report).toContainText("to leaving");
  for (const listed of [rule, report]) await expect(listed.locator("[data-missing]")).toHaveCount(0);
  await api("/v1/channels/leaving", { method: "DELETE" });
  await page.reload();
  const said = "Nobody is told by leaving: there is no such channel.";
  for (const listed of [rule, report]) await expect(listed.locator("[data-missing]")).toHaveText(said);
  await fits(page, "rules without a channel");
  await open(page, "/alerts/told");
  await expect(page.getByRole("alert")).toHaveText(said);
  await fits(page, "a rule without a channel");
  // It is said where it can be mended too, until it is.
  await page.getByRole("button", { name: "Change", exact: true }).click();
  const told = page.getByRole("group", { name: "Who is told" });
  await expect(told.locator("[data-missing]")).toHaveText(said);
  await told.getByLabel("leaving").click();
  await expect(told.locator("[data-missing]")).toHaveCount(0);
  await page.getByRole("button", { name: "Save", exact: true }).click();
  await expect(page.getByRole("button", { name: "Delete this rule" })).toBeVisible();
  await expect(page.locator("[data-missing]")).toHaveCount(0);
  await open(page, "/boards/told");
  await page.getByRole("button", { name: "Send", exact: true }).click();
  await expect(page.getByRole("dialog", { name: "Send this board" }).locator("[data-missing]")).toHaveText(said);
});

test("an address that a mail server refuses for good stands beside its channel", async ({ page }) => {
  const failed = { at: "2026-03-01T10:00:00Z", rule: "orders", kind: "no_data", outcome: "partly_delivered", why: "the mail server refuses for good: gone@shop.example", attempts: 1, webhook_id: "a" };
  const mail = { id: "mail", kind: "email", of: "all", of_file: true, heartbeat_s: 0, switched_off: false, waiting: 0, failed };
  await page.route("**/v1/channels", (route) => route.fulfill({ json: { channels: [mail] } }));
  await open(page, "/alerts");
  const said = page.locator('[data-channel="mail"] .warn');
  await expect(said).toContainText("no data of orders: partly delivered, the mail server refuses for good: gone@shop.example");
});

test("rules stand in a list, those that can never match are marked, and channels are added and tried", async ({ page }) => {
  await open(page, "/alerts");
  await expect(tile(page, "rules").locator('[data-alert="never"]')).toContainText("It can never match: no event is called no-such-event");
  await expect(tile(page, "rules").locator('[data-alert="visitors"] .warn')).toHaveCount(0);
  const channels = tile(page, "channels");
  // What needs a secret is of a file, and is not offered.
  await expect(channels.getByLabel("Kind of channel").locator("option")).toHaveText(["webhook", "slack", "alertmanager", "template"]);
  await channels.getByLabel("Id of the channel").fill("own");
  await channels.getByLabel("url").fill("https://127.0.0.1/hook");
  await channels.getByRole("button", { name: "Add" }).click();
  await expect(channels.getByRole("alert")).toContainText("url:");
  await channels.getByLabel("url").fill("https://hooks.example/pulse");
  await channels.getByRole("button", { name: "Add" }).click();
  await expect(channels.locator('[data-channel="own"]')).toContainText("webhook");
  await expect(channels.getByRole("alert")).toHaveCount(0);
  await page.route("**/v1/channels/own/test", (route) => route.fulfill({ json: { id: "own", outcome: "refused", why: "it answers 404" } }));
  await channels.getByRole("button", { name: "Test own" }).click();
  await expect(channels.locator('[data-channel="own"]').getByRole("status")).toHaveText("refused: it answers 404");
  await channels.getByRole("button", { name: "Delete own" }).click();
  await expect(channels.locator('[data-channel="own"]')).toHaveCount(0);
  await page.route("**/v1/channels", (route) => route.fulfill({ json: { channels: [{ id: "pager", kind: "pagerduty", of: "all", of_file: true, heartbeat_s: null, switched_off: false }] } }));
  await page.reload();
  await expect(channels.locator('[data-channel="pager"]')).toContainText("of all projects, of a file");
  await expect(channels.getByRole("button", { name: /^(Test|Delete) pager$/ })).toHaveText(["Test"]);
});
