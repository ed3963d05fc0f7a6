import type { Objective } from "@espalier/core";

/**
 * Causal language modelling: every position but the last of a row predicts the token after it. Rows are packed without
 * padding, so every one of these positions counts; an end-of-text token within a row is predicted like any other.
 */
export function causalLm(): Objective {
  return {
    causal: true,
    countedPositions: (batchSize, sequenceLength) => batchSize * (sequenceLength - 1),
    prepare(tokens, batchSize, sequenceLength) {
      const perRow = sequenceLength - 1;
      const countedPositions = new Int32Array(batchSize * perRow);
      const labels = new Int32Array(batchSize * perRow);
      let counted = 0;
      for (let row = 0; row < batchSize; row++) {
        const start = row * sequenceLength;
        for (let column = 0; column < perRow; column++) {
          countedPositions[counted] = start + column;
          labels[counted++] = tokens[start + column + 1]!;
        }
      }
      return { batchSize, sequenceLength, inputIds: tokens, attentionMask: null, countedPositions, labels };
    },
  };
}
