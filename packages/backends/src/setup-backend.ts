import { EspalierError } from "@espalier/core";
import type { Backend, Finding, Log } from "./backend.js";
import { checkInChild, isChecked } from "./first-check.js";
import { backendsNamed, requestedBackend } from "./list.js";
import { withSetupLock } from "./setup-lock.js";

/** What set-up made usable. */
export interface SetupResult {
  readonly name: string;
  readonly version: string;
  /** Where it was found. */
  readonly why: string;
  /** What was tried before it and failed, with the way to get it; only with `auto`. */
  readonly failures: readonly SetupFailure[];
}

export interface SetupFailure {
  readonly name: string;
  readonly message: string;
  readonly fix: string | undefined;
}

/**
 * Makes a backend usable: finds or installs its library, compiles its addon, and lets a process of its own train with
 * it once. `auto` takes the first that succeeds and tells what the others lack. Where all is there already, this takes
 * milliseconds.
 *
 * @param name `auto` or a backend's name; default `ESPALIER_BACKEND`, else `auto`
 * @throws UsageError for an unknown name
 * @throws EspalierError naming the missing piece, with the command that gets it as its hint
 */
export async function setupBackend(
  name: string | undefined,
  log: Log = () => undefined,
): Promise<SetupResult> {
  const requested = requestedBackend(name);
  const failures: SetupFailure[] = [];
  for (const backend of backendsNamed(requested)) {
    if (requested === "auto" && ((await backend.whyNotAutomatic?.()) ?? null) !== null) continue;
    try {
      const finding = await setupOne(backend, log);
      return { name: backend.name, version: finding.version, why: finding.why, failures };
    } catch (error) {
      if (requested !== "auto" || !(error instanceof EspalierError)) throw error;
      failures.push({ name: backend.name, message: error.message, fix: error.hint });
      log(`backend ${backend.name} cannot be set up: ${error.message}`);
      if (error.hint !== undefined) log(`  get it with: ${error.hint}`);
    }
  }
  throw new EspalierError("ESPALIER_BACKENDS_NONE", "no backend can be set up", {
    hint: failures.map((failure) => `${failure.name}: ${failure.fix ?? failure.message}`).join("\n"),
  });
}

async function setupOne(backend: Backend, log: Log): Promise<Extract<Finding, { usable: true }>> {
  const before = await backend.find();
  if (before.usable && (await isChecked(backend.name, before))) return before;
  return withSetupLock(log, async () => {
    await backend.setup(log);
    const finding = await backend.find();
    if (!finding.usable) {
      throw new EspalierError(
        "ESPALIER_BACKENDS_NOT_SET_UP",
        `${backend.name} was set up, but ${finding.why}`,
        {
          hint: finding.fix,
        },
      );
    }
    await checkInChild(backend.name, finding);
    return finding;
  });
}
