import { spawnSync } from "node:child_process";
import { existsSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";

/** An installed PyTorch. Spread it into `buildAddon`. */
export interface Torch {
  /** The folder of the Python package `torch`, with `lib/` and `include/`. */
  readonly torchRoot: string;
  /** Such as `2.11.0+cu130`. */
  readonly torchVersion: string;
  /** Whether it was compiled with the C++11 string ABI of libstdc++. */
  readonly cxx11Abi: boolean;
  /** The CUDA version it was built for, or null for a build without CUDA. */
  readonly cudaVersion: string | null;
  /** Whether it was built for CUDA and this machine has an NVIDIA driver. */
  readonly cudaAvailable: boolean;
}

/** There is no usable PyTorch where it was looked for; the message says what is wrong. */
export class TorchNotFoundError extends Error {
  override readonly name = "TorchNotFoundError";
}

/** Finds the package's folder without importing it: importing torch takes seconds. */
const LOCATE = `
import importlib.util
spec = importlib.util.find_spec("torch")
print(spec.submodule_search_locations[0] if spec and spec.submodule_search_locations else "")
`;

/**
 * Finds the PyTorch of a Python, or inspects the folder of one. Nothing is imported: it takes some 30 ms.
 *
 * @param place - a Python executable (`python3`), a virtual environment (`.venv`), or the folder of a torch package
 * @throws TorchNotFoundError when the Python does not run, has no torch, or torch has no library to link
 */
export function findTorch(place: string): Torch {
  if (!existsSync(place) || !statSync(place).isDirectory()) return torchOfPython(place);
  const python = join(place, "bin", "python");
  return existsSync(python) ? torchOfPython(python) : inspectTorch(place);
}

function torchOfPython(python: string): Torch {
  const answer = spawnSync(python, ["-c", LOCATE], { encoding: "utf8", timeout: 30_000 });
  if (answer.error || answer.status !== 0) {
    const why = answer.error?.message ?? answer.stderr.trim().split("\n").at(-1) ?? "it failed";
    throw new TorchNotFoundError(`${python} cannot be asked for torch: ${why}`);
  }
  const root = answer.stdout.trim();
  if (root === "") throw new TorchNotFoundError(`${python} has no package torch`);
  return inspectTorch(root);
}

function inspectTorch(root: string): Torch {
  const library = libraryPath(root, "torch_cpu");
  if (!existsSync(library)) throw new TorchNotFoundError(`${root} has no ${library}`);
  if (!existsSync(join(root, "include", "ATen"))) {
    throw new TorchNotFoundError(`${root} has no C++ headers (include/ATen)`);
  }
  const { version, cuda } = readVersion(root);
  const cudaVersion = existsSync(libraryPath(root, "torch_cuda")) ? cuda : null;
  return {
    torchRoot: root,
    torchVersion: version,
    cxx11Abi: usesCxx11Abi(root),
    cudaVersion,
    cudaAvailable: cudaVersion !== null && hasNvidiaDriver(),
  };
}

function libraryPath(root: string, name: string): string {
  return join(root, "lib", process.platform === "darwin" ? `lib${name}.dylib` : `lib${name}.so`);
}

function readVersion(root: string): { version: string; cuda: string | null } {
  const python = join(root, "version.py");
  if (existsSync(python)) {
    const text = readFileSync(python, "utf8");
    const version = /^__version__ = ['"](.+)['"]/m.exec(text)?.[1];
    const cuda = /^cuda(?:: .*?)? = ['"](.+)['"]/m.exec(text)?.[1] ?? null;
    if (version !== undefined) return { version, cuda };
  }
  // The archives of libtorch without Python say it in a file of their own.
  const archive = join(root, "build-version");
  if (existsSync(archive)) {
    const version = readFileSync(archive, "utf8").trim();
    return { version, cuda: /\+cu(\d+)(\d)$/.exec(version)?.slice(1).join(".") ?? null };
  }
  throw new TorchNotFoundError(`${root} does not say its version (version.py)`);
}

/** The constructor of `c10::Error` takes a string, whose mangled name tells which ABI compiled it. */
function usesCxx11Abi(root: string): boolean {
  if (process.platform !== "linux") return true;
  return readFileSync(libraryPath(root, "c10")).includes("N3c105ErrorC1ENS_14SourceLocationENSt7__cxx11");
}

function hasNvidiaDriver(): boolean {
  return ["/proc/driver/nvidia/version", "/dev/nvidiactl", "/dev/dxg"].some((path) => existsSync(path));
}
