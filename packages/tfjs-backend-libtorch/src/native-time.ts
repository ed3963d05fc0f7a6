import type { Addon } from "./addon.js";

/**
 * Runs a function and adds up the time that its calls into libtorch take: operators, copies, frees. The rest of its wall
 * time is JavaScript's. (Operators of a CUDA device are only started within their call.)
 *
 * @returns milliseconds in libtorch
 */
export function nativeMilliseconds(addon: Addon, query: () => void): number {
  let total = 0;
  const plain: Partial<Record<string, unknown>> = { ...addon };
  const timed: Partial<Record<string, unknown>> = {};
  for (const [name, member] of Object.entries(plain)) {
    if (typeof member !== "function") continue;
    timed[name] = (...values: unknown[]): unknown => {
      const start = performance.now();
      try {
        return member(...values);
      } finally {
        total += performance.now() - start;
      }
    };
  }
  Object.assign(addon, timed);
  try {
    query();
  } finally {
    Object.assign(addon, plain);
  }
  return total;
}
