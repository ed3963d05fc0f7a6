import { type Objective, type RandomStream, type TokenizerInfo, UsageError } from "@espalier/core";

/** The shares of masked language modelling, 0..1. */
export interface MaskedLmOptions {
  /** Share of a sequence's positions that count. */
  readonly probability: number;
  /** Share of those that the mask token replaces. */
  readonly maskShare: number;
  /** Share of those that a random token replaces; what remains stays as it is. */
  readonly randomShare: number;
}

/** BERT's: 15 % of the positions, of these 80 % masked, 10 % random, 10 % kept (Devlin et al., 2019, §3.1). */
export const maskedLmDefaults: MaskedLmOptions = { probability: 0.15, maskShare: 0.8, randomShare: 0.1 };

// Draws of one counted position: which, what becomes of it, by what it is replaced.
const drawsPerPosition = 3;

/**
 * Masked language modelling with dynamic masks: another one in every micro-step. Each sequence has exactly
 * `max(1, round(probability · n))` counted positions, so that the cost of a step is known beforehand. They are drawn
 * uniformly among those that hold no special token. If a sequence has too few of these, all of them count, and its first
 * special tokens fill up the number; those are never replaced, so nothing is to be predicted there but what is seen.
 * A random replacement is uniform over all tokens that are not special.
 *
 * @throws UsageError ESPALIER_OBJECTIVE_NO_MASK_TOKEN for a tokenizer that cannot mask
 */
export function maskedLm(options: MaskedLmOptions, tokenizer: TokenizerInfo): Objective {
  const { maskToken, vocabSize } = tokenizer;
  if (maskToken === null)
    throw new UsageError(
      "ESPALIER_OBJECTIVE_NO_MASK_TOKEN",
      'the objective "masked-lm" needs a tokenizer with a mask token ([MASK] or <mask>), and this one has none',
      {
        key: "objective.use",
        hint: "use data.tokenizer.kind: wordpiece, a tokenizer.json with a mask token, or the objective causal-lm",
      },
    );
  const special = [...new Set([...tokenizer.specialTokens, maskToken])].sort((a, b) => a - b);
  const isSpecial = new Uint8Array(Math.max(vocabSize, (special[special.length - 1] ?? 0) + 1));
  for (const token of special) isSpecial[token] = 1;
  const ordinary = Int32Array.from(
    Array.from({ length: vocabSize }, (_, token) => token).filter((token) => isSpecial[token] === 0),
  );
  const perSequence = (sequenceLength: number): number =>
    Math.max(1, Math.round(options.probability * sequenceLength));

  return {
    causal: false,
    countedPositions: (batchSize, sequenceLength) => batchSize * perSequence(sequenceLength),
    prepare(tokens, batchSize, sequenceLength, random) {
      const count = perSequence(sequenceLength);
      const inputIds = Int32Array.from(tokens);
      const countedPositions = new Int32Array(batchSize * count);
      const labels = new Int32Array(batchSize * count);
      const eligible = new Int32Array(sequenceLength);
      for (let row = 0; row < batchSize; row++) {
        const start = row * sequenceLength;
        let eligibleCount = 0;
        for (let column = 0; column < sequenceLength; column++)
          if (isSpecial[tokens[start + column]!] !== 1) eligible[eligibleCount++] = start + column;
        const drawn = Math.min(count, eligibleCount);
        const firstDraw = row * count * drawsPerPosition;
        for (let index = 0; index < drawn; index++) {
          // Fisher–Yates, as far as needed: the first `drawn` entries are a uniform sample.
          const draw = firstDraw + index * drawsPerPosition;
          const other = index + random.integer(eligibleCount - index, draw);
          const position = eligible[other]!;
          eligible[other] = eligible[index]!;
          eligible[index] = position;
          inputIds[position] = replacement(tokens[position]!, random, draw);
        }
        const positions = countedPositions.subarray(row * count, (row + 1) * count);
        positions.set(eligible.subarray(0, drawn));
        let filled = drawn;
        for (let position = start; filled < count; position++)
          if (isSpecial[tokens[position]!] === 1) positions[filled++] = position;
        positions.sort();
        for (let index = 0; index < count; index++) labels[row * count + index] = tokens[positions[index]!]!;
      }
      return { batchSize, sequenceLength, inputIds, attentionMask: null, countedPositions, labels };
    },
  };

  function replacement(token: number, random: RandomStream, draw: number): number {
    const chance = random.uniform(draw + 1);
    if (chance < options.maskShare) return maskToken!;
    if (chance < options.maskShare + options.randomShare && ordinary.length > 0)
      return ordinary[random.integer(ordinary.length, draw + 2)]!;
    return token;
  }
}
