// The batches of the benchmark: random tokens, the same for every process, in a file that each of them reads.
import { stream } from "@espalier/core";
import { causalLm, maskedLm, maskedLmDefaults } from "@espalier/data";

const special = 5;
const ignored = -100;

/**
 * Batches as the file has them: ids and labels as Hugging Face takes them (-100 does not count; causal models shift).
 *
 * @param {{ family: string, vocabulary: number, batch: number, sequence: number, count: number, seed: number }} size
 */
export function makeBatches({ family, vocabulary, batch, sequence, count, seed }) {
  const random = stream(seed).fork("batches");
  const tokenizer = {
    vocabSize: vocabulary,
    maskToken: 4,
    padToken: 0,
    endOfText: null,
    specialTokens: Array.from({ length: special }, (_, token) => token),
  };
  const objective = family === "bert" ? maskedLm(maskedLmDefaults, tokenizer) : causalLm();
  return Array.from({ length: count }, (_, index) => {
    const draws = random.fork(index);
    const tokens = Int32Array.from(
      { length: batch * sequence },
      (_, place) => special + draws.integer(vocabulary - special, place),
    );
    const prepared = objective.prepare(tokens, batch, sequence, draws.fork("masks"));
    if (family !== "bert") return { input_ids: rows(tokens, sequence), labels: rows(tokens, sequence) };
    const labels = new Int32Array(tokens.length).fill(ignored);
    for (const [place, position] of prepared.countedPositions.entries())
      labels[position] = prepared.labels[place];
    return { input_ids: rows(prepared.inputIds, sequence), labels: rows(labels, sequence) };
  });
}

/** A batch of the file as the trainer takes it. */
export function preparedBatch({ input_ids: inputIds, labels }, causal) {
  const batchSize = inputIds.length;
  const sequenceLength = inputIds[0].length;
  const positions = [];
  const wanted = [];
  for (const [row, ofRow] of labels.entries())
    for (const [column, label] of ofRow.entries()) {
      // A causal model's position t predicts label t + 1.
      const position = causal ? column - 1 : column;
      if (label === ignored || position < 0) continue;
      positions.push(row * sequenceLength + position);
      wanted.push(label);
    }
  return {
    batchSize,
    sequenceLength,
    inputIds: Int32Array.from(inputIds.flat()),
    attentionMask: null,
    countedPositions: Int32Array.from(positions),
    labels: Int32Array.from(wanted),
  };
}

function rows(flat, length) {
  return Array.from({ length: flat.length / length }, (_, row) => [
    ...flat.subarray(row * length, (row + 1) * length),
  ]);
}
