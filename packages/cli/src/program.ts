import { Command } from "commander";
import { addBench } from "./commands/bench.js";
import { addCompare } from "./commands/compare.js";
import { addDoctor } from "./commands/doctor.js";
import { addEvaluate } from "./commands/evaluate.js";
import { addExport } from "./commands/export.js";
import { addGrow } from "./commands/grow.js";
import { addImport } from "./commands/import.js";
import { addPlan } from "./commands/plan.js";
import { addPlugin } from "./commands/plugin.js";
import { addProbe } from "./commands/probe.js";
import { addRun } from "./commands/run.js";
import { addSample } from "./commands/sample.js";
import { addSchema } from "./commands/schema.js";
import { addSetup } from "./commands/setup.js";
import { addSync } from "./commands/sync.js";
import { addUi } from "./commands/ui.js";
import { espalierVersion } from "./version.js";

/**
 * The whole command line. Commands declare themselves here and load what they need only when they run, so that
 * `--help` is quick.
 */
export function createProgram(): Command {
  const program = new Command("espalier")
    .description("Progressive training of Transformers: train while the network grows.")
    .version(espalierVersion())
    .exitOverride()
    .showSuggestionAfterError()
    .configureHelp({ sortSubcommands: false })
    .addHelpText(
      "after",
      `
Examples:
  $ espalier plan experiments/quickstart/apollo.yaml
  $ espalier run experiments/quickstart/apollo.yaml training.steps=200
  $ espalier compare runs/scratch-s42 runs/apollo-s42 --plot loss.svg

Exit codes: 0 success, 1 failure, 2 wrong use or a wrong definition.`,
    );
  for (const add of [
    addSetup,
    addDoctor,
    addPlan,
    addRun,
    addCompare,
    addEvaluate,
    addSample,
    addGrow,
    addExport,
    addImport,
    addProbe,
    addBench,
    addPlugin,
    addUi,
    addSync,
    addSchema,
  ])
    add(program);
  return program;
}
