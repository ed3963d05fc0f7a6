import { EspalierError, type ModelConfig, type ModelInput } from "@espalier/core";
import type * as tf from "@tensorflow/tfjs";

/** Token ids as one row after the other, `[batch · seq]`. */
export function flatIds(input: ModelInput): tf.Tensor1D {
  return input.inputIds.reshape([input.inputIds.size]);
}

/**
 * Refuses what would run past the learned positions or the batch.
 *
 * @throws EspalierError ESPALIER_MODEL_INPUT_INVALID
 */
export function checkInput(config: ModelConfig, input: ModelInput): void {
  const [batch, sequenceLength] = input.inputIds.shape;
  if (sequenceLength > config.maxPositions)
    throw new EspalierError(
      "ESPALIER_MODEL_INPUT_INVALID",
      `a sequence of ${sequenceLength} tokens is longer than the model's ${config.maxPositions} positions`,
      { key: "model.maxPositions" },
    );
  const mask = input.attentionMask?.shape;
  if (mask && (mask[0] !== batch || mask[1] !== sequenceLength))
    throw new EspalierError(
      "ESPALIER_MODEL_INPUT_INVALID",
      `the attention mask is [${mask.join(",")}], but the tokens are [${batch},${sequenceLength}]`,
    );
}
