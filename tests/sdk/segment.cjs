// What an application does with Segment's SDK for Node.js.
const { Analytics } = require("@segment/analytics-node");

const analytics = new Analytics({ writeKey: process.env.KEY, host: process.env.HOST, maxEventsInBatch: 2, maxRetries: 1 });
analytics.on("error", (problem) => console.error("error", problem));
const order = { messageId: "m-1", userId: "ada", event: "Order Completed", timestamp: new Date(), properties: { total: 12.5, plan: "pro" } };
analytics.track(order);
analytics.track({
  messageId: "m-2", anonymousId: "anon", event: "Order Completed", timestamp: new Date(Date.now() - 60_000),
  context: { page: { url: "https://shop.example/a", title: "A" }, locale: "de-DE" },
});
analytics.identify({ messageId: "m-3", userId: "ada", traits: { team: "blue" } });
analytics.page({ messageId: "m-4", userId: "ada", name: "Home", properties: { url: "https://shop.example/" } });
// The same message again: an SDK that had no answer sends it once more.
analytics.track(order);
analytics.closeAndFlush().then(() => console.log("flushed"));
