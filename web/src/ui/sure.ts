// One more question before something is deleted for good.

/** Whether it is to be deleted: what is gone is in no list of what was. */
export function is_sure(name: string): boolean {
  return confirm(`Delete “${name}”?`);
}
