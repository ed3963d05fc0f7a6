import type { TensorSource } from "./safetensors-reader.js";

/**
 * The name under which a parameter is stored, or null. Hugging Face's hub holds several generations of names for the
 * same parameter: with or without the base model's prefix (`transformer.`, `bert.`), layer-norm gain and bias as `gamma`
 * and `beta`, BERT's output bias within its decoder.
 *
 * @param name the name that Hugging Face's library saves today
 */
export function storedName(weights: TensorSource, name: string): string | null {
  return storedNames(weights, name)[0] ?? null;
}

/** Every name under which a parameter is stored, the newest generation first. */
export function storedNames(weights: TensorSource, name: string): string[] {
  return candidates(name).filter((candidate) => weights.tensors.has(candidate));
}

function candidates(name: string): string[] {
  const generations = [name];
  if (/LayerNorm\.(weight|bias)$/.test(name))
    generations.push(name.replace(/weight$/, "gamma").replace(/bias$/, "beta"));
  if (name === "cls.predictions.bias") generations.push("cls.predictions.decoder.bias");
  return [
    ...new Set(
      generations.flatMap((candidate) => [candidate, candidate.replace(/^(transformer|bert)\./, "")]),
    ),
  ];
}
