import { spawn, spawnSync } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { cpus } from "node:os";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

/** The version of Node-API that the addon is compiled against; every newer Node.js loads it. */
const NODE_API_VERSION = 8;
const SOURCES = fileURLToPath(new URL("../native/", import.meta.url));
const COMPILED = readdirSync(SOURCES)
  .filter((name) => name.endsWith(".cc"))
  .sort()
  .map((name) => join(SOURCES, name));

/**
 * Our own loops are vectorised by the compiler for the processor that it runs on; what they compute does not depend on
 * traps or errno, and nothing may be reordered that changes a rounding.
 */
const OPTIMISATION: readonly string[] = [
  "-O3",
  process.arch === "x64" ? "-march=native" : "-mcpu=native",
  // Compilers are shy of 512-bit vectors, which pay off in loops over whole matrices.
  ...(process.arch === "x64" ? ["-mprefer-vector-width=512"] : []),
  "-fno-math-errno",
  "-fno-trapping-math",
  "-fopenmp-simd",
];

/**
 * What tells processors apart by their instructions: an addon that was compiled on one must not be loaded on another that
 * lacks some of them (a shared home folder, a container image).
 */
function processor(): string {
  try {
    const description = readFileSync("/proc/cpuinfo", "utf8");
    const instructions = /^(?:flags|Features)\s*:(.*)$/m.exec(description);
    if (instructions?.[1]) return instructions[1].trim();
  } catch {
    // Not Linux: the model's name stands for its instructions.
  }
  return cpus()[0]?.model ?? process.arch;
}

/** Which PyTorch the addon is linked to (spread what `findTorch` gives), and where it is kept. */
export interface BuildAddonOptions {
  /** The folder of the torch package, with `lib/` and `include/`. */
  readonly torchRoot: string;
  readonly torchVersion: string;
  readonly cxx11Abi: boolean;
  /** The folder of compiled addons; created when missing. */
  readonly outDir: string;
  /** The C++17 compiler's command. Default: the environment's `CXX`, else the first of g++, clang++, c++. */
  readonly compiler?: string | undefined;
}

/** What became of `buildAddon`. */
export interface BuiltAddon {
  /** The `.node` file for `loadLibtorch`. */
  readonly path: string;
  /** False when it was there already. */
  readonly compiled: boolean;
}

/** Why the addon could not be compiled. */
export class AddonBuildError extends Error {
  override readonly name = "AddonBuildError";

  constructor(
    /** `no-compiler`: none is installed; `compile-failed`: see `output`; `unsupported`: this platform is not known. */
    readonly reason: "no-compiler" | "compile-failed" | "unsupported",
    message: string,
    /** The compiler's own messages. */
    readonly output = "",
  ) {
    super(message);
  }
}

interface Plan {
  readonly path: string;
  /** The compiler's arguments without the output file. */
  readonly flags: readonly string[];
}

function plan({ torchRoot, torchVersion, cxx11Abi, outDir }: BuildAddonOptions): Plan {
  const { include_dir: nodeApiHeaders } = createRequire(import.meta.url)("node-api-headers") as {
    include_dir: string;
  };
  const lib = join(torchRoot, "lib");
  const flags = [
    ...OPTIMISATION,
    "-std=c++17",
    "-fPIC",
    // As the library was: some of its classes are laid out differently without.
    "-DNDEBUG",
    "-shared",
    `-DNAPI_VERSION=${NODE_API_VERSION}`,
    `-D_GLIBCXX_USE_CXX11_ABI=${cxx11Abi ? 1 : 0}`,
    `-I${join(torchRoot, "include")}`,
    `-I${join(torchRoot, "include", "torch", "csrc", "api", "include")}`,
    `-I${nodeApiHeaders}`,
    ...COMPILED,
    `-L${lib}`,
    "-ltorch_cpu",
    "-lc10",
    `-Wl,-rpath,${lib}`,
    ...(process.platform === "darwin" ? ["-undefined", "dynamic_lookup"] : []),
  ];
  const key = createHash("sha256");
  // The library's folder is linked in as rpath, so it belongs to the key like everything else that is compiled in.
  const sources = readdirSync(SOURCES)
    .sort()
    .map((name) => readFileSync(join(SOURCES, name), "utf8"));
  for (const part of [...sources, torchVersion, processor(), ...flags]) key.update(part).update("\0");
  const digest = key.digest("hex").slice(0, 16);
  const name = `libtorch-${torchVersion}-${process.platform}-${process.arch}-napi${NODE_API_VERSION}-${digest}.node`;
  return { path: resolve(outDir, name), flags };
}

