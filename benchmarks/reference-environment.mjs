// The Python environment of the peer: PyTorch and Hugging Face transformers, apart from what Espalier itself needs.
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";

// The versions that the fixtures of packages/models were made with.
const packages = ["torch==2.11.0", "transformers==4.57.1"];

/**
 * Makes `.venv-reference` where it is missing.
 *
 * @returns {{ python: string } | { missing: string }} the interpreter, or why there is none
 */
export function referenceEnvironment(root) {
  const folder = join(root, ".venv-reference");
  const python = join(folder, process.platform === "win32" ? "Scripts/python.exe" : "bin/python");
  if (existsSync(python) && imports(python)) return { python };
  console.error("making .venv-reference (PyTorch and transformers, the peer of this benchmark) …");
  const steps = [
    ["python3", ["-m", "venv", folder]],
    [python, ["-m", "pip", "install", "--quiet", ...packages]],
  ];
  for (const [command, args] of steps) {
    const done = spawnSync(command, args, { stdio: ["ignore", "inherit", "pipe"], encoding: "utf8" });
    if (done.status !== 0)
      return {
        missing: `\`${command} ${args.slice(0, 3).join(" ")} …\` failed: ${done.error?.message ?? done.stderr.trim().split("\n").at(-1)}`,
      };
  }
  return imports(python) ? { python } : { missing: "transformers does not import in .venv-reference" };
}

function imports(python) {
  return spawnSync(python, ["-c", "import torch, transformers"], { stdio: "ignore" }).status === 0;
}
