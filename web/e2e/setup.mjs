// A board and two alerts that are there before the tests begin.
export default async function setup() {
  const question = { from: "-6d/d", interval: "day", series: [{ name: "Visitors", math: "unique_users" }], compare: "previous" };
  const tiles = [
    { title: "Visitors", report: "trends", question, view: { page: "/trends?from=-6d/d" } },
    { title: "Buying", report: "funnel", question: { from: "-6d/d", steps: ["page", "product_viewed", "order"].map((event) => ({ event })) }, view: { page: "javascript:alert(1)" } },
    { title: "Coming back", report: "retention", question: { from: "-6d/d", period: "day", periods: 5 }, width: 12 },
    { title: "<img src=x onerror=window.hurt=1>", report: "paths", question: { from: "-6d/d" } },
  ];
  await put("/v1/boards/shop", { title: "The shop", tiles });
  const rule = (event) => ({ report: "trends", interval: "day", question: { series: [{ event, math: "unique_users" }] }, condition: { below: 100_000 }, annotations: { description: "Look <b>at it</b>" } });
  await put("/v1/alerts/visitors", { name: "Few visitors", ...rule("page") });
  await put("/v1/alerts/never", rule("no-such-event"));
}

async function put(path, body) {
  const response = await fetch(`${process.env.ADDRESS}${path}`, { method: "PUT", headers: { authorization: `Bearer ${process.env.READ_KEY}` }, body: JSON.stringify(body) });
  if (!response.ok) throw new Error(`${path} was refused: ${await response.text()}`);
}
