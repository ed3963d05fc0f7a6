import { type GrowthMap, hashGrowthMap, type ModelShape, shapeOf } from "@espalier/core";
import { applyGrowthMap } from "@espalier/growth";
import { spent } from "./budget.js";
import { checkGrows, configAt, planGrowth } from "./growth-plan.js";
import type { GrowthRecord, TrainingSetup } from "./training-setup.js";
import type { TrainingState } from "./training-state.js";

/**
 * Grows the whole training state, weights with their moments and step counts, and enters the next stage.
 *
 * @returns what took place, the device's time included, and the map by which it did
 * @throws UsageError if the schedule asks for nothing larger, or what the expander throws; the state is unchanged then
 */
export async function grow(
  setup: TrainingSetup,
  state: TrainingState,
  to: ModelShape,
): Promise<{ readonly record: GrowthRecord; readonly map: GrowthMap }> {
  const began = performance.now();
  const from = shapeOf(state.config);
  checkGrows(from, to);
  // Growth before the first step leads from the source's shape to that of the first stage.
  const isEntry = state.step === 0;
  const stage = isEntry ? state.stage : state.stage + 1;
  const map = planGrowth(setup, from, to, stage);
  const { family, random } = setup;
  const config = configAt(state.config, to);
  state.parameters = applyGrowthMap(map, state.parameters, { config, family, random });
  state.config = config;
  state.stage = stage;
  if (!isEntry) state.grownAt = spent(state, setup.budget);
  await waitForDevice(state);
  const record: GrowthRecord = {
    step: state.step,
    stage: state.stage,
    from,
    to: shapeOf(to),
    expander: map.expander,
    layerMap: map.layerMap,
    mapHash: hashGrowthMap(map),
    seconds: (performance.now() - began) / 1000,
  };
  state.growths = [...state.growths, record];
  return { record, map };
}

// Reading one number waits for what was asked of the device before. Growth is rare: this is not on the path of a step.
async function waitForDevice(state: TrainingState): Promise<void> {
  for (const { stepCount } of [...state.parameters.values()].slice(-1)) await stepCount.data();
}
