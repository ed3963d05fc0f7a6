import { type GrowthSchedule, sameShape, shapeOf } from "@espalier/core";

/** The target shape throughout. A run that starts from a smaller checkpoint grows to it before its first step. */
export function scratch(): GrowthSchedule {
  return {
    init: () => null,
    initial: shapeOf,
    plan: (_budget, target) => [{ index: 0, shape: shapeOf(target), at: 0, firstStep: 0 }],
    next(memory, { current, target }) {
      const reached = sameShape(current, target) || current.depth > target.depth;
      return [reached ? null : shapeOf(target), memory];
    },
  };
}
