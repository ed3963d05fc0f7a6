import {
  type ComputeOptions,
  EspalierError,
  type LayerMap,
  type ModelConfig,
  type ModelFamily,
  type Objective,
  type ParameterMap,
  type SequenceData,
  stream,
} from "@espalier/core";
import { softmaxCrossEntropy } from "@espalier/ops";
import * as tf from "@tensorflow/tfjs";
import { disposeBatch, toDevice } from "./micro-step.js";
import { checkPrecision } from "./precision.js";

/** What {@link evaluate} looks at. */
export interface EvaluationInput extends Pick<ComputeOptions, "precision"> {
  readonly family: ModelFamily;
  readonly config: ModelConfig;
  readonly weights: ParameterMap;
  /** Which unique layer each executed layer uses. */
  readonly layerMap: LayerMap;
  readonly data: SequenceData;
  readonly objective: Objective;
  readonly batchSize: number;
  /** At most this many batches of the validation split; all of it where it has fewer. */
  readonly batches: number;
}

/** The loss on held-out text. */
export interface EvaluationResult {
  /** Mean over the counted positions, in nats. */
  readonly loss: number;
  readonly perplexity: number;
  /** Sequences that were looked at. */
  readonly sequences: number;
  /** Positions that counted. */
  readonly positions: number;
}

/**
 * The loss on batches that are spread evenly over the validation split, dropout off. Masks are the same at every evaluation and in
 * every run, whatever its seed, so that losses can be compared. One read-back for all batches.
 *
 * @throws EspalierError ESPALIER_VALIDATION_EMPTY if the split has no sequence
 * @throws UsageError ESPALIER_PRECISION_UNSUPPORTED
 */
export async function evaluate(input: EvaluationInput): Promise<EvaluationResult> {
  const { family, config, weights, layerMap, data, objective } = input;
  const precision = input.precision ?? "fp32";
  checkPrecision(precision);
  const available = data.count("validation");
  if (available === 0)
    throw new EspalierError(
      "ESPALIER_VALIDATION_EMPTY",
      "the corpus has no held-out sequence to evaluate on",
      {
        key: "data",
        hint: "use more text, a larger validation share, or a shorter sequenceLength",
      },
    );
  const batchSize = Math.min(input.batchSize, available);
  const batches = Math.max(1, Math.min(input.batches, Math.floor(available / batchSize)));
  const masking = stream(0).fork("evaluation");
  const losses: tf.Scalar[] = [];
  let positions = 0;
  for (let index = 0; index < batches; index++) {
    // Spread over the split: its first documents alone may be of another kind than the rest.
    const first = Math.floor((index * available) / batches);
    const tokens = data.validationBatch(first, batchSize);
    const prepared = objective.prepare(tokens, batchSize, data.sequenceLength, masking.fork(index));
    positions += prepared.labels.length;
    const batch = toDevice(prepared);
    losses.push(
      tf.tidy(() => {
        const logits = family.forward(weights, config, batch, { layerMap, dropout: null, precision });
        return softmaxCrossEntropy(logits, batch.labels);
      }),
    );
    disposeBatch(batch);
  }
  const packed = tf.stack(losses);
  tf.dispose(losses);
  const values = await packed.data<"float32">();
  packed.dispose();
  const loss = values.reduce((sum, value) => sum + value, 0) / batches;
  return { loss, perplexity: Math.exp(loss), sequences: batches * batchSize, positions };
}
