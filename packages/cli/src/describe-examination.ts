import type { Examination } from "./examine.js";
import { formatBytes } from "./format.js";

/** What `doctor` found, as text. */
export function describeExamination(examination: Examination): string {
  const { machine, tracking } = examination;
  const gpus = machine.gpus.map(
    (gpu) =>
      `cuda:${gpu.index} ${gpu.name} (${gpu.memory} MiB, driver ${gpu.driver}${gpu.computeCapability === null ? "" : `, compute capability ${gpu.computeCapability.toFixed(1)}`})`,
  );
  const lines = [
    `espalier ${examination.version} on Node ${examination.node}, ${machine.platform}`,
    `machine    ${machine.cpu}, ${machine.cores} cores, ${formatBytes(machine.memory)} (${formatBytes(machine.freeMemory)} free)`,
    `GPUs       ${gpus.length === 0 ? "none found" : gpus.join("; ")}`,
    examination.backend === null
      ? `backend    none works: ${examination.why}`
      : `backend    ${examination.backend}: ${examination.libraryVersion} on ${examination.device}, threads ${examination.threads}`,
  ];
  if (examination.backend !== null) lines.push(`           ${examination.why}`);
  for (const { name, how } of examination.capabilities) lines.push(`           ${name}: ${how}`);
  for (const fallback of examination.fallbacks) lines.push(`           ${fallback}`);
  if (examination.fix !== null) lines.push(`           get it with: ${examination.fix}`);
  if (machine.nodePolyfills.length > 0)
    lines.push(
      `           this Node lacks ${machine.nodePolyfills.join(", ")}, which is put back for TensorFlow's package`,
    );
  lines.push("");
  for (const backend of examination.backends) {
    lines.push(
      `${backend.usable ? "✓" : "✗"} ${backend.name.padEnd(10)} ${backend.version ?? ""}`.trimEnd(),
      `    ${backend.description}`,
      `    ${backend.why}`,
    );
    if (backend.fix !== undefined) lines.push(`    get it with: ${backend.fix}`);
  }
  lines.push("", `tracking   ${tracking.uri === null ? "" : `${tracking.uri}: `}${tracking.why}`);
  return lines.join("\n");
}
