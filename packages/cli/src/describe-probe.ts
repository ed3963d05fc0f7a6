import type { ProbeResult } from "@espalier/trainer";

/** A probe as text; the logits are only counted, `--json` has them. */
export function describeProbe(result: ProbeResult): string {
  const [rows, columns, vocabulary] = [
    result.logits.length,
    result.logits[0]?.length ?? 0,
    result.logits[0]?.[0]?.length ?? 0,
  ];
  const width = Math.max(...Object.keys(result.gradNorms).map((name) => name.length));
  return [
    `loss ${result.loss}`,
    `logits ${rows}×${columns}×${vocabulary} (--json prints them)`,
    `global gradient norm ${result.globalGradNorm}`,
    ...Object.entries(result.gradNorms).map(([name, norm]) => `  ${name.padEnd(width)} ${norm}`),
    ...(result.losses ? ["losses before each step", ...result.losses.map((loss) => `  ${loss}`)] : []),
  ].join("\n");
}
