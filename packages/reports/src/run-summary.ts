import { readFile, stat } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import { UsageError } from "@espalier/core";
import { readEvents } from "@espalier/tracking";
import { z } from "zod";
import { type LossMeasure, lockedMeasure, measureOf } from "./loss-measure.js";

/** One evaluation on held-out text. */
export interface Evaluation {
  readonly step: number;
  /** Training FLOPs spent so far. */
  readonly flops: number;
  /** Training seconds so far. */
  readonly seconds: number;
  /** Mean loss in nats, at the unique layers. */
  readonly loss: number;
}

/** A growth, as a point on the curve. */
export interface GrowthPoint {
  readonly step: number;
  readonly fromDepth: number;
  readonly toDepth: number;
}

/** What a comparison needs of a run. */
export interface RunSummary {
  readonly folder: string;
  readonly name: string;
  readonly seed: number;
  /** Which loss its evaluations are. */
  readonly measure: LossMeasure;
  /** In the order of steps; never empty. */
  readonly evaluations: readonly Evaluation[];
  readonly growth: readonly GrowthPoint[];
  /** Total training FLOPs, those of a source not among them. */
  readonly flops: number;
  /** FLOPs that training its source took; 0 without one, null where the source does not say. */
  readonly sourceFlops: number | null;
  /** Total training seconds. */
  readonly seconds: number;
  readonly tokensPerSecond: number | null;
  /** Whether the run came to its end. */
  readonly complete: boolean;
}

const lockIdentity = lockedMeasure.extend({ name: z.string(), seed: z.number() });

/**
 * Reads a run folder's lock and events.
 *
 * @throws UsageError if it is no run folder, or the run has not been evaluated yet
 */
export async function loadRun(folder: string): Promise<RunSummary> {
  const path = resolve(folder);
  const { name, seed, ...measured } = await readIdentity(path);
  const events = await readEvents(path);
  const evaluations: Evaluation[] = [];
  const growth: GrowthPoint[] = [];
  let sourceFlops: number | null = 0;
  let end: { flops: number; seconds: number; tokensPerSecond: number } | null = null;
  for (const event of events) {
    if (event.event === "start") sourceFlops = event.sourceFlops === undefined ? 0 : event.sourceFlops;
    else if (event.event === "evaluation")
      evaluations.push({ step: event.step, flops: event.flops, seconds: event.seconds, loss: event.loss });
    else if (event.event === "growth")
      growth.push({ step: event.step, fromDepth: event.from.depth, toDepth: event.to.depth });
    else if (event.event === "end")
      end = { flops: event.flops, seconds: event.seconds, tokensPerSecond: event.tokensPerSecond };
  }
  evaluations.sort((a, b) => a.step - b.step);
  const last = evaluations.at(-1);
  if (!last)
    throw new UsageError(
      "ESPALIER_RUN_UNEVALUATED",
      `${path} has no evaluation yet, so there is nothing to compare`,
      {
        file: join(path, "events.jsonl"),
        hint: "let it train further (`espalier run … --resume`), or set evaluation.every lower",
      },
    );
  return {
    folder: path,
    name,
    seed,
    measure: measureOf(measured),
    evaluations,
    growth,
    flops: end?.flops ?? last.flops,
    sourceFlops,
    seconds: end?.seconds ?? last.seconds,
    tokensPerSecond: end?.tokensPerSecond ?? null,
    complete: end !== null,
  };
}

async function readIdentity(path: string): Promise<z.infer<typeof lockIdentity>> {
  const file = join(path, "lock.json");
  const isFolder = await stat(path).then(
    (found) => found.isDirectory(),
    () => false,
  );
  if (!isFolder)
    throw new UsageError("ESPALIER_RUN_MISSING", `there is no run folder ${path}`, { file: path });
  let text: string;
  try {
    text = await readFile(file, "utf8");
  } catch (cause) {
    throw new UsageError("ESPALIER_RUN_INVALID", `${path} is no run folder: it has no lock.json`, {
      file: path,
      hint: "give the folder that `espalier run --out` made",
      cause,
    });
  }
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new UsageError("ESPALIER_RUN_INVALID", `the lock of ${basename(path)} is not JSON`, {
      file,
      cause,
    });
  }
  const parsed = lockIdentity.safeParse(json);
  if (!parsed.success)
    throw new UsageError("ESPALIER_RUN_INVALID", `the lock of ${basename(path)} lacks name or seed`, {
      file,
    });
  return parsed.data;
}
