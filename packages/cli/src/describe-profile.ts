import type { StepProfile } from "@espalier/trainer";
import { formatBytes, formatFlops, formatShare } from "./format.js";

/** Rows that a table shows; the rest is one line. */
const LONGEST = 16;

/** Where the time of a step goes, as text. */
export function describeProfile(profile: StepProfile): string {
  const { javascript, milliseconds, floor, memory, waits } = profile;
  const lines = [
    "",
    `profile      a step of ${ms(milliseconds)} while it was watched (mean of ${profile.steps})`,
    `in kernels   ${ms(profile.nativeMilliseconds)}, of which ${ms(javascript.conversion)} passing arguments and results`,
    `JavaScript   ${ms(javascript.milliseconds)} (${formatShare(javascript.share)}): ${ms(javascript.betweenKernels)} between kernels, ${ms(javascript.withinKernels)} within`,
  ];
  for (const phase of profile.phases)
    lines.push(`  ${phase.name.padEnd(18)} ${ms(phase.milliseconds)}, JavaScript ${ms(phase.javascript)}`);
  if (floor !== null)
    lines.push(
      `floor        ${ms(floor.milliseconds)}: ${formatFlops(floor.flops)} of matrix products at ${formatFlops(floor.flopsPerSecond)}/s, which the same products reach alone; ${formatShare(floor.share)} of a step`,
    );
  if (memory !== null) {
    const place = [memory.kernel, memory.operator].filter(Boolean).join(", ");
    lines.push(`memory       ${formatBytes(memory.peakBytes)} of tensors at most${place && `, in ${place}`}`);
  }
  if (profile.operators.length > 0)
    lines.push(
      `host waits   ${waits.length === 0 ? "none" : waits.map(({ operator, kernel, count }) => `${count} × ${operator}${kernel === null ? "" : ` in ${kernel}`}`).join(", ")}`,
    );
  lines.push("", header("kernel, and the operators that it calls"));
  for (const kernel of profile.kernels.slice(0, LONGEST)) {
    lines.push(row(kernel.name, kernel));
    if (kernel.operators.length > 1 || kernel.operators[0]?.name !== kernel.name)
      for (const operator of kernel.operators.slice(0, 4)) lines.push(row(`  ${operator.name}`, operator));
  }
  lines.push(...remainder(profile.kernels.slice(LONGEST)));
  if (profile.operators.length > 0) {
    lines.push("", header("operator"));
    for (const operator of profile.operators.slice(0, LONGEST)) lines.push(row(operator.name, operator));
    lines.push(...remainder(profile.operators.slice(LONGEST)));
  }
  if (profile.products.length > 0) {
    lines.push(
      "",
      `${"product".padEnd(44)}${"count".padStart(7)}${"share of FLOPs".padStart(16)}${"in the step".padStart(16)}${"alone".padStart(16)}`,
    );
    const all = profile.products.reduce((sum, product) => sum + product.flops, 0);
    for (const product of profile.products) {
      const { batch, m, k, n, dtype, transposeA, transposeB } = product;
      const name = `${batch === 1 ? "" : `${batch} × `}[${m}, ${k}]${transposeA ? "ᵀ" : ""} · [${k}, ${n}]${transposeB ? "ᵀ" : ""} ${dtype}`;
      const rate = product.flopsPerSecond === null ? "" : `${gigaflops(product.flopsPerSecond)} GFLOP/s`;
      lines.push(
        `${name.padEnd(44)}${String(product.count).padStart(7)}${formatShare(product.flops / all).padStart(16)}${rate.padStart(16)}${`${gigaflops(product.flopsPerSecondAlone)} GFLOP/s`.padStart(16)}`,
      );
    }
  }
  return lines.join("\n");
}

type Row = StepProfile["operators"][number];

function header(what: string): string {
  return `${what.padEnd(60)}${"count".padStart(7)}${"ms".padStart(10)}${"share".padStart(9)}${"made".padStart(10)}${"read".padStart(10)}`;
}

function row(name: string, { count, milliseconds, share, bytesMade, bytesRead }: Row): string {
  return `${name.padEnd(60)}${String(Math.round(count)).padStart(7)}${milliseconds.toFixed(2).padStart(10)}${formatShare(share).padStart(9)}${formatBytes(bytesMade).padStart(10)}${formatBytes(bytesRead).padStart(10)}`;
}

function remainder(rows: readonly Row[]): string[] {
  if (rows.length === 0) return [];
  const sum = (of: (row: Row) => number) => rows.reduce((total, one) => total + of(one), 0);
  return [
    row(`${rows.length} others`, {
      name: "",
      count: sum((one) => one.count),
      milliseconds: sum((one) => one.milliseconds),
      share: sum((one) => one.share),
      bytesMade: sum((one) => one.bytesMade),
      bytesRead: sum((one) => one.bytesRead),
    }),
  ];
}

function ms(milliseconds: number): string {
  return `${milliseconds.toFixed(milliseconds < 10 ? 2 : 1)} ms`;
}

function gigaflops(rate: number): string {
  return (rate / 1e9).toFixed(0);
}
