// The Python environment of the peers: PyTorch and Hugging Face transformers, apart from what Espalier itself needs.
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";

// The versions that the fixtures of packages/models were made with.
const packages = ["torch==2.11.0", "transformers==4.57.1"];

/**
 * Looks for `.venv-reference`; installs nothing.
 *
 * @param {string} root the repository's
 * @returns {{ python: string } | { missing: string }} the interpreter, or why there is none
 */
export function findReferenceEnvironment(root) {
  const python = interpreter(root);
  if (!existsSync(python)) return { missing: "there is no .venv-reference (npm run bench:setup makes it)" };
  if (!imports(python))
    return { missing: "torch and transformers do not import in .venv-reference (npm run bench:setup)" };
  return { python };
}

/**
 * Makes `.venv-reference` where it is missing or lacks something.
 *
 * @param {string} root the repository's
 * @param {(line: string) => void} say
 * @returns {{ python: string } | { missing: string }} the interpreter, or why there is none
 */
export function setUpReferenceEnvironment(root, say) {
  const folder = join(root, ".venv-reference");
  const python = interpreter(root);
  if (!imports(python)) {
    say(
      "making .venv-reference (PyTorch and transformers, to compare with): about 2.5 GB to download, once …",
    );
    const steps = [
      ...(existsSync(python) ? [] : [["python3", ["-m", "venv", folder]]]),
      [python, ["-m", "pip", "install", "--quiet", ...packages]],
    ];
    for (const [command, args] of steps) {
      const done = spawnSync(command, args, { stdio: ["ignore", "inherit", "pipe"], encoding: "utf8" });
      if (done.status === 0) continue;
      const why = done.error?.message ?? done.stderr.trim().split("\n").at(-1);
      return { missing: `\`${command} ${args.slice(0, 3).join(" ")} …\` failed: ${why}` };
    }
  }
  return findReferenceEnvironment(root);
}

function interpreter(root) {
  return join(root, ".venv-reference", process.platform === "win32" ? "Scripts/python.exe" : "bin/python");
}

function imports(python) {
  return spawnSync(python, ["-c", "import torch, transformers"], { stdio: "ignore" }).status === 0;
}
