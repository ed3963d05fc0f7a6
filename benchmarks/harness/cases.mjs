// What is measured: models, batches, and who takes part.

const seed = 7;

/** The models. Intermediate size is four times the hidden size; the vocabulary holds 8 192 tokens throughout. */
export const models = {
  "bert-12x256": bert({ depth: 12, hidden: 256, heads: 4, batch: 32, sequence: 128 }),
  "gpt2-12x256": gpt2({ depth: 12, hidden: 256, heads: 4, batch: 8, sequence: 256 }),
  "bert-12x64": bert({ depth: 12, hidden: 64, heads: 4, batch: 16, sequence: 128 }),
  "gpt2-12x64": gpt2({ depth: 12, hidden: 64, heads: 4, batch: 16, sequence: 128 }),
  "bert-2x128": bert({ depth: 2, hidden: 128, heads: 4, batch: 8, sequence: 128 }),
  "gpt2-2x128": gpt2({ depth: 2, hidden: 128, heads: 4, batch: 8, sequence: 128 }),
  // Apollo's first real stage: three unique layers make twelve, by another list in every step.
  "bert-3to12x256": {
    ...bert({ depth: 3, hidden: 256, heads: 4, batch: 32, sequence: 128 }),
    layerLists: sharedLayers(3, 12),
  },
  "gpt2-3to12x256": {
    ...gpt2({ depth: 3, hidden: 256, heads: 4, batch: 8, sequence: 256 }),
    layerLists: sharedLayers(3, 12),
  },
};

function bert(size) {
  return { family: "bert", vocabulary: 8192, seed, ...size };
}

function gpt2(size) {
  return { family: "gpt2", vocabulary: 8192, seed, ...size };
}

/** Interpolated and stacked in turn: every executed layer is there, in lists that differ from step to step. */
function sharedLayers(unique, executed) {
  const each = Array.from({ length: executed }, (_, layer) => layer);
  return [each.map((layer) => Math.floor((layer * unique) / executed)), each.map((layer) => layer % unique)];
}

/** Who takes part beside us. `pure` keeps weights and moments in bfloat16, too: another training, told apart. */
export const peers = {
  hf: { name: "Hugging Face", given: ["--kind", "huggingface"] },
  "hf-compile": { name: "Hugging Face, compiled", given: ["--kind", "huggingface", "--compile"] },
  manual: { name: "hand-written PyTorch", given: ["--kind", "handwritten"] },
  "manual-compile": { name: "hand-written, compiled", given: ["--kind", "handwritten", "--compile"] },
};

/** Layers that a step executes. */
export function executedLayers(model) {
  return model.layerLists?.[0].length ?? model.depth;
}

/**
 * Every case: a model in a precision with a rate of dropout. The key names it in files and on the command line.
 *
 * @param {{ precisions: readonly string[], dropouts: readonly number[], only?: readonly string[] }} choice `only`: parts
 * of keys, any of which must be there
 */
export function casesOf({ precisions, dropouts, only = [] }) {
  return Object.entries(models)
    .flatMap(([name, model]) =>
      precisions.flatMap((precision) =>
        dropouts.map((dropout) => ({
          key: `${name}/${precision}/dropout-${dropout}`,
          name,
          model,
          precision,
          dropout,
        })),
      ),
    )
    .filter(({ key }) => only.length === 0 || only.some((part) => key.includes(part)));
}
