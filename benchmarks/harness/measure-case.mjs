// One case: the same model in every process, first compared, then timed in turns.
import { rmSync } from "node:fs";
import { join } from "node:path";
import { executedLayers } from "./cases.mjs";
import { othersBetween, processorTimes } from "./machine.mjs";
import { floorSeconds, flopsOf, stepProducts } from "./products.mjs";
import { median } from "./statistics.mjs";

/** How far losses may lie apart. float32 differs by the order of sums only, bfloat16 by its roundings (2^-8 each). */
export const tolerances = {
  fp32: { loss: 2e-5, trajectory: 2e-4 },
  bf16: { loss: 2e-2, trajectory: 5e-2 },
};
const trajectorySteps = 5;

/** Two processes do not compute the same thing: whatever is timed then compares nothing. */
export class DifferentLossError extends Error {}

/**
 * @param {object} given
 * @param given.measured the case (see cases.mjs)
 * @param given.participants `{ key, name, start() }`, ours first
 * @param given.folder where the case's weights and batches lie
 * @param given.windows how many windows each has
 * @param given.windowSeconds how long one should last
 * @param {(line: string) => void} given.say
 */
export async function measureCase({ measured, participants, folder, windows, windowSeconds, say }) {
  const { model, precision, dropout } = measured;
  const running = [];
  const absent = [];
  try {
    for (const participant of participants) {
      try {
        running.push(await open(participant, measured, folder));
      } catch (error) {
        if (participant.isOurs) throw error;
        absent.push({ key: participant.key, name: participant.name, why: error.message });
        say(`  ${participant.name} is left out: ${error.message}`);
      }
    }
    await compareLosses(running, absent, precision, say);
    for (const each of running) {
      await each.process.ask({ do: "train", steps: 2 });
      const { seconds } = await each.process.ask({ do: "train", steps: 2 });
      each.steps = Math.max(2, Math.min(50, Math.round(windowSeconds / Math.min(...seconds))));
    }
    const order = await takeTurns(running, windows, say);
    const tokens = model.batch * model.sequence;
    const results = running.map((each) => summarize(each, order, tokens));
    const floor = await measureFloor(running, model, precision, say);
    const growth = await measureGrowth(running[0], measured);
    return {
      key: measured.key,
      model: measured.name,
      precision,
      dropout,
      tokens,
      executedLayers: executedLayers(model),
      results,
      absent,
      floor,
      growth,
    };
  } finally {
    await Promise.all(running.map(({ process }) => process.close()));
  }
}

async function open(participant, { model, precision, dropout }, folder) {
  const process = participant.start();
  try {
    const opened = await process.ask({
      do: "open",
      folder,
      batches: join(folder, "batches.json"),
      precision,
      dropout,
      layerLists: model.layerLists ?? null,
      learningRate: 1e-3,
      weightDecay: 0.01,
      clip: 1,
      seed: model.seed,
    });
    return { ...participant, process, version: opened.version, parameters: opened.parameters, windows: [] };
  } catch (error) {
    await process.close();
    throw error;
  }
}

/** The same loss from the same weights, and the same losses over a few steps: else nothing is timed. */
async function compareLosses(running, absent, precision, say) {
  const { loss: lossTolerance, trajectory: trajectoryTolerance } = tolerances[precision];
  const [ours] = running;
  for (const each of [...running]) {
    try {
      each.loss = (await each.process.ask({ do: "loss" })).loss;
      const { losses } = await each.process.ask({ do: "trajectory", steps: trajectorySteps });
      each.trajectory = losses;
    } catch (error) {
      if (each === ours) throw error;
      running.splice(running.indexOf(each), 1);
      await each.process.close();
      absent.push({ key: each.key, name: each.name, why: error.message });
      say(`  ${each.name} is left out: ${error.message}`);
      continue;
    }
    each.lossDifference = Math.abs(each.loss - ours.loss);
    each.trajectoryDifference = Math.max(
      ...each.trajectory.map((loss, step) => Math.abs(loss - ours.trajectory[step])),
    );
    const isClose = each.lossDifference <= lossTolerance && each.trajectoryDifference <= trajectoryTolerance;
    const what = `${each.name}: loss ${each.loss.toFixed(6)}, ${each.lossDifference.toExponential(1)} from ours; over ${trajectorySteps} steps ${each.trajectoryDifference.toExponential(1)}`;
    if (!isClose || each.parameters !== ours.parameters)
      throw new DifferentLossError(
        `${what}; ${each.parameters} parameters, ours has ${ours.parameters}. Allowed are ${lossTolerance} and ${trajectoryTolerance}: nothing is timed`,
      );
    say(`  ${what}`);
  }
}

