// The stages of Apollo at GPT-2 base: a step's time by executed depth. `node stages.mjs DEVICE`
import { spawnSync } from "node:child_process";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { definitionOf, precision, sizeOf } from "./sizes.mjs";

const [device] = process.argv.slice(2);
const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const size = sizeOf("gpt2Base1024", device);
const depths = device === "cpu" ? [1, 2] : [1, 3, 6, 12];
const definition = definitionOf(size);
const stages = [];
for (const depth of depths) {
  const given = [
    "bench",
    ...definition,
    "--depth",
    String(depth),
    "--steps",
    "10",
    "--warmup",
    "3",
    "--json",
  ];
  const done = spawnSync(process.execPath, [join(root, "packages/cli/bin/espalier.js"), ...given], {
    encoding: "utf8",
  });
  if (done.status !== 0) {
    stages.push({ depth, error: done.stderr.trim().split("\n").at(-1) });
    continue;
  }
  const { tokensPerSecond, stepSeconds, growthSeconds, peakBytes, flopsPerStep } = JSON.parse(done.stdout);
  stages.push({ depth, tokensPerSecond, stepSeconds, growthSeconds, peakBytes, flopsPerStep });
}
console.log(JSON.stringify({ size, precision, stages }));
process.exitCode = stages.some((stage) => stage.error === undefined) ? 0 : 1;
