/** A UUID of version 7: ids sort by the time at which they were made. */
export function newId(): string {
  const time = Date.now().toString(16).padStart(12, "0");
  const digit = (kind: string) => {
    const random = crypto.getRandomValues(new Uint8Array(1))[0]!;
    return (kind === "y" ? (random & 3) | 8 : random & 15).toString(16);
  };
  return `${time.slice(0, 8)}-${time.slice(8)}-7xxx-yxxx-xxxxxxxxxxxx`.replace(/[xy]/g, digit);
}
