import { existsSync } from "node:fs";
import { readFile, stat, writeFile } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import {
  ensureVenv,
  MissingPiece,
  pipInstall,
  projectFolder,
  runCommand,
  venvPython,
  withSetupLock,
} from "@espalier/backends";
import { UsageError } from "@espalier/core";

/** The release that is installed, and that the tests start. */
const version = "3.17.2";
const requirements = [`mlflow==${version}`];
const python = { from: 10 };
/** Unpacked, with room for what pip keeps while it unpacks. */
const space = 1.3e9;

/** A Python that has MLflow. */
export interface MlflowProgram {
  readonly python: string;
  readonly version: string;
}

/**
 * The MLflow to start: the one that `ESPALIER_MLFLOW` names (a Python, or a virtual environment), else our own in
 * `.venv-mlflow`, installed at its first use.
 *
 * @throws MissingPiece where there is no Python, no room, or no network; UsageError for an `ESPALIER_MLFLOW` without MLflow
 */
export async function findMlflow(log: (line: string) => void): Promise<MlflowProgram> {
  const chosen = process.env.ESPALIER_MLFLOW;
  if (chosen !== undefined && chosen !== "") return chosenMlflow(resolve(chosen));
  const venv = join(projectFolder(), ".venv-mlflow");
  // Written when pip has ended well: an installation that was broken off is done again.
  const marker = join(venv, "espalier-requirements.json");
  const isReady = async (): Promise<boolean> =>
    existsSync(venvPython(venv)) &&
    (await readFile(marker, "utf8").catch(() => "")) === JSON.stringify(requirements);
  if (!(await isReady()))
    await withSetupLock(log, async () => {
      if (await isReady()) return;
      await ensureVenv(venv, python, log);
      log(`installing MLflow ${version} into ${basename(venv)} (250 MB to download, once)`);
      await pipInstall({ venv, requirements, withDependencies: true, space, log });
      await writeFile(marker, JSON.stringify(requirements));
    });
  return { python: venvPython(venv), version };
}

async function chosenMlflow(chosen: string): Promise<MlflowProgram> {
  const found = await stat(chosen).catch(() => null);
  const program = found?.isDirectory() ? venvPython(chosen) : chosen;
  const answer = await runCommand(
    program,
    ["-c", "from importlib.metadata import version; print(version('mlflow'))"],
    { timeout: 30_000 },
  );
  const said = answer.stdout.trim();
  if (answer.code === 0 && /^\d+\.\d+/.test(said)) return { python: program, version: said };
  const why = found === null ? "which does not exist" : "in which Python finds no mlflow";
  throw new UsageError("ESPALIER_MLFLOW", `ESPALIER_MLFLOW names ${chosen}, ${why}`, {
    hint: "name a Python or a virtual environment with mlflow, or leave it out: then MLflow is installed",
  });
}

/** What helps where a server does not start, as far as its last words say. */
export function startFailure(log: string, tail: string, program: MlflowProgram): MissingPiece {
  const details = log.includes("FallbackAsyncAdaptedQueuePool")
    ? { hint: `MLflow 2 needs an older SQLAlchemy: ${program.python} -m pip install 'sqlalchemy<2.1'` }
    : {};
  return new MissingPiece(
    "ESPALIER_MLFLOW_START",
    `MLflow ${program.version} did not start:\n${tail}`,
    details,
  );
}
