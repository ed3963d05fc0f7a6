import { type JsonObject, type ModelConfig, type ModelDescription, UsageError } from "@espalier/core";

/**
 * A Hugging Face config in our terms. A family knows the file as "config.json"; which one it is, is known here.
 *
 * @throws UsageError for a variant that the family does not compute
 */
export function configOf(family: ModelDescription, config: JsonObject, file: string): ModelConfig {
  try {
    return family.fromHuggingFace(config);
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    throw new UsageError(error.code, error.message, {
      file,
      ...(error.key === undefined ? {} : { key: error.key }),
      ...(error.hint === undefined ? {} : { hint: error.hint }),
      cause: error,
    });
  }
}
