import { EspalierError, type RandomStream, type SequenceData, type Split, UsageError } from "@espalier/core";
import { hashOf } from "./cache.js";
import type { SequenceMarkers } from "./text-tokenizer.js";
import type { TokenShard } from "./token-shard.js";

/** Packed sequences over two token shards. They hold open files, which `close` closes (or the end of the process). */
export interface PackedSequences extends SequenceData {
  /** Tokens in a split, before packing: documents with the tokens that separate them. */
  tokenCount(split: Split): number;
  close(): void;
}

/** Permutations that are kept: a batch may lie across two epochs. */
const keptPermutations = 2;

/**
 * Cuts a stream of tokens into sequences of one length. A sequence is the start marker (if there is one), the next
 * tokens of the stream, the end marker (if there is one); documents follow one another within a sequence, and the rest
 * of the stream that fills no sequence is left out. There is no padding. Every batch is a pure function of its index.
 */
export function packSequences(
  shards: { readonly [Name in Split]: TokenShard },
  sequenceLength: number,
  markers: SequenceMarkers,
): PackedSequences {
  const { sequenceStart, sequenceEnd } = markers;
  const content = contentLength(sequenceLength, markers);
  const counts = {
    train: Math.floor(shards.train.tokens / content),
    validation: Math.floor(shards.validation.tokens / content),
  };
  const permutations = new Map<string, Uint32Array>();

  const readSequence = (split: Split, sequence: number, into: Int32Array, at: number): void => {
    if (sequenceStart !== null) into[at] = sequenceStart;
    shards[split].read(sequence * content, content, into, at + (sequenceStart === null ? 0 : 1));
    if (sequenceEnd !== null) into[at + sequenceLength - 1] = sequenceEnd;
  };

  const permutation = (order: RandomStream, epoch: number): Uint32Array => {
    const epochOrder = order.fork(epoch);
    // Streams are values: two objects with the same first draws are the same stream.
    const key = `${epochOrder.uint32(0)} ${epochOrder.uint32(1)} ${epochOrder.uint32(2)}`;
    let found = permutations.get(key);
    if (found === undefined) {
      found = epochOrder.permutation(counts.train);
      if (permutations.size >= keptPermutations) permutations.delete(permutations.keys().next().value!);
      permutations.set(key, found);
    }
    return found;
  };

  const data: PackedSequences = {
    sequenceLength,
    fingerprint: hashOf({
      train: shards.train.sha256,
      validation: shards.validation.sha256,
      sequenceLength,
      sequenceStart,
      sequenceEnd,
    }),
    count: (split) => counts[split],
    tokenCount: (split) => shards[split].tokens,

    trainingBatch(index, batchSize, order) {
      checkBatchSize(data, batchSize);
      if (!Number.isSafeInteger(index) || index < 0)
        throw new RangeError(`a batch's index is a whole number from 0, not ${index}`);
      const batch = new Int32Array(batchSize * sequenceLength);
      for (let row = 0; row < batchSize; row++) {
        const position = index * batchSize + row;
        const epoch = Math.floor(position / counts.train);
        const sequence = permutation(order, epoch)[position - epoch * counts.train]!;
        readSequence("train", sequence, batch, row * sequenceLength);
      }
      return batch;
    },

    validationBatch(first, batchSize) {
      if (!(first >= 0 && first + batchSize <= counts.validation))
        throw new EspalierError(
          "ESPALIER_DATA_VALIDATION_RANGE",
          `validation sequences ${first} to ${first + batchSize - 1} were asked for, but the split has ${counts.validation}`,
          { key: "data.validationShare" },
        );
      const batch = new Int32Array(batchSize * sequenceLength);
      for (let row = 0; row < batchSize; row++)
        readSequence("validation", first + row, batch, row * sequenceLength);
      return batch;
    },

    close() {
      shards.train.close();
      shards.validation.close();
    },
  };
  return data;
}

/** Tokens of the text in one sequence: its length without its markers. */
export function contentLength(sequenceLength: number, markers: SequenceMarkers): number {
  return sequenceLength - (markers.sequenceStart === null ? 0 : 1) - (markers.sequenceEnd === null ? 0 : 1);
}

/**
 * Refuses a micro-batch that is larger than the training split.
 *
 * @throws UsageError ESPALIER_DATA_TOO_SMALL, with the number of tokens that would do
 */
export function checkBatchSize(data: SequenceData, batchSize: number): void {
  if (!Number.isSafeInteger(batchSize) || batchSize < 1)
    throw new RangeError(`a batch holds a whole number of sequences of at least 1, not ${batchSize}`);
  const available = data.count("train");
  if (available >= batchSize) return;
  const { sequenceLength } = data;
  throw new UsageError(
    "ESPALIER_DATA_TOO_SMALL",
    `a batch of ${batchSize} sequences of ${sequenceLength} needs ${batchSize * sequenceLength} tokens of training text, ` +
      `but the corpus gives ${available * sequenceLength} (${available} sequences)`,
    { key: "training.batchSize", hint: "more text, a smaller batchSize or a smaller data.sequenceLength" },
  );
}
