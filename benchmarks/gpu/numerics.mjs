// The models on this device beside Hugging Face's, computed in float64 (packages/models/fixtures), and beside ourselves on
// the CPU: loss, gradient norms, logits, and the losses of 20 training steps. `node numerics.mjs DEVICE`
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const [device] = process.argv.slice(2);
const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
/** float32 on both sides: what is left is the order of sums. */
const tolerances = { loss: 2e-5, gradientNorms: 2e-3, logits: 2e-4, training: 2e-3 };
const training = ["--train-steps", "20", "--learning-rate", "0.001", "--weight-decay", "0.01", "--clip", "1"];

function probe(family, on) {
  const folder = join(root, "packages/models/fixtures", family);
  const given = [
    "probe",
    folder,
    "--batch",
    join(folder, "batch.json"),
    ...training,
    "--device",
    on,
    "--json",
  ];
  const done = spawnSync(process.execPath, [join(root, "packages/cli/bin/espalier.js"), ...given], {
    encoding: "utf8",
    maxBuffer: 1e9,
  });
  if (done.status !== 0) throw new Error(`${family} on ${on}: ${done.stderr.trim().split("\n").at(-1)}`);
  return JSON.parse(done.stdout);
}

/** The largest difference of two lists of numbers, nested alike. */
function largest(a, b) {
  if (typeof a === "number") return Math.abs(a - b);
  return a.reduce((most, value, index) => Math.max(most, largest(value, b[index])), 0);
}

const results = {};
for (const family of ["bert", "gpt2"]) {
  const path = join(root, "packages/models/fixtures", family, "reference.json");
  const reference = JSON.parse(readFileSync(path, "utf8")).cases.identity;
  const here = probe(family, device);
  const onCpu = probe(family, "cpu");
  const norms = Object.entries(reference.gradientNorms);
  const differences = {
    loss: Math.abs(here.loss - reference.loss),
    gradientNorms: norms.reduce(
      (most, [name, norm]) => Math.max(most, Math.abs((here.gradNorms[name] ?? Number.NaN) - norm)),
      0,
    ),
    logits: largest(here.logits, onCpu.logits),
    training: largest(here.losses, onCpu.losses),
  };
  results[family] = { differences, losses: here.losses };
}
const failures = Object.entries(results).flatMap(([family, { differences }]) =>
  Object.entries(differences)
    .filter(([what, value]) => !(value <= tolerances[what]))
    .map(([what, value]) => `${family}: ${what} differ by ${value}, more than ${tolerances[what]}`),
);
for (const failure of failures) console.error(`error: ${failure}`);
console.log(JSON.stringify({ tolerances, results, failures }));
process.exitCode = failures.length === 0 ? 0 : 1;