/** Ours, a peer, ours, the next peer, …, ours: every window of a peer lies between two of ours. */
async function takeTurns(running, windows, say) {
  const [ours, ...others] = running;
  const order = [];
  const turn = async (each) => {
    const before = processorTimes([each.process.pid]);
    const { seconds, peakBytes } = await each.process.ask({ do: "train", steps: each.steps });
    const after = processorTimes([each.process.pid]);
    each.peakBytes = peakBytes;
    const window = { key: each.key, stepSeconds: median(seconds), others: othersBetween(before, after) };
    order.push(window);
    return window.stepSeconds;
  };
  await turn(ours);
  for (let round = 0; round < windows; round++) {
    const said = [];
    for (const other of others) {
      const seconds = await turn(other);
      const our = await turn(ours);
      said.push(`${other.name} ${milliseconds(seconds)}, ours ${milliseconds(our)}`);
    }
    if (others.length === 0) said.push(`ours ${milliseconds(await turn(ours))}`);
    say(`  window ${round + 1} of ${windows}: ${said.join("; ")}`);
  }
  return order;
}

function summarize(each, order, tokens) {
  const own = order.filter(({ key }) => key === each.key);
  const stepSeconds = median(own.map((window) => window.stepSeconds));
  // How many times as fast we are: a window of the peer over the mean of our windows on its two sides.
  const ratios = each.isOurs
    ? null
    : order.flatMap((window, index) => {
        if (window.key !== each.key) return [];
        const around = (order[index - 1].stepSeconds + order[index + 1].stepSeconds) / 2;
        return [window.stepSeconds / around];
      });
  const known = own.flatMap(({ others }) => (others === null ? [] : [others]));
  return {
    key: each.key,
    name: each.name,
    version: each.version,
    tokensPerSecond: tokens / stepSeconds,
    stepSeconds,
    windowSeconds: own.map((window) => window.stepSeconds),
    stepsPerWindow: each.steps,
    ratios,
    ratio: ratios === null ? null : median(ratios),
    peakBytes: each.peakBytes,
    loss: each.loss,
    lossDifference: each.lossDifference,
    trajectoryDifference: each.trajectoryDifference,
    othersCores: known.length === 0 ? null : Math.max(...known.map(({ cores }) => cores)),
    stolenCores: known.length === 0 ? null : Math.max(...known.map(({ stolen }) => stolen)),
  };
}

/** The least that a step can take where its products are as fast as they are alone. After the peak memory is known. */
async function measureFloor(running, model, precision, say) {
  const products = stepProducts(model, precision).map((product) => ({ ...product, seconds: 0.1 }));
  const flops = flopsOf(products);
  const rates = {};
  for (const each of running) {
    const wanted = each.isOurs ? precision === "fp32" : each.key === "hf" || each.key === "manual";
    if (!wanted) continue;
    const { seconds } = await each.process.ask({ do: "products", products });
    const floor = floorSeconds(products, seconds);
    rates[each.key] = { floorSeconds: floor, flopsPerSecond: flops / floor };
  }
  const best = Math.min(...Object.values(rates).map(({ floorSeconds }) => floorSeconds));
  if (!Number.isFinite(best)) return null;
  say(
    `  floor ${milliseconds(best)}: ${(flops / 1e9).toFixed(1)} GFLOP at ${(flops / best / 1e9).toFixed(0)} GFLOP/s`,
  );
  return { flops, seconds: best, rates };
}

async function measureGrowth(ours, { name, dropout }) {
  if (!name.includes("12x256") || name.includes("to") || dropout > 0) return null;
  const { seconds } = await ours.process.ask({ do: "grow", times: 3 });
  return { seconds: median(seconds) };
}

function milliseconds(seconds) {
  return `${(seconds * 1000).toFixed(seconds < 0.1 ? 1 : 0)} ms`;
}

/** Removes a case's folder. */
export function removeCase(folder) {
  rmSync(folder, { recursive: true, force: true });
}
