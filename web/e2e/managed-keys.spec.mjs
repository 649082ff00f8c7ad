// The keys of the project on the page of settings: for who has its admin key, and for nobody else.
import { ADDRESS, ADMIN_KEY, expect, fits, open, SHOP_ADMIN_KEY, SHOP_KEY, test, tile } from "./screen.mjs";

/** What becomes of an event that is sent with a key, from a page of `origin`. */
async function sent(key, origin) {
  const body = JSON.stringify({ type: "key_tried", anonymousId: "keys", timestamp: new Date().toISOString() });
  const response = await fetch(`${ADDRESS}/v1/events`, { method: "POST", headers: { authorization: `Bearer ${key}`, "content-type": "application/json", origin }, body });
  return response.status;
}

test("keys are made with limits, given another secret and revoked; a secret is shown once, and nothing keeps the admin key", async ({ page, context }) => {
  await context.grantPermissions(["clipboard-read", "clipboard-write"]);
  await open(page, "/settings", SHOP_KEY);
  const keys = tile(page, "keys");
  await expect(keys).toContainText("pulse keys admin shop");
  const enter = async (key) => {
    await keys.getByLabel("Admin key").fill(key);
    await keys.getByRole("button", { name: "Manage keys" }).click();
  };
  // What opens nothing here signs nobody out.
  for (const [key, problem] of [["pulse_ak_none", "the key is not known"], [SHOP_KEY, "only an admin key manages keys"], [ADMIN_KEY, "That is the admin key of “default”, and you are signed in to “shop”."]]) {
    await enter(key);
    await expect(keys.getByRole("alert")).toHaveText(problem);
    await expect(keys.getByLabel("Name", { exact: true })).toHaveCount(0);
  }
  await enter(SHOP_ADMIN_KEY);
  await expect(keys.getByText("None yet but those of the keys file.")).toBeVisible();
  await expect(keys.getByRole("alert")).toHaveCount(0);

  const name = "Web <b>shop</b>";
  await keys.getByLabel("Name", { exact: true }).fill(name);
  await keys.getByLabel("For pages of").fill("shop.example");
  await keys.getByRole("button", { name: "Make the key" }).click();
  await expect(keys.getByRole("alert")).toContainText("origins[0]");
  await keys.getByLabel("For pages of").fill("https://shop.example, https://*.shop.example");
  await keys.getByLabel("and for nothing else than pages").check();
  await keys.getByLabel("On the paths").fill("/v1/events");
  await keys.getByLabel("Events a second, at each instance").fill("1000");
  await keys.getByRole("button", { name: "Make the key" }).click();
  const secret = keys.getByLabel(`The secret of ${name}`);
  await expect(secret).toHaveValue(/^pulse_wk_/);
  const first = await secret.inputValue();
  await keys.getByRole("button", { name: "Copy" }).click();
  await expect(keys.getByRole("status").last()).toHaveText("copied");
  expect(await page.evaluate(() => navigator.clipboard.readText())).toBe(first);
  await expect(keys.getByLabel("Name", { exact: true })).toHaveValue("");
  const listed = keys.locator("[data-key]");
  await expect(listed).toContainText(`${name}write; for pages of https://shop.example, https://*.shop.example alone; on /v1/events; 1,000 events a second; made `);
  expect(await sent(first, "https://shop.example")).toBe(200);
  expect(await sent(first, "https://evil.example")).toBe(403);
  await fits(page, "a secret");

  // Another secret: the one before may go on for a while, or not.
  await keys.getByRole("button", { name: `Another secret for ${name}` }).click();
  await keys.getByLabel("The one before is valid").selectOption({ label: "no longer" });
  await keys.getByRole("button", { name: "Make it" }).click();
  await expect(secret).not.toHaveValue(first);
  const second = await secret.inputValue();
  expect(await sent(first, "https://shop.example")).toBe(401);
  expect(await sent(second, "https://shop.example")).toBe(200);
  await keys.getByRole("button", { name: `Another secret for ${name}` }).click();
  await keys.getByLabel("The one before is valid").selectOption({ label: "for an hour more" });
  await keys.getByRole("button", { name: "Make it" }).click();
  await expect(secret).not.toHaveValue(second);
  await expect(listed).toContainText(/known as write [0-9a-f]{8} until .* and write [0-9a-f]{8}/);
  expect(await sent(second, "https://shop.example")).toBe(200);

  // One thing after the other: what is not done stays open, and it is said.
  let refuse;
  const asked = new Promise((begun) => void page.route("**/v1/keys", (route) => {
    if (route.request().method() !== "POST") return route.fallback();
    refuse = () => route.fulfill({ status: 503, json: { code: "away", message: "not now" } });
    return begun();
  }));
  await keys.getByLabel("Name", { exact: true }).fill("Second");
  await keys.getByRole("button", { name: "Make the key" }).click();
  await asked;
  await keys.getByRole("button", { name: `Another secret for ${name}` }).click();
  await keys.getByRole("button", { name: "Make it" }).click();
  await expect(keys.getByText("What was asked before is still under way")).toBeVisible();
  await expect(keys.getByRole("button", { name: "Make it" })).toBeVisible();
  await refuse();
  await expect(keys.getByRole("alert")).toContainText("not now");
  await expect(keys.getByText("What was asked before is still under way")).toHaveCount(0);
  await keys.getByRole("button", { name: "Cancel" }).click();
  await page.unroute("**/v1/keys");

  // Revoked after a second question, and gone after a third.
  await keys.getByRole("button", { name: `Revoke ${name}` }).click();
  await fits(page, "whether a key is to be revoked");
  await keys.getByRole("button", { name: "Cancel" }).click();
  await keys.getByRole("button", { name: `Revoke ${name}` }).click();
  await keys.getByRole("button", { name: "Revoke it" }).click();
  await expect(listed).toContainText(/revoked \d/);
  await expect(secret).toHaveCount(0);
  expect(await sent(second, "https://shop.example")).toBe(403);
  await keys.getByRole("button", { name: `Delete ${name}` }).click();
  await expect(listed).toHaveCount(0);
  await expect(keys.getByRole("heading", { name: "Keys", exact: true })).toBeFocused();

  const kept = () => page.evaluate(() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie, location.href, history.state]));
  expect(await kept()).not.toContain(SHOP_ADMIN_KEY);
  await page.getByRole("navigation", { name: "Pages" }).getByRole("link", { name: "Health" }).click();
  await page.getByRole("navigation", { name: "Pages" }).getByRole("link", { name: "Settings" }).click();
  await expect(keys.getByLabel("Admin key")).toHaveValue("");
  await expect(keys.getByLabel("Name", { exact: true })).toHaveCount(0);
});
