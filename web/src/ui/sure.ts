// One more question before something is gone for good.

/** Whether it is to be deleted: what is gone is in no list of what was. */
export function is_sure(name: string): boolean {
  return is_sure_to(`Delete “${name}”`);
}

/** Whether that is to be done which `words` say. */
export function is_sure_to(words: string): boolean {
  return confirm(`${words}?`);
}
