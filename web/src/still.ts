// Stands in for Preact in what draws nothing (`early.ts`): there, state is a value, and what draws is left out by the build.

export const signal = <T>(value: T) => ({ value, peek() { return this.value; } });
export const computed = <T>(of: () => T) => ({ get value() { return of(); }, peek: of });

const none = undefined;
export {
  none as batch, none as Component, none as createContext, none as Fragment, none as jsx, none as jsxs, none as useContext, none as useEffect, none as useId, none as useLayoutEffect, none as useMemo, none as useRef, none as useState,
};
