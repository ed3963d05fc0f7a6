import { type Command, Option } from "commander";
import {
  addEngineOptions,
  amount,
  type EngineOptions,
  engineOverrides,
  wholeNumber,
} from "../engine-options.js";
import { openTerminal } from "../terminal.js";

interface BenchOptions extends EngineOptions {
  readonly depth?: number;
  readonly unique?: number;
  readonly depths?: boolean;
  readonly dropout?: number;
  readonly profile?: boolean;
  readonly steps: number;
  readonly warmup: number;
  readonly json?: boolean;
}

/** `espalier bench`: throughput, memory and growth cost on this machine. */
export function addBench(program: Command): void {
  addEngineOptions(
    program
      .command("bench")
      .summary("throughput, memory and growth cost of a definition on this machine")
      .description(
        "Times optimizer steps of the target model on random tokens, with every layer executed; reads no corpus. Without a definition: BERT 12×256, batch 32×128.",
      )
      .argument("[definition]", "YAML, JSON or TypeScript file")
      .argument("[overrides...]", "keys of the definition, as a.b.c=value")
      .option("--depth <number>", "executed layers (default: the target's)", wholeNumber)
      .option("--unique <number>", "layers with weights of their own (default: every one)", wholeNumber)
      .addOption(
        new Option("--depths", "every depth from 1 to the target's, and the time of a layer").conflicts([
          "depth",
          "unique",
          "profile",
        ]),
      )
      .option("--dropout <rate>", "the model's dropout, as model.dropout=RATE does", amount)
      .option("--profile", "where a step's time goes: kernels, operators, products, JavaScript, the floor")
      .option("--steps <number>", "optimizer steps that are timed", wholeNumber, 10)
      .option("--warmup <number>", "optimizer steps before those", wholeNumber, 3)
      .option("--json", "print one JSON object"),
  )
    .addHelpText(
      "after",
      "\nExamples:\n  $ espalier bench experiments/quickstart/apollo.yaml --steps 20 --backend libtorch\n  $ espalier bench --profile model.hiddenSize=128\n  $ espalier bench --depths --dropout 0.1 --threads 2",
    )
    .action(async (definition: string | undefined, overrides: readonly string[], options: BenchOptions) => {
      const terminal = openTerminal(options);
      const { benchmark, openBenchmark } = await import("../benchmark.js");
      const { describeBenchmark } = await import("../describe-benchmark.js");
      const isOverride = definition?.includes("=") === true;
      const experiment = await openBenchmark(isOverride ? undefined : definition, [
        ...(isOverride ? [definition] : []),
        ...overrides,
        ...(options.dropout === undefined ? [] : [`model.dropout=${options.dropout}`]),
        ...engineOverrides(options),
      ]);
      const { benchmarkDepths } = await import("../benchmark-depths.js");
      const request = { ...options, note: terminal.note };
      const result = await (options.depths
        ? benchmarkDepths(experiment, { steps: options.steps, warmup: options.warmup, note: terminal.note })
        : benchmark(experiment, request));
      terminal.print(describeBenchmark(result));
      terminal.json(result);
    });
}
