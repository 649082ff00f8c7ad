// What an application does with RudderStack's SDK for Node.js, which sends gzip and calls it a form.
const Analytics = require("@rudderstack/rudder-sdk-node").default ?? require("@rudderstack/rudder-sdk-node");

const analytics = new Analytics(process.env.KEY, { dataPlaneUrl: process.env.HOST, flushAt: 20, flushInterval: 100 });
analytics.track({ messageId: "r-1", userId: "ada", event: "Order Completed", properties: { total: 12.5 } });
analytics.identify({ messageId: "r-2", userId: "ada", traits: { team: "blue" } });
analytics.group({ messageId: "r-3", userId: "ada", groupId: "g", traits: { seats: 5 } });
analytics.flush((problem) => {
  if (problem) console.error("error", problem);
  console.log("flushed");
  setTimeout(() => process.exit(0), 500);
});
