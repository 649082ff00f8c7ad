// A board that is there before the tests begin.
export default async function setup() {
  const question = { from: "-6d/d", interval: "day", series: [{ name: "Visitors", math: "unique_users" }], compare: "previous" };
  const tiles = [
    { title: "Visitors", report: "trends", question, view: { page: "/trends?from=-6d/d" } },
    { title: "Buying", report: "funnel", question: { from: "-6d/d", steps: ["page", "product_viewed", "order"].map((event) => ({ event })) }, view: { page: "javascript:alert(1)" } },
    { title: "Coming back", report: "retention", question: { from: "-6d/d", period: "day", periods: 5 }, width: 12 },
    { title: "<img src=x onerror=window.hurt=1>", report: "paths", question: { from: "-6d/d" } },
  ];
  const response = await fetch(`${process.env.ADDRESS}/v1/boards/shop`, {
    method: "PUT", headers: { authorization: `Bearer ${process.env.READ_KEY}` }, body: JSON.stringify({ title: "The shop", tiles }),
  });
  if (!response.ok) throw new Error(`the board was refused: ${await response.text()}`);
}
