// The processes that take part in a case.
import { execFileSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { peers, takesPart } from "./cases.mjs";
import { startLineProcess } from "./line-process.mjs";

/**
 * Ours first, then our other engines and the peers, each to be started for a case.
 *
 * @param {{ root: string, python: string | null, chosen: readonly string[], engines: readonly string[], threads: number }} choice
 * @param measured the case
 */
export function participantsOf({ root, python, chosen, engines, threads }, measured) {
  const folder = join(root, "benchmarks");
  const env = {
    ...process.env,
    OMP_NUM_THREADS: String(threads),
    MKL_NUM_THREADS: String(threads),
    ESPALIER_THREADS: String(threads),
    HF_HUB_OFFLINE: "1",
    TRANSFORMERS_VERBOSITY: "error",
    TF_CPP_MIN_LOG_LEVEL: "2",
  };
  const engine = (backend, index) => ({
    key: backend,
    name: index === 0 ? `Espalier (${backend})` : `Espalier on ${backend}`,
    isOurs: index === 0,
    start: () =>
      startLineProcess(
        process.execPath,
        [join(folder, "ours.mjs"), "--backend", backend, "--threads", String(threads)],
        { env },
      ),
  });
  const peer = (key) => ({
    key,
    name: peers[key].name,
    isOurs: false,
    isPure: peers[key].isPure === true,
    start: () =>
      startLineProcess(
        python,
        [join(folder, "peers", "peer.py"), ...peers[key].given, "--threads", String(threads)],
        { env: { ...env, ...peers[key].env, ...(peers[key].hasMklPath ? mklPath(root) : {}) } },
      ),
  });
  const all = [...engines.map(engine), ...(python === null ? [] : chosen.map(peer))];
  return all.filter(({ key, isOurs }) => isOurs || takesPart(key, measured));
}

/** What makes MKL in a peer's process look at the processor's instructions alone, as it does in ours. */
function mklPath(root) {
  const folder = join(root, ".espalier", "benchmark");
  const library = join(folder, "mkl-dispatch.so");
  mkdirSync(folder, { recursive: true });
  const source = join(root, "packages", "tfjs-backend-libtorch", "native", "mkl-dispatch.cc");
  execFileSync(process.env.CXX ?? "g++", ["-O2", "-shared", "-fPIC", source, "-o", library]);
  return { LD_PRELOAD: library };
}
