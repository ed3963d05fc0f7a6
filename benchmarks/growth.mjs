// How long growth takes beside a copy of as many bytes: BERT-Base with its moments, from 12×512.
// `node benchmarks/growth.mjs [ROUNDS [THREADS]]` prints one JSON object. Leave the machine alone meanwhile.
import { loadBackend } from "@espalier/backends";
import { stream } from "@espalier/core";
import { applyGrowthMap, disposeParameters, initializeParameters } from "@espalier/growth";
import { bert } from "@espalier/models";
import plugin from "@espalier/plugin-bert2bert";
import * as tf from "@tensorflow/tfjs";

const rounds = Number(process.argv[2] ?? 5);
const backend = await loadBackend(process.argv[3] ? { threads: Number(process.argv[3]) } : {});
const config = (hiddenSize) => ({
  ...bert.defaults,
  family: "bert",
  depth: 12,
  hiddenSize,
  attentionHeads: hiddenSize / 64,
  intermediateSize: 4 * hiddenSize,
  vocabSize: 30522,
  maxPositions: 512,
  dropout: 0,
  initializerRange: 0.02,
});
const [from, to] = [config(512), config(768)];
const random = stream(1);
const slots = ["weight", "firstMoment", "secondMoment", "stepCount"];
const trained = initializeParameters(bert, from, random);

/** Every tensor again, with memory of its own. */
function copyOf(parameters) {
  const copy = new Map();
  for (const [name, state] of parameters)
    copy.set(name, Object.fromEntries(slots.map((slot) => [slot, tf.keep(tf.mul(state[slot], 1))])));
  return copy;
}

async function settled(parameters) {
  await [...parameters.values()].at(-1).stepCount.data();
}

async function seconds(run) {
  const [began, used] = [performance.now(), process.cpuUsage()];
  const result = await run();
  const { user, system } = process.cpuUsage(used);
  return { result, seconds: (performance.now() - began) / 1000, cpuSeconds: (user + system) / 1e6 };
}

const median = (values) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];

const bytesOf = (parameters) =>
  [...parameters.values()].reduce(
    (sum, state) => sum + slots.reduce((of, slot) => of + 4 * state[slot].size, 0),
    0,
  );

async function measured(map) {
  const source = copyOf(trained);
  await settled(source);
  const grown = await seconds(async () => {
    const made = applyGrowthMap(map, source, { config: to, family: bert, random });
    await settled(made);
    return made;
  });
  // Growth ends with its source's memory free: the copy must not have that, but new memory as growth did.
  const held = copyOf(trained);
  await settled(held);
  const copied = await seconds(async () => {
    const made = copyOf(grown.result);
    await settled(made);
    return made;
  });
  const bytes = bytesOf(grown.result);
  disposeParameters(grown.result);
  disposeParameters(copied.result);
  disposeParameters(held);
  return {
    growth: grown.seconds,
    copy: copied.seconds,
    cpuGrowth: grown.cpuSeconds,
    cpuCopy: copied.cpuSeconds,
    bytes,
  };
}

const cases = [];
for (const name of ["fpi", "aki"]) {
  const expander = plugin.strategies.find((each) => each.kind === "expander" && each.name === name);
  const options = expander.options.parse({ moments: "gradient" });
  const planned = await seconds(() => expander.create(options, {}).plan(from, to, bert, random));
  cases.push({ name, map: planned.result, planSeconds: planned.seconds, runs: [] });
}
// In turns, so that a machine that slows down slows all of them; the first round warms up.
for (let round = -1; round < rounds; round++)
  for (const each of cases) {
    const run = await measured(each.map);
    if (round >= 0) each.runs.push(run);
  }
disposeParameters(trained);

const results = Object.fromEntries(
  cases.map(({ name, planSeconds, runs }) => {
    const ratios = runs.map(({ growth, copy }) => growth / copy);
    return [
      name,
      {
        planSeconds,
        growthSeconds: median(runs.map(({ growth }) => growth)),
        copySeconds: median(runs.map(({ copy }) => copy)),
        ratio: median(ratios),
        ratios,
        // Of processor time, which other programs disturb less; with one thread it is the work itself.
        cpuRatio: median(runs.map(({ cpuGrowth, cpuCopy }) => cpuGrowth / cpuCopy)),
        bytes: runs[0].bytes,
      },
    ];
  }),
);
console.log(
  JSON.stringify(
    { backend: backend.name, device: backend.device, threads: backend.threads, rounds, ...results },
    null,
    2,
  ),
);
