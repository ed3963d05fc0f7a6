import { EspalierError } from "@espalier/core";

/** How large a micro-step was when its memory ran out. */
export interface MicroStepSize {
  readonly batchSize: number;
  readonly gradientAccumulation: number;
  readonly sequenceLength: number;
  readonly executedLayers: number;
  readonly step: number;
  /** The last checkpoint's folder; null where there is none yet. */
  readonly checkpoint: string | null;
}

/** Whether an error says that memory, the GPU's or the machine's, could not be had. */
export function isOutOfMemory(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  if ((error as { code?: unknown }).code === "ERR_LIBTORCH_MEMORY") return true;
  // tfjs-node's and WebAssembly's own words.
  return /OOM when allocating|out of memory|failed to allocate memory/i.test(error.message);
}

/**
 * What to do about a micro-step that did not fit: half of the batch, or what is the largest power of two below it, with
 * so many more micro-steps that an optimizer step stays about as large.
 */
export function outOfMemory(error: Error, size: MicroStepSize): EspalierError {
  const { batchSize, gradientAccumulation, sequenceLength, executedLayers, step, checkpoint } = size;
  const smaller = 2 ** (Math.ceil(Math.log2(batchSize)) - 1);
  const accumulation = Math.ceil((batchSize * gradientAccumulation) / smaller);
  const hint =
    batchSize > 1
      ? `try training.batchSize=${smaller} with training.gradientAccumulation=${accumulation}`
      : "one sequence does not fit: shorten data.sequenceLength, or choose training.precision=bf16 or a smaller model";
  const last = checkpoint === null ? "there is no checkpoint yet" : `the last checkpoint is ${checkpoint}`;
  const [said = ""] = error.message.split("\n");
  return new EspalierError(
    "ESPALIER_OUT_OF_MEMORY",
    `memory ran out in step ${step}: ${batchSize} sequences of ${sequenceLength} tokens through ${executedLayers} layers (${said}); ${last}`,
    { key: "training.batchSize", hint, cause: error },
  );
}
