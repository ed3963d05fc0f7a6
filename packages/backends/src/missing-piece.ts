import { EspalierError } from "@espalier/core";
import { findProgram } from "./command.js";

/** How package managers of operating systems name the pieces that set-up may miss. */
const SYSTEM_PACKAGES = {
  compiler: { "apt-get": "g++", dnf: "gcc-c++", pacman: "gcc", apk: "g++", zypper: "gcc-c++" },
  python: {
    "apt-get": "python3 python3-venv",
    dnf: "python3",
    pacman: "python",
    apk: "python3",
    zypper: "python3",
  },
  vulkan: {
    "apt-get": "libvulkan1 chromium-common",
    dnf: "vulkan-loader mesa-vulkan-drivers",
    pacman: "vulkan-icd-loader vulkan-swrast",
    apk: "vulkan-loader mesa-vulkan-swrast",
    zypper: "libvulkan1 libvulkan_lvp",
  },
  venv: { "apt-get": "python3-venv", dnf: "python3", pacman: "python", apk: "python3", zypper: "python3" },
} as const;

const INSTALL = {
  "apt-get": "apt-get install",
  dnf: "dnf install",
  pacman: "pacman -S",
  apk: "apk add",
  zypper: "zypper install",
} as const;

type SystemPiece = keyof typeof SYSTEM_PACKAGES;
type PackageManager = keyof typeof INSTALL;

/** The command that installs a piece with the package manager that this machine has. */
export function installCommand(piece: SystemPiece, env: NodeJS.ProcessEnv = process.env): string {
  if (process.platform === "darwin")
    return piece === "compiler" ? "xcode-select --install" : "brew install python@3.12";
  if (process.platform === "win32") {
    return piece === "compiler"
      ? "winget install Microsoft.VisualStudio.2022.BuildTools"
      : "winget install Python.Python.3.12";
  }
  const managers = Object.keys(INSTALL) as PackageManager[];
  // a machine without any known one (or with an empty PATH) is told Debian's command: the names say what is meant
  const manager = managers.find((name) => findProgram(name, env) !== null) ?? "apt-get";
  const privileged = process.getuid?.() === 0 ? "" : "sudo ";
  return `${privileged}${INSTALL[manager]} ${SYSTEM_PACKAGES[piece][manager]}`;
}

/** A piece that set-up needs and did not get; its hint is the command that gets it. */
export class MissingPiece extends EspalierError {}

/**
 * No Python, or one that is too old or too new for the package.
 *
 * @param found versions seen, as they are shown
 * @param newest the minor version to get where only newer ones were seen: the system's package manager has no older one
 */
export function missingPython(found: readonly string[], wanted: string, newest?: number): MissingPiece {
  const seen = found.length === 0 ? "there is no python3 on PATH" : `found only ${found.join(", ")}`;
  const hint =
    newest === undefined
      ? installCommand("python")
      : `pyenv install 3.${newest} (or another way to a python3.${newest} on PATH)`;
  return new MissingPiece("ESPALIER_BACKENDS_NO_PYTHON", `Python ${wanted} is needed; ${seen}`, { hint });
}

/** Python is there, but not the module that makes virtual environments. */
export function missingVenv(program: string, output: string): MissingPiece {
  return new MissingPiece(
    "ESPALIER_BACKENDS_NO_VENV",
    `${program} cannot make a virtual environment: ${output}`,
    { hint: installCommand("venv") },
  );
}

/** No C++ compiler. */
export function missingCompiler(env: NodeJS.ProcessEnv = process.env): MissingPiece {
  return new MissingPiece(
    "ESPALIER_BACKENDS_NO_COMPILER",
    "a C++17 compiler is needed; there is no c++, g++ or clang++ on PATH",
    { hint: installCommand("compiler", env) },
  );
}
