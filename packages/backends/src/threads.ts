import os from "node:os";
import { UsageError } from "@espalier/core";

/** `auto`, or a number of threads of one operator. */
export type ThreadChoice = number | "auto";

/**
 * The number of threads to run an operator with: the given one, else `ESPALIER_THREADS`, else as many as this process
 * has cores (container limits and affinity counted).
 *
 * Where several processes share the cores, one thread each is many times faster than all cores each: threads that wait
 * for one another at the end of every operator then wait for whole time slices.
 *
 * @throws UsageError where it is not a whole number from 1
 */
export function resolveThreads(threads: ThreadChoice | undefined): number {
  if (threads === undefined || threads === "auto") {
    const wanted = process.env.ESPALIER_THREADS;
    if (wanted === undefined || wanted === "" || wanted === "auto") return os.availableParallelism();
    return resolveThreads(Number(wanted));
  }
  if (!Number.isInteger(threads) || threads < 1 || threads > 4096) {
    throw new UsageError(
      "ESPALIER_BACKENDS_THREADS",
      `threads: expected "auto" or a whole number from 1 to 4096, given ${JSON.stringify(threads)}`,
      { key: "threads" },
    );
  }
  return threads;
}
