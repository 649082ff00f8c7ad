// Run by `cargo test --test it screen`, which starts pulse and says where it is.
import { defineConfig } from "@playwright/test";

const found = process.env.CHROMIUM ?? "/usr/bin/chromium";

export default defineConfig({
  testDir: ".",
  testMatch: process.env.SCREEN_BENCH ? "bench.spec.mjs" : "*.spec.mjs",
  testIgnore: process.env.SCREEN_BENCH ? [] : ["bench.spec.mjs"],
  globalSetup: "./setup.mjs",
  // Nothing here is timed: a machine that builds beside the tests is slow.
  timeout: 1_800_000,
  expect: { timeout: 60_000 },
  workers: process.env.SCREEN_BENCH ? 1 : 2,
  fullyParallel: true,
  reporter: [["line"]],
  outputDir: process.env.SCREEN_OUT,
  use: {
    // What waits for something that never comes says so, where the test's own time would end with no word of it.
    actionTimeout: 180_000,
    baseURL: process.env.ADDRESS,
    viewport: { width: 1280, height: 800 },
    locale: "en-GB",
    timezoneId: "America/New_York",
    launchOptions: { executablePath: found, args: ["--no-sandbox", "--disable-dev-shm-usage"] },
    trace: "off",
    screenshot: "off",
  },
});
