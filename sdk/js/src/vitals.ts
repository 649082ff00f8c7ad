/** Core Web Vitals and the two before them, as `web-vitals` defines them, told once: when the page is first hidden. */
export function watchVitals(tell: (vitals: { [name: string]: number }) => void) {
  const vitals: { [name: string]: number } = {};
  const watch = (type: string, see: (entry: any) => void, more?: object) => {
    try {
      new PerformanceObserver((list) => list.getEntries().forEach(see)).observe({ type, buffered: true, ...more } as PerformanceObserverInit);
    } catch {}
  };
  watch("navigation", (entry) => (vitals.ttfb = entry.responseStart));
  watch("paint", (entry) => entry.name === "first-contentful-paint" && (vitals.fcp = entry.startTime));
  watch("largest-contentful-paint", (entry) => (vitals.lcp = entry.startTime));
  // Shifts less than a second apart are one, of five seconds at most; the worst counts.
  let first = 0;
  let last = 0;
  let sum = 0;
  vitals.cls = 0;
  watch("layout-shift", ({ hadRecentInput, startTime, value }) => {
    if (hadRecentInput) return;
    sum = startTime - last < 1_000 && startTime - first < 5_000 ? sum + value : ((first = startTime), value);
    last = startTime;
    vitals.cls = Math.max(vitals.cls!, sum);
  });
  // The longest interaction; of more than fifty, one for each fifty is left out.
  const longest = new Map<number, number>();
  watch("event", ({ interactionId, duration }) => interactionId && longest.set(interactionId, Math.max(duration, longest.get(interactionId) ?? 0)), { durationThreshold: 40 });
  const hidden = () => {
    if (!document.hidden) return;
    removeEventListener("visibilitychange", hidden, true);
    const durations = [...longest.values()].sort((one, other) => other - one);
    const count = (performance as { interactionCount?: number }).interactionCount ?? durations.length;
    if (durations.length) vitals.inp = durations[Math.min(durations.length - 1, Math.floor(count / 50))]!;
    tell(vitals);
  };
  addEventListener("visibilitychange", hidden, true);
}