/**
 * Looks for an addon that was compiled before.
 *
 * @returns its path, or null when it has to be built
 */
export function findAddon(options: BuildAddonOptions): string | null {
  const { path } = plan(options);
  return existsSync(path) ? path : null;
}

/**
 * Compiles the addon for one PyTorch, unless that was done before: under a minute, with a plain C++ compiler.
 * Several processes may do it at once; each finds or leaves a whole file.
 *
 * @throws AddonBuildError when there is no compiler, or it fails
 */
export async function buildAddon(options: BuildAddonOptions): Promise<BuiltAddon> {
  const steps = build(options);
  let step = steps.next();
  while (!step.done) step = steps.next(await run(step.value));
  return step.value;
}

/**
 * The same, holding up the process meanwhile: for an import after which the backend is there.
 *
 * @throws AddonBuildError when there is no compiler, or it fails
 */
export function buildAddonSync(options: BuildAddonOptions): BuiltAddon {
  const steps = build(options);
  let step = steps.next();
  while (!step.done) step = steps.next(runSync(step.value));
  return step.value;
}

/** A compiler's command line. */
interface Command {
  readonly command: string;
  readonly args: readonly string[];
}

/** How a command ended. */
interface Outcome {
  readonly found: boolean;
  readonly status: number | null;
  readonly output: string;
}

/** The whole of it but for running commands: yields one, and is told how it ended. */
function* build(options: BuildAddonOptions): Generator<Command, BuiltAddon, Outcome> {
  const { path, flags } = plan(options);
  if (existsSync(path)) return { path, compiled: false };
  if (process.platform === "win32") {
    throw new AddonBuildError("unsupported", "the libtorch addon cannot be compiled on Windows yet; use WSL");
  }
  mkdirSync(options.outDir, { recursive: true });
  const unfinished = `${path}.${process.pid}-${randomBytes(4).toString("hex")}`;
  try {
    yield* compile([...flags, "-o", unfinished], options.compiler);
    renameSync(unfinished, path);
  } finally {
    rmSync(unfinished, { force: true });
  }
  return { path, compiled: true };
}

function* compile(args: readonly string[], compiler: string | undefined): Generator<Command, void, Outcome> {
  const chosen = compiler ?? process.env.CXX;
  const candidates = chosen ? [chosen] : ["g++", "clang++", "c++"];
  for (const candidate of candidates) {
    // CXX may hold a command with arguments, such as `ccache g++`.
    const [command = "", ...first] = candidate.split(/\s+/);
    const { found, status, output } = yield { command, args: [...first, ...args] };
    if (!found) continue;
    if (status === 0) return;
    const line = output.split("\n").find((text) => /error/i.test(text)) ?? output.trim().split("\n").at(-1);
    throw new AddonBuildError(
      "compile-failed",
      `${command} failed to compile the libtorch addon: ${line}`,
      output,
    );
  }
  throw new AddonBuildError(
    "no-compiler",
    `no C++ compiler (${candidates.join(", ")}): install one (Debian: apt install g++) or set CXX`,
  );
}

function runSync({ command, args }: Command): Outcome {
  const { error, status, stdout, stderr } = spawnSync(command, args, { encoding: "utf8", maxBuffer: 64e6 });
  const { code, message = "" } = (error ?? {}) as NodeJS.ErrnoException;
  return { found: code !== "ENOENT", status, output: `${stdout ?? ""}${stderr ?? ""}${message}` };
}

function run({ command, args }: Command): Promise<Outcome> {
  return new Promise((resolve) => {
    let output = "";
    const child = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"] });
    child.stdout.on("data", (chunk) => {
      output += chunk;
    });
    child.stderr.on("data", (chunk) => {
      output += chunk;
    });
    child.on("error", (error: NodeJS.ErrnoException) =>
      resolve({ found: error.code !== "ENOENT", status: null, output: output + error.message }),
    );
    child.on("close", (status) => resolve({ found: true, status, output }));
  });
}
