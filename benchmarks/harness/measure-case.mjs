// One case: the same model in every process, first compared, then timed in turns.
import { join } from "node:path";
import { executedLayers } from "./cases.mjs";
import { othersBetween, processorTimes } from "./machine.mjs";
import { floorSeconds, flopsOf, stepProducts } from "./products.mjs";
import { fitLine, median } from "./statistics.mjs";

/** How far losses may lie apart. float32 differs by the order of sums only, bfloat16 by its roundings (2^-8 each). */
export const tolerances = {
  fp32: { loss: 2e-5, trajectory: 2e-4 },
  bf16: { loss: 2e-2, trajectory: 5e-2 },
  // The loss itself is rounded to bfloat16 there (to 1/16 at 9), and so are the updates: another training.
  pure: { loss: 1e-1, trajectory: Number.POSITIVE_INFINITY },
};
const trajectorySteps = 5;
// A window in which others, or the hypervisor, had more of a core than this is not counted, where enough others are.
const disturbedCores = 0.15;

/** Two processes do not compute the same thing: whatever is timed then compares nothing. */
export class DifferentLossError extends Error {
  code = "ESPALIER_BENCH_LOSS";
}

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
    const isStandard = model.hidden === 256 && model.layerLists === undefined && dropout === 0;
    const growth = isStandard ? await measureGrowth(running[0]) : null;
    const depths = isStandard ? await measureDepths(running, model, say) : null;
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
      depths,
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
      precision: participant.isPure ? "bf16-pure" : precision,
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
    const allowed = tolerances[each.isPure ? "pure" : precision];
    const isClose = each.lossDifference <= allowed.loss && each.trajectoryDifference <= allowed.trajectory;
    const what = `${each.name}: loss ${each.loss.toFixed(6)}, ${each.lossDifference.toExponential(1)} from ours; over ${trajectorySteps} steps ${each.trajectoryDifference.toExponential(1)}`;
    if (!isClose || each.parameters !== ours.parameters)
      throw new DifferentLossError(
        `${what}; ${each.parameters} parameters, ours has ${ours.parameters}. Allowed are ${allowed.loss} and ${allowed.trajectory}: nothing is timed`,
      );
    say(`  ${what}`);
  }
}

/**
 * Ours, a peer, ours, the next peer, …, ours: every window of a peer lies between two of ours. Rounds in which somebody
 * else used the machine are repeated, up to twice as many as were asked for.
 */
async function takeTurns(running, windows, say) {
  const [ours, ...others] = running;
  const order = [];
  const turn = async (each) => {
    const before = processorTimes([each.process.pid]);
    const { seconds, peakBytes } = await each.process.ask({ do: "train", steps: each.steps });
    const outside = othersBetween(before, processorTimes([each.process.pid]));
    each.peakBytes = peakBytes;
    const isDisturbed = outside !== null && outside.cores + outside.stolen > disturbedCores;
    order.push({ key: each.key, stepSeconds: median(seconds), outside, isDisturbed });
    return order.at(-1);
  };
  let previous = await turn(ours);
  let quietRounds = 0;
  for (let round = 0; round < 2 * windows && quietRounds < windows; round++) {
    const taken = [previous];
    const said = [];
    for (const other of others) {
      const theirs = await turn(other);
      previous = await turn(ours);
      taken.push(theirs, previous);
      said.push(`${other.name} ${(theirs.stepSeconds / previous.stepSeconds).toFixed(2)}`);
    }
    if (others.length === 0) {
      previous = await turn(ours);
      taken.push(previous);
    }
    const isQuiet = taken.every(({ isDisturbed }) => !isDisturbed);
    if (isQuiet) quietRounds++;
    const note = isQuiet ? "" : "; disturbed";
    say(`  round ${round + 1}: ours ${milliseconds(previous.stepSeconds)}; ${said.join(", ")}${note}`);
  }
  return order;
}

function summarize(each, order, tokens) {
  const own = order.filter(({ key }) => key === each.key);
  const undisturbed = own.filter(({ isDisturbed }) => !isDisturbed);
  const enough = Math.min(3, own.length);
  const counted = undisturbed.length >= enough ? undisturbed : own;
  const stepSeconds = median(counted.map((window) => window.stepSeconds));
  // How many times as fast we are: a window of the peer over the mean of our windows on its two sides.
  const pairs = order.flatMap((window, index) => {
    if (each.isOurs || window.key !== each.key) return [];
    const around = [order[index - 1], order[index + 1]];
    const ourSeconds = (around[0].stepSeconds + around[1].stepSeconds) / 2;
    const isDisturbed = [window, ...around].some((one) => one.isDisturbed);
    return [{ ratio: window.stepSeconds / ourSeconds, isDisturbed }];
  });
  const quiet = pairs.filter(({ isDisturbed }) => !isDisturbed);
  const ratios = (quiet.length >= Math.min(3, pairs.length) ? quiet : pairs).map(({ ratio }) => ratio);
  const known = counted.flatMap(({ outside }) => (outside === null ? [] : [outside]));
  return {
    key: each.key,
    name: each.name,
    version: each.version,
    tokensPerSecond: tokens / stepSeconds,
    stepSeconds,
    windowSeconds: own.map((window) => window.stepSeconds),
    countedWindows: counted.length,
    disturbedWindows: own.length - undisturbed.length,
    stepsPerWindow: each.steps,
    ratios: each.isOurs ? null : ratios,
    ratio: each.isOurs ? null : median(ratios),
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

/** A growth step from half the depth, moments carried, beside the training step of the same process. */
async function measureGrowth(ours) {
  const { seconds } = await ours.process.ask({ do: "grow", times: 5 });
  return { seconds: median(seconds) };
}

/**
 * A step that executes the first d layers, for several d in turns; ours and Hugging Face's. `perLayer` is what a layer
 * takes at each depth, once what a step takes without any (the start of the line through all of them) is taken off.
 */
async function measureDepths(running, model, say) {
  const list = [1, 2, 3, 4, 6, 8, 10, 12].filter((depth) => depth <= model.depth);
  const measured = {};
  for (const each of running.filter(({ isOurs, key }) => isOurs || key === "hf")) {
    const times = new Map(list.map((depth) => [depth, []]));
    for (let round = 0; round < 4; round++)
      for (const depth of list) {
        const layers = Array.from({ length: depth }, (_, layer) => layer);
        const { seconds } = await each.process.ask({ do: "train", steps: 2, layers });
        // The first round warms up every depth.
        if (round > 0) times.get(depth).push(...seconds);
      }
    const points = list.map((depth) => [depth, median(times.get(depth))]);
    const { start, slope } = fitLine(points);
    measured[each.key] = {
      name: each.name,
      outsideSeconds: start,
      layerSeconds: slope,
      depths: points.map(([depth, stepSeconds]) => ({
        depth,
        stepSeconds,
        perLayer: (stepSeconds - start) / depth,
      })),
    };
    say(
      `  ${each.name}, a layer at depth ${list.join(", ")}: ${measured[each.key].depths.map(({ perLayer }) => milliseconds(perLayer)).join(", ")}`,
    );
  }
  return measured;
}

function milliseconds(seconds) {
  return `${(seconds * 1000).toFixed(seconds < 0.1 ? 1 : 0)} ms`;
}
