// What scripts do with Chromium.
const { chromium } = require("playwright-core");

const AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36";

/** A browser that people could have. Run by a script, one says so of itself, and some SDKs take it for a robot. Its agent is said to the whole of
 * it: what a context is told reaches a page that is opened or loaded again a moment too late, now and then. */
exports.launch = () => {
  const args = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-blink-features=AutomationControlled", `--user-agent=${AGENT}`];
  return chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args });
};

/** Closes a browser context; goes on after 30 s where Chromium never says that it is closed, as happens now and then when one of its pages is just
 * going to another address. It is gone all the same. */
exports.close = (context) => Promise.race([context.close(), new Promise((done) => setTimeout(done, 30_000))]);
