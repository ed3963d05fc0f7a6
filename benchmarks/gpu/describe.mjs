// The results of a run as Markdown.

const number = (value, digits = 0) =>
  typeof value === "number" ? value.toLocaleString("en", { maximumFractionDigits: digits }) : "–";
const share = (value) => (typeof value === "number" ? `${(100 * value).toFixed(0)} %` : "–");
const gigabytes = (bytes) => (typeof bytes === "number" ? (bytes / 1e9).toFixed(2) : "–");

function table(head, rows) {
  const line = (cells) => `| ${cells.join(" | ")} |`;
  return [line(head), line(head.map(() => "---")), ...rows.map(line)].join("\n");
}

/** @param results what `run.mjs` has so far */
export function describeResults({ device, started, steps, values }) {
  const { matrixRate, doctor, numerics, synchronizations, apolloStages, scratch, apollo, comparison } =
    values;
  const rate = matrixRate?.bf16;
  const parts = [
    `# On ${matrixRate?.device ?? device}`,
    [
      `${started}, device \`${device}\``,
      doctor && `Espalier ${doctor.version}, ${doctor.libraryVersion ?? "no backend"}`,
      doctor?.machine?.gpus?.[0] && `driver ${doctor.machine.gpus[0].driver}`,
      rate && `matrix products: ${number(rate, 1)} TFLOP/s in bf16, ${number(matrixRate.fp32, 1)} in fp32`,
    ]
      .filter(Boolean)
      .join("; "),
  ];
  if (device === "cpu") parts.push("Small sizes on a CPU: this tries the script, and measures nothing.");
  const rows = [];
  for (const name of ["bertBase128", "bertBase512", "gpt2Base1024"]) {
    const measured = values[name];
    if (measured === undefined) continue;
    const ours = measured.results.find(({ who }) => who === "Espalier");
    for (const each of measured.results)
      rows.push([
        name,
        each.who,
        number(each.tokensPerSecond),
        ours && each !== ours ? number(ours.tokensPerSecond / each.tokensPerSecond, 2) : "",
        rate ? share(each.flopsPerSecond / 1e12 / rate) : "–",
        gigabytes(each.peakBytes),
      ]);
    for (const { who, why } of measured.absent) rows.push([name, who, `left out: ${why}`, "", "", ""]);
  }
  if (rows.length > 0)
    parts.push(
      "## A training step in bf16",
      table(["model", "who", "tokens/s", "ours / theirs", "of the matrix rate", "peak GB"], rows),
    );
  if (apolloStages)
    parts.push(
      "## Apollo's stages: GPT-2 base by executed depth",
      table(
        ["layers", "step ms", "tokens/s", "ms per layer", "growth ms", "peak GB"],
        apolloStages.stages.map((stage) =>
          stage.error === undefined
            ? [
                stage.depth,
                number(stage.stepSeconds * 1e3, 1),
                number(stage.tokensPerSecond),
                number((stage.stepSeconds * 1e3) / stage.depth, 2),
                stage.growthSeconds === null ? "–" : number(stage.growthSeconds * 1e3, 1),
                gigabytes(stage.peakBytes),
              ]
            : [stage.depth, stage.error, "", "", "", ""],
        ),
      ),
    );
  if (synchronizations)
    parts.push(
      "## Host and GPU",
      table(
        ["model", "waits of the host in a step", "step started in ms", "step done in ms"],
        Object.entries(synchronizations).map(([name, each]) => [
          name,
          each.watched ? String(each.synchronizations) : "not watched here",
          number(each.startedSecondsPerStep * 1e3, 1),
          number(each.doneSecondsPerStep * 1e3, 1),
        ]),
      ),
    );
  if (numerics)
    parts.push(
      "## Numerics: largest differences",
      table(
        ["model", "loss (float64)", "gradient norms (float64)", "logits (CPU)", "losses of 20 steps (CPU)"],
        Object.entries(numerics.results).map(([name, { differences }]) => [
          name,
          ...["loss", "gradientNorms", "logits", "training"].map((what) =>
            differences[what].toExponential(1),
          ),
        ]),
      ),
    );
  if (scratch && apollo)
    parts.push(
      "## A short real run",
      table(
        ["run", "steps", "final evaluation loss", "seconds", "tokens/s", "FLOPs"],
        [
          ["scratch", scratch],
          ["apollo", apollo],
        ].map(([name, run]) => [
          name,
          run.steps,
          number(run.finalEvalLoss, 3),
          number(run.seconds, 1),
          number(run.tokensPerSecond),
          run.flops.toExponential(2),
        ]),
      ),
    );
  if (comparison?.runs)
    parts.push(
      `At scratch's final loss Apollo saves ${share(comparison.runs.at(-1)?.flopsSaving)} of the FLOPs and ${share(comparison.runs.at(-1)?.secondsSaving)} of the seconds (loss.svg).`,
    );
  const failed = steps.filter(({ ok }) => !ok);
  parts.push(
    "## Steps",
    table(
      ["step", "seconds", "result"],
      steps.map(({ name, seconds, ok, why }) => [name, seconds.toFixed(1), ok ? "ok" : `failed: ${why}`]),
    ),
    failed.length === 0 ? "Every step went through." : `${failed.length} failed; log.txt has what they said.`,
  );
  return `${parts.join("\n\n")}\n`;
}
