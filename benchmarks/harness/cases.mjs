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

// glibc gives large blocks back to the system each time and pays for every page again; this lets it keep them.
const keepMemory = {
  MALLOC_MMAP_MAX_: "0",
  MALLOC_TRIM_THRESHOLD_: "17179869184",
  MALLOC_TOP_PAD_: "67108864",
};

/**
 * Who takes part beside us: Hugging Face's modules, and the same step written by hand, as they are, compiled, with an
 * allocator that keeps its memory, with the code path of MKL that our engine takes on processors that are not Intel's
 * (`mkl-dispatch.cc`, preloaded), and with weights and moments in bfloat16 throughout (another training than one with
 * float32 weights: told apart, and not held to the same losses).
 */
export const peers = {
  hf: { name: "Hugging Face", given: ["--kind", "huggingface"] },
  "hf-compile": { name: "Hugging Face, compiled", given: ["--kind", "huggingface", "--compile"] },
  "hf-malloc": { name: "Hugging Face, memory kept", given: ["--kind", "huggingface"], env: keepMemory },
  "hf-mkl": { name: "Hugging Face, our MKL path", given: ["--kind", "huggingface"], hasMklPath: true },
  "hf-pure": { name: "Hugging Face, all bf16", given: ["--kind", "huggingface"], isPure: true },
  manual: { name: "hand-written", given: ["--kind", "handwritten"] },
  "manual-compile": { name: "hand-written, compiled", given: ["--kind", "handwritten", "--compile"] },
  "manual-malloc": { name: "hand-written, memory kept", given: ["--kind", "handwritten"], env: keepMemory },
  "manual-mkl": { name: "hand-written, our MKL path", given: ["--kind", "handwritten"], hasMklPath: true },
  "manual-pure": { name: "hand-written, all bf16", given: ["--kind", "handwritten"], isPure: true },
};

/** Whether an engine or peer takes part in a case; wasm is an engine of last resort, orders of magnitude away. */
export function takesPart(key, { model, precision, dropout }) {
  if (key === "wasm") return precision === "fp32" && dropout === 0 && model.depth * model.hidden <= 256;
  if (key === "tensorflow") return precision === "fp32";
  if (peers[key]?.isPure) return precision === "bf16";
  return true;
}

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
