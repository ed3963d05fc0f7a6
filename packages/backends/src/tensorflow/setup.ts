import { existsSync } from "node:fs";
import type { Log } from "../backend.js";
import { findGpus } from "../machine.js";
import { MissingPiece } from "../missing-piece.js";
import { ensureVenv, fits, type PythonRange, pipInstall, pythonVersion, venvPython } from "../python.js";
import { addonFile, compileAddon, linkAddon, packageFolder } from "./addon.js";
import { findWheel, type TensorFlowWheel, wheelVenvs } from "./wheel.js";

/** The release whose C API the package's sources were tried with; it has builds for these versions of Python. */
const VERSION = "2.18.1";
const PYTHON: PythonRange = { from: 10, to: 12 };

/** Unpacked size in bytes: the wheel alone, and with the GPU libraries. */
const SPACE = { cpu: 1.2e9, cuda: 7e9 };

/**
 * Installs the wheel into a virtual environment, compiles the addon against it, and puts it where the package loads it.
 *
 * @throws MissingPiece naming what is missing
 */
export async function setupTensorFlow(log: Log): Promise<void> {
  const folder = packageFolder();
  if (folder === null) {
    throw new MissingPiece(
      "ESPALIER_BACKENDS_NO_PACKAGE",
      "the optional package @tensorflow/tfjs-node-gpu is not installed",
      { hint: "npm install @tensorflow/tfjs-node-gpu@4.22.0 --ignore-scripts" },
    );
  }
  if (process.platform === "win32") {
    throw new MissingPiece(
      "ESPALIER_BACKENDS_PLATFORM",
      "TensorFlow's wheel for Windows brings no library that an addon can link",
      { hint: "use --backend libtorch" },
    );
  }
  const wheel = (await findWheel()) ?? (await installWheel(log));
  if (!existsSync(addonFile(wheel, folder))) {
    log(`compiling the addon for tensorflow ${wheel.version} (half a minute, once)`);
    await compileAddon(wheel, folder);
  }
  await linkAddon(wheel, folder);
}

async function installWheel(log: Log): Promise<TensorFlowWheel> {
  const venv = await chooseVenv();
  await ensureVenv(venv, PYTHON, log);
  const isCuda = (await findGpus()).length > 0 && process.platform === "linux" && process.arch === "x64";
  const isCpuBuild = process.platform === "linux" && process.arch === "x64";
  const requirement = isCuda
    ? `tensorflow[and-cuda]==${VERSION}`
    : `${isCpuBuild ? "tensorflow-cpu" : "tensorflow"}==${VERSION}`;
  log(`installing ${requirement} (${isCuda ? "3 GB" : "260 MB"} to download, once)`);
  await pipInstall({
    venv,
    requirements: [requirement],
    withDependencies: isCuda,
    space: isCuda ? SPACE.cuda : SPACE.cpu,
    log,
  });
  const wheel = await findWheel();
  if (wheel !== null) return wheel;
  throw new MissingPiece(
    "ESPALIER_BACKENDS_WHEEL",
    `${requirement} was installed into ${venv}, but its shared libraries are not there`,
    { hint: `remove ${venv} and run the command again` },
  );
}

/** The common environment where its Python has builds of TensorFlow (or it does not exist yet), else one of its own. */
async function chooseVenv(): Promise<string> {
  const [common, own] = wheelVenvs();
  if (!existsSync(venvPython(common))) return common;
  const python = await pythonVersion(venvPython(common));
  return python !== null && fits(python, PYTHON) ? common : own;
}
