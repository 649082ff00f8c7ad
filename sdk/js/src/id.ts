let last = 0;

/** A UUID of version 7: ids sort by the time at which they were made, those made here within one millisecond as well. */
export function newId(): string {
  last = Math.max(last + 1, Date.now());
  const time = last.toString(16).padStart(12, "0").replace(/.{8}/, "$&-");
  // The first two bits of 8 stay, and none of 0.
  const random = "000-8000-000000000000".replace(/\d/g, (digit: any) =>
    (digit ^ (crypto.getRandomValues(new Uint8Array(1))[0]! & (15 >> (digit / 4)))).toString(16),
  );
  return `${time}-7${random}`;
}
