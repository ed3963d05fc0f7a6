import { existsSync, statSync } from "node:fs";
import path from "node:path";
import { findTorch, type Torch, TorchNotFoundError } from "@espalier/tfjs-backend-libtorch/parts";
import { projectFolder } from "../folders.js";
import { sitePackages, venvPython } from "../python.js";
import { torchOfPython, userPython } from "./python-torch.js";

/** The oldest torch whose operators the backend was written for. */
const OLDEST: readonly [number, number] = [2, 6];

/** A torch to use, or what was found instead. */
export type TorchSearch =
  | { readonly torch: Torch; readonly source: string }
  | {
      readonly torch: null;
      /** What is wrong with each that was looked at. */
      readonly reasons: readonly string[];
      /** Whether the user named the torch: then no other one is installed in its stead. */
      readonly isChosen: boolean;
    };

/** The virtual environment that set-up makes. */
export function ownVenv(): string {
  return path.join(projectFolder(), ".venv");
}

/**
 * Looks for a torch that can be used: `ESPALIER_TORCH`, else the user's own `python3`, else the project's `.venv`.
 */
export async function locateTorch(): Promise<TorchSearch> {
  const chosen = process.env.ESPALIER_TORCH;
  if (chosen !== undefined && chosen !== "") return locateChosen(path.resolve(chosen));
  const reasons: string[] = [];
  const python = userPython();
  const own = python === null ? null : await torchOfPython(python);
  if (own !== null) {
    const answer = inspect(own);
    if (typeof answer !== "string") return { torch: answer, source: `the torch of ${python}` };
    reasons.push(`the torch of ${python}: ${answer}`);
  }
  const inVenv = await torchIn(ownVenv());
  if (inVenv === null) {
    if (reasons.length === 0)
      reasons.push("no torch is installed (python3 has none, and there is none in .venv)");
    return { torch: null, reasons, isChosen: false };
  }
  const answer = inspect(inVenv);
  if (typeof answer !== "string") return { torch: answer, source: "the torch in .venv" };
  return { torch: null, reasons: [...reasons, `the torch in .venv: ${answer}`], isChosen: false };
}

async function locateChosen(chosen: string): Promise<TorchSearch> {
  const fail = (reason: string): TorchSearch => ({
    torch: null,
    reasons: [`ESPALIER_TORCH names ${chosen}, ${reason}`],
    isChosen: true,
  });
  if (!existsSync(chosen)) return fail("which does not exist");
  const isFolder = statSync(chosen).isDirectory();
  const root = isFolder ? ((await torchIn(chosen)) ?? chosen) : await torchOfPython(chosen);
  if (root === null) return fail("which has no package torch");
  const answer = inspect(root);
  if (typeof answer === "string") return fail(`which cannot be used: ${answer}`);
  return { torch: answer, source: "ESPALIER_TORCH" };
}

/** The folder of torch in a virtual environment, or null. */
async function torchIn(venv: string): Promise<string | null> {
  const packages = await sitePackages(venv);
  if (packages !== null && existsSync(path.join(packages, "torch", "version.py")))
    return path.join(packages, "torch");
  // an environment may also see the packages of the Python that it was made from
  return packages !== null && existsSync(venvPython(venv)) ? torchOfPython(venvPython(venv)) : null;
}

/** A torch that can be used, or why it cannot. */
function inspect(root: string): Torch | string {
  try {
    const torch = findTorch(root);
    return isRecent(torch.torchVersion)
      ? torch
      : `version ${torch.torchVersion} is older than ${OLDEST.join(".")}`;
  } catch (error) {
    if (error instanceof TorchNotFoundError) return error.message;
    throw error;
  }
}

/** Whether a version such as `2.11.0+cu130` is {@link OLDEST} or newer. */
export function isRecent(version: string): boolean {
  const [major = 0, minor = 0] = version.split(".").map(Number);
  return major > OLDEST[0] || (major === OLDEST[0] && minor >= OLDEST[1]);
}
