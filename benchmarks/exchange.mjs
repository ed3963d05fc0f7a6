// `node benchmarks/exchange.mjs`: import and export of a BERT-Base of random weights beside `cp` of the same folder, in
// turns, and the peak memory of each. Prints a table. Needs no engine; `npm start` or `npm test` compiles first.
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { writeCheckpointFolder } from "../packages/checkpoints/dist/index.js";
import { bert } from "../packages/models/dist/index.js";
import { root } from "../scripts/programs.mjs";

const { values } = parseArgs({
  options: { rounds: { type: "string", default: "5" }, folder: { type: "string", default: tmpdir() } },
});
const rounds = Number(values.rounds);
const folder = mkdtempSync(join(values.folder, "espalier-exchange-"));
const command = join(root, "packages", "cli", "bin", "espalier.js");

const config = {
  family: "bert",
  depth: 12,
  hiddenSize: 768,
  attentionHeads: 12,
  intermediateSize: 3072,
  vocabSize: 30522,
  maxPositions: 512,
  dropout: 0.1,
  layerNormEpsilon: 1e-12,
  initializerRange: 0.02,
  tokenTypes: 2,
};

/** Numbers that are neither all alike nor slow to make. */
function numbers(shape) {
  const count = shape.reduce((product, size) => product * size, 1);
  let state = count;
  return Float32Array.from({ length: count }, () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) | 0;
    return state / 2 ** 36;
  });
}

const run = (program, args) => {
  const start = performance.now();
  const done = spawnSync(program, args, { stdio: ["ignore", "ignore", "pipe"], encoding: "utf8" });
  if (done.status !== 0) throw new Error(`${program} ${args.join(" ")}:\n${done.stderr}`);
  return { seconds: (performance.now() - start) / 1000, stderr: done.stderr };
};

/** A Node process that tells its peak resident memory as it ends. */
const noted = (args) => {
  const tell = `process.on("exit", () => process.stderr.write("peak " + process.resourceUsage().maxRSS + "\\n"))`;
  const { seconds, stderr } = run(process.execPath, [
    "--import",
    `data:text/javascript,${encodeURIComponent(tell)}`,
    ...args,
  ]);
  return { seconds, peak: Number(/peak (\d+)/.exec(stderr)[1]) * 1024 };
};

const median = (numbers) => [...numbers].sort((a, b) => a - b)[Math.floor(numbers.length / 2)];
const remove = (path) => rmSync(path, { recursive: true, force: true });

try {
  const source = join(folder, "bert-base");
  await writeCheckpointFolder(source, {
    model: bert
      .parameters(config)
      .map(({ name, shape }) => ({ name, type: "F32", shape, data: () => numbers(shape) })),
    optimizer: null,
    state: null,
    config: bert.toHuggingFace(config),
  });
  const bytes = statSync(join(source, "model.safetensors")).size;
  const copy = join(folder, "copy");
  const out = join(folder, "out");
  const contenders = {
    cp: () => run("cp", ["-r", source, copy]),
    "cp, then sync": () => run("sh", ["-c", 'cp -r "$1" "$2" && sync "$2"/*', "sh", source, copy]),
    import: () => noted([command, "import", source, "-o", out]),
    export: () => noted([command, "export", source, "-o", out]),
    "espalier --version": () => noted([command, "--version"]),
    "node -e 0": () => noted(["-e", "0"]),
  };
  const results = Object.fromEntries(Object.keys(contenders).map((name) => [name, []]));
  for (let round = 0; round <= rounds; round++)
    for (const [name, contend] of Object.entries(contenders)) {
      const result = contend();
      // The first round warms the page cache.
      if (round > 0) results[name].push(result);
      remove(copy);
      remove(out);
    }
  const seconds = (name) => median(results[name].map((result) => result.seconds));
  const peak = (name) => median(results[name].map((result) => result.peak ?? 0));
  const baseline = peak("node -e 0");
  console.log(
    `BERT-Base, ${(bytes / 2 ** 20).toFixed(0)} MiB in ${folder.replace(/\/[^/]*$/, "")}, medians of ${rounds}\n`,
  );
  console.log("| | seconds | times `cp` | times `cp, then sync` | peak beyond Node alone | of the model |");
  console.log("| --- | ---: | ---: | ---: | ---: | ---: |");
  for (const name of Object.keys(contenders)) {
    const memory =
      peak(name) === 0
        ? ["–", "–"]
        : [
            `${((peak(name) - baseline) / 2 ** 20).toFixed(0)} MiB`,
            ((peak(name) - baseline) / bytes).toFixed(2),
          ];
    const ratio = (other) => (seconds(name) / seconds(other)).toFixed(2);
    console.log(
      `| ${name} | ${seconds(name).toFixed(2)} | ${ratio("cp")} | ${ratio("cp, then sync")} | ${memory.join(" | ")} |`,
    );
  }
} finally {
  remove(folder);
}
